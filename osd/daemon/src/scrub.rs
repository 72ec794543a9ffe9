//! Scrubbing: every object of a placement group is read whole, so that the store verifies all checksums, before a client finds
//! what went bad. One group at a time, in the background; while clients wait for something it goes slowly.
//!
//! What it found is remembered in the store: the object `scrub` of [`CollectionId::META`] has an omap entry for each group, and an
//! interval that passed while the OSD was down counts. Lives on one core.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rt::Nanos;
use rt::sync::{Either, Notify, select};
use serde_json::{Value, json};
use store::{CollectionId, ObjectId, Op, StoreError, StoreResult, Transaction};
use wire::codec::{DecodeResult, Reader, Writer};
use wire::msg::{Alert, Severity};
use wire::osdmap::{MapFlags, PoolFlags};
use wire::types::PgId;

use crate::limits::{
    SCRUB_CHECK_INTERVAL, SCRUB_ERROR_BYTES_MAX, SCRUB_ERRORS_KEPT, SCRUB_LIST_MAX, SCRUB_OMAP_KEYS,
    SCRUB_PAUSE, SCRUB_READ_BYTES,
};
use crate::osd::Osd;
use crate::placement_group::PlacementGroup;
use crate::superblock;

/// Name of the option with the seconds after which a group is scrubbed again; 0 for never.
pub const INTERVAL_OPTION: &str = "osd_deep_scrub_interval";
/// Code of the health check that an OSD raises while objects are known to be damaged.
const ALERT_CODE: &str = "OSD_SCRUB_ERRORS";
const VERSION: u8 = 1;

/// What is known of the groups' scrubs.
#[derive(Default)]
pub struct Scrubs {
    /// Of each group, its last one; when the group was first seen if there was none.
    last: RefCell<BTreeMap<PgId, Scrubbed>>,
    /// Asked for by an operator.
    wanted: RefCell<BTreeSet<PgId>>,
    running: RefCell<Option<Running>>,
    /// More are wanted.
    changed: Notify,
}

/// A scrub that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scrubbed {
    /// When, in seconds since 1970.
    ended: u64,
    /// Objects that it read.
    objects: u64,
    /// Their bytes.
    bytes: u64,
    /// Objects that cannot be read.
    errors: u64,
    /// Which, and why; the first ones.
    reasons: Vec<String>,
}

/// One that goes on.
struct Running {
    pg: PgId,
    began: Nanos,
    found: Scrubbed,
    /// Share of the group's hashes that is behind it, in thousandths.
    permille: u64,
}

/// Why a scrub ends early.
enum Cut {
    /// The OSD stops, or the group is gone.
    Over,
    /// The store is.
    Down(StoreError),
}

impl Scrubbed {
    pub(crate) fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        w.env(VERSION, 1, |w| {
            [self.ended, self.objects, self.bytes, self.errors].into_iter().for_each(|number| w.u64(number));
            w.put(&self.reasons);
        });
        w.finish()
    }

    pub(crate) fn decode(value: Bytes) -> DecodeResult<Self> {
        Reader::new("scrub", value).env("scrub", VERSION, |r, _| {
            Ok(Self {
                ended: r.u64()?,
                objects: r.u64()?,
                bytes: r.u64()?,
                errors: r.u64()?,
                reasons: r.get()?,
            })
        })
    }

    fn add(&mut self, object: &ObjectId, error: &StoreError) {
        self.errors += 1;
        if self.reasons.len() < SCRUB_ERRORS_KEPT {
            let mut reason = format!("{object}: {error}");
            let most = (0..=SCRUB_ERROR_BYTES_MAX).rev().find(|at| reason.is_char_boundary(*at));
            reason.truncate(most.unwrap_or_default());
            self.reasons.push(reason);
        }
    }
}

impl Scrubs {
    /// Wants a group to be scrubbed soon.
    pub fn want(&self, pg: PgId) {
        self.wanted.borrow_mut().insert(pg);
        self.changed.notify_all();
    }

