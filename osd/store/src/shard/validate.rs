//! What must hold in a shard.

use super::{Blob, Packed, Shard, wide};
use crate::checksum::Chunk;
use crate::limits::{CHECKSUM_CHUNK_BYTES_MAX, INLINE_BYTES_MAX};
use crate::sorted::Sorted;

impl Shard {
    /// Checks the invariants; tells which one is broken.
    pub fn validate(&self, number: u32, span: u32, block: u64) -> Result<(), &'static str> {
        if !self.inline.is_empty() {
            return self.validate_inline(number, span);
        }
        let start = u64::from(number) * u64::from(span);
        let end = start + u64::from(span);
        let mut device_end = 0;
        for (address, blob) in self.blobs.iter() {
            let Some(blob_end) = address.checked_add(blob.bytes(block)) else {
                return Err("a blob reaches beyond any device");
            };
            if blob.checksums.is_empty() || !address.is_multiple_of(block) || *address < device_end {
                return Err("blobs are empty, not aligned or overlap");
            }
            let most = CHECKSUM_CHUNK_BYTES_MAX / block;
            let too_many = |chunk: Chunk| chunk.blocks > 1 && wide(chunk.blocks) > most;
            if blob.checksums.is_chunked() && blob.checksums.chunks().any(too_many) {
                return Err("too many blocks are under one checksum");
            }
            if let Some(problem) = blob.packed.and_then(|packed| packed.problem(blob, span, block)) {
                return Err(problem);
            }
            if blob.share.is_some_and(|share| share > *address || !share.is_multiple_of(block)) {
                return Err("a blob's share does not begin before it");
            }
            device_end = blob_end;
        }
        let mut logical_end = start;
        let mut last_block = None;
        let mut logical_blocks = 0;
        for (at, piece) in self.pieces.iter() {
            let Some(blob) = self.blobs.get(piece.blob) else { return Err("a piece refers to no blob") };
            if piece.len == 0 || *at < logical_end || at.saturating_add(piece.len.into()) > end {
                return Err("pieces are empty, overlap or leave the shard");
            }
            logical_end = at + u64::from(piece.len);
            if at % block != u64::from(piece.blob_offset) % block {
                return Err("a piece has another offset in its block than in the object's");
            }
            let (first, last) = piece.blocks(block);
            if last >= blob.raw_blocks() {
                return Err("a piece leaves its blob");
            }
            let first_block = (at / block, (piece.blob, first));
            if last_block.is_some_and(|(logical, place)| logical == first_block.0 && place != first_block.1) {
                return Err("a block of the object lives in two places");
            }
            let goes_on = last_block.is_some_and(|(logical, _)| logical == first_block.0);
            logical_blocks += last - first + usize::from(!goes_on);
            last_block = Some(((logical_end - 1) / block, (piece.blob, last)));
        }
        let (used, firsts) = self.used_blocks(block);
        if used.iter().filter(|used| **used).count() != logical_blocks {
            return Err("a block of a blob is used for two of the object");
        }
        for (blob, first) in self.blobs.values().zip(firsts) {
            let mut row = used[first..first + blob.raw_blocks()].iter();
            let is_used = if blob.packed.is_some() { row.any(|used| *used) } else { row.all(|used| *used) };
            if !is_used {
                return Err("a block of a blob is not used");
            }
        }
        self.validate_chunks(block)
    }

    /// Checks that what is under one checksum lies in the object as it does on the device. Every block is used.
    fn validate_chunks(&self, block: u64) -> Result<(), &'static str> {
        if !self.blobs.values().any(|blob| blob.checksums.is_chunked()) {
            return Ok(());
        }
        // By address, where in the object a block that a piece begins or goes on with is.
        let mut logical: Sorted<u64> = Sorted::default();
        for (at, piece) in self
            .pieces
            .iter()
            .filter(|(_, piece)| self.blobs.get(piece.blob).is_some_and(|blob| blob.checksums.is_chunked()))
        {
            let (first, last) = piece.blocks(block);
            for number in first..=last {
                let address = piece.blob + wide(number) * block;
                logical.insert(address, at / block + wide(number - first));
            }
        }
        for (address, blob) in self.blobs.iter() {
            for chunk in blob.checksums.chunks().filter(|chunk| chunk.blocks > 1) {
                let mut blocks = chunk.range().map(|index| logical.get(address + wide(index) * block));
                let Some(Some(first)) = blocks.next() else { return Err("a block of a chunk is not used") };
                if !blocks.zip(first + 1..).all(|(found, expected)| found == Some(&expected)) {
                    return Err("blocks under one checksum are not consecutive in the object");
                }
            }
        }
        Ok(())
    }

    pub(super) fn validate_inline(&self, number: u32, span: u32) -> Result<(), &'static str> {
        let start = u64::from(number) * u64::from(span);
        let mut end = start;
        for (at, bytes) in self.inline.iter() {
            if bytes.is_empty() || *at < end {
                return Err("inline bytes are none or overlap");
            }
            end = at.saturating_add(wide(bytes.len()));
        }
        if !self.pieces.is_empty() || !self.blobs.is_empty() {
            return Err("there are blobs or pieces beside inline bytes");
        }
        if self.inline.is_empty() || end > start + u64::from(span) || end > INLINE_BYTES_MAX {
            return Err("inline bytes are none or too many");
        }
        Ok(())
    }
}

impl Packed {
    /// What is impossible about it.
    fn problem(&self, blob: &Blob, span: u32, block: u64) -> Option<&'static str> {
        let (raw, bytes) = (u64::from(self.raw_blocks) * block, u64::from(self.bytes));
        if blob.checksums.is_chunked() {
            return Some("a compressed blob has blocks under one checksum");
        }
        if raw > span.into() || raw <= blob.bytes(block) {
            return Some("a compressed blob leaves its shard or saves nothing");
        }
        (bytes.div_ceil(block) != wide(blob.checksums.len()))
            .then_some("a compressed blob has another length")
    }
}
