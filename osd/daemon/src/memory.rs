//! What this OSD may take of memory, and what it takes.
//!
//! Requests in progress have a fixed part of the target, from the start on; the rest is the store's, which sizes its caches
//! by it.

use std::rc::Rc;

use serde_json::{Map, Value, json};
use store::{MemoryKind, MemoryTarget, MemoryUse, StoreError};

use crate::limits::{
    MEMORY_BESIDE_REQUESTS, MEMORY_PER_REQUESTS, REQUEST_BYTES_MAX, REQUEST_BYTES_MIN, REQUEST_COPIES,
};
use crate::osd::Osd;

/// Name of the option: bytes of memory that this OSD may take with its store; 0 for no bound.
//= ceph 16.2 osd_memory_target
pub const TARGET_OPTION: &str = "osd_memory_target";

/// Bytes of requests in progress that fit such a target.
pub fn request_bytes_max(target: u64) -> u64 {
    match target {
        0 => REQUEST_BYTES_MAX,
        _ => (target / MEMORY_PER_REQUESTS).clamp(REQUEST_BYTES_MIN, REQUEST_BYTES_MAX),
    }
}

/// The target that an option's value says.
pub fn parse(value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("{TARGET_OPTION} is a number of bytes, 0 for no bound, not {value:?}"))
}

/// Has the store obey the target in force. An error tells why it cannot; what it obeyed before stays in force then.
pub fn apply(osd: &Rc<Osd>) -> Result<(), String> {
    let value = osd.options.get(TARGET_OPTION).unwrap_or_default();
    let bytes = parse(&value)?;
    let above = REQUEST_COPIES * osd.request_bytes.total() + MEMORY_BESIDE_REQUESTS;
    let target = MemoryTarget { bytes, above, sharers: osd.config.memory_sharers };
    let set = osd.store.set_memory_target((bytes > 0).then_some(target));
    set.map_err(|error| match error {
        StoreError::Invalid(reason) => reason,
        other => other.to_string(),
    })
}

/// The same when there is nobody to tell but the log.
pub fn apply_or_warn(osd: &Rc<Osd>) {
    if let Err(reason) = apply(osd) {
        log::warn!("osd.{}: {TARGET_OPTION}: {reason}", osd.config.whoami);
    }
}

/// What is held above the store: names, things and bytes.
fn above(osd: &Osd) -> [(&'static str, u64, u64); 1] {
    let requests = &osd.request_bytes;
    let in_progress = osd.requests.total() - osd.requests.free();
    [("requests", in_progress, requests.total() - requests.free())]
}

/// What everything holds, as counters.
pub fn counters(osd: &Osd, memory: &[MemoryUse]) -> Value {
    let mut all = Map::new();
    let of_store = memory.iter().map(|used| (used.kind.name(), used.items, used.bytes));
    let mut accounted = 0;
    for (name, items, bytes) in of_store.chain(above(osd)) {
        accounted += bytes;
        all.insert(format!("{name}_items"), items.into());
        all.insert(format!("{name}_bytes"), bytes.into());
    }
    let target = osd.options.get(TARGET_OPTION).and_then(|value| value.parse::<u64>().ok());
    all.insert("accounted_bytes".to_owned(), accounted.into());
    all.insert("target_bytes".to_owned(), target.unwrap_or(0).into());
    all.insert("process_resident_bytes".to_owned(), osd.core.resident_bytes().unwrap_or(0).into());
    Value::Object(all)
}

/// `dump_mempools`: by the names of Ceph's pools where it has one for the same thing.
pub fn dump(osd: &Osd) -> Value {
    let memory = osd.store.stats().memory;
    let of_store = memory.iter().map(|used| (pool_of(used.kind), used.items, used.bytes));
    let mut pools = Map::new();
    let (mut items_sum, mut bytes_sum) = (0, 0);
    let others = above(osd).map(|(_, items, bytes)| ("buffer_anon", items, bytes));
    for (pool, items, bytes) in of_store.chain(others) {
        items_sum += items;
        bytes_sum += bytes;
        pools.insert(pool.to_owned(), json!({ "items": items, "bytes": bytes }));
    }
    json!({ "mempool": { "by_pool": pools, "total": { "items": items_sum, "bytes": bytes_sum } } })
}

//= ceph 16.2 mempools
fn pool_of(kind: MemoryKind) -> &'static str {
    match kind {
        MemoryKind::Onodes => "bluestore_cache_onode",
        MemoryKind::Data => "bluestore_cache_data",
        MemoryKind::KvCache => "kv_cache",
        MemoryKind::KvTables => "kv_tables",
        MemoryKind::Overlay => "bluestore_cache_meta",
        MemoryKind::Journal => "bluestore_txc",
        MemoryKind::Deferred => "bluestore_writing_deferred",
        MemoryKind::Writing => "bluestore_writing",
        MemoryKind::Log => "osd_pglog",
        MemoryKind::Allocator => "bluestore_alloc",
    }
}
