//! CRC-32C (Castagnoli) in Ceph's convention, and combining checksums of parts without touching the bytes.
//!
//! //= ceph 16.2 crc32c: reflected 0x82F63B78, neither initial nor final inversion, `crc(seed, data)`,
//! //= so `crc(crc(s, a), b) == crc(s, ab)`
//!
//! The checksum is linear: `crc(s, a‖b) = extend(crc(s, a), |b|) ^ crc(0, b)`, where `extend` appends zero
//! bytes. That lets one pass over 4 KiB blocks serve both the store (a checksum per block) and the wire (one
//! checksum per segment). Pure; any core.

use smallvec::SmallVec;

/// Reflected Castagnoli polynomial.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Seed of frame segments, maps and stored blocks.
pub const SEED: u32 = u32::MAX;

/// Block size whose combination is fastest, and the one kept with received data.
pub const BLOCK_BYTES: usize = 4096;

/// Checksum of `data` after `seed`.
pub fn crc32c(seed: u32, data: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, data)
}

/// `crc` after `length` more zero bytes.
pub fn extend_zeros(crc: u32, length: u64) -> u32 {
    if length == 4096 {
        return extend_block(crc);
    }
    let mut result = crc;
    let mut left = length;
    while left != 0 {
        let bit = left.trailing_zeros();
        result = multiply(ZERO_BYTES[bit as usize], result);
        left &= left - 1;
    }
    result
}

/// Checksum of A‖B from `a`, the checksum of A with any seed, and `b`, the checksum of B with [`SEED`].
pub fn combine(a: u32, b: u32, b_length: u64) -> u32 {
    // crc(0, B) = crc(SEED, B) ^ extend(SEED); both extensions are one, because extending is linear.
    extend_zeros(a ^ SEED, b_length) ^ b
}

/// The checksum of `length` bytes with seed `to`, from the one with seed `from`.
pub fn reseed(crc: u32, from: u32, to: u32, length: u64) -> u32 {
    crc ^ extend_zeros(from ^ to, length)
}

fn extend_block(crc: u32) -> u32 {
    let [a, b, c, d] = crc.to_le_bytes();
    BLOCK_TABLE[0][usize::from(a)]
        ^ BLOCK_TABLE[1][usize::from(b)]
        ^ BLOCK_TABLE[2][usize::from(c)]
        ^ BLOCK_TABLE[3][usize::from(d)]
}

/// Product of two polynomials modulo [`POLYNOMIAL`]; bit 31 is x⁰.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut mask = 1u32 << 31;
    while mask != 0 {
        if a & mask != 0 {
            product ^= b;
        }
        b = if b & 1 != 0 { (b >> 1) ^ POLYNOMIAL } else { b >> 1 };
        mask >>= 1;
    }
    product
}

/// Entry k is x^(8·2^k): multiplying by it appends 2^k zero bytes.
static ZERO_BYTES: [u32; 64] = zero_bytes();

const fn zero_bytes() -> [u32; 64] {
    let mut table = [0; 64];
    // x^8, then each is the square of the one before.
    table[0] = 1 << 23;
    let mut k = 1;
    while k < 64 {
        table[k] = multiply(table[k - 1], table[k - 1]);
        k += 1;
    }
    table
}

/// Entry [i][v] is byte value v at position i, after [`BLOCK_BYTES`] zero bytes.
static BLOCK_TABLE: [[u32; 256]; 4] = block_table();

const fn block_table() -> [[u32; 256]; 4] {
    let operator = zero_bytes()[12];
    let mut table = [[0; 256]; 4];
    let mut position = 0;
    while position < 4 {
        let mut value = 1;
        while value < 256 {
            // A value is the sum of its lowest bit and the rest, which is already in the table.
            let rest = value & (value - 1);
            table[position][value] = if rest == 0 {
                multiply(operator, (value as u32) << (8 * position))
            } else {
                table[position][rest] ^ table[position][value ^ rest]
            };
            value += 1;
        }
        position += 1;
    }
    table
}

/// Checksums of the [`BLOCK_BYTES`] blocks of a byte string, each with [`SEED`]; the last may be short.
pub type BlockChecksums = SmallVec<[u32; 2]>;

/// Checksums of a byte string that comes in pieces: of each block, and, combined from those, of the whole.
/// Every byte is passed over once.
#[derive(Debug, Clone, Default)]
pub struct BlockHasher {
    blocks: BlockChecksums,
    /// Bytes in the last block; 0 when it is full or there is none.
    partial: usize,
}

impl BlockHasher {
    /// Nothing hashed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends bytes.
    pub fn update(&mut self, mut data: &[u8]) {
        if self.partial != 0 {
            let (head, rest) = data.split_at(data.len().min(BLOCK_BYTES - self.partial));
            if let Some(last) = self.blocks.last_mut() {
                *last = crc32c(*last, head);
            }
            self.partial = (self.partial + head.len()) % BLOCK_BYTES;
            data = rest;
        }
        for block in data.chunks(BLOCK_BYTES) {
            self.blocks.push(crc32c(SEED, block));
            self.partial = block.len() % BLOCK_BYTES;
        }
    }

    /// The blocks' checksums, and the checksum of everything with [`SEED`].
    pub fn finish(self) -> (BlockChecksums, u32) {
        let mut whole = SEED;
        if let Some((last, full)) = self.blocks.split_last() {
            for block in full {
                whole = extend_block(whole ^ SEED) ^ block;
            }
            let last_length = if self.partial == 0 { BLOCK_BYTES } else { self.partial };
            whole = combine(whole, *last, last_length as u64);
        }
        (self.blocks, whole)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_combine_to_the_whole(
            seed in any::<u32>(),
            a in prop::collection::vec(any::<u8>(), 0..300),
            b in prop::collection::vec(any::<u8>(), 0..9000),
        ) {
            let whole = crc32c(crc32c(seed, &a), &b);
            prop_assert_eq!(combine(crc32c(seed, &a), crc32c(SEED, &b), b.len() as u64), whole);
            prop_assert_eq!(reseed(crc32c(7, &b), 7, seed, b.len() as u64), crc32c(seed, &b));
            let zeros = vec![0; b.len()];
            prop_assert_eq!(extend_zeros(seed, b.len() as u64), crc32c(seed, &zeros));
        }

        #[test]
        fn block_hasher_gives_blocks_and_whole(
            data in prop::collection::vec(any::<u8>(), 0..20_000),
            piece in 1usize..6000,
        ) {
            let mut hasher = BlockHasher::new();
            for part in data.chunks(piece) {
                hasher.update(part);
            }
            let (blocks, whole) = hasher.finish();
            prop_assert_eq!(whole, crc32c(SEED, &data));
            let expected: Vec<u32> = data.chunks(BLOCK_BYTES).map(|b| crc32c(SEED, b)).collect();
            prop_assert_eq!(blocks.to_vec(), expected);
        }
    }

    #[test]
    fn powers_of_two_extend_as_zero_bytes_do() {
        let zeros = vec![0; 1 << 20];
        for k in 0..=20 {
            assert_eq!(extend_zeros(0x1234_5678, 1 << k), crc32c(0x1234_5678, &zeros[..1 << k]), "2^{k}");
        }
    }
}
