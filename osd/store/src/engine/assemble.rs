//! Turning a plan into bytes: buffers for new space, payloads for deferred blocks, every changed block's checksum, and
//! what tells data in flight from what was there before.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use allocator::{Extent, HybridAllocator, Reservation, Taken};
use bytes::Bytes;
use nvme::DmaBuf;
use rt::Group;

use super::blocks::Blocks;
use super::chunks::{Gathered, Gathering};
use super::commit::all_written;
use super::defragment::Moved;
use super::layout::{self, Target, Written, WrittenShard};
use super::packing::Squeezed;
use super::plan::Plan;
use super::state::Inner;
use crate::check::length;
use crate::checksum::{self, Checksum};
use crate::fault::Planted;
use crate::object_store::StoreResult;
use crate::shard::Place;
use crate::types::{Hints, Keep};

/// Longest device write put together from adjacent blocks.
const WRITE_BYTES_MAX: u64 = 1 << 20;

/// A block to be kept in memory: its address, its birth if it had one before, the checksum that it is under, and its bytes.
pub type ToKeep = (u64, Option<u64>, Checksum, Bytes);

/// What a plan's changed blocks became.
#[derive(Default)]
pub struct Assembled {
    /// For each (object, shard) of the plan.
    pub written: BTreeMap<(usize, u32), WrittenShard>,
    /// Deferred blocks.
    pub in_place: Vec<InPlace>,
    /// Data in flight: extents with their checksums.
    pub in_flight: Vec<(Extent, u32)>,
    /// Blocks to be kept in memory.
    pub to_keep: Vec<ToKeep>,
    /// What only moved.
    pub moved: Option<Moved>,
    /// New space; given back if this is dropped.
    pub taken: Vec<Taken<HybridAllocator>>,
}

/// A deferred block.
pub struct InPlace {
    /// Which object of the plan.
    pub object: usize,
    /// Which shard.
    pub shard: u32,
    /// Address of the block.
    pub address: u64,
    /// Birth of its blob.
    pub birth: u64,
    /// Content.
    pub payload: Bytes,
}

/// Buffers for new space being filled block by block.
pub struct Buffers {
    runs: Vec<(Extent, DmaBuf)>,
    run: usize,
    filled: usize,
}

impl Buffers {
    /// For these extents.
    pub fn new(extents: &[Extent]) -> Self {
        let mut runs = Vec::new();
        for extent in extents {
            let mut start = extent.start;
            while start < extent.end() {
                let len = (extent.end() - start).min(WRITE_BYTES_MAX);
                runs.push((
                    Extent::new(start, len),
                    DmaBuf::recycled(usize::try_from(len).unwrap_or(usize::MAX)),
                ));
                start += len;
            }
        }
        Self { runs, run: 0, filled: 0 }
    }

    /// Address and memory of the next block.
    pub fn next(&mut self, block: usize) -> (u64, &mut [u8]) {
        if self.runs.get(self.run).is_some_and(|(extent, _)| u64::try_from(self.filled) == Ok(extent.len)) {
            self.run += 1;
            self.filled = 0;
        }
        let Some((extent, buffer)) = self.runs.get_mut(self.run) else {
            panic!("more new blocks than were allocated")
        };
        let address = extent.start + u64::try_from(self.filled).unwrap_or(u64::MAX);
        let memory = &mut buffer[self.filled..self.filled + block];
        self.filled += block;
        (address, memory)
    }

    /// What is to be written where.
    pub fn into_runs(self) -> Vec<(Extent, DmaBuf)> {
        self.runs
    }
}

/// Takes over new blocks that have a checksum now.
fn take(gathered: Option<Gathered>, written: &mut WrittenShard, to_keep: &mut Vec<ToKeep>) {
    let Some((fresh, kept)) = gathered else { return };
    to_keep.extend(kept.into_iter().map(|(address, data)| (address, None, fresh.checksum, data)));
    written.fresh.push(fresh);
}

