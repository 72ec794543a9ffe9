//! The durability promise: write before a power loss, look after it. Lives on the core of the device.
//!
//! [`before`] is a workload with writes, overwrites and flushes which leaves I/Os in flight, and knows what each block
//! may hold afterwards; [`Expectation::check`] looks.

use std::collections::BTreeSet;

use rt::sim::RandomStream;

use super::pattern;
use crate::buffer::DmaBuf;
use crate::device::{BlockDevice, DeviceResult};

const BLOCKS: u64 = 64;

/// What each block of the area may hold after power loss.
pub struct Expectation {
    blocks: Vec<BlockState>,
}

#[derive(Clone)]
struct BlockState {
    /// Version that is durable.
    durable: u64,
    /// Versions written since, durable or not.
    since: BTreeSet<u64>,
    /// The last version whose write completed.
    completed: u64,
}

/// Writes for `rounds` rounds over the first 64 blocks, and leaves the last round in flight.
pub async fn before(device: &dyn BlockDevice, seed: u64, rounds: u64) -> Expectation {
    let mut random = RandomStream::new(seed, "suite durability");
    let block = u64::from(device.geometry().block_size);
    let first = pattern::buffer((BLOCKS * block) as usize, 0, 0);
    done(device.write(0, first).await);
    done(device.flush().await);
    let fresh = BlockState { durable: 0, since: BTreeSet::new(), completed: 0 };
    let mut expectation = Expectation { blocks: vec![fresh; BLOCKS as usize] };
    for version in 1..=rounds {
        let mut writes = Vec::new();
        let mut at = random.below(4);
        while at < BLOCKS {
            let blocks = random.between(1, 6).min(BLOCKS - at);
            let buf = pattern::buffer((blocks * block) as usize, at * block, version);
            let range = at as usize..(at + blocks) as usize;
            expectation.submitted(range.clone(), version);
            writes.push((range, device.write(at * block, buf)));
            at += blocks + random.below(6);
        }
        if version == rounds {
            drop(device.flush());
            return expectation;
        }
        // A flush beside writes in flight promises nothing about them.
        if random.one_in(3) {
            let covered = expectation.completed();
            done(device.flush().await);
            expectation.flushed(&covered);
        }
        for (range, write) in writes {
            done(write.await);
            expectation.write_completed(range, version);
        }
        if !device.geometry().volatile_cache {
            let covered = expectation.completed();
            expectation.flushed(&covered);
        }
        if random.one_in(3) {
            let covered = expectation.completed();
            done(device.flush().await);
            expectation.flushed(&covered);
        }
    }
    expectation
}

fn done<T>(result: DeviceResult<T>) {
    if let Err(error) = result {
        panic!("the workload before the power loss: {error}");
    }
}

impl Expectation {
    /// Asserts that every atomic unit of every block holds a version that it may hold.
    pub async fn check(&self, device: &dyn BlockDevice) {
        let block = device.geometry().block_size as usize;
        let unit = block.min(device.geometry().atomic_write_unit as usize);
        for (index, state) in self.blocks.iter().enumerate() {
            let offset = (index * block) as u64;
            let found = match device.read(offset, DmaBuf::zeroed(block)).await {
                Ok(found) => found,
                Err(error) => panic!("read after the power loss: {error}"),
            };
            let versions: Vec<u64> =
                std::iter::once(state.durable).chain(state.since.iter().copied()).collect();
            for (at, bytes) in found.chunks(unit).enumerate() {
                let place = offset + (at * unit) as u64;
                let allowed =
                    versions.iter().any(|&version| pattern::buffer(unit, place, version)[..] == *bytes);
                assert!(allowed, "{place:#x} holds none of the versions {versions:?} after the power loss");
            }
        }
    }

    fn submitted(&mut self, range: std::ops::Range<usize>, version: u64) {
        for state in &mut self.blocks[range] {
            state.since.insert(version);
        }
    }

    fn write_completed(&mut self, range: std::ops::Range<usize>, version: u64) {
        for state in &mut self.blocks[range] {
            state.completed = version;
        }
    }

    fn completed(&self) -> Vec<u64> {
        self.blocks.iter().map(|state| state.completed).collect()
    }

    /// A flush completed that was submitted when these versions were complete.
    fn flushed(&mut self, covered: &[u64]) {
        for (state, &version) in self.blocks.iter_mut().zip(covered) {
            state.durable = version;
            state.since = state.since.split_off(&(version + 1));
        }
    }
}
