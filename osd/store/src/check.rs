//! What can be said about a transaction without looking at the store: every limit and every impossible value.
//! Both implementations of the seam ask here first, so that they refuse the same things.

use bytes::Bytes;

use crate::limits;
use crate::object_store::{StoreError, StoreResult};
use crate::transaction::{Op, Transaction};
use crate::types::{CollectionId, ObjectId};

/// Refuses a transaction that exceeds a limit.
pub fn check_transaction(transaction: &Transaction, object_bytes_max: u64) -> StoreResult<()> {
    within("operations of a transaction", transaction.ops.len(), limits::TRANSACTION_OPS_MAX)?;
    let mut bytes = 0u64;
    for op in &transaction.ops {
        check_op(op, object_bytes_max)?;
        bytes = bytes.saturating_add(op.payload_bytes());
    }
    within_u64("bytes of a transaction", bytes, limits::TRANSACTION_BYTES_MAX)
}

fn check_op(op: &Op, object_bytes_max: u64) -> StoreResult<()> {
    if let Some(object) = op.object() {
        check_object(object)?;
    }
    match op {
        Op::Clone { object, target, .. } => {
            check_object(target)?;
            if (target.pool, target.hash) == (object.pool, object.hash) && target != object {
                return Ok(());
            }
            Err(StoreError::Invalid(format!(
                "{object} cannot be cloned to {target}: another hash, or the same name"
            )))
        }
        Op::CloneRange { object, offset, len, target, target_offset, .. } => {
            check_object(target)?;
            check_range(*offset, *len, object_bytes_max)?;
            check_range(*target_offset, *len, object_bytes_max)?;
            if (target.pool, target.hash) == (object.pool, object.hash) {
                return Ok(());
            }
            Err(StoreError::Invalid(format!("{object} cannot be cloned to {target}: another hash")))
        }
        Op::CreateCollection { collection, bits } => check_collection(*collection, *bits),
        Op::SplitCollection { collection, bits, target } => check_halves(*collection, *bits, *target),
        Op::MergeCollection { collection, bits, target } => {
            check_halves(*target, bits.saturating_add(1), *collection)
        }
        Op::SetCollectionMeta { value, .. } => {
            within("metadata of a collection", value.len(), limits::COLLECTION_META_BYTES_MAX)
        }
        Op::Write { offset, data, .. } => {
            let len = data.iter().fold(0u64, |sum, chunk| sum.saturating_add(length(chunk)));
            check_range(*offset, len, object_bytes_max)
        }
        Op::Zero { offset, len, .. } | Op::Defragment { offset, len, .. } => {
            check_range(*offset, *len, object_bytes_max)
        }
        Op::Truncate { size, .. } => within_u64("size of an object", *size, object_bytes_max),
        Op::SetAttrs { attrs, .. } => {
            for name in attrs.keys() {
                within("name of an attribute", name.len(), limits::ATTR_NAME_BYTES_MAX)?;
            }
            Ok(())
        }
        Op::OmapSet { entries, .. } => {
            for (key, value) in entries {
                within("omap key", key.len(), limits::OMAP_KEY_BYTES_MAX)?;
                within("omap value", value.len(), limits::OMAP_VALUE_BYTES_MAX)?;
            }
            Ok(())
        }
        Op::OmapRemove { keys, .. } => {
            for key in keys {
                within("omap key", key.len(), limits::OMAP_KEY_BYTES_MAX)?;
            }
            Ok(())
        }
        Op::OmapRemoveRange { first, end, .. } => {
            within("omap key", first.len(), limits::OMAP_KEY_BYTES_MAX)?;
            within("omap key", end.len(), limits::OMAP_KEY_BYTES_MAX)
        }
        Op::OmapSetHeader { header, .. } => within("omap header", header.len(), limits::OMAP_VALUE_BYTES_MAX),
        Op::LogAppend { entry, .. } => within("log entry", entry.len(), limits::LOG_ENTRY_BYTES_MAX),
        Op::RemoveCollection { .. }
        | Op::Touch { .. }
        | Op::SetHints { .. }
        | Op::Remove { .. }
        | Op::RemoveAttr { .. }
        | Op::OmapClear { .. } => Ok(()),
    }
}

/// Refuses attributes that together exceed an onode's bound.
pub fn check_attrs<'a>(attrs: impl Iterator<Item = (&'a Bytes, &'a Bytes)>) -> StoreResult<()> {
    let (mut count, mut bytes) = (0, 0);
    for (name, value) in attrs {
        count += 1;
        bytes += name.len() + value.len();
    }
    within("attributes of an object", count, limits::ATTRS_MAX)?;
    within("bytes of an object's attributes", bytes, limits::ATTRS_BYTES_MAX)
}