impl Inner {
    /// Takes the space and fills the blocks; gives the buffers to write beside the result.
    pub fn assemble_blocks(
        &self,
        plan: &Plan,
        kept: &[Blocks],
        squeezed: Vec<Squeezed>,
        mut reservation: Reservation<HybridAllocator>,
    ) -> StoreResult<(Assembled, Vec<(Extent, DmaBuf)>)> {
        let block = usize::try_from(self.block).unwrap_or(usize::MAX);
        let mut assembled = Assembled::default();
        let mut buffers = Buffers::new(&[]);
        let mut packing = self.pack(plan, squeezed, &mut reservation);
        assembled.taken.append(&mut packing.taken);
        let blocks = plan.fresh_bytes / self.block - packing.blocks;
        if blocks > 0 {
            let (taken, moved) = self.take_new_space(plan, blocks * self.block, &mut reservation)?;
            assembled.moved = moved;
            buffers = Buffers::new(taken.extents());
            assembled.taken.push(taken);
        }
        for (index, object) in plan.objects.iter().enumerate() {
            let kind = self.checksum_kind(object.object.pool);
            let now = object.staged.now.as_ref();
            let (hints, size) = now.map_or((Hints::default(), 0), |onode| (onode.hints, onode.size));
            let chunk_bytes = self.chunk_bytes(object.object.pool, hints);
            for (number, shard_layout) in &object.layouts {
                let Some(content) = object.staged.contents.get(number) else { continue };
                let written = assembled.written.entry((index, *number)).or_default();
                let splits = shard_layout.cuts.iter().map(|cut| cut.split(&kept[index]));
                written.splits = splits.collect();
                let mut packs = packing.packs.remove(&(index, *number)).unwrap_or_default();
                let mut gathering = Gathering::new(kind, chunk_bytes, self.block, size);
                let to_keep = &mut assembled.to_keep;
                for (at, changed) in shard_layout.blocks.iter().enumerate() {
                    let logical = changed.logical;
                    let pack = packs.iter().find(|(run, _)| run.contains(&at));
                    if let Some((run, pack)) = pack {
                        let to = Target::Packed(pack.address, at - run.start);
                        written.blocks.push(Written { logical, to });
                        continue;
                    }
                    let stored = changed
                        .place
                        .filter(|_| changed.keeps)
                        .map(|place| kept[index].get(&place, self.block));
                    let to = match changed.place.filter(|_| changed.in_place) {
                        None => {
                            let (address, memory) = buffers.next(block);
                            let crc32c = content.new_block(logical, block).and_then(|new| plan.known.of(new));
                            self.counters.blocks_summed_before.add(crc32c.is_some().into());
                            layout::fill_block(content, logical, stored.as_ref(), &kept[index], memory);
                            let is_kept = self.keeps_written(plan.keep, || changed.place);
                            let copy = is_kept.then(|| Bytes::copy_from_slice(memory));
                            let summed = self.summed(stored.as_ref(), memory);
                            let gathered = gathering.add(logical, address, summed, crc32c, copy);
                            take(gathered, written, to_keep);
                            Target::Fresh(address)
                        }
                        Some(place) => {
                            let mut payload = vec![0; block];
                            layout::fill_block(content, logical, stored.as_ref(), &kept[index], &mut payload);
                            let summed = self.summed(stored.as_ref(), &payload);
                            let checksum = Checksum::of(place.checksum.kind(), summed);
                            let payload = Bytes::from(payload);
                            let address = place.address;
                            if self.keeps_written(plan.keep, || None) {
                                // What is kept already changes when it takes effect.
                                to_keep.push((address, Some(place.birth), checksum, payload.clone()));
                            }
                            let birth = place.birth;
                            assembled.in_place.push(InPlace {
                                object: index,
                                shard: *number,
                                address,
                                birth,
                                payload,
                            });
                            Target::InPlace(place.address, checksum)
                        }
                    };
                    written.blocks.push(Written { logical, to });
                }
                take(gathering.end(), written, to_keep);
                written.packs = packs.drain(..).map(|(_, pack)| pack).collect();
            }
        }
        let mut buffers = buffers.into_runs();
        buffers.append(&mut packing.buffers);
        let in_flight = buffers.iter().map(|(extent, data)| (*extent, checksum::of_extent(data)));
        assembled.in_flight = in_flight.collect();
        Ok((assembled, buffers))
    }

    /// What the checksum of a block is taken of: the block, but for a planted mistake.
    fn summed<'a>(&self, stored: Option<&'a Bytes>, block: &'a [u8]) -> &'a [u8] {
        match stored {
            Some(stored) if self.options.fault.is(Planted::ChecksumOfStaleBlock) => stored,
            _ => block,
        }
    }

    /// Whether a written block is kept in memory: if that is wanted, or if the one in whose place it comes is.
    pub fn keeps_written(&self, keep: Keep, instead: impl FnOnce() -> Option<Place>) -> bool {
        let blocks = self.blocks.borrow();
        let is_kept = || self.options.cache_written || instead().is_some_and(|place| blocks.has(&place));
        blocks.bytes_max() > 0
            && match keep {
                Keep::Long => true,
                Keep::Usual => is_kept(),
                Keep::Not => false,
            }
    }

    /// Sends data to new space. The flag is set, and `progress` told, when all of it completed.
    pub fn write_data(self: &Rc<Self>, buffers: Vec<(Extent, DmaBuf)>) -> Rc<Cell<bool>> {
        let done = Rc::new(Cell::new(buffers.is_empty()));
        if buffers.is_empty() {
            return done;
        }
        let mut writes = Vec::with_capacity(buffers.len());
        let mut marks = Vec::with_capacity(buffers.len());
        for (extent, buffer) in buffers {
            self.counters.data_bytes_written.add(length(&buffer));
            marks.push(self.traffic.write(extent));
            writes.push(self.device.write(extent.start, buffer));
        }
        let (this, flag) = (Rc::clone(self), Rc::clone(&done));
        self.spawn(Group::Commit, "data write", async move {
            let written = all_written(writes).await;
            drop(marks);
            match written {
                Ok(()) => {
                    flag.set(true);
                    this.progress.notify_all();
                    this.pump();
                }
                Err(error) => this.fail(format!("data cannot be written: {error}")),
            }
        });
        done
    }
}
