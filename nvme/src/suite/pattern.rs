//! Bytes that say where and when they were written. Pure.

use crate::buffer::DmaBuf;

/// Fills each 512 bytes with a word made of their place and of `version`, so that no two differ by accident.
pub(super) fn fill(bytes: &mut [u8], offset: u64, version: u64) {
    for (index, sector) in bytes.chunks_mut(512).enumerate() {
        let place = offset / 512 + index as u64;
        let word = (place << 32 | (version & 0xffff_ffff)) ^ 0x5bd1_e995_0000_0001;
        for (at, target) in sector.chunks_mut(8).enumerate() {
            let word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(at as u64).to_le_bytes();
            target.copy_from_slice(&word[..target.len()]);
        }
    }
}

pub(super) fn buffer(len: usize, offset: u64, version: u64) -> DmaBuf {
    let mut buf = DmaBuf::zeroed(len);
    fill(&mut buf, offset, version);
    buf
}

/// Asserts that bytes read at `offset` are those of `version`.
pub(super) fn check(bytes: &[u8], offset: u64, version: u64, what: &str) {
    let mut expected = vec![0; bytes.len()];
    fill(&mut expected, offset, version);
    if let Some(at) = bytes.iter().zip(&expected).position(|(a, b)| a != b) {
        panic!("{what}: byte {:#x} is {:#x}, not {:#x}", offset + at as u64, bytes[at], expected[at]);
    }
}
