//! Lending space to the key-value store's file system: taken from the allocator, journalled as lent, durable, and only
//! then handed over. So after a crash what is lent holds everything that the file system may believe to own.

use std::cell::Cell;
use std::rc::Rc;

use allocator::{Allocator, Class, Extent, Request};
use bluefs::fs::SpaceRequests;
use rt::Group;

use super::effect::merge;
use super::state::Inner;
use super::writer::CHECKPOINT_BLOCKS;
use crate::journal::format::Item;
use crate::object_store::{StoreError, StoreResult};

/// Most extents of one loan.
const EXTENTS_MAX: usize = 16;

impl Inner {
    /// Answers requests from now on. `owned` is what the file system has, `unit` the alignment that it needs.
    pub fn serve_space(
        self: &Rc<Self>,
        requests: SpaceRequests,
        owned: &[Extent],
        unit: u64,
    ) -> StoreResult<()> {
        let mut known = self.space.lent();
        known.push(self.superblock.kv);
        let known = merge(known);
        let foreign = owned.iter().find(|extent| !known.iter().any(|known| known.contains(extent)));
        if let Some(foreign) = foreign {
            let reason =
                format!("the key-value store's file system has {foreign}, which was never lent to it");
            self.fail(reason.clone());
            return Err(StoreError::Io(reason));
        }
        // Lent before a crash that it forgot: it gets them first.
        let forgotten =
            self.space.lent().into_iter().filter(|lent| !owned.iter().any(|own| own.overlaps(lent)));
        let forgotten: Vec<Extent> = forgotten.collect();
        self.spawn(Group::Commit, "lending", Rc::clone(self).lend_when_wanted(requests, forgotten, unit));
        Ok(())
    }

    async fn lend_when_wanted(
        self: Rc<Self>,
        requests: SpaceRequests,
        mut forgotten: Vec<Extent>,
        unit: u64,
    ) {
        while let Some(bytes) = requests.next().await {
            if !forgotten.is_empty() {
                requests.grant(std::mem::take(&mut forgotten));
                continue;
            }
            match self.lend(bytes, unit).await {
                Ok(extents) if !extents.is_empty() => requests.grant(extents),
                Ok(_) => requests.deny(),
                Err(error) => {
                    log::warn!("no space is lent to the key-value store: {error}");
                    requests.deny();
                }
            }
        }
    }

    /// Whether the key-value store wants more room and there is none.
    pub fn kv_is_short(&self) -> bool {
        self.nothing_to_lend.get() && self.kv.stats().is_short
    }

    /// Takes up to `bytes` for lending, from the reserve too; durable when done. Nothing if there is nothing.
    async fn lend(self: &Rc<Self>, bytes: u64, unit: u64) -> StoreResult<Vec<Extent>> {
        self.check_up()?;
        let unit = unit.max(self.block);
        let mut want = bytes.next_multiple_of(unit);
        let taken = loop {
            self.nothing_to_lend.set(want < unit);
            if want < unit {
                return Ok(Vec::new());
            }
            let request = Request { len: want, unit, extents_max: EXTENTS_MAX, hint: None };
            let reserved = self.space.space.reserve(want, Class::Reclaim);
            match reserved.and_then(|mut reservation| reservation.take(&request)) {
                Ok(taken) => break taken,
                Err(_) => want = want / 2 / unit * unit,
            }
        };
        let items: Vec<Item> = taken.extents().iter().map(|extent| Item::Lend(*extent)).collect();
        let need = self.journal.borrow().need(items.iter().map(Item::encoded_bytes_max).sum());
        // A running checkpoint has had its bare group when it comes to writing keys.
        let keep = || if self.checkpointing.get() { 1 } else { CHECKPOINT_BLOCKS };
        while !self.journal.borrow_mut().reserve(need, keep()) {
            // A checkpoint that waits for this very space cannot make room: then there is nothing to lend.
            if self.checkpointing.get() {
                return Ok(Vec::new());
            }
            self.checkpoint_wanted.notify_one();
            self.progress.notified().await;
            self.check_up()?;
        }
        let extents = taken.commit();
        let record = self.journal.borrow_mut().number();
        self.commit_items(record, &items, Rc::new(Cell::new(true)), need, None);
        self.pump();
        self.wait_durable(record).await?;
        self.counters.lent_bytes.add(extents.iter().map(|extent| extent.len).sum());
        debug_assert!(self.space.space.with(Allocator::free_bytes) <= self.superblock.window);
        Ok(extents)
    }
}
