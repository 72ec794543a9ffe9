//! [`Content`]: what is written, and [`Wrong`], what a read finds out about it.
//!
//! A block that is stamped begins with a header: magic, the run that wrote it, position and generation, a checksum of the whole
//! block; every further sector of 512 bytes begins with a tag made of the same. So a block that is older than it should be (a
//! lost write), at another place (misplaced), of sectors from two writes (torn) and one with other bytes (damaged) are told
//! apart. What follows is random, and does not compress.

use bytes::{Bytes, BytesMut};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use crate::limits::STAMPED_BYTES_MIN;

/// First bytes of a stamped block.
pub const STAMP_MAGIC: &[u8; 8] = b"SPIRLOAD";

/// Where which field is; all are little-endian.
const RUN_AT: usize = 8;
const POSITION_AT: usize = 16;
const GENERATION_AT: usize = 24;
const CHECKSUM_AT: usize = 32;
const HEADER_BYTES: usize = 40;
const SECTOR: usize = STAMPED_BYTES_MIN as usize;
/// Random bytes of which blocks are parts.
const RANDOM_BYTES_MIN: usize = 1 << 20;

/// What a block is stamped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Differs between runs, so that what an earlier one left is not taken for this one's.
    pub run: u64,
    /// Of the block.
    pub position: u64,
    /// How often it was written by this run, from 1.
    pub generation: u32,
}

/// What is wrong with a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum Wrong {
    #[error("a lost write: it holds write {found} of this block, and write {expected} was acknowledged")]
    Lost { expected: u32, found: u32 },
    #[error("a misplaced write: it holds write {generation} of block {position}")]
    Misplaced { position: u64, generation: u32 },
    #[error(
        "a torn write: {foreign} of its {sectors} sectors of 512 bytes are not of write {expected}, the first at byte {at}"
    )]
    Torn { expected: u32, foreign: usize, sectors: usize, at: usize },
    #[error(
        "damage: it is write {expected} with other bytes, their checksum is {found:#010x} instead of {stored:#010x}"
    )]
    Damaged { expected: u32, stored: u32, found: u32 },
    #[error(
        "write {expected} of this block is not there, and nothing else that this run wrote: it begins with {begin}"
    )]
    Foreign { expected: u32, begin: String },
    #[error("{found} bytes instead of {expected}")]
    Length { expected: usize, found: usize },
}

/// What is written to one block.
#[derive(Clone)]
pub struct Content {
    random: Bytes,
    stamp: Stamp,
    sealed: bool,
}

impl Content {
    /// The bytes, for who takes them as they are. They are copied only if somebody will look at them.
    pub fn bytes(&self) -> Bytes {
        if !self.sealed {
            return self.random.clone();
        }
        let mut block = BytesMut::from(&self.random[..]);
        self.seal(&mut block);
        block.freeze()
    }

    /// Puts them into a buffer of the block's length. One that is `used` holds an earlier block: if nobody will look at the bytes
    /// only the first of them are made anew, so that no two blocks are alike.
    pub fn fill(&self, buffer: &mut [u8], used: bool) {
        assert_eq!(buffer.len(), self.random.len(), "a buffer is as long as the block");
        if self.sealed || !used {
            buffer.copy_from_slice(&self.random);
        }
        if self.sealed {
            self.seal(buffer);
        } else if buffer.len() >= HEADER_BYTES {
            put_header(buffer, &self.stamp);
        }
    }

    fn seal(&self, block: &mut [u8]) {
        put_header(block, &self.stamp);
        for (number, sector) in block.chunks_exact_mut(SECTOR).enumerate().skip(1) {
            put(sector, 0, &tag(&self.stamp, number).to_le_bytes());
        }
        let checksum = checksum(block);
        put(block, CHECKSUM_AT, &checksum.to_le_bytes());
    }
}

/// Makes contents of one length.
pub struct Contents {
    random: Bytes,
    length: usize,
    run: u64,
    sealed: bool,
}