    /// Whether the last scrub of a group found objects that cannot be read.
    pub fn is_inconsistent(&self, pg: PgId) -> bool {
        self.last.borrow().get(&pg).is_some_and(|last| last.errors > 0)
    }

    /// Whether a group is being scrubbed.
    pub fn is_running(&self, pg: PgId) -> bool {
        self.running.borrow().as_ref().is_some_and(|running| running.pg == pg)
    }
}

/// Remembers what the store knows of former scrubs.
pub async fn load(osd: &Osd) -> StoreResult<()> {
    let page = osd.store.omap_scan(
        CollectionId::META,
        &superblock::object("scrub"),
        None,
        Bytes::new(),
        usize::MAX,
        usize::MAX,
    );
    let page = match page.await {
        Ok(page) => page,
        Err(StoreError::NotFound(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    for (key, value) in page.entries {
        match (parse_key(&key), Scrubbed::decode(value)) {
            (Some(pg), Ok(scrubbed)) if osd.group(pg).is_some() => {
                osd.scrubs.last.borrow_mut().insert(pg, scrubbed);
            }
            // Of a group that is gone, or not readable: it is as if there had been none.
            (_, found) => log::debug!("osd.{}: a former scrub is forgotten: {found:?}", osd.config.whoami),
        }
    }
    Ok(())
}

/// Scrubs what is due or wanted until the OSD stops.
pub async fn scrub_loop(osd: Rc<Osd>) {
    while !osd.is_stopping() && !osd.has_failed() {
        let Some(group) = next(&osd) else {
            let wait = select(osd.scrubs.changed.notified(), osd.core.sleep(SCRUB_CHECK_INTERVAL));
            if let Either::Left(()) = select(osd.stopping(), wait).await {
                return;
            }
            continue;
        };
        let pg = group.id();
        osd.scrubs.wanted.borrow_mut().remove(&pg);
        let began = osd.core.now();
        let running = Running { pg, began, found: Scrubbed::default(), permille: 0 };
        osd.scrubs.running.replace(Some(running));
        let outcome = scrub(&osd, &group).await;
        let found = osd.scrubs.running.take().map(|running| running.found).unwrap_or_default();
        let outcome = match outcome {
            Ok(()) => remember(&osd, pg, found).await.map_err(Cut::Down),
            cut => cut,
        };
        match outcome {
            Ok(()) | Err(Cut::Over) => {}
            // Whoever uses the store next finds out, too; a full one takes it another time.
            Err(Cut::Down(error)) => {
                log::warn!("osd.{}: scrub of pg {pg}: {error}", osd.config.whoami);
                osd.core.sleep(SCRUB_CHECK_INTERVAL).await;
            }
        }
    }
}

/// The group whose turn it is.
fn next(osd: &Osd) -> Option<Rc<PlacementGroup>> {
    let served: Vec<_> =
        osd.all_groups().into_iter().filter(|group| group.serving_since().is_some()).collect();
    let wanted = osd.scrubs.wanted.borrow();
    if let Some(group) = served.iter().find(|group| wanted.contains(&group.id())) {
        return Some(group.clone());
    }
    let map = osd.maps.current();
    let interval: f64 = osd.options.get(INTERVAL_OPTION)?.parse().ok().filter(|seconds| *seconds > 0.0)?;
    if map.flags.contains(MapFlags::NOSCRUB) || map.flags.contains(MapFlags::NODEEP_SCRUB) {
        return None;
    }
    let now = seconds(osd.core.wall_clock());
    let mut last = osd.scrubs.last.borrow_mut();
    last.retain(|pg, _| osd.group(*pg).is_some());
    let allowed = |pg: PgId| {
        let flags = map.pools.get(&pg.pool).map(|pool| pool.flags);
        flags.is_some_and(|flags| {
            !flags.contains(PoolFlags::NOSCRUB) && !flags.contains(PoolFlags::NODEEP_SCRUB)
        })
    };
    let mut due: Vec<(u64, &Rc<PlacementGroup>)> = Vec::new();
    for group in served.iter().filter(|group| allowed(group.id())) {
        let first = || Scrubbed { ended: now, ..Scrubbed::default() };
        let ended = last.entry(group.id()).or_insert_with(first).ended;
        // A clock that was set back must not keep it from ever being due.
        if ended > now || Duration::from_secs(now - ended).as_secs_f64() >= interval {
            due.push((ended, group));
        }
    }
    due.sort_by_key(|(ended, _)| *ended);
    due.first().map(|(_, group)| (*group).clone())
}

/// Reads all objects of a group.
async fn scrub(osd: &Osd, group: &Rc<PlacementGroup>) -> Result<(), Cut> {
    let collection = group.collection();
    let mut from = None;
    loop {
        let (names, next) = match osd.store.list(collection, from, SCRUB_LIST_MAX).await {
            Ok(page) => page,
            Err(StoreError::NotFound(_)) => return Err(Cut::Over),
            Err(error) => return Err(Cut::Down(error)),
        };
        for name in names {
            let read = scrub_object(osd, collection, &name).await;
            if osd.is_stopping() || osd.has_failed() || osd.group(group.id()).is_none() {
                return Err(Cut::Over);
            }
            let mut running = osd.scrubs.running.borrow_mut();
            let Some(running) = running.as_mut() else { return Err(Cut::Over) };
            running.permille = group.permille_before(name.hash);
            match read {
                Ok(bytes) => {
                    running.found.bytes += bytes;
                    count(&osd.counters.scrubbed_bytes, bytes);
                }
                // Removed meanwhile.
                Err(StoreError::NotFound(_)) => continue,
                Err(error @ StoreError::Io(_)) => {
                    running.found.add(&name, &error);
                    count(&osd.counters.scrub_errors, 1);
                }
                Err(error) => return Err(Cut::Down(error)),
            }
            running.found.objects += 1;
            count(&osd.counters.scrubbed_objects, 1);
        }
        match next {
            Some(next) => from = Some(next),
            None => return Ok(()),
        }
    }
}

/// Reads all of an object; gives the bytes of its data.
async fn scrub_object(osd: &Osd, collection: CollectionId, name: &ObjectId) -> StoreResult<u64> {
    osd.store.attrs(collection, name).await?;
    osd.store.omap_header(collection, name).await?;
    let mut after = None;
    loop {
        let bytes_max = usize::try_from(SCRUB_READ_BYTES).unwrap_or(usize::MAX);
        let page = osd
            .store
            .omap_scan(collection, name, after.take(), Bytes::new(), SCRUB_OMAP_KEYS, bytes_max)
            .await?;
        match page.entries.last().filter(|_| page.more) {
            Some((key, _)) => after = Some(key.clone()),
            None => break,
        }
        pause(osd).await;
    }
    let mut at = 0;
    loop {
        let read = osd.store.read(collection, name, at, SCRUB_READ_BYTES).await?;
        let bytes: usize = read.iter().map(Bytes::len).sum();
        at += u64::try_from(bytes).unwrap_or(0);
        pause(osd).await;
        // Less than asked for: it ends here.
        if u64::try_from(bytes).unwrap_or(0) < SCRUB_READ_BYTES || osd.is_stopping() {
            return Ok(at);
        }
    }
}

/// Others have their turn; while clients wait for something, a longer one.
async fn pause(osd: &Osd) {
    match osd.tracker.in_flight() {
        0 => osd.core.yield_now().await,
        _ => osd.core.sleep(SCRUB_PAUSE).await,
    }
}

async fn remember(osd: &Osd, pg: PgId, found: Scrubbed) -> StoreResult<()> {
    let found = Scrubbed { ended: seconds(osd.core.wall_clock()), ..found };
    let whoami = osd.config.whoami;
    if found.errors > 0 {
        log::error!(
            "osd.{whoami}: scrub of pg {pg}: {} objects cannot be read: {:?}",
            found.errors,
            found.reasons
        );
    } else if osd.scrubs.is_inconsistent(pg) {
        log::info!("osd.{whoami}: scrub of pg {pg}: all {} objects can be read again", found.objects);
    }
    let entries = BTreeMap::from([(key(pg), found.encode())]);
    osd.scrubs.last.borrow_mut().insert(pg, found);
    let op = Op::OmapSet { collection: CollectionId::META, object: superblock::object("scrub"), entries };
    osd.store.submit(Transaction { ops: vec![op] }).durable.await
}

/// What the operator should know.
pub fn alert(osd: &Osd) -> Option<Alert> {
    let last = osd.scrubs.last.borrow();
    let damaged: Vec<String> =
        last.iter().filter(|(_, last)| last.errors > 0).map(|(pg, _)| pg.to_string()).collect();
    let errors = osd.scrubs.last.borrow().values().map(|last| last.errors).sum::<u64>();
    (errors > 0).then(|| Alert {
        code: ALERT_CODE.to_owned(),
        severity: Severity::Error,
        text: format!(
            "{errors} objects of pg {} cannot be read: 'ceph tell osd.{} dump_scrubs' names them",
            damaged.join(", "),
            osd.config.whoami
        ),
    })
}

/// For `dump_scrubs`.
pub fn show(osd: &Osd) -> Value {
    let now = osd.core.now();
    let told = |pg: PgId, scrub: &Scrubbed| {
        json!({
            "pgid": pg.to_string(), "last_deep_scrub_stamp": scrub.ended, "objects": scrub.objects, "bytes": scrub.bytes,
            "errors": scrub.errors, "unreadable": scrub.reasons,
        })
    };
    let running = osd.scrubs.running.borrow().as_ref().map(|running| {
        let elapsed = now.0.saturating_sub(running.began.0) / 1_000_000_000;
        let left = elapsed * (1000 - running.permille) / running.permille.max(1);
        let mut value = told(running.pg, &running.found);
        value["progress"] = (running.permille / 10).into();
        value["seconds"] = elapsed.into();
        value["seconds_left"] = left.into();
        value
    });
    let last = osd.scrubs.last.borrow();
    let wanted = osd.scrubs.wanted.borrow();
    json!({
        "running": running,
        "wanted": wanted.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "groups": last.iter().map(|(pg, last)| told(*pg, last)).collect::<Vec<_>>(),
    })
}

fn count(counter: &Cell<u64>, more: u64) {
    counter.set(counter.get() + more);
}

fn seconds(time: Nanos) -> u64 {
    time.0 / 1_000_000_000
}

fn key(pg: PgId) -> Bytes {
    let pool = (pg.pool.cast_unsigned() ^ 1 << 63).to_be_bytes();
    [pool.as_slice(), &pg.seed.to_be_bytes()].concat().into()
}

fn parse_key(key: &[u8]) -> Option<PgId> {
    let (pool, seed) = key.split_first_chunk::<8>()?;
    let pool = (u64::from_be_bytes(*pool) ^ 1 << 63).cast_signed();
    Some(PgId::new(pool, u32::from_be_bytes(seed.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_comes_back() {
        for pg in [PgId::new(-3, 7), PgId::new(1 << 40, u32::MAX)] {
            assert_eq!(parse_key(&key(pg)), Some(pg));
        }
        assert!(key(PgId::new(1, 200)) < key(PgId::new(2, 1)));
        assert_eq!(parse_key(b"short"), None);
        let mut found = Scrubbed { ended: 5, objects: 6, bytes: 7, ..Scrubbed::default() };
        let name = ObjectId { name: "ä".repeat(2000).into(), ..superblock::object("scrub") };
        for _ in 0..40 {
            found.add(&name, &StoreError::Io("gone".into()));
        }
        assert_eq!((found.errors, found.reasons.len()), (40, SCRUB_ERRORS_KEPT));
        assert!(found.reasons[0].len() <= SCRUB_ERROR_BYTES_MAX);
        let value = found.encode();
        assert_eq!(Scrubbed::decode(value.clone()), Ok(found));
        assert!(Scrubbed::decode(value.slice(..value.len() - 1)).is_err());
    }
}
