//! Blocks that cannot be read and that somebody else has: asked for, verified, served, and written anew.
//!
//! What a copy gives is verified against the checksum that is stored here, so nothing that was not written is ever served; blocks
//! under one checksum are asked for together. A block of which a part was punched out or zeroed since it was written cannot be
//! verified so, as no copy has what is no longer visible; nor can a compressed blob, or one whose checksums are of less than 32
//! bits. Those stay unreadable until whoever keeps the copies writes the object anew.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rt::Group;
use rt::sync::{Either, oneshot, select};

use super::load::Unread;
use super::state::{Inner, Purpose};
use super::writer::Waiter;
use crate::check;
use crate::object_store::StoreResult;
use crate::shard::Place;
use crate::transaction::{Op, Transaction};
use crate::types::{AccessHints, CollectionId, ObjectId};

/// Bytes of a checksum that nothing else has by chance.
const STRONG_BYTES: usize = 4;
/// Most checksums' bytes that are asked for at once.
const FETCH_CHUNKS_MAX: usize = 256;
/// For how long answers are waited for: whoever reads waits so long.
const FETCH_WAIT: Duration = Duration::from_secs(10);

impl Inner {
    /// What is under the checksums of places of the newest state that could not be read, as copies have it; the error of the first
    /// of which none has what was written. What follows one another in the object is asked for together, and one by one if
    /// that is not it. That no copy came in time says nothing of what is there: that is [`Unread::Failed`].
    pub async fn heal(
        self: &Rc<Self>,
        object: &ObjectId,
        mut bad: Vec<(Place, Unread)>,
    ) -> Result<Vec<(Place, Bytes)>, Unread> {
        // A weak checksum would take nearly anything for what was written, and one that is not known takes nothing.
        let is_hopeless = |place: &Place| {
            place.is_packed || !place.checksum.is_known() || place.checksum.kind().bytes() < STRONG_BYTES
        };
        if let Some((_, error)) = bad.iter().find(|(place, _)| is_hopeless(place)) {
            return Err(error.clone());
        }
        bad.sort_by_key(|(place, _)| place.chunk_logical());
        let end_of = |place: &Place| place.chunk_logical() + place.chunk(self.block).len;
        let until = self.core.now().0 + u64::try_from(FETCH_WAIT.as_nanos()).unwrap_or(u64::MAX / 2);
        let mut healed = Vec::with_capacity(bad.len());
        for run in bad.chunk_by(|(one, _), (next, _)| end_of(one) == next.chunk_logical()) {
            for run in run.chunks(FETCH_CHUNKS_MAX) {
                let together = self.fetch_copies(object, run, until).await?;
                for one in run.chunks(1) {
                    let [(place, error)] = one else { continue };
                    let mut found = together.as_ref().and_then(|found| self.written(found, run, place));
                    if found.is_none() && run.len() > 1 {
                        let alone = self.fetch_copies(object, one, until).await?;
                        found = alone.and_then(|found| self.written(&found, one, place));
                    }
                    let Some(bytes) = found else {
                        let at = place.chunk_logical();
                        log::warn!("{object}, byte {at}: no copy has what was written here");
                        return Err(error.clone());
                    };
                    self.counters.blocks_healed.add(place.chunk_blocks.into());
                    self.write_anew(object, *place, bytes.clone());
                    healed.push((*place, bytes));
                }
            }
        }
        Ok(healed)
    }

    /// What copies have of places that follow one another, if any has them; that it failed if nothing comes by `until`, ns.
    async fn fetch_copies(
        &self,
        object: &ObjectId,
        run: &[(Place, Unread)],
        until: u64,
    ) -> Result<Option<Bytes>, Unread> {
        let Some((first, error)) = run.first() else { return Ok(None) };
        let late = || Unread::Failed(error.clone().into_error());
        let (at, wait) =
            (first.chunk_logical(), Duration::from_nanos(until.saturating_sub(self.core.now().0)));
        if wait.is_zero() {
            return Err(late());
        }
        let len = run.iter().map(|(place, _)| place.chunk(self.block).len).sum();
        let asked = self.copies.borrow().as_ref().map(|copies| copies.fetch(object, at, len));
        let Some(asked) = asked else { return Ok(None) };
        match select(asked, self.core.sleep(wait)).await {
            Either::Left(found) => Ok(found),
            Either::Right(()) => {
                log::warn!("{object}, byte {at}: no copy came within {wait:?}");
                Err(late())
            }
        }
    }

