//! Compressing new data, where its pool and its object want that. What does not compress is written as it came, and so is
//! what there is no space for in one piece.

use std::collections::BTreeMap;
use std::ops::Range;

use allocator::{Extent, HybridAllocator, Request, Reservation, Taken};
use nvme::DmaBuf;

use super::blocks::Blocks;
use super::layout::{self, Pack};
use super::plan::Plan;
use super::state::Inner;
use crate::checksum::Checksums;
use crate::compression::{Algorithm, Compression};
use crate::shard::Packed;

/// Changed blocks of one shard that were compressed together.
pub struct Squeezed {
    /// Object of the plan, and its shard.
    shard: (usize, u32),
    /// Which of its layout's blocks.
    run: Range<usize>,
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

/// Which of a layout's blocks went where.
pub type Runs = Vec<(Range<usize>, Pack)>;

/// Where that goes.
#[derive(Default)]
pub struct Packing {
    /// For each (object, shard) of the plan.
    pub packs: BTreeMap<(usize, u32), Runs>,
    /// Their space.
    pub taken: Vec<Taken<HybridAllocator>>,
    /// What goes there.
    pub buffers: Vec<(Extent, DmaBuf)>,
    /// Blocks that need no space of their own any more.
    pub blocks: u64,
}

impl Inner {
    /// Compresses what saves as much as is wanted.
    pub async fn squeeze(&self, plan: &Plan, kept: &[Blocks]) -> Vec<Squeezed> {
        let mut all = Vec::new();
        for (index, object) in plan.objects.iter().enumerate() {
            let Some(onode) = &object.staged.now else { continue };
            let wants = self.compression(object.object.pool);
            if !wants.mode.wants(onode.hints.compression) {
                continue;
            }
            // One block cannot become less.
            let most = wants.blob_bytes_max.max(2 * self.block) / self.block * self.block;
            let least = wants.blob_bytes_min.clamp(2 * self.block, most);
            for (number, layout) in &object.layouts {
                for run in layout.runs(least, most, self.block) {
                    let raw = self.raw_of(plan, (index, *number), &run, kept);
                    let (shard, algorithm) = ((index, *number), wants.algorithm);
                    let bytes = match self.squeezed_bytes_max(raw.len(), &wants) {
                        0 => None,
                        most => self.with_codec(algorithm, move || algorithm.compress(&raw, most)).await,
                    };
                    match bytes {
                        Some(bytes) => all.push(Squeezed { shard, run, algorithm, bytes }),
                        None => self.counters.compress_rejected.add(1),
                    }
                }
            }
        }
        all
    }

    /// The blocks of a run as they would be written.
    fn raw_of(&self, plan: &Plan, shard: (usize, u32), run: &Range<usize>, kept: &[Blocks]) -> Vec<u8> {
        let block = usize::try_from(self.block).unwrap_or(usize::MAX);
        let mut raw = vec![0; run.len() * block];
        let object = &plan.objects[shard.0];
        let (Some(content), Some(layout)) =
            (object.staged.contents.get(&shard.1), object.layouts.get(&shard.1))
        else {
            panic!("shard {} is laid out and has no content", shard.1)
        };
        for (changed, out) in layout.blocks[run.clone()].iter().zip(raw.chunks_exact_mut(block)) {
            let stored = changed.place.filter(|_| changed.keeps);
            let stored = stored.map(|place| kept[shard.0].get(&place, self.block));
            layout::fill_block(content, changed.logical, stored.as_ref(), &kept[shard.0], out);
        }
        raw
    }

    /// What `raw` bytes must become at most, in whole blocks, of which at least one is saved; 0 if no block is little enough.
    fn squeezed_bytes_max(&self, raw: usize, wants: &Compression) -> usize {
        let block = usize::try_from(self.block).unwrap_or(usize::MAX);
        let permille = usize::try_from(wants.required_permille.min(1000)).unwrap_or(1000);
        (raw * permille / 1000).min(raw - block) / block * block
    }

    /// Takes space for what was compressed.
    pub fn pack(
        &self,
        plan: &Plan,
        squeezed: Vec<Squeezed>,
        reservation: &mut Reservation<HybridAllocator>,
    ) -> Packing {
        let mut packing = Packing::default();
        let block = usize::try_from(self.block).unwrap_or(usize::MAX);
        let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        for Squeezed { shard, run, algorithm, bytes } in squeezed {
            let len = bytes.len().next_multiple_of(block);
            let request = Request {
                len: u64::try_from(len).unwrap_or(u64::MAX),
                unit: self.block,
                extents_max: 1,
                hint: None,
            };
            let Ok(taken) = reservation.take(&request) else {
                self.counters.compress_rejected.add(1);
                continue;
            };
            let [extent] = taken.extents() else { panic!("one extent was asked for: {:?}", taken.extents()) };
            let mut buffer = DmaBuf::recycled(len);
            let (front, back) = buffer.split_at_mut(bytes.len());
            front.copy_from_slice(&bytes);
            back.fill(0);
            let kind = self.checksum_kind(plan.objects[shard.0].object.pool);
            let checksums = Checksums::of_blocks(kind, buffer.chunks_exact(block));
            let packed = Packed { algorithm, raw_blocks: narrow(run.len()), bytes: narrow(bytes.len()) };
            packing.blocks += u64::try_from(run.len()).unwrap_or(u64::MAX);
            packing.buffers.push((*extent, buffer));
            let pack = Pack { address: extent.start, packed, checksums };
            packing.packs.entry(shard).or_default().push((run, pack));
            packing.taken.push(taken);
            self.counters.compress_accepted.add(1);
        }
        packing
    }
}
