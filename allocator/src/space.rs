//! [`Space`]: an allocator with reservations, shared by the tasks of one core.
//!
//! Reserve → take → commit or drop. Invariant: free bytes ≥ bytes promised to reservations, and bytes that only
//! [`Class::Reclaim`] may use are not promised to others. Each step is a value that gives back on drop, so a
//! transaction that fails half way needs no clean-up code.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::extent::Extent;
use crate::seam::{AllocError, AllocResult, Allocator, Request};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Leaves the reserve alone.
    Ordinary,
    /// Work that ends up freeing space (checkpoints, deletes): may use the reserve too.
    Reclaim,
}

struct State<A> {
    allocator: A,
    promised: u64,
    reserve: u64,
    /// Start and length of what is taken and neither committed nor given back.
    taken: BTreeMap<u64, u64>,
}

/// A cheap handle; clones share the same space.
pub struct Space<A> {
    state: Rc<RefCell<State<A>>>,
}

impl<A> Clone for Space<A> {
    fn clone(&self) -> Self {
        Self { state: Rc::clone(&self.state) }
    }
}

impl<A: Allocator> Space<A> {
    /// Wraps an allocator. The last `reserve` bytes are for [`Class::Reclaim`].
    pub fn new(allocator: A, reserve: u64) -> Self {
        Self {
            state: Rc::new(RefCell::new(State { allocator, promised: 0, reserve, taken: BTreeMap::new() })),
        }
    }

    /// Free bytes that nobody was promised and that `class` may use.
    pub fn available(&self, class: Class) -> u64 {
        let state = self.state.borrow();
        let unpromised = state.allocator.free_bytes() - state.promised;
        match class {
            Class::Ordinary => unpromised.saturating_sub(state.reserve),
            Class::Reclaim => unpromised,
        }
    }

    /// Promises `bytes`, rounded up to blocks.
    pub fn reserve(&self, bytes: u64, class: Class) -> AllocResult<Reservation<A>> {
        let available = self.available(class);
        let mut state = self.state.borrow_mut();
        let rounded = bytes.checked_next_multiple_of(state.allocator.block_size());
        let Some(wanted) = rounded.filter(|wanted| *wanted <= available) else {
            return Err(AllocError::NoSpace { wanted: bytes, available });
        };
        state.promised += wanted;
        drop(state);
        Ok(Reservation { space: self.clone(), bytes: wanted })
    }

    /// Gives committed extents back. Refuses (and gives back none of) extents that are not in use.
    pub fn release(&self, extents: &[Extent]) -> AllocResult<()> {
        let allocator = &mut self.state.borrow_mut().allocator;
        for (index, extent) in extents.iter().enumerate() {
            if let Err(error) = allocator.release(*extent) {
                for done in &extents[..index] {
                    let undone = allocator.mark_used(*done);
                    assert!(undone.is_ok(), "what was just released can be taken again: {undone:?}");
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// What is taken and does not belong to anything yet, ascending.
    pub fn taken(&self) -> Vec<Extent> {
        self.state.borrow().taken.iter().map(|(start, len)| Extent::new(*start, *len)).collect()
    }

    /// Reads the allocator.
    pub fn with<T>(&self, read: impl FnOnce(&A) -> T) -> T {
        read(&self.state.borrow().allocator)
    }

    /// Changes the allocator directly: loading pages, rebuilding, owning more space. Must leave what is promised
    /// free.
    pub fn with_mut<T>(&self, change: impl FnOnce(&mut A) -> T) -> T {
        let mut state = self.state.borrow_mut();
        let changed = change(&mut state.allocator);
        assert!(state.allocator.free_bytes() >= state.promised, "promised space was taken");
        changed
    }
}

/// Bytes promised; gives the rest back on drop.
pub struct Reservation<A: Allocator> {
    space: Space<A>,
    bytes: u64,
}

impl<A: Allocator> Reservation<A> {
    /// What is left of the promise.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Turns part of the promise into extents. With the unit equal to the block size and enough extents allowed
    /// this can only fail if more is asked for than is left.
    pub fn take(&mut self, request: &Request) -> AllocResult<Taken<A>> {
        if request.len > self.bytes {
            return Err(AllocError::NoSpace { wanted: request.len, available: self.bytes });
        }
        let mut extents = Vec::new();
        let mut state = self.space.state.borrow_mut();
        state.allocator.allocate(request, &mut extents)?;
        state.taken.extend(extents.iter().map(|extent| (extent.start, extent.len)));
        state.promised -= request.len;
        self.bytes -= request.len;
        drop(state);
        Ok(Taken { space: self.space.clone(), extents })
    }

    /// Turns part of the promise into just these extents. An error, and nothing is taken, if one is not free, or if it is more
    /// than is left.
    pub fn take_these(&mut self, extents: &[Extent]) -> AllocResult<Taken<A>> {
        let len = extents.iter().map(|extent| extent.len).sum();
        if len > self.bytes {
            return Err(AllocError::NoSpace { wanted: len, available: self.bytes });
        }
        let mut state = self.space.state.borrow_mut();
        for (index, extent) in extents.iter().enumerate() {
            if let Err(error) = state.allocator.mark_used(*extent) {
                for done in &extents[..index] {
                    let undone = state.allocator.release(*done);
                    assert!(undone.is_ok(), "what was just taken can be released: {undone:?}");
                }
                return Err(error);
            }
        }
        state.taken.extend(extents.iter().map(|extent| (extent.start, extent.len)));
        state.promised -= len;
        self.bytes -= len;
        drop(state);
        Ok(Taken { space: self.space.clone(), extents: extents.to_vec() })
    }

    /// Moves `bytes` of the promise (a multiple of the block size) into a promise of its own.
    pub fn split(&mut self, bytes: u64) -> AllocResult<Self> {
        if bytes > self.bytes || !bytes.is_multiple_of(self.space.with(A::block_size)) {
            return Err(AllocError::NoSpace { wanted: bytes, available: self.bytes });
        }
        self.bytes -= bytes;
        Ok(Self { space: self.space.clone(), bytes })
    }

    /// Joins another promise of the same space into this one.
    pub fn join(&mut self, mut other: Self) {
        assert!(Rc::ptr_eq(&self.space.state, &other.space.state), "reservations of different spaces");
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl<A: Allocator> Drop for Reservation<A> {
    fn drop(&mut self) {
        self.space.state.borrow_mut().promised -= self.bytes;
    }
}

/// Extents taken but not yet belonging to anything; released on drop.
#[must_use = "dropping gives the extents back"]
pub struct Taken<A: Allocator> {
    space: Space<A>,
    extents: Vec<Extent>,
}

impl<A: Allocator> Taken<A> {
    /// What was taken.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// They belong to the caller from now on.
    pub fn commit(mut self) -> Vec<Extent> {
        self.forget();
        std::mem::take(&mut self.extents)
    }

    fn forget(&self) {
        let taken = &mut self.space.state.borrow_mut().taken;
        for extent in &self.extents {
            taken.remove(&extent.start);
        }
    }
}

impl<A: Allocator> Drop for Taken<A> {
    fn drop(&mut self) {
        self.forget();
        let released = self.space.release(&self.extents);
        assert!(released.is_ok(), "taken extents are in use: {released:?}");
    }
}
