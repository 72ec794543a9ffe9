//! The check of everything: rebuilds from the onodes what the bitmap, the statistics and the omaps should be, and
//! compares. It works on the state of one moment, whatever changes meanwhile, and writes nothing; with [`FsckLevel::Deep`] it reads
//! every byte of the newest state, after the rest: what was freed meanwhile is kept for the keys' walk only.
//!
//! A repair ([`repair`]) runs the same check, which then also says what has to change.

mod chunks;
mod contested;
mod fixes;
mod objects;
mod omaps;
mod repair;
mod shares;
mod space;
mod verify;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use allocator::{BitmapAllocator, Extent};
use bluefs::kv::ScanLimit;
use bytes::Bytes;

use super::flips::Flips;
use super::space::Frozen;
use super::state::{Collection, Inner, Purpose};
use crate::check::length;
use crate::journal::item::Item;
use crate::keys;
use crate::limits;
use crate::object_store::{FsckFinding, FsckLevel, FsckReport, FsckSeverity, Remedy, StoreResult, Watch};
use crate::overlay::Pin;
use crate::types::{CollectionId, ObjectId, PoolStats};

use fixes::Fixes;
pub use fixes::{Loss, Lost, Repaired};
pub use repair::{RepairOptions, RepairReport, Repairing};
use shares::Counted;

/// What is looked at before others have their turn.
const PAGE: ScanLimit = ScanLimit { keys: 256, bytes: 256 << 10 };

/// The check while it runs: everything of one moment, and what was found.
struct Check {
    inner: Rc<Inner>,
    /// The state of the beginning; none once only the newest is looked at, a page at a time.
    pin: Option<Rc<Pin>>,
    /// Bits of each.
    collections: BTreeMap<CollectionId, u8>,
    /// Those whose log is not in order.
    disordered: Vec<CollectionId>,
    pools: BTreeMap<i64, PoolStats>,
    reaps: BTreeSet<u64>,
    /// No omap id from here on may be in use.
    next_omap_id: u64,
    /// What the records changed since the checkpoint that the key-value store has, and since one that is under way.
    changes: (Option<Frozen>, Flips),
    /// Bytes of the window, which may grow meanwhile.
    window: u64,
    /// What the allocator had at that moment.
    bitmap: BitmapAllocator,
    /// What has changed in it since, until it is copied.
    since: Option<Rc<RefCell<Flips>>>,
    rebuilt: BitmapAllocator,
    /// What belongs to no object.
    regions: Vec<Extent>,
    /// Claimed by more than one.
    contested: Vec<Extent>,
    /// Shards whose onodes are not there, and what is said of them; a repair has several rounds.
    orphans: Vec<(Bytes, String)>,
    /// Objects of which an onode or a shard cannot be decoded or is missing, as was told; bounded by `limits::FSCK_FINDINGS_MAX`.
    undecoded: BTreeSet<ObjectId>,
    /// A key, an onode or a shard cannot be read and stays: what seems to be nobody's may be its.
    has_unreadable: bool,
    found_pools: BTreeMap<i64, PoolStats>,
    /// By birth and address.
    shares: BTreeMap<(u64, u64), Counted>,
    /// Omap id → its object, keys and bytes according to the onode.
    omaps: BTreeMap<u64, (ObjectId, u64, u64)>,
    report: FsckReport,
    /// What a repair will do; none of a check alone.
    fixes: Option<Fixes>,
    watch: Rc<dyn Watch>,
    /// It ends early: what was not seen yet says nothing.
    is_cut: bool,
}

impl Inner {
    /// See the seam.
    pub async fn fsck(self: Rc<Self>, level: FsckLevel, watch: Rc<dyn Watch>) -> StoreResult<FsckReport> {
        self.check_open()?;
        let mut check = Check::new(&self, watch, None);
        check.run(level).await?;
        Ok(check.report)
    }
}

impl Check {
    /// Of the state at this moment.
    fn new(inner: &Rc<Inner>, watch: Rc<dyn Watch>, fixes: Option<Fixes>) -> Self {
        inner.kv_room.views_unwanted.set(false);
        let collections = inner.collections.borrow();
        let is_disordered = |(_, collection): &(&CollectionId, &Collection)| {
            !collection.log.iter().map(|(version, _)| version).is_sorted()
        };
        let mut check = Self {
            pin: Some(Rc::new(inner.overlay.pin())),
            collections: collections.iter().map(|(id, collection)| (*id, collection.bits)).collect(),
            disordered: collections.iter().filter(is_disordered).map(|(id, _)| *id).collect(),
            pools: inner.pools.borrow().clone(),
            reaps: inner.reaps.borrow().iter().copied().collect(),
            next_omap_id: inner.next_omap_id.get(),
            changes: inner.space.generations(),
            bitmap: BitmapAllocator::new(inner.window(), inner.block),
            since: Some(inner.space.follow()),
            window: inner.window(),
            rebuilt: BitmapAllocator::new_free(inner.window(), inner.block),
            regions: Vec::new(),
            contested: Vec::new(),
            orphans: Vec::new(),
            undecoded: BTreeSet::new(),
            has_unreadable: false,
            found_pools: BTreeMap::new(),
            shares: BTreeMap::new(),
            omaps: BTreeMap::new(),
            report: FsckReport::default(),
            fixes,
            watch,
            is_cut: false,
            inner: Rc::clone(inner),
        };
        check.claim_regions();
        check
    }

