//! What goes between an open file and the device: plans of writes and reads, and the space that writes need.

use std::sync::Arc;

use allocator::{Extent, Request};
use bytes::Bytes;
use nvme::DmaBuf;

use crate::fs::error::{FsError, FsResult};
use crate::fs::limits::{FILE_EXTENTS_MAX, READ_BYTES_MAX};
use crate::fs::machine::Machine;
use crate::fs::record::Ino;
use crate::fs::tree::push_joined;

/// How much of the buffer to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Whole blocks; a partial last block waits for more.
    Blocks,
    /// Everything, the last block padded with zeroes.
    All,
}

/// Writes to do, then [`Machine::write_done`].
#[derive(Debug)]
#[must_use = "a plan that is not carried out leaves its file unwritable"]
pub struct WritePlan {
    ino: Ino,
    /// Offset on the device and bytes.
    pub pieces: Vec<(u64, DmaBuf)>,
    upto: u64,
}

/// Part of a read's answer, in order.
#[derive(Debug)]
pub enum ReadPiece {
    /// Read `len` bytes at `offset` of the device, of which `take` from `skip` are wanted.
    Device {
        /// Aligned to blocks.
        offset: u64,
        /// Aligned to blocks.
        len: usize,
        /// Not wanted at the front.
        skip: usize,
        /// Wanted.
        take: usize,
    },
    /// Still in memory.
    Memory(Bytes),
}

/// How to answer a read. Keep it until the device answered: what it names is not used again before.
#[derive(Debug)]
pub struct ReadPlan {
    /// In order.
    pub pieces: Vec<ReadPiece>,
    _lease: Arc<()>,
}

impl Machine {
    /// What to write for this file, taking space as needed. `None` if all of that amount is on the device.
    pub fn plan_write(&mut self, ino: Ino, amount: Amount) -> FsResult<Option<WritePlan>> {
        self.check_alive()?;
        let block = self.block_size();
        let open = self.open_file(ino)?;
        assert!(open.writer && !open.writing, "one writer with one write at a time: {}", open.path);
        let wanted = match amount {
            Amount::Blocks => open.buffer.len() as u64 / block * block,
            Amount::All => open.buffer.len() as u64,
        };
        let (start, upto) = (open.buffer_start, open.buffer_start + wanted);
        if wanted == 0 || upto <= open.on_device {
            return Ok(None);
        }
        let end = upto.next_multiple_of(block);
        self.grow(ino, end)?;
        let open = self.open_file_mut(ino)?;
        open.writing = true;
        let mut rest = &open.buffer[..wanted as usize];
        let mut pieces = Vec::new();
        for (offset, len) in device_pieces(&open.extents, start, end - start) {
            let mut piece = DmaBuf::zeroed(len);
            let (head, tail) = rest.split_at(rest.len().min(len));
            piece[..head.len()].copy_from_slice(head);
            rest = tail;
            pieces.push((offset, piece));
        }
        self.stats.written_files += end - start;
        Ok(Some(WritePlan { ino, pieces, upto }))
    }

    /// The plan's writes completed.
    pub fn write_done(&mut self, plan: WritePlan) -> FsResult<()> {
        let block = self.block_size();
        let open = self.open_file_mut(plan.ino)?;
        open.writing = false;
        open.on_device = plan.upto;
        let whole = (plan.upto / block * block - open.buffer_start) as usize;
        open.buffer.drain(..whole);
        open.buffer_start += whole as u64;
        Ok(())
    }

    /// How to answer a read; shorter than asked for at the end of the file.
    pub fn plan_read(&mut self, ino: Ino, offset: u64, len: usize) -> FsResult<ReadPlan> {
        self.check_alive()?;
        let block = self.block_size();
        let open = self.open_file(ino)?;
        let len = len.min(READ_BYTES_MAX) as u64;
        let end = offset.saturating_add(len).min(open.size());
        let mut pieces = Vec::new();
        let mut at = offset;
        let device_end = end.min(open.buffer_start);
        if at < device_end {
            let aligned = at / block * block;
            let aligned_end = device_end.next_multiple_of(block);
            let mut piece_start = aligned;
            for (offset, len) in device_pieces(&open.extents, aligned, aligned_end - aligned) {
                let piece_end = piece_start + len as u64;
                let take = piece_end.min(device_end) - at;
                let skip = at - piece_start;
                pieces.push(ReadPiece::Device { offset, len, skip: skip as usize, take: take as usize });
                at += take;
                piece_start = piece_end;
            }
            if at != device_end {
                return Err(FsError::corrupt(format!(
                    "{}: read at {at} of {device_end} is not allocated",
                    open.path
                )));
            }
        }
        if at < end {
            let from = (at - open.buffer_start) as usize;
            let to = (end - open.buffer_start) as usize;
            pieces.push(ReadPiece::Memory(Bytes::copy_from_slice(&open.buffer[from..to])));
        }
        let lease = Arc::clone(&open.lease);
        self.stats.read += end.saturating_sub(offset);
        Ok(ReadPlan { pieces, _lease: lease })
    }

    /// Makes the allocation reach `end`.
    fn grow(&mut self, ino: Ino, end: u64) -> FsResult<()> {
        let unit = self.unit();
        let open = self.open_file(ino)?;
        let Some(more) = end.checked_sub(open.allocated).filter(|more| *more > 0) else { return Ok(()) };
        let more = more.next_multiple_of(unit);
        let room = FILE_EXTENTS_MAX.saturating_sub(open.extents.len());
        let hint = open.extents.last().map(Extent::end);
        let aside = if open.yields { self.aside } else { 0 };
        self.check_room(more, aside)?;
        let leave = self.log_reserve();
        let request = Request { len: more, unit, extents_max: room.max(1), hint };
        let mut extents = Vec::new();
        if room == 0 || self.stock.allocate(&request, leave, &mut extents).is_err() {
            return Err(FsError::Limit { what: "extents of a file" });
        }
        let open = self.open_file_mut(ino)?;
        open.allocated += more;
        extents.into_iter().for_each(|extent| push_joined(&mut open.extents, extent));
        self.watch_low_water();
        Ok(())
    }
}

/// Where bytes `start..start + len` of a file are: device offset and length of each piece.
pub(super) fn device_pieces(extents: &[Extent], start: u64, len: u64) -> Vec<(u64, usize)> {
    let mut pieces = Vec::new();
    let (mut skip, mut left) = (start, len);
    for extent in extents {
        if left == 0 {
            break;
        }
        if skip >= extent.len {
            skip -= extent.len;
            continue;
        }
        let take = (extent.len - skip).min(left);
        pieces.push((extent.start + skip, take as usize));
        left -= take;
        skip = 0;
    }
    pieces
}
