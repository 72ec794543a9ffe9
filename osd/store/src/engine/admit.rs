//! Admission: what a transaction reserves before it takes effect. Journal and overlay space is handed out in order of
//! arrival, but who lacks room for keys lets others go first; device space may be waited for while freed space is on its way back. Everything is given back on drop.

use std::rc::Rc;
use std::time::Duration;

use allocator::{Class, HybridAllocator, Reservation};
use rt::Nanos;

use super::kv_room::{Promise, Waiting};
use super::lend::Returned;
use super::plan::Plan;
use super::state::Inner;
use super::writer::{CHECKPOINT_BLOCKS, RESERVE_BLOCKS};
use crate::limits;
use crate::object_store::{StoreError, StoreResult};

/// At least so much lent space is asked back at a time.
const RETURN_BYTES: u64 = 1 << 20;

/// What a record needs.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// At least its bytes.
    pub record_bytes: usize,
    /// Of these, what goes to the placement groups' log.
    pub log_bytes: u64,
    /// At least what the key-value store is given of it, as it reckons, the bitmap's pages left out.
    pub kv_bytes: u64,
    /// At least the blocks that it takes and frees.
    pub blocks: u64,
    /// What it may use.
    pub class: Class,
}

/// Journal, log and key-value space for one record.
pub struct Admitted {
    inner: Rc<Inner>,
    journal: u64,
    log: u64,
    kv: Promise,
}

impl Admitted {
    /// The record takes effect now: its journal space goes over to it, its log space to the entries, its room in the
    /// key-value store to the overlay.
    pub fn spend(mut self) -> u64 {
        self.inner.pg_log.borrow_mut().unreserve(std::mem::take(&mut self.log));
        std::mem::take(&mut self.journal)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.inner.pg_log.borrow_mut().unreserve(self.log);
        self.inner.kv_room.unreserve(self.kv);
        if self.journal > 0 {
            self.inner.journal.borrow_mut().unreserve(self.journal);
            self.inner.progress.notify_all();
        }
    }
}

impl Inner {
    /// Admits a record if nothing has to be waited for, and nobody waits. See [`Self::admit`].
    pub fn admit_now(self: &Rc<Self>, demand: Demand) -> Option<Admitted> {
        let Demand { record_bytes, log_bytes, .. } = demand;
        let (need, capacity) = {
            let journal = self.journal.borrow();
            (journal.need(record_bytes), journal.capacity())
        };
        let _permit = self.admission.try_acquire(1)?;
        if need > capacity || !self.reserve_log(log_bytes) {
            return None;
        }
        let mut admitted =
            Admitted { inner: Rc::clone(self), journal: 0, log: log_bytes, kv: Promise::default() };
        admitted.kv = self.reserve_kv_room(&demand)?;
        admitted.journal = self.fits(need, record_bytes).then_some(need)?;
        Some(admitted)
    }

    /// Waits for journal and overlay space for a record, and has the key-value store be sure to take what the record
    /// will give it. `before` is how long a record of the same transaction waited in vain.
    pub async fn admit(self: &Rc<Self>, demand: Demand, before: Duration) -> StoreResult<Admitted> {
        let Demand { record_bytes, log_bytes, .. } = demand;
        let (need, capacity) = {
            let journal = self.journal.borrow();
            (journal.need(record_bytes), journal.capacity())
        };
        if need > capacity {
            let problem = format!("a transaction that needs {need} bytes of journal: at most {capacity}");
            return Err(StoreError::TooLarge(problem));
        }
        if !self.reserve_log(log_bytes) {
            let problem = format!("the log of the placement groups has no room for {log_bytes} bytes");
            return Err(StoreError::NoSpace(problem));
        }
        let mut admitted =
            Admitted { inner: Rc::clone(self), journal: 0, log: log_bytes, kv: Promise::default() };
        let before = u64::try_from(before.as_nanos()).unwrap_or(u64::MAX);
        let mut waiting = Waiting::since(Nanos(self.core.now().0.saturating_sub(before)));
        let permit = loop {
            let permit = self.admission.acquire(1).await;
            self.check_up()?;
            if let Some(kv) = self.reserve_kv_room(&demand) {
                admitted.kv = kv;
                break permit;
            }
            // Others, which may remove, go on meanwhile.
            drop(permit);
            self.make_kv_room(&demand, &mut waiting).await?;
        };
        let mut waited = false;
        while !self.fits(need, record_bytes) {
            self.check_up()?;
            if !std::mem::replace(&mut waited, true) {
                self.counters.admission_waits.add(1);
            }
            self.checkpoint_wanted.notify_one();
            self.progress.notified().await;
        }
        self.check_up()?;
        admitted.journal = need;
        drop(permit);
        Ok(admitted)
    }

    /// Reserves the data space of a plan, waiting for freed space on its way back.
    pub async fn reserve_space(self: &Rc<Self>, plan: &Plan) -> StoreResult<Reservation<HybridAllocator>> {
        let class = plan.class();
        loop {
            self.check_up()?;
            let problem = match self.space.space.reserve(plan.fresh_bytes, class) {
                Ok(reservation) => return Ok(reservation),
                Err(error) => error.to_string(),
            };
            // Long runs of free space are worth less than a write.
            if self.space.drop_fence() {
                continue;
            }
            if self.space.pending_bytes() == 0 {
                match self.return_space(plan.fresh_bytes.max(RETURN_BYTES)).await? {
                    Returned::Nothing => return Err(StoreError::NoSpace(problem)),
                    Returned::Later => self.progress.notified().await,
                    Returned::Bytes(_) => {}
                }
                continue;
            }
            let before = self.space.pending_bytes();
            let record = self.journal.borrow().last_record();
            self.wait_overwritable(record, CHECKPOINT_BLOCKS).await?;
            self.write_deferred().await;
            // The batch that was waited for may have begun before the deferred writes that stand in the way: another one.
            if self.space.pending_bytes() >= before && !self.deferred.any_up_to(record) {
                rt::sync::select(self.progress.notified(), self.traffic.read_ended()).await;
                self.release_ready();
            }
        }
    }

    fn fits(&self, need: u64, record_bytes: usize) -> bool {
        let overlay = self.overlay.bytes();
        let record = u64::try_from(record_bytes).unwrap_or(u64::MAX);
        let overlay_fits = overlay == 0 || overlay.saturating_add(record) <= self.options.overlay_bytes_max;
        let changes = self.space.change_bytes();
        let changes_fit = changes == 0 || changes < self.options.space_change_bytes_max;
        overlay_fits && changes_fit && self.journal.borrow_mut().reserve(need, RESERVE_BLOCKS)
    }

    fn reserve_log(&self, bytes: u64) -> bool {
        if bytes == 0 || self.pg_log.borrow_mut().reserve(bytes) {
            return true;
        }
        self.make_log_room(bytes);
        self.pg_log.borrow_mut().reserve(bytes)
    }

    /// Forgets log entries until `bytes` more fit. With many collections on a small device that is fewer than the
    /// options ask for: a short log costs a longer recovery, a refused write costs the service.
    pub fn make_log_room(&self, bytes: u64) {
        let (mut log, mut collections) = (self.pg_log.borrow_mut(), self.collections.borrow_mut());
        let mut keep = self.options.pg_log_entries;
        while !log.has_room(bytes) && keep >= limits::PG_LOG_ENTRIES_FLOOR {
            for collection in collections.values_mut() {
                log.forget(collection, keep);
            }
            keep /= 2;
        }
    }
}
