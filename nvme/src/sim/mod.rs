//! The simulated disk: a device with the crash model of the seam's contract, faults and virtual time.
//!
//! A [`SimDisk`] outlives its host: it is opened anew in each life of it. In between, [`SimDisk::crash`] takes the
//! power away, [`SimDisk::end_process`] only the process. Everything is drawn from streams of the disk's own, so one
//! seed gives one history. Lives in the simulator's one thread.

mod config;
mod counters;
mod device;
mod media;
mod state;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use rt::Core;

use crate::crash::{Fate, UnsettledWrite};
use crate::device::Geometry;
use crate::image::Image;
use crate::memory::MemoryDevice;
pub use config::{Completion, Faults, Latency, SimDiskConfig};
pub use counters::{Counters, Region};
pub use device::SimDevice;
use state::State;

/// A simulated disk; clones are handles on the same one.
#[derive(Clone)]
pub struct SimDisk {
    state: Rc<RefCell<State>>,
}

impl SimDisk {
    /// A blank disk.
    pub fn new(config: SimDiskConfig, seed: u64) -> Self {
        Self::from_image(config, seed, Image::new())
    }

    /// A disk that holds `image`, durably.
    pub fn from_image(config: SimDiskConfig, seed: u64, image: Image) -> Self {
        Self { state: Rc::new(RefCell::new(State::new(config, seed, image))) }
    }

    /// What callers see of it.
    pub fn geometry(&self) -> Geometry {
        self.state.borrow().config.geometry.clone()
    }

    /// The device as the host which `core` belongs to sees it, until the host's life ends by [`SimDisk::crash`] or
    /// [`SimDisk::end_process`]. May be called several times in one life: the handles are equal.
    pub fn open(&self, core: &Core) -> SimDevice {
        SimDevice::new(self.state.clone(), core.clone())
    }

    /// Power loss: each write that is not durable is kept, lost or torn, by the disk's own stream. Kill the host
    /// too: handles of the life that ended only say that the device is gone.
    pub fn crash(&self) {
        let mut state = self.state.borrow_mut();
        let policy = state.random_policy();
        state.crash(policy);
    }

    /// Power loss; `choose` decides about each write that is not durable, in order of completion and then submission.
    pub fn crash_with(&self, mut choose: impl FnMut(&UnsettledWrite) -> Fate) {
        self.state.borrow_mut().crash(|write, _| choose(write));
    }

    /// The host's process is killed, its power stays: completed writes stay readable and still not durable, those in
    /// flight land whole, in part or not.
    pub fn end_process(&self) {
        self.state.borrow_mut().end_process();
    }

    /// Writes that power loss would decide about now.
    pub fn unsettled(&self) -> Vec<UnsettledWrite> {
        self.state.borrow().unsettled()
    }

    /// Whether power loss would decide about a byte of the range now.
    pub fn is_unsettled(&self, range: &Range<u64>) -> bool {
        self.state.borrow().is_unsettled(range)
    }

    /// A disk of its own that is as this one would be if its process had ended and its host had kept its power:
    /// what reads see is there, unreadable blocks stay unreadable, nothing else goes wrong.
    pub fn copy(&self) -> Self {
        let state = self.state.borrow();
        let config = SimDiskConfig {
            geometry: state.config.geometry.clone(),
            ..SimDiskConfig::new(&state.config.name, 0)
        };
        let mut copy = State::new(config, 0, state.media.visible().clone());
        state.media.bad_blocks().for_each(|range| copy.media.break_blocks(range));
        Self { state: Rc::new(RefCell::new(copy)) }
    }

    /// A copy of what reads see now.
    pub fn image(&self) -> Image {
        self.state.borrow().media.visible().clone()
    }

    /// A copy of what is there if power loss loses everything it may.
    pub fn durable_image(&self) -> Image {
        self.state.borrow().media.durable().clone()
    }

    /// What reads see now, as a device in memory: for fsck beside the running host.
    pub fn to_memory(&self) -> MemoryDevice {
        let state = self.state.borrow();
        let geometry = Geometry { kind: crate::device::Kind::Memory, ..state.config.geometry.clone() };
        MemoryDevice::from_image(&state.config.name, geometry, state.media.visible().clone())
    }

    /// The disk becomes larger, also for handles that are open; what is new is blank.
    pub fn grow(&self, size: u64) {
        let geometry = &mut self.state.borrow_mut().config.geometry;
        assert!(size >= geometry.size && size.is_multiple_of(geometry.block_size.into()), "{size} bytes");
        geometry.size = size;
    }

    /// Makes the blocks of a range unreadable until each is written again.
    pub fn break_blocks(&self, range: Range<u64>) {
        self.state.borrow_mut().media.break_blocks(range);
    }

    /// Flips the bits of `mask` in one byte, on the media and unnoticed by the disk: for checksums to find.
    pub fn corrupt(&self, offset: u64, mask: u8) {
        self.state.borrow_mut().media.corrupt(offset, mask);
    }

    /// Lets writes that touch the range fail, until [`SimDisk::allow_writes`].
    pub fn fail_writes(&self, range: Range<u64>) {
        self.state.borrow_mut().write_protected.push(range);
    }

    /// Lets writes that begin in one of the ranges take so much longer, until the disk's host starts again: what must
    /// wait for them has time to happen before them by mistake.
    pub fn hold_writes(&self, ranges: Vec<Range<u64>>, time: Duration) {
        self.state.borrow_mut().held = (ranges, time);
    }

    /// Undoes every [`SimDisk::fail_writes`], and a [`SimDisk::fail_next_flush`] that no flush has come for.
    pub fn allow_writes(&self) {
        let mut state = self.state.borrow_mut();
        state.write_protected.clear();
        state.flush_fails_next = false;
    }

    /// Lets the next flush that completes fail, which poisons the disk until its host starts again.
    pub fn fail_next_flush(&self) {
        self.state.borrow_mut().flush_fails_next = true;
    }

    /// Takes the disk away: whatever is asked of it fails, until [`SimDisk::plug_in`].
    pub fn unplug(&self) {
        self.state.borrow_mut().unplugged = true;
    }

    /// Undoes [`SimDisk::unplug`].
    pub fn plug_in(&self) {
        self.state.borrow_mut().unplugged = false;
    }

    /// Sets what goes wrong by chance from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state.borrow_mut().config.faults = faults;
    }

    /// Sets how much the disk really holds, see [`SimDiskConfig::capacity`].
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.state.borrow_mut().config.capacity = capacity;
    }

    /// Counts I/Os that start in `range` apart, from now on.
    pub fn count_region(&self, name: &'static str, range: Range<u64>) {
        let region = Region { name, range, counters: Counters::default(), pages: BTreeSet::new() };
        self.state.borrow_mut().books.regions.push(region);
    }

    /// Counts since the disk was made, over all lives.
    pub fn counters(&self) -> Counters {
        self.state.borrow().books.all.clone()
    }

    /// Counts of the regions named.
    pub fn regions(&self) -> Vec<Region> {
        self.state.borrow().books.regions.clone()
    }

    /// Hash over every write (place and content), discard, flush and crash, in order.
    pub fn hash(&self) -> u64 {
        self.state.borrow().hash.value()
    }
}

#[cfg(test)]
mod tests;
