//! The way into an executor from other threads. Process-wide; this and the bridge to foreign threads are the
//! only places with locks and atomics.
//!
//! Invariant: a wake that was pushed is either seen by the core before it sleeps, or the pusher rings its bell.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam::queue::SegQueue;

/// One executor as other threads see it.
pub(crate) struct Remote {
    woken: SegQueue<u64>,
    /// The core sleeps, or is about to, and has to be rung.
    sleeping: AtomicBool,
    /// Wakes the core's thread. None for a simulated core: no other thread may wake one, since that would not
    /// be reproducible.
    bell: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Remote {
    pub fn new(bell: Option<Box<dyn Fn() + Send + Sync>>) -> Self {
        Self { woken: SegQueue::new(), sleeping: AtomicBool::new(false), bell }
    }

    /// Hands over what was woken since the last call.
    pub fn drain(&self, mut wake: impl FnMut(u64)) {
        while let Some(bits) = self.woken.pop() {
            wake(bits);
        }
    }

    /// Announces sleep. False if something was woken in between, and the core has to look again.
    pub fn try_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::SeqCst);
        if self.woken.is_empty() {
            return true;
        }
        self.sleeping.store(false, Ordering::SeqCst);
        false
    }

    /// Ends sleep.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    fn push(&self, bits: u64) {
        let Some(bell) = &self.bell else {
            panic!("a simulated core was woken from another thread");
        };
        self.woken.push(bits);
        if self.sleeping.swap(false, Ordering::SeqCst) {
            bell();
        }
    }
}

struct Registry {
    next: u16,
    remotes: BTreeMap<u16, Arc<Remote>>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { next: 0, remotes: BTreeMap::new() });

fn registry() -> MutexGuard<'static, Registry> {
    // No user code runs under the lock, so a poisoned one is still whole.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds an executor; gives its number. Numbers come around again after all others have been used.
pub(super) fn register(remote: Arc<Remote>) -> u16 {
    let mut registry = registry();
    assert!(registry.remotes.len() < usize::from(u16::MAX), "too many executors in one process");
    loop {
        let number = registry.next;
        registry.next = number.wrapping_add(1);
        if let Entry::Vacant(entry) = registry.remotes.entry(number) {
            entry.insert(remote);
            return number;
        }
    }
}

/// Forgets an executor; later wakes of its tasks are dropped.
pub(super) fn unregister(executor: u16) {
    let removed = registry().remotes.remove(&executor);
    drop(removed);
}

/// Wakes a task of another thread's executor, if that still exists.
pub(super) fn wake(executor: u16, bits: u64) {
    let remote = registry().remotes.get(&executor).cloned();
    if let Some(remote) = remote {
        remote.push(bits);
    }
}
