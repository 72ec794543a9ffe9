//! Wakers that are plain numbers: executor, generation and slot of a task. Lives on one core, with a way in for
//! other threads.
//!
//! Cloning and dropping cost nothing, a stale waker wakes nobody, and nothing is counted. Waking on the core's own
//! thread is a push to its ready queue. On another thread it goes through the registry, see
//! [`super::registry`], which is what mailboxes and the bridge to foreign threads rely on.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::{Tasks, registry};

const SLOT_BITS: u32 = 24;
const GENERATION_BITS: u32 = 24;
const _: () = assert!(usize::BITS == 64, "a waker packs a task's number into a pointer");
const _: () = assert!(crate::limits::TASKS_MAX <= 1 << SLOT_BITS);

thread_local! {
    /// Executors of this thread: one in the real world, one per host in a simulated one.
    static EXECUTORS: RefCell<Vec<(u16, Rc<Tasks>)>> = const { RefCell::new(Vec::new()) };
}

/// Which task, of all executors of the process. A generation that wrapped around causes a needless poll at worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TaskId(u64);

impl TaskId {
    pub const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

    pub fn new(executor: u16, generation: u32, slot: u32) -> Self {
        Self(
            (u64::from(executor) << (SLOT_BITS + GENERATION_BITS))
                | (u64::from(generation & Self::GENERATION_MASK) << SLOT_BITS)
                | u64::from(slot),
        )
    }

    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub fn executor(self) -> u16 {
        (self.0 >> (SLOT_BITS + GENERATION_BITS)) as u16
    }

    pub fn generation(self) -> u32 {
        (self.0 >> SLOT_BITS) as u32 & Self::GENERATION_MASK
    }

    pub fn slot(self) -> u32 {
        self.0 as u32 & ((1 << SLOT_BITS) - 1)
    }

    #[expect(unsafe_code, reason = "a waker over a number has no safe constructor")]
    pub fn waker(self) -> Waker {
        // SAFETY: the data is a number, never dereferenced; the functions of the table accept any number, from
        // any thread, any number of times.
        unsafe { Waker::from_raw(raw(self.0)) }
    }
}

/// Makes an executor known to this thread's wakers.
pub(super) fn enter(executor: u16, tasks: Rc<Tasks>) {
    EXECUTORS.with_borrow_mut(|executors| executors.push((executor, tasks)));
}

/// Undoes [`enter`].
pub(super) fn leave(executor: u16) {
    // At the end of the thread the list may be gone already.
    let removed = EXECUTORS.try_with(|executors| {
        let mut executors = executors.borrow_mut();
        let position = executors.iter().position(|entry| entry.0 == executor)?;
        Some(executors.swap_remove(position))
    });
    drop(removed);
}

fn raw(bits: u64) -> RawWaker {
    RawWaker::new(std::ptr::without_provenance(bits as usize), &VTABLE)
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(|data| raw(data.addr() as u64), wake, wake, |_| {});

fn wake(data: *const ()) {
    let id = TaskId(data.addr() as u64);
    let local = EXECUTORS.try_with(|executors| {
        let executors = executors.borrow();
        match executors.iter().find(|entry| entry.0 == id.executor()) {
            Some((_, tasks)) => {
                tasks.wake(id);
                true
            }
            None => false,
        }
    });
    if local != Ok(true) {
        registry::wake(id.executor(), id.0);
    }
}