impl Contents {
    /// Blocks of so many bytes. `sealed` ones can be verified.
    pub fn new(length: usize, run: u64, sealed: bool) -> Self {
        let mut random = vec![0; length + RANDOM_BYTES_MIN];
        ChaCha8Rng::seed_from_u64(run).fill_bytes(&mut random);
        Self { random: Bytes::from(random), length, run, sealed }
    }

    /// What write `generation` of a block writes. `lot` is any number; it chooses the bytes.
    pub fn make(&self, position: u64, generation: u32, lot: u64) -> Content {
        let from = (lot % (RANDOM_BYTES_MIN as u64 / 8)) as usize * 8;
        let stamp = Stamp { run: self.run, position, generation };
        Content { random: self.random.slice(from..from + self.length), stamp, sealed: self.sealed }
    }

    /// Whether a block is as its write `generation` left it.
    pub fn verify(&self, block: &[u8], position: u64, generation: u32) -> Result<(), Wrong> {
        if block.len() != self.length {
            return Err(Wrong::Length { expected: self.length, found: block.len() });
        }
        let expected = Stamp { run: self.run, position, generation };
        let found = header(block).filter(|found| found.run == self.run);
        let Some(found) = found else {
            return Err(torn(block, &expected).unwrap_or_else(|| Wrong::Foreign {
                expected: generation,
                begin: block.iter().take(16).map(|byte| format!("{byte:02x}")).collect(),
            }));
        };
        let (stored, computed) = (u32_at(block, CHECKSUM_AT), checksum(block));
        if stored == computed {
            return match found {
                _ if found == expected => Ok(()),
                _ if found.position == position => {
                    Err(Wrong::Lost { expected: generation, found: found.generation })
                }
                _ => Err(Wrong::Misplaced { position: found.position, generation: found.generation }),
            };
        }
        let damaged = Wrong::Damaged { expected: generation, stored, found: computed };
        Err(torn(block, &expected).unwrap_or(damaged))
    }
}

/// A block of which only some sectors are of the expected write.
fn torn(block: &[u8], expected: &Stamp) -> Option<Wrong> {
    let is_of_it = |(number, sector): (usize, &[u8])| match number {
        0 => header(sector).is_some_and(|found| found == *expected),
        _ => u64_at(sector, 0) == tag(expected, number),
    };
    let sectors: Vec<bool> = block.chunks_exact(SECTOR).enumerate().map(is_of_it).collect();
    let foreign = sectors.iter().filter(|is_of_it| !**is_of_it).count();
    let at = sectors.iter().position(|is_of_it| !is_of_it)? * SECTOR;
    (foreign < sectors.len()).then_some(Wrong::Torn {
        expected: expected.generation,
        foreign,
        sectors: sectors.len(),
        at,
    })
}

/// None if it has no magic.
fn header(block: &[u8]) -> Option<Stamp> {
    if block.len() < HEADER_BYTES || !block.starts_with(STAMP_MAGIC) {
        return None;
    }
    let generation = u32::try_from(u64_at(block, GENERATION_AT)).ok()?;
    Some(Stamp { run: u64_at(block, RUN_AT), position: u64_at(block, POSITION_AT), generation })
}

fn put_header(block: &mut [u8], stamp: &Stamp) {
    put(block, 0, STAMP_MAGIC);
    put(block, RUN_AT, &stamp.run.to_le_bytes());
    put(block, POSITION_AT, &stamp.position.to_le_bytes());
    put(block, GENERATION_AT, &u64::from(stamp.generation).to_le_bytes());
    put(block, CHECKSUM_AT, &[0; HEADER_BYTES - CHECKSUM_AT]);
}

/// Of all of a block but the checksum itself.
fn checksum(block: &[u8]) -> u32 {
    let before = crc32c::crc32c(&block[..CHECKSUM_AT]);
    crc32c::crc32c_append(before, &block[CHECKSUM_AT + size_of::<u32>()..])
}

