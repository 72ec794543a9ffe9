//! Ids for clients: unique in the cluster for ever, also across restarts.
//!
//! Invariant: an id is given only when a durable entry says that ids up to it may be in use.

use std::cell::Cell;

use super::shared::{Shared, ShutDown};
use crate::limits::GLOBAL_ID_RANGE;
use crate::state::Change;

/// The range that is durable and not given yet.
pub struct GlobalIds {
    next: Cell<u64>,
    end: Cell<u64>,
}

impl GlobalIds {
    /// Ids from `next` on are free, none is durable yet.
    pub fn new(next: u64) -> Self {
        Self { next: Cell::new(next), end: Cell::new(next) }
    }

    /// A new id.
    pub async fn assign(&self, shared: &Shared) -> Result<u64, ShutDown> {
        while self.next.get() == self.end.get() {
            // Several may ask at once; the first to come back has made room for the others too.
            let wanted = self.end.get() + GLOBAL_ID_RANGE;
            shared.commit(vec![Change::GlobalIds { next: wanted }]).await?;
            self.end.set(self.end.get().max(wanted));
        }
        let id = self.next.get();
        self.next.set(id + 1);
        Ok(id)
    }
}
