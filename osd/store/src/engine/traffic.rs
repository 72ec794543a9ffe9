//! Who reads and writes which blocks right now, so that no I/O overlaps another one that changes the block: reads wait
//! for data still being written; space is reused, and blocks are overwritten in place, only when the reads that may
//! see them have ended. Lives on one core.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use allocator::Extent;
use rt::sync::{Event, Notify};

/// Shared by clones.
#[derive(Clone, Default)]
pub struct Traffic(Rc<State>);

#[derive(Default)]
struct State {
    next: Cell<u64>,
    reads: RefCell<BTreeSet<u64>>,
    read_ended: Notify,
    writes: RefCell<BTreeMap<u64, (u64, Rc<Event>)>>,
}

/// A read that runs. Ends when dropped.
pub struct Reading {
    traffic: Traffic,
    number: u64,
}

/// Data being written to new space. Ends when dropped.
pub struct Writing {
    traffic: Traffic,
    start: u64,
    done: Rc<Event>,
}

impl Traffic {
    /// Starts a read.
    pub fn read(&self) -> Reading {
        let number = self.mark();
        self.0.reads.borrow_mut().insert(number);
        Reading { traffic: self.clone(), number }
    }

    /// A point in time: reads that start later have higher numbers.
    pub fn mark(&self) -> u64 {
        self.0.next.set(self.0.next.get() + 1);
        self.0.next.get()
    }

    /// Whether all reads that started before `mark` have ended.
    pub fn ended_before(&self, mark: u64) -> bool {
        self.0.reads.borrow().first().is_none_or(|first| *first > mark)
    }

    /// Waits for those reads.
    pub async fn wait_ended_before(&self, mark: u64) {
        while !self.ended_before(mark) {
            self.0.read_ended.notified().await;
        }
    }

    /// Waits until some read ends.
    pub async fn read_ended(&self) {
        self.0.read_ended.notified().await;
    }

    /// Notes that data goes to new space.
    pub fn write(&self, extent: Extent) -> Writing {
        let done = Rc::new(Event::default());
        let old = self.0.writes.borrow_mut().insert(extent.start, (extent.len, Rc::clone(&done)));
        assert!(old.is_none(), "{extent} is being written already");
        Writing { traffic: self.clone(), start: extent.start, done }
    }

    /// Writes under way, and their bytes.
    pub fn being_written_in_all(&self) -> (u64, u64) {
        let writes = self.0.writes.borrow();
        (u64::try_from(writes.len()).unwrap_or(u64::MAX), writes.values().map(|(len, _)| len).sum())
    }

    /// The event to wait for if part of the extent is being written.
    pub fn being_written(&self, extent: Extent) -> Option<Rc<Event>> {
        let writes = self.0.writes.borrow();
        let (start, (len, done)) = writes.range(..extent.end()).next_back()?;
        (start + len > extent.start).then(|| Rc::clone(done))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.traffic.0.reads.borrow_mut().remove(&self.number);
        self.traffic.0.read_ended.notify_all();
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.traffic.0.writes.borrow_mut().remove(&self.start);
        self.done.set();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_separate_earlier_reads_from_later_ones() {
        let traffic = Traffic::default();
        let early = traffic.read();
        let mark = traffic.mark();
        let late = traffic.read();
        assert!(!traffic.ended_before(mark));
        drop(early);
        assert!(traffic.ended_before(mark));
        drop(late);
    }

    #[test]
    fn overlaps_with_writes_are_found() {
        let traffic = Traffic::default();
        let writing = traffic.write(Extent::new(8192, 8192));
        assert!(traffic.being_written(Extent::new(12_288, 4096)).is_some());
        assert!(traffic.being_written(Extent::new(0, 8192)).is_none());
        assert!(traffic.being_written(Extent::new(16_384, 4096)).is_none());
        drop(writing);
        assert!(traffic.being_written(Extent::new(8192, 4096)).is_none());
    }
}