/// What a sector of a write begins with.
fn tag(stamp: &Stamp, sector: usize) -> u64 {
    let mixed = stamp.position.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ u64::from(stamp.generation).wrapping_mul(0xbf58_476d_1ce4_e5b9)
        ^ (sector as u64).wrapping_mul(0x94d0_49bb_1331_11eb);
    stamp.run ^ mixed.rotate_left(29)
}

fn put(block: &mut [u8], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

fn u64_at(block: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&block[at..at + 8]);
    u64::from_le_bytes(bytes)
}

fn u32_at(block: &[u8], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&block[at..at + 4]);
    u32::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: usize = 4096;

    fn contents() -> Contents {
        Contents::new(LENGTH, 77, true)
    }

    fn block(position: u64, generation: u32) -> Vec<u8> {
        contents().make(position, generation, u64::from(generation) * 1001).bytes().to_vec()
    }

    #[test]
    fn what_was_written_is_found_to_be_so_into_either_kind_of_buffer() {
        assert_eq!(contents().verify(&block(5, 3), 5, 3), Ok(()));
        for used in [false, true] {
            let mut buffer = vec![9; LENGTH];
            contents().make(5, 3, 3003).fill(&mut buffer, used);
            assert_eq!(buffer, block(5, 3));
        }
    }

    #[test]
    fn blocks_that_nobody_will_look_at_differ_in_their_first_bytes() {
        let plain = Contents::new(LENGTH, 77, false);
        let mut buffer = vec![0; LENGTH];
        plain.make(1, 1, 0).fill(&mut buffer, false);
        let first = buffer.clone();
        plain.make(2, 1, 999).fill(&mut buffer, true);
        assert!(buffer.starts_with(STAMP_MAGIC) && buffer[..HEADER_BYTES] != first[..HEADER_BYTES]);
        assert_eq!(buffer[HEADER_BYTES..], first[HEADER_BYTES..]);
        // Too short for a header.
        Contents::new(8, 77, false).make(1, 1, 0).fill(&mut [0; 8], true);
    }

    #[test]
    fn each_kind_of_wrong_is_told_apart() {
        let check = |block: &[u8]| contents().verify(block, 5, 3).unwrap_err();
        assert_eq!(check(&block(5, 2)), Wrong::Lost { expected: 3, found: 2 });
        assert_eq!(check(&block(6, 9)), Wrong::Misplaced { position: 6, generation: 9 });
        // The later sectors of the write before.
        let mut torn = block(5, 3);
        torn[1024..].copy_from_slice(&block(5, 2)[1024..]);
        assert_eq!(check(&torn), Wrong::Torn { expected: 3, foreign: 6, sectors: 8, at: 1024 });
        // The first ones of it.
        let mut torn = block(5, 3);
        torn[..512].copy_from_slice(&block(5, 2)[..512]);
        assert_eq!(check(&torn), Wrong::Torn { expected: 3, foreign: 1, sectors: 8, at: 0 });
        // None but one sector, and the others were never written by this run.
        let mut torn = vec![0; LENGTH];
        torn[512..1024].copy_from_slice(&block(5, 3)[512..1024]);
        assert_eq!(check(&torn), Wrong::Torn { expected: 3, foreign: 7, sectors: 8, at: 0 });
        let mut damaged = block(5, 3);
        damaged[4095] ^= 1;
        assert!(matches!(check(&damaged), Wrong::Damaged { expected: 3, .. }));
        assert!(matches!(check(&vec![0; LENGTH]), Wrong::Foreign { expected: 3, .. }));
        let another_run = Contents::new(LENGTH, 78, true).make(5, 3, 0).bytes();
        assert!(matches!(check(&another_run), Wrong::Foreign { expected: 3, .. }));
        assert_eq!(check(&[0; 100]), Wrong::Length { expected: LENGTH, found: 100 });
    }
}