    /// What a copy gave of a place of a run, if that is what was written. Behind an object's end it has zeroes.
    fn written(&self, found: &Bytes, run: &[(Place, Unread)], place: &Place) -> Option<Bytes> {
        let (first, _) = run.first()?;
        let from = usize::try_from(place.chunk_logical() - first.chunk_logical()).ok()?;
        let len = usize::try_from(place.chunk(self.block).len).ok()?;
        let bytes = padded(found.slice(from.min(found.len())..(from + len).min(found.len())), len);
        place.checksum.matches(&bytes).then_some(bytes)
    }

    /// Writes what is bad on the device to new space, or in place where that is how blocks are overwritten, unless
    /// somebody else does, or did in the meantime.
    fn write_anew(self: &Rc<Self>, object: &ObjectId, place: Place, block: Bytes) {
        if self.purpose != Purpose::Serve {
            return;
        }
        let Some(collection) = self.collection_of(object) else { return };
        if !self.healing.borrow_mut().insert(place.chunk) {
            return;
        }
        let (this, object) = (Rc::clone(self), object.clone());
        let pass = self.gate.enter();
        self.spawn(Group::Background, "healing", async move {
            if pass.is_some() {
                match this.overwrite_if_there(collection, &object, &place, &block).await {
                    Ok(()) => {}
                    // The next one to read it tries again.
                    Err(error) => {
                        log::warn!("{object}, byte {}, cannot be written anew: {error}", place.logical)
                    }
                }
            }
            this.healing.borrow_mut().remove(&place.chunk);
        });
    }

    async fn overwrite_if_there(
        self: &Rc<Self>,
        collection: CollectionId,
        object: &ObjectId,
        place: &Place,
        block: &Bytes,
    ) -> StoreResult<()> {
        // While it is our turn nobody else changes the object.
        let mut turn = self.sequencer.enter(std::iter::once(collection));
        turn.come().await;
        let start = place.chunk_logical();
        let end = start + place.chunk(self.block).len;
        let loaded = self.load_range(object, start, 1).await?;
        let mut ops = Vec::new();
        for shard in loaded.shards.values() {
            let same = |found: &Place| {
                (found.chunk, found.birth, found.checksum) == (place.chunk, place.birth, place.checksum)
            };
            if !shard.place(start, self.block).as_ref().is_some_and(same) {
                continue;
            }
            for (at, len) in shard.ranges() {
                let (from, to) = (at.max(start), (at + len).min(end));
                if from < to {
                    let within = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
                    let data = vec![block.slice(within(from)..within(to))];
                    ops.push(Op::Write { collection, object: object.clone(), offset: from, data });
                }
            }
        }
        drop(loaded);
        if ops.is_empty() {
            return Ok(());
        }
        let (tell, receiver) = oneshot();
        let mut at = self.core.now();
        let mut waiter = Some(Waiter { tell, at, pass: None });
        self.execute(&Transaction { ops }, (AccessHints::default(), &[]), &mut waiter, &mut at).await?;
        drop(turn);
        super::submit::answer(self, receiver).await
    }

    pub(super) fn collection_of(&self, object: &ObjectId) -> Option<CollectionId> {
        let collections = self.collections.borrow();
        let mut all = collections.iter();
        all.find(|(id, collection)| check::check_member(**id, collection.bits, object).is_ok())
            .map(|(id, _)| *id)
    }
}

/// Behind an object's end a block has zeroes.
fn padded(found: Bytes, len: usize) -> Bytes {
    if found.len() >= len {
        return found;
    }
    let mut block = found.to_vec();
    block.resize(len, 0);
    Bytes::from(block)
}
