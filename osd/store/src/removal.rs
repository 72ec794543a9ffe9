//! Removing all objects of a collection.

use crate::object_store::{ObjectStore, StoreError, StoreResult};
use crate::transaction::{Op, Transaction};
use crate::types::{CollectionId, ObjectId};

/// Objects removed in one transaction.
const OBJECTS_PER_TRANSACTION: usize = 64;

/// Removes a collection's objects, some at a time, until none is left or `goes_on` says no. Gives how many. What was
/// removed can be read no more; durable is it when a later transaction is.
pub async fn remove_objects(
    store: &dyn ObjectStore,
    collection: CollectionId,
    goes_on: impl Fn() -> bool,
) -> StoreResult<u64> {
    let (mut removed, mut max) = (0, OBJECTS_PER_TRANSACTION);
    // Clones of which every second block is shared are given back block by block, each with its share.
    while goes_on() {
        let (objects, _) = store.list(collection, None, max).await?;
        let (count, last) = (objects.len(), objects.last().cloned());
        let Some(last) = last else { break };
        let ops = objects.into_iter().map(|object| Op::Remove { collection, object }).collect();
        match store.submit(Transaction { ops }).readable.await {
            Ok(()) => {
                removed += u64::try_from(count).unwrap_or(u64::MAX);
                max = OBJECTS_PER_TRANSACTION.min(2 * max);
            }
            Err(StoreError::TooLarge(_)) if count > 1 => max = count / 2,
            Err(StoreError::TooLarge(problem)) => shorten(store, collection, last, problem).await?,
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

/// Takes the end of an object away, as much as one record takes.
async fn shorten(
    store: &dyn ObjectStore,
    collection: CollectionId,
    object: ObjectId,
    problem: String,
) -> StoreResult<()> {
    let size = store.stat(collection, &object).await?.size;
    let mut taken = size.div_ceil(2);
    while taken > 0 {
        let op = Op::Truncate { collection, object: object.clone(), size: size - taken };
        match store.submit(Transaction { ops: vec![op] }).readable.await {
            Err(StoreError::TooLarge(_)) => taken /= 2,
            result => return result,
        }
    }
    Err(StoreError::TooLarge(problem))
}