    async fn run(&mut self, level: FsckLevel) -> StoreResult<()> {
        self.copy_bitmap().await;
        self.shares().await?;
        self.objects(level).await?;
        self.judge_contested().await?;
        if !self.is_cut {
            self.compare_shares();
        }
        self.omap_entries().await?;
        if self.is_cut {
            return Ok(());
        }
        let problem = self.inner.free_list_problem.borrow().clone();
        match problem {
            Some(problem) => self.find(FsckSeverity::Fatal, Remedy::Repair, "free-list", problem),
            None => {
                self.compare_bitmaps().await;
                self.free_list().await?;
            }
        }
        self.compare_pools();
        self.logs();
        if level == FsckLevel::Deep {
            self.data().await?;
        }
        self.report.is_whole = !self.is_cut;
        Ok(())
    }

    fn find(&mut self, severity: FsckSeverity, remedy: Remedy, kind: &'static str, detail: String) {
        let findings = &mut self.report.findings;
        if findings.len() + 1 < limits::FSCK_FINDINGS_MAX {
            findings.push(FsckFinding { severity, remedy, kind, detail });
        } else if findings.len() < limits::FSCK_FINDINGS_MAX {
            let detail = "further findings are left out".to_owned();
            let (severity, remedy) = (FsckSeverity::Error, Remedy::None);
            findings.push(FsckFinding { severity, remedy, kind: "more", detail });
        }
    }

    /// What is looked at.
    fn pin(&self) -> Rc<Pin> {
        self.pin.clone().unwrap_or_else(|| Rc::new(self.inner.overlay.pin()))
    }

    /// The next keys and values of a range, of which what is left stays in it; none if nothing was left, or the check ends early.
    async fn page(&mut self, range: &mut Option<(Bytes, Bytes)>) -> StoreResult<Option<Vec<(Bytes, Bytes)>>> {
        if self.is_cut {
            return Ok(None);
        }
        let Some((start, end)) = range.take() else { return Ok(None) };
        let page = self.pin().scan(&*self.inner.kv, start, end.clone(), PAGE).await;
        let page = page.map_err(|error| self.inner.kv_failed(&error))?;
        let last = page.entries.last().filter(|_| page.more);
        *range = last.map(|(key, _)| (keys::after(key), end));
        let bytes = page.entries.iter().map(|(key, value)| length(key) + length(value)).sum();
        self.pause(bytes).await;
        Ok(Some(page.entries))
    }

    /// Lets others have their turn. What keys show is held for the check meanwhile, so it gives up where that is too much.
    async fn pause(&mut self, bytes: u64) {
        self.is_cut |= !self.watch.pause(bytes).await;
        let is_served = self.inner.purpose == Purpose::Serve;
        if is_served && self.pin.is_some() && self.inner.kv_room.views_unwanted.get() {
            log::warn!(
                "a check ends early, as there is no room for what it would keep of the key-value store"
            );
            self.is_cut = true;
        }
    }

    fn compare_pools(&mut self) {
        let pools: BTreeSet<i64> = self.pools.keys().chain(self.found_pools.keys()).copied().collect();
        for pool in pools {
            let is = self.pools.get(&pool).copied().unwrap_or_default();
            let should = self.found_pools.get(&pool).copied().unwrap_or_default();
            if is != should {
                let detail = format!("pool {pool}: {is:?}, expected {should:?}");
                self.find(FsckSeverity::Error, Remedy::Repair, "pool-statistics", detail.clone());
                // They follow from what else has to change.
                if self.nothing_changes() {
                    let change = [Item::Statistics(pool, should.minus(&is))];
                    self.fix("pool-statistics", detail, change);
                }
            }
        }
    }

    fn logs(&mut self) {
        for id in std::mem::take(&mut self.disordered) {
            self.find(FsckSeverity::Error, Remedy::None, "log-order", format!("log of {id:?}"));
        }
    }
}
