//! What OSDs report of their space, their pools and their traffic, and sums of it.
//!
//! Invariant: one report per OSD, the newest. Host view of one monitor.

use std::collections::{BTreeMap, VecDeque};
use std::ops::AddAssign;

use wire::msg::{OsdStats, PgReport, PoolReport};
use wire::types::{PgId, PoolId, UTime};

use crate::limits::{RATE_SAMPLES_MAX, RATE_WINDOW_SECONDS};

/// Space of an OSD, or of several, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SpaceUse {
    pub total: u64,
    pub available: u64,
    pub data: u64,
    pub omap: u64,
    pub metadata: u64,
}

impl SpaceUse {
    /// What is not available.
    pub fn used(&self) -> u64 {
        self.total.saturating_sub(self.available)
    }

    /// Share in use, 0 to 1.
    pub fn ratio(&self) -> f64 {
        if self.total == 0 { 0.0 } else { lossy(self.used()) / lossy(self.total) }
    }
}

impl AddAssign for SpaceUse {
    fn add_assign(&mut self, other: Self) {
        self.total = self.total.saturating_add(other.total);
        self.available = self.available.saturating_add(other.available);
        self.data = self.data.saturating_add(other.data);
        self.omap = self.omap.saturating_add(other.omap);
        self.metadata = self.metadata.saturating_add(other.metadata);
    }
}

/// Operations and bytes since an OSD started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct IoCounters {
    pub reads: u64,
    pub read_bytes: u64,
    pub writes: u64,
    pub write_bytes: u64,
}

impl AddAssign for IoCounters {
    fn add_assign(&mut self, other: Self) {
        self.reads = self.reads.saturating_add(other.reads);
        self.read_bytes = self.read_bytes.saturating_add(other.read_bytes);
        self.writes = self.writes.saturating_add(other.writes);
        self.write_bytes = self.write_bytes.saturating_add(other.write_bytes);
    }
}

impl IoCounters {
    /// What was added since `earlier`; an OSD that restarted in between began at 0 again.
    fn since(self, earlier: Self) -> Self {
        let restarted = self.reads < earlier.reads || self.writes < earlier.writes;
        let earlier = if restarted { Self::default() } else { earlier };
        Self {
            reads: self.reads.saturating_sub(earlier.reads),
            read_bytes: self.read_bytes.saturating_sub(earlier.read_bytes),
            writes: self.writes.saturating_sub(earlier.writes),
            write_bytes: self.write_bytes.saturating_sub(earlier.write_bytes),
        }
    }
}

/// Per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct IoRates {
    pub reads: u64,
    pub read_bytes: u64,
    pub writes: u64,
    pub write_bytes: u64,
}

/// What an OSD, or all of them, hold of one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// Objects.
    pub objects: u64,
    /// Bytes of data as clients count them.
    pub bytes: u64,
    /// Omap keys.
    pub omap_keys: u64,
    /// Bytes of omap keys and values.
    pub omap_bytes: u64,
    /// Bytes of the device in use for data.
    pub allocated: u64,
    /// Of these, what compressed data takes.
    pub compressed: u64,
    /// What that was before.
    pub compressed_original: u64,
    /// Operations on it.
    pub io: IoCounters,
}

impl AddAssign for PoolUse {
    fn add_assign(&mut self, other: Self) {
        self.objects = self.objects.saturating_add(other.objects);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.omap_keys = self.omap_keys.saturating_add(other.omap_keys);
        self.omap_bytes = self.omap_bytes.saturating_add(other.omap_bytes);
        self.allocated = self.allocated.saturating_add(other.allocated);
        self.compressed = self.compressed.saturating_add(other.compressed);
        self.compressed_original = self.compressed_original.saturating_add(other.compressed_original);
        self.io += other.io;
    }
}

/// One OSD's report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OsdReport {
    /// When it came, by the monitor's clock.
    pub received: UTime,
    /// Its space.
    pub space: SpaceUse,
    /// PGs that it leads.
    pub pgs: BTreeMap<PgId, PgReport>,
    /// By pool.
    pub pools: BTreeMap<PoolId, PoolUse>,
}

