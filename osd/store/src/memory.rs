//! What memory is used for: everything that grows with data or with load reports itself as one of these kinds.

/// Who holds memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryKind {
    /// Onodes and shards that are kept.
    Onodes,
    /// Blocks of data that are kept.
    Data,
    /// Blocks, indexes and filters of the key-value store.
    KvCache,
    /// What the key-value store has not yet on the device, and what it holds beside that.
    KvTables,
    /// Changes of keys that no checkpoint covers.
    Overlay,
    /// Records that are not yet in the journal, and groups on their way there.
    Journal,
    /// Payloads that are not yet in place.
    Deferred,
    /// Data on its way to new space.
    Writing,
    /// Entries of the placement groups' logs.
    Log,
    /// What is free and what is not.
    Allocator,
}

impl MemoryKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Onodes,
        Self::Data,
        Self::KvCache,
        Self::KvTables,
        Self::Overlay,
        Self::Journal,
        Self::Deferred,
        Self::Writing,
        Self::Log,
        Self::Allocator,
    ];

    /// Its name, for counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Onodes => "onodes",
            Self::Data => "data",
            Self::KvCache => "kv_cache",
            Self::KvTables => "kv_tables",
            Self::Overlay => "overlay",
            Self::Journal => "journal",
            Self::Deferred => "deferred",
            Self::Writing => "writing",
            Self::Log => "log",
            Self::Allocator => "allocator",
        }
    }
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// For what.
    pub kind: MemoryKind,
    /// Things held: onodes, blocks, keys, records, entries; 0 where nobody counts them.
    pub items: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What a store may take of a process's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryTarget {
    /// Bytes for the store and for who uses it.
    pub bytes: u64,
    /// Of these, what who uses it may need at worst, bytes.
    pub above: u64,
    /// Stores in the process that have such a target each: where only the process's memory is known, each has its share.
    pub sharers: u64,
}
