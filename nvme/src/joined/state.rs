//! [`JoinedState`]: what all handles on one joined device share, on whatever thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::device::{DeviceError, DeviceResult};
use crate::limits::MEMBERS_MAX;

/// Writes of each member that completed and that are durable, and whether a flush failed.
#[derive(Debug, Default)]
pub struct JoinedState {
    members: [Settled; MEMBERS_MAX],
    poison: OnceLock<String>,
}

#[derive(Debug)]
struct Settled {
    /// Writes whose caller may know that they completed.
    completed: AtomicU64,
    /// Of these, so many were completed when a flush began that ended well.
    durable: AtomicU64,
    /// Nobody heard how a write ended: it may complete after any flush.
    abandoned: AtomicBool,
}

impl Default for Settled {
    fn default() -> Self {
        // What an earlier process wrote may be in the cache: the first flush is for that.
        Self { completed: AtomicU64::new(1), durable: AtomicU64::new(0), abandoned: AtomicBool::new(false) }
    }
}

impl JoinedState {
    /// Of devices about which nothing is known.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// An error if a flush failed before.
    pub(super) fn check(&self, device: &str) -> DeviceResult<()> {
        match self.poison.get() {
            Some(reason) => Err(DeviceError::Poisoned { device: device.to_owned(), reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Passes a result on. One that tells of a failed flush poisons all.
    pub(super) fn note<T>(&self, result: DeviceResult<T>) -> DeviceResult<T> {
        if let Err(error @ DeviceError::Poisoned { .. }) = &result {
            self.poison.get_or_init(|| error.to_string());
        }
        result
    }

    pub(super) fn completed(&self, slot: usize) {
        self.members[slot].completed.fetch_add(1, Ordering::SeqCst);
    }

    /// If a member has writes that no flush covers: up to which one a flush from now on does.
    pub(super) fn wants_flush(&self, slot: usize) -> Option<u64> {
        let member = &self.members[slot];
        let upto = member.completed.load(Ordering::SeqCst);
        let pending = member.durable.load(Ordering::SeqCst) < upto;
        (pending || member.abandoned.load(Ordering::SeqCst)).then_some(upto)
    }

    /// A flush that began when `upto` writes were completed ended well. Until then others do not rely on it.
    pub(super) fn flushed(&self, slot: usize, upto: u64) {
        self.members[slot].durable.fetch_max(upto, Ordering::SeqCst);
    }
}

/// A write under way; if it is dropped before it completed, nobody knows when it does.
pub(super) struct Write {
    state: Option<Arc<JoinedState>>,
    slot: usize,
}

impl Write {
    pub(super) fn new(state: Arc<JoinedState>, slot: usize) -> Self {
        Self { state: Some(state), slot }
    }

    /// It completed, well or not.
    pub(super) fn completed(mut self) -> Arc<JoinedState> {
        let Some(state) = self.state.take() else { unreachable!("a write completes once") };
        state.completed(self.slot);
        state
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        if let Some(state) = &self.state {
            state.members[self.slot].abandoned.store(true, Ordering::SeqCst);
        }
    }
}
