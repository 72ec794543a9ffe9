//! Memory that the store holds, by kind.

use super::state::Inner;
use crate::memory::{MemoryKind, MemoryUse};

impl Inner {
    /// What everything that grows with data or load holds now, in the order of the kinds.
    pub fn memory(&self) -> Vec<MemoryUse> {
        MemoryKind::ALL.into_iter().map(|kind| self.memory_of(kind)).collect()
    }

    fn memory_of(&self, kind: MemoryKind) -> MemoryUse {
        let (items, bytes) = match kind {
            MemoryKind::Onodes => self.cache.borrow().held(),
            MemoryKind::Data => self.blocks.borrow().held(),
            MemoryKind::KvCache => (0, self.kv.stats().cache_bytes),
            MemoryKind::KvTables => {
                let stats = self.kv.stats();
                (0, stats.memory_bytes.saturating_sub(stats.cache_bytes))
            }
            MemoryKind::Overlay => self.overlay.held(),
            MemoryKind::Journal => self.journal.borrow().held(),
            MemoryKind::Deferred => (self.deferred.bytes() / self.block, self.deferred.bytes()),
            MemoryKind::Writing => self.traffic.being_written_in_all(),
            MemoryKind::Log => self.log_held(),
            MemoryKind::Allocator => (0, self.space.memory_bytes()),
        };
        MemoryUse { kind, items, bytes }
    }

    fn log_held(&self) -> (u64, u64) {
        let entries: usize = self.collections.borrow().values().map(|collection| collection.log.len()).sum();
        // Those since the last checkpoint are named once more.
        let pending = self.pending.borrow();
        let named = pending.log.capacity() * size_of::<super::pg_log::LogChange>();
        let bytes = self.pg_log.borrow().kept_bytes() + u64::try_from(named).unwrap_or(u64::MAX);
        (u64::try_from(entries).unwrap_or(u64::MAX), bytes)
    }
}