impl OsdReport {
    /// From the message. Numbers that make no sense become 0.
    pub fn new(stats: OsdStats, received: UTime) -> Self {
        let store = stats.statfs.store;
        Self {
            received,
            space: SpaceUse {
                total: natural(store.total),
                available: natural(store.available).min(natural(store.total)),
                data: natural(store.allocated),
                omap: natural(store.omap_allocated),
                metadata: natural(store.internal_metadata),
            },
            pgs: stats.pgs,
            pools: stats.pools.iter().map(|(pool, report)| (*pool, PoolUse::new(report))).collect(),
        }
    }
}

impl PoolUse {
    fn new(report: &PoolReport) -> Self {
        Self {
            objects: natural(report.objects),
            bytes: natural(report.bytes),
            omap_keys: natural(report.omap_keys),
            omap_bytes: natural(report.omap_bytes),
            allocated: natural(report.allocated),
            compressed: natural(report.compressed),
            compressed_original: natural(report.compressed_original),
            io: IoCounters {
                reads: natural(report.reads),
                read_bytes: natural(report.reads_kb).saturating_mul(1024),
                writes: natural(report.writes),
                write_bytes: natural(report.writes_kb).saturating_mul(1024),
            },
        }
    }
}

fn natural(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// The reports of all OSDs.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    by_osd: BTreeMap<i32, OsdReport>,
    /// Increase of the traffic per report, the newest last.
    increases: VecDeque<(UTime, PoolId, IoCounters)>,
}

impl Reports {
    /// Takes a report in place of the one before.
    pub fn accept(&mut self, osd: i32, report: OsdReport) {
        let now = report.received;
        if let Some(before) = self.by_osd.get(&osd) {
            for (pool, used) in &report.pools {
                let earlier = before.pools.get(pool).copied().unwrap_or_default();
                let increase = used.io.since(earlier.io);
                if increase != IoCounters::default() {
                    self.increases.push_back((now, *pool, increase));
                }
            }
        }
        while self.increases.len() > RATE_SAMPLES_MAX {
            self.increases.pop_front();
        }
        self.by_osd.insert(osd, report);
    }

    /// Forgets an OSD that is no more.
    pub fn forget(&mut self, osd: i32) {
        self.by_osd.remove(&osd);
    }

    /// The report of one OSD.
    pub fn of(&self, osd: i32) -> Option<&OsdReport> {
        self.by_osd.get(&osd)
    }

    /// All reports.
    pub fn iter(&self) -> impl Iterator<Item = (i32, &OsdReport)> {
        self.by_osd.iter().map(|(osd, report)| (*osd, report))
    }

    /// Space of all OSDs together.
    pub fn space(&self) -> SpaceUse {
        let mut sum = SpaceUse::default();
        self.by_osd.values().for_each(|report| sum += report.space);
        sum
    }

    /// Use of one pool on all OSDs together.
    pub fn pool(&self, pool: PoolId) -> PoolUse {
        let mut sum = PoolUse::default();
        self.by_osd.values().filter_map(|report| report.pools.get(&pool)).for_each(|used| sum += *used);
        sum
    }

    /// Use of the given pools together.
    pub fn pools(&self, pools: impl Iterator<Item = PoolId>) -> PoolUse {
        let mut sum = PoolUse::default();
        pools.for_each(|pool| sum += self.pool(pool));
        sum
    }

    /// Traffic of one pool, or of all, averaged over the last few seconds.
    pub fn rates(&self, now: UTime, pool: Option<PoolId>) -> IoRates {
        let from = now.seconds.saturating_sub(RATE_WINDOW_SECONDS);
        let mut sum = IoCounters::default();
        let recent = self.increases.iter().filter(|(time, ..)| time.seconds >= from);
        recent
            .filter(|(_, of, _)| pool.is_none_or(|pool| pool == *of))
            .for_each(|(.., increase)| sum += *increase);
        let per_second = |count: u64| count / u64::from(RATE_WINDOW_SECONDS);
        IoRates {
            reads: per_second(sum.reads),
            read_bytes: per_second(sum.read_bytes),
            writes: per_second(sum.writes),
            write_bytes: per_second(sum.write_bytes),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for display")]
fn lossy(value: u64) -> f64 {
    value as f64
}
