//! The check of everything: rebuilds from the onodes what the bitmap, the statistics and the omaps should be, and
//! compares. Works on the state after replay and writes nothing; with [`FsckLevel::Deep`] it reads every byte.

mod objects;
mod omaps;
mod shares;
mod space;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use allocator::BitmapAllocator;
use bluefs::kv::ScanLimit;

use super::flips::Flips;
use super::space::Frozen;
use super::state::{Collection, Inner};
use crate::limits;
use crate::object_store::{FsckFinding, FsckLevel, FsckReport, FsckSeverity, StoreResult};
use crate::overlay::Pin;
use crate::share::Share;
use crate::types::{CollectionId, ObjectId, PoolStats};

const PAGE: ScanLimit = ScanLimit { keys: 1024, bytes: 1 << 20 };

/// The check while it runs: everything of one moment, and what was found.
struct Check {
    inner: Rc<Inner>,
    pin: Pin,
    collections: BTreeMap<CollectionId, Collection>,
    pools: BTreeMap<i64, PoolStats>,
    reaps: BTreeSet<u64>,
    /// No omap id from here on may be in use.
    next_omap_id: u64,
    /// What the records changed since the checkpoint that the key-value store has, and since one that is under way.
    changes: (Option<Frozen>, Flips),
    /// What the allocator has.
    bitmap: BitmapAllocator,
    rebuilt: BitmapAllocator,
    found_pools: BTreeMap<i64, PoolStats>,
    /// Shares, and how often their blocks were found in use.
    shares: BTreeMap<(u64, u64), (Share, Vec<u32>)>,
    /// Omap id → its object, keys and bytes according to the onode.
    omaps: BTreeMap<u64, (ObjectId, u64, u64)>,
    report: FsckReport,
}

impl Inner {
    /// See the seam.
    pub async fn fsck(
        self: Rc<Self>,
        level: FsckLevel,
        progress: Box<dyn Fn(u64, u64)>,
    ) -> StoreResult<FsckReport> {
        self.check_open()?;
        let mut check = Check {
            pin: self.overlay.pin(),
            collections: self.collections.borrow().clone(),
            pools: self.pools.borrow().clone(),
            reaps: self.reaps.borrow().iter().copied().collect(),
            next_omap_id: self.next_omap_id.get(),
            changes: self.space.generations(),
            bitmap: self.space.current(),
            rebuilt: BitmapAllocator::new_free(self.superblock.window, self.block),
            found_pools: BTreeMap::new(),
            shares: BTreeMap::new(),
            omaps: BTreeMap::new(),
            report: FsckReport::default(),
            inner: Rc::clone(&self),
        };
        check.regions();
        check.shares().await?;
        check.objects(level, &progress).await?;
        check.compare_shares();
        check.omap_entries().await?;
        check.compare_bitmaps();
        check.free_list().await?;
        check.compare_pools();
        check.logs();
        Ok(check.report)
    }
}

impl Check {
    fn find(&mut self, severity: FsckSeverity, kind: &'static str, detail: String) {
        let findings = &mut self.report.findings;
        if findings.len() + 1 < limits::FSCK_FINDINGS_MAX {
            findings.push(FsckFinding { severity, kind, detail });
        } else if findings.len() < limits::FSCK_FINDINGS_MAX {
            let detail = "further findings are left out".to_owned();
            findings.push(FsckFinding { severity: FsckSeverity::Error, kind: "more", detail });
        }
    }

    fn compare_pools(&mut self) {
        let pools: BTreeSet<i64> = self.pools.keys().chain(self.found_pools.keys()).copied().collect();
        for pool in pools {
            let is = self.pools.get(&pool).copied().unwrap_or_default();
            let should = self.found_pools.get(&pool).copied().unwrap_or_default();
            if is != should {
                let detail = format!("pool {pool}: {is:?}, expected {should:?}");
                self.find(FsckSeverity::Error, "pool-statistics", detail);
            }
        }
    }

    fn logs(&mut self) {
        for (id, collection) in std::mem::take(&mut self.collections) {
            if !collection.log.iter().map(|(version, _)| version).is_sorted() {
                self.find(FsckSeverity::Error, "log-order", format!("log of {id:?}"));
            }
        }
    }
}
