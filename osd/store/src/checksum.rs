//! Checksums. Blocks carry one of a kind that their pool chooses, mostly a crc32c; what the journal must tell from stale
//! bytes carries a hash that is not linear.
//!
//! A crc is linear, so data that ends with a crc of its own (a page of a database, an encoded map) has the same crc32c
//! whatever else it holds. For a damaged block that is no loss. But after a crash replay asks whether a block has the
//! record's data or what was there before, and two versions of such a page at one address are the usual case: a crc
//! would take the old one for the new. So data in flight and groups are told by XXH3, folded to 32 bits.

mod kinds;
mod row;

pub use kinds::{Checksum, ChecksumKind, Summing};
pub use row::{CHUNK_BLOCKS_MAX, Checksums, Chunk};
use twox_hash::XxHash3_64;

/// What the journal keeps of an extent in flight.
pub fn of_extent(data: &[u8]) -> u32 {
    fold(XxHash3_64::oneshot(data))
}

/// What a group of the journal ends its header with.
pub fn of_group(header: &[u8], body: &[u8]) -> u32 {
    fold(XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(header), body))
}

fn fold(hash: u64) -> u32 {
    let folded = (hash ^ hash >> 32) & u64::from(u32::MAX);
    u32::try_from(folded).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block whose content ends with its own crc, as an encoded map does; the rest is zeroes.
    fn page(fill: u8, len: usize) -> Vec<u8> {
        let mut page = vec![fill; len];
        page.extend((crc32c::crc32c(&page) ^ u32::MAX).to_le_bytes());
        page.resize(4096, 0);
        page
    }

    #[test]
    fn versions_of_data_with_a_crc_of_its_own_are_told_apart() {
        let (old, new) = (page(1, 1863), page(2, 2003));
        assert_eq!(crc32c::crc32c(&old), crc32c::crc32c(&new), "why it is not a crc");
        assert_ne!(of_extent(&old), of_extent(&new));
        assert_ne!(of_group(b"header", &old), of_group(b"header", &new));
    }

    /// What is on devices stays readable: values of another implementation.
    #[test]
    fn the_values_are_those_of_xxh3() {
        let bytes =
            |len: usize| (0..len).map(|at| u8::try_from((at * 7 + 3) % 256).unwrap_or(0)).collect::<Vec<_>>();
        let known = [
            (100, 0xb593_7857_f0d7_8c9f, 0x1ab6_d727_f2eb_b561),
            (4096, 0xd742_8746_842b_e37e, 0x7d3f_2636_31a8_06c0),
            (5000, 0x799a_addd_7339_581d, 0x62f0_b464_8ce2_e717),
        ];
        for (len, plain, seeded) in known {
            assert_eq!(of_extent(&bytes(len)), fold(plain), "{len} bytes");
            assert_eq!(of_group(b"header", &bytes(len)), fold(seeded), "{len} bytes behind a header");
        }
    }

    #[test]
    fn an_extent_is_told_from_another_order_or_content() {
        let mut data = vec![1u8; 8192];
        data[4096] = 2;
        let expected = of_extent(&data);
        let (first, second) = data.split_at(4096);
        assert_ne!(of_extent(&[second, first].concat()), expected);
        data[5000] ^= 1;
        assert_ne!(of_extent(&data), expected);
        assert_ne!(of_group(&data[..8], &data[8..]), of_group(&data[..16], &data[16..]));
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283, "the polynomial is Castagnoli's");
    }
}
