//! Checksums of data: a crc32c per block, and one number for an extent made from them, so that each byte is
//! read once.

/// crc32c of each block; `data` is whole blocks.
pub fn of_blocks(data: &[u8], block: usize) -> Vec<u32> {
    data.chunks(block).map(crc32c::crc32c).collect()
}

/// What the journal keeps of an extent in flight: crc32c over the little-endian checksums of its blocks.
pub fn of_extent(blocks: &[u32]) -> u32 {
    blocks.iter().fold(0, |sum, block| crc32c::crc32c_append(sum, &block.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_is_told_from_another_order_or_content() {
        let mut data = vec![1u8; 8192];
        data[4096] = 2;
        let blocks = of_blocks(&data, 4096);
        assert_eq!(blocks.len(), 2);
        assert_ne!(of_extent(&blocks), of_extent(&[blocks[1], blocks[0]]));
        data[5000] ^= 1;
        assert_ne!(of_extent(&blocks), of_extent(&of_blocks(&data, 4096)));
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283, "the polynomial is Castagnoli's");
    }
}