/// Refuses a range that an object of `size` bytes does not have.
pub fn check_clone_range(object: &ObjectId, size: u64, offset: u64, len: u64) -> StoreResult<()> {
    if offset.checked_add(len).is_some_and(|end| end <= size) {
        return Ok(());
    }
    let problem = format!("{len} bytes from {offset} of {object} cannot be cloned: it has {size}");
    Err(StoreError::Invalid(problem))
}

/// Refuses an object that does not belong to a collection of `bits` bits.
pub fn check_member(collection: CollectionId, bits: u8, object: &ObjectId) -> StoreResult<()> {
    if object.pool == collection.pool && collection.has_hash(bits, object.hash) {
        return Ok(());
    }
    Err(StoreError::Invalid(format!(
        "object of pool {} with hash {:#010x} does not belong to collection {}.{:x} of {bits} bits",
        object.pool, object.hash, collection.pool, collection.seed
    )))
}

/// Refuses a collection that could hold an object of one of the others.
pub fn check_disjoint(
    collection: CollectionId,
    bits: u8,
    others: impl IntoIterator<Item = (CollectionId, u8)>,
) -> StoreResult<()> {
    match others.into_iter().find(|(other, other_bits)| collection.overlaps(bits, *other, *other_bits)) {
        None => Ok(()),
        Some((other, other_bits)) => Err(StoreError::Invalid(format!(
            "collection {}.{:x} of {bits} bits would have objects of {}.{:x} of {other_bits} bits",
            collection.pool, collection.seed, other.pool, other.seed
        ))),
    }
}

/// The lowest `bits` bits.
pub fn mask(bits: u8) -> u32 {
    u32::MAX.checked_shr(32 - u32::from(bits.min(32))).unwrap_or(0)
}

fn check_collection(collection: CollectionId, bits: u8) -> StoreResult<()> {
    if bits <= 32 && collection.seed & !mask(bits) == 0 {
        return Ok(());
    }
    Err(StoreError::Invalid(format!(
        "collection {}.{:x} cannot have {bits} bits",
        collection.pool, collection.seed
    )))
}

/// Refuses what are not the halves, of `bits` bits each, of one collection.
fn check_halves(lower: CollectionId, bits: u8, upper: CollectionId) -> StoreResult<()> {
    let top = bits.checked_sub(1).and_then(|top| 1u32.checked_shl(top.into()));
    let are_halves = top.is_some_and(|top| lower.seed < top && upper.seed == lower.seed | top);
    if are_halves && lower.pool == upper.pool {
        return Ok(());
    }
    Err(StoreError::Invalid(format!(
        "collections {}.{:x} and {}.{:x} are not the halves, of {bits} bits, of another",
        lower.pool, lower.seed, upper.pool, upper.seed
    )))
}

/// Refuses a split or merge of a collection that does not have so many bits.
pub fn check_bits(collection: CollectionId, bits: u8, wanted: u8) -> StoreResult<()> {
    if bits == wanted {
        return Ok(());
    }
    Err(StoreError::Invalid(format!(
        "collection {}.{:x} has {bits} bits, not {wanted}",
        collection.pool, collection.seed
    )))
}

fn check_object(object: &ObjectId) -> StoreResult<()> {
    if object.name.is_empty() {
        return Err(StoreError::Invalid("an object's name is empty".into()));
    }
    within("name of an object", object.name.len(), limits::NAME_BYTES_MAX)?;
    within("locator key of an object", object.key.len(), limits::NAME_BYTES_MAX)?;
    within("namespace of an object", object.namespace.len(), limits::NAMESPACE_BYTES_MAX)
}

fn check_range(offset: u64, len: u64, object_bytes_max: u64) -> StoreResult<()> {
    within_u64("size of an object", offset.saturating_add(len), object_bytes_max)
}

fn within(what: &str, value: usize, max: usize) -> StoreResult<()> {
    if value <= max { Ok(()) } else { Err(StoreError::TooLarge(format!("{what}: {value}, at most {max}"))) }
}

fn within_u64(what: &str, value: u64, max: u64) -> StoreResult<()> {
    if value <= max { Ok(()) } else { Err(StoreError::TooLarge(format!("{what}: {value}, at most {max}"))) }
}

/// Length of a byte string as the formats count.
pub fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
