//! The conformance suite of the [`ObjectStore`] seam. A backend runs it by [`run`] with a [`Host`] that makes stores.
//!
//! Cases are plain async functions that panic when a promise is broken; they use no clock and no randomness of their
//! own. [`random`] compares a store with [`MemStore`] over a sequence drawn from a seed.

#![expect(clippy::expect_used, reason = "a suite fails by panicking")]

mod cases;
mod model;
mod random;

use std::rc::Rc;

use bytes::Bytes;
use rt::LocalBoxFuture;

use crate::{CollectionId, ObjectId, ObjectStore, Op, StoreResult, Transaction};

pub use model::{compare, compare_object, may_be_inline, with_space_of};
pub use random::{Generator, Shape, Tally, kind, random};

/// Makes stores for the suite.
pub trait Host {
    /// A new, empty store with room for at least 16 MiB of data.
    fn fresh(&mut self) -> LocalBoxFuture<'_, Rc<dyn ObjectStore>>;
    /// Closes `store`, which the last `fresh` or `reopen` gave, and opens the same content again.
    fn reopen(&mut self, store: Rc<dyn ObjectStore>) -> LocalBoxFuture<'_, Rc<dyn ObjectStore>>;
}

/// Runs every case.
pub async fn run(host: &mut dyn Host) {
    cases::collections(host).await;
    cases::write_and_read(host).await;
    cases::zero_and_truncate(host).await;
    cases::attributes(host).await;
    cases::omap(host).await;
    cases::omap_pages(host).await;
    cases::listing(host).await;
    cases::failed_transactions_do_nothing(host).await;
    cases::compound(host).await;
    cases::clones(host).await;
    cases::clone_ranges(host).await;
    cases::limits(host).await;
    cases::log(host).await;
    cases::removal_of_a_collection_looks_at_all_of_it(host).await;
    cases::the_last_hash(host).await;
    cases::collections_split_and_merge(host).await;
    cases::collections_at_the_same_time(host).await;
    cases::pool_statistics(host).await;
    cases::many_in_flight(host).await;
    cases::close_refuses(host).await;
    for seed in 0..4 {
        let split_one_in = u32::from(seed % 2 == 1) * 8;
        random(host, seed, Shape { steps: 60, split_one_in, ..Shape::default() }).await;
    }
}

/// Submits and waits until durable.
pub async fn commit(store: &Rc<dyn ObjectStore>, ops: Vec<Op>) -> StoreResult<()> {
    let submitted = store.submit(Transaction { ops });
    let readable = submitted.readable.await;
    let durable = submitted.durable.await;
    assert_eq!(readable.is_ok(), durable.is_ok(), "readable {readable:?}, durable {durable:?}");
    durable
}

/// The suite's collection of 8 bits and a name in it.
pub fn collection() -> CollectionId {
    CollectionId { pool: 7, seed: 0x2a }
}

/// An object of [`collection`] whose place in the order is set by `place`.
pub fn object(name: &str, place: u32) -> ObjectId {
    ObjectId {
        pool: 7,
        hash: (place << 8) | 0x2a,
        namespace: Bytes::new(),
        key: Bytes::new(),
        name: Bytes::copy_from_slice(name.as_bytes()),
        snap: ObjectId::HEAD,
    }
}

/// Bytes that differ by position and by `salt`.
pub fn pattern(salt: u64, len: usize) -> Bytes {
    let mut state = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        out.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    out.truncate(len);
    Bytes::from(out)
}

/// Bytes of which every second KiB does not compress, and the others do.
pub fn half_noise(salt: u64, len: usize) -> Bytes {
    let mut bytes = pattern(salt, len).to_vec();
    bytes.chunks_mut(2048).for_each(|chunk| chunk.iter_mut().take(1024).for_each(|byte| *byte = 7));
    bytes.into()
}

/// The chunks of a read as one.
pub fn join(chunks: Vec<Bytes>) -> Vec<u8> {
    chunks.concat()
}

#[cfg(test)]
mod tests;
