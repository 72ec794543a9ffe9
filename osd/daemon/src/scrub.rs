//! Scrubbing: every object of a placement group is read whole, so that the store verifies all checksums, before a client finds
//! what went bad. One group at a time, in the background; while clients wait for something it goes slowly.
//!
//! What is known of each group is remembered in the store: the object `scrub` of [`CollectionId::META`] has an omap entry for
//! it. So an interval goes on over restarts, a scrub that was cut off goes on where it was, and one that takes the OSD down is
//! not the first thing that its next life does. Lives on one core.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use rt::Nanos;
use rt::sync::{Either, Notify, select};
use serde_json::{Value, json};
use store::{AccessHints, CollectionId, ObjectId, Op, StoreError, StoreResult, Transaction};
use wire::codec::{DecodeResult, Reader, Writer};
use wire::msg::{Alert, Severity};
use wire::osdmap::{MapFlags, Pool, PoolFlags};
use wire::types::PgId;

use crate::limits::{
    SCRUB_CHECK_INTERVAL, SCRUB_ERROR_BYTES_MAX, SCRUB_ERRORS_KEPT, SCRUB_LIST_MAX, SCRUB_OBJECT_BYTES,
    SCRUB_OMAP_KEYS, SCRUB_READ_BYTES, SCRUB_REMEMBER_INTERVAL, SCRUB_RETRY_INTERVAL, SCRUBS_PER_PAGE,
};
use crate::osd::Osd;
use crate::pace::Pace;
use crate::placement_group::PlacementGroup;
use crate::superblock;

/// Name of the option with the seconds after which a group is scrubbed again; 0 for never.
pub const INTERVAL_OPTION: &str = "osd_deep_scrub_interval";
const INTERVAL_DEFAULT: f64 = 604_800.0;
/// Code of the health check that an OSD raises while objects are known to be damaged.
const ALERT_CODE: &str = "OSD_SCRUB_ERRORS";
const OBJECT: &str = "scrub";
const VERSION: u8 = 1;

/// What is known of the groups' scrubs.
#[derive(Default)]
pub struct Scrubs {
    known: RefCell<BTreeMap<PgId, Known>>,
    /// Asked for by an operator.
    wanted: RefCell<BTreeSet<PgId>>,
    running: RefCell<Option<Running>>,
    /// The running one is to end.
    cut: Cell<bool>,
    /// More may be due.
    changed: Notify,
    pace: Pace,
}

/// What is known of one group. Times are in seconds since 1970, 0 for never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// When it was seen first.
    seen: u64,
    /// When a scrub began or went on last.
    tried: u64,
    /// When one ended.
    ended: u64,
    /// What that one found.
    found: Found,
    /// One that was cut off: the hash of objects that it came to, and what it had found.
    partial: Option<(u32, Found)>,
}

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
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
    /// Nobody asked for it.
    is_periodic: bool,
    found: Found,
    /// Objects of this hash are next, and how much of the group lies before, in thousandths.
    cursor: u32,
    permille: u64,
    began_permille: u64,
    remembered: Nanos,
}

/// Why a scrub ends early.
enum Cut {
    /// The OSD stops, the group is gone, or it is not wanted any more.
    Over,
    /// The store is down.
    Down(String),
}

impl Found {
    fn encode(&self, w: &mut Writer) {
        [self.objects, self.bytes, self.errors].into_iter().for_each(|number| w.u64(number));
        w.put(&self.reasons);
    }

    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        Ok(Self { objects: r.u64()?, bytes: r.u64()?, errors: r.u64()?, reasons: r.get()? })
    }

    fn add(&mut self, what: &dyn std::fmt::Display, error: &StoreError) {
        self.errors += 1;
        if self.reasons.len() < SCRUB_ERRORS_KEPT {
            let mut reason = format!("{what}: {error}");
            let most = (0..=SCRUB_ERROR_BYTES_MAX).rev().find(|at| reason.is_char_boundary(*at));
            reason.truncate(most.unwrap_or_default());
            self.reasons.push(reason);
        }
    }
}

impl Known {
    pub(crate) fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        w.env(VERSION, 1, |w| {
            [self.seen, self.tried, self.ended].into_iter().for_each(|time| w.u64(time));
            self.found.encode(w);
            w.u8(u8::from(self.partial.is_some()));
            if let Some((cursor, found)) = &self.partial {
                w.u32(*cursor);
                found.encode(w);
            }
        });
        w.finish()
    }

    pub(crate) fn decode(value: Bytes) -> DecodeResult<Self> {
        Reader::new("scrub", value).env("scrub", VERSION, |r, _| {
            let (seen, tried, ended) = (r.u64()?, r.u64()?, r.u64()?);
            let found = Found::decode(r)?;
            let partial = if r.u8()? == 0 { None } else { Some((r.u32()?, Found::decode(r)?)) };
            Ok(Self { seen, tried, ended, found, partial })
        })
    }

    /// Whether a scrub is due, and since when. A group that never was waits for a part of the interval, each for another.
    fn due(&self, pg: PgId, now: u64, interval: f64) -> Option<u64> {
        let never = 0.5 + f64::from(pg.seed.reverse_bits()) / f64::from(u32::MAX) / 2.0;
        let (from, wait) =
            if self.ended > 0 { (self.ended, interval) } else { (self.seen, interval * never) };
        // A clock that was set back must not keep it from ever being due.
        let passed = |from: u64, wait: f64| from > now || seconds_f64(now - from) >= wait;
        let retry = SCRUB_RETRY_INTERVAL.as_secs_f64().min(interval);
        (passed(from, wait) && passed(self.tried, retry)).then_some(from)
    }

    /// Objects that cannot be read, by the last scrub or the one that is not over.
    fn errors(&self) -> u64 {
        self.partial.as_ref().map_or(0, |(_, found)| found.errors).max(self.found.errors)
    }
}

impl Scrubs {
    /// Wants a group to be scrubbed soon.
    pub fn want(&self, pg: PgId) {
        self.wanted.borrow_mut().insert(pg);
        self.changed.notify_all();
    }

    /// Nothing is wanted any more, and what goes on is cut off.
    pub fn stop(&self) {
        self.wanted.borrow_mut().clear();
        self.cut.set(true);
    }

    /// Groups may be served now that were not.
    pub fn look_again(&self) {
        self.changed.notify_all();
    }

    /// A group is gone for ever; gives the ops that forget it in the store.
    pub fn forget(&self, pg: PgId) -> Vec<Op> {
        self.known.borrow_mut().remove(&pg);
        self.wanted.borrow_mut().remove(&pg);
        let (collection, object) = (CollectionId::META, superblock::object(OBJECT));
        vec![
            Op::Touch { collection, object: object.clone() },
            Op::OmapRemove { collection, object, keys: vec![key(pg)] },
        ]
    }

    /// Objects of a group that cannot be read, as far as scrubs know.
    pub fn errors(&self, pg: PgId) -> u64 {
        let running = self.running.borrow();
        let running = running.as_ref().filter(|running| running.pg == pg).map_or(0, |one| one.found.errors);
        self.known.borrow().get(&pg).map_or(0, Known::errors).max(running)
    }

    /// Whether a group is being scrubbed.
    pub fn is_running(&self, pg: PgId) -> bool {
        self.running.borrow().as_ref().is_some_and(|running| running.pg == pg)
    }
}

/// Remembers what the store knows of former scrubs.
pub async fn load(osd: &Osd) -> StoreResult<()> {
    let object = superblock::object(OBJECT);
    let mut after = None;
    loop {
        let page = osd.store.omap_scan(
            CollectionId::META,
            &object,
            after,
            Bytes::new(),
            SCRUBS_PER_PAGE,
            usize::MAX,
        );
        let page = match page.await {
            Ok(page) => page,
            Err(StoreError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        after = page.entries.last().filter(|_| page.more).map(|(key, _)| key.clone());
        for (key, value) in page.entries {
            match (parse_key(&key), Known::decode(value)) {
                (Some(pg), Ok(known)) if osd.group(pg).is_some() => {
                    osd.scrubs.known.borrow_mut().insert(pg, known);
                }
                // Of a group that is gone, or not readable: it is as if there had been none.
                (_, found) => {
                    log::debug!("osd.{}: a former scrub is forgotten: {found:?}", osd.config.whoami)
                }
            }
        }
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Scrubs what is due or wanted until the OSD stops.
pub async fn scrub_loop(osd: Rc<Osd>) {
    while goes_on(&osd) {
        let done = match note_new(&osd).await {
            Ok(()) => match next(&osd) {
                Some((group, is_periodic)) => one(&osd, &group, is_periodic).await,
                None => idle(&osd).await,
            },
            Err(cut) => Err(cut),
        };
        match done {
            Ok(()) | Err(Cut::Over) => {}
            Err(Cut::Down(reason)) => return osd.fail(&reason),
        }
    }
}

fn goes_on(osd: &Osd) -> bool {
    !osd.is_stopping() && !osd.has_failed()
}

async fn idle(osd: &Osd) -> Result<(), Cut> {
    let wait = select(osd.scrubs.changed.notified(), osd.core.sleep(SCRUB_CHECK_INTERVAL));
    let _woken: Either<(), _> = select(osd.stopping(), wait).await;
    Ok(())
}

fn served(osd: &Osd) -> Vec<Rc<PlacementGroup>> {
    osd.all_groups().into_iter().filter(|group| group.serving_since().is_some()).collect()
}

/// Remembers groups that were not seen before.
async fn note_new(osd: &Osd) -> Result<(), Cut> {
    let now = seconds(osd.core.wall_clock());
    let is_new = |pg: &PgId| !osd.scrubs.known.borrow().contains_key(pg);
    let new: Vec<PgId> = served(osd).iter().map(|group| group.id()).filter(is_new).collect();
    if new.is_empty() {
        return Ok(());
    }
    let known = Known { seen: now, ..Known::default() };
    osd.scrubs.known.borrow_mut().extend(new.iter().map(|pg| (*pg, known.clone())));
    store_known(osd, &new).await
}

/// Writes what is known of these groups into the store. One that is full takes it another time.
async fn store_known(osd: &Osd, groups: &[PgId]) -> Result<(), Cut> {
    let entries: BTreeMap<Bytes, Bytes> = {
        let known = osd.scrubs.known.borrow();
        let still_here = groups.iter().filter(|pg| osd.group(**pg).is_some());
        still_here.filter_map(|pg| Some((key(*pg), known.get(pg)?.encode()))).collect()
    };
    let op = Op::OmapSet { collection: CollectionId::META, object: superblock::object(OBJECT), entries };
    match osd.store.submit(Transaction { ops: vec![op] }).durable.await {
        Ok(()) => Ok(()),
        Err(StoreError::Down(reason)) => Err(Cut::Down(reason)),
        Err(error) => {
            log::warn!("osd.{}: scrubs cannot be remembered: {error}", osd.config.whoami);
            Ok(())
        }
    }
}

/// Whether groups of a pool are scrubbed without being asked to, and how often, in seconds.
fn interval(osd: &Osd, pool: i64) -> Option<f64> {
    let map = osd.maps.current();
    let pool = map.pools.get(&pool)?;
    let is_off = map.flags.contains(MapFlags::NOSCRUB)
        || map.flags.contains(MapFlags::NODEEP_SCRUB)
        || pool.flags.contains(PoolFlags::NOSCRUB)
        || pool.flags.contains(PoolFlags::NODEEP_SCRUB);
    let of_pool = pool.float_option(Pool::OPTION_DEEP_SCRUB_INTERVAL).filter(|seconds| *seconds > 0.0);
    let of_osd = || osd.options.get(INTERVAL_OPTION).and_then(|text| text.parse().ok());
    let wanted = of_pool.or_else(of_osd).filter(|seconds: &f64| *seconds >= 0.0);
    let seconds = wanted.unwrap_or(INTERVAL_DEFAULT);
    (seconds > 0.0 && !is_off).then_some(seconds)
}

/// The group whose turn it is, and whether nobody asked for it.
fn next(osd: &Osd) -> Option<(Rc<PlacementGroup>, bool)> {
    let served = served(osd);
    let wanted = osd.scrubs.wanted.borrow();
    if let Some(group) = served.iter().find(|group| wanted.contains(&group.id())) {
        return Some((group.clone(), false));
    }
    let now = seconds(osd.core.wall_clock());
    let known = osd.scrubs.known.borrow();
    let due = served.into_iter().filter_map(|group| {
        let pg = group.id();
        let since = known.get(&pg)?.due(pg, now, interval(osd, pg.pool)?)?;
        Some((since, group))
    });
    due.min_by_key(|(since, _)| *since).map(|(_, group)| (group, true))
}

/// Scrubs one group, from where a former scrub of it was cut off.
async fn one(osd: &Osd, group: &Rc<PlacementGroup>, is_periodic: bool) -> Result<(), Cut> {
    let pg = group.id();
    osd.scrubs.wanted.borrow_mut().remove(&pg);
    osd.scrubs.cut.set(false);
    let partial = {
        let mut known = osd.scrubs.known.borrow_mut();
        let known = known.entry(pg).or_default();
        known.tried = seconds(osd.core.wall_clock());
        // Who asks wants to know of now.
        if is_periodic { known.partial.clone() } else { None }
    };
    store_known(osd, &[pg]).await?;
    let began = osd.core.now();
    let (cursor, found) = partial.clone().unwrap_or((pg.seed, Found::default()));
    let began_permille = group.permille_before(cursor);
    let running = Running {
        pg,
        began,
        is_periodic,
        found,
        cursor,
        permille: began_permille,
        began_permille,
        remembered: began,
    };
    osd.scrubs.running.replace(Some(running));
    let outcome = scrub(osd, group, partial.map(|(cursor, _)| cursor)).await;
    let Some(Running { found, cursor, .. }) = osd.scrubs.running.take() else { return outcome };
    if osd.group(pg).is_none() {
        return Err(Cut::Over);
    }
    let is_over = outcome.is_ok();
    if is_over {
        tell(osd, pg, &found);
    }
    if let Some(known) = osd.scrubs.known.borrow_mut().get_mut(&pg) {
        match is_over {
            true => {
                (known.ended, known.found, known.partial) = (seconds(osd.core.wall_clock()), found, None);
            }
            false => known.partial = Some((cursor, found)),
        }
    }
    match outcome {
        Err(Cut::Down(reason)) => Err(Cut::Down(reason)),
        _ => store_known(osd, &[pg]).await,
    }
}

fn tell(osd: &Osd, pg: PgId, found: &Found) {
    let whoami = osd.config.whoami;
    if found.errors > 0 {
        log::error!(
            "osd.{whoami}: scrub of pg {pg}: {} objects cannot be read: {:?}",
            found.errors,
            found.reasons
        );
    } else if osd.scrubs.errors(pg) > 0 {
        log::info!("osd.{whoami}: scrub of pg {pg}: all {} objects can be read again", found.objects);
    }
}

/// Reads all objects of a group, from those of a hash on.
async fn scrub(osd: &Osd, group: &Rc<PlacementGroup>, from: Option<u32>) -> Result<(), Cut> {
    let collection = group.collection();
    let mut from = from.map(|hash| ObjectId {
        pool: collection.pool,
        hash,
        namespace: Bytes::new(),
        key: Bytes::new(),
        name: Bytes::new(),
        snap: 0,
    });
    loop {
        let (names, next) = match osd.store.list(collection, from, SCRUB_LIST_MAX).await {
            Ok(page) => page,
            Err(StoreError::NotFound(_)) => return Err(Cut::Over),
            Err(StoreError::Down(reason)) => return Err(Cut::Down(reason)),
            Err(error) => {
                // What lies behind is not known.
                count(&osd.counters.scrub_errors, 1);
                with_running(osd, |running| running.found.add(&"the list of objects", &error));
                return Ok(());
            }
        };
        for name in names {
            let read = scrub_object(osd, group, &name).await;
            if !is_wanted(osd, group) {
                return Err(Cut::Over);
            }
            let permille = group.permille_before(name.hash);
            with_running(osd, |running| (running.cursor, running.permille) = (name.hash, permille));
            match read {
                Ok(bytes) => {
                    with_running(osd, |running| running.found.bytes += bytes);
                    count(&osd.counters.scrubbed_bytes, bytes);
                }
                // Removed meanwhile.
                Err(StoreError::NotFound(_)) => continue,
                Err(StoreError::Down(reason)) => return Err(Cut::Down(reason)),
                Err(error) => {
                    count(&osd.counters.scrub_errors, 1);
                    with_running(osd, |running| running.found.add(&name, &error));
                }
            }
            with_running(osd, |running| running.found.objects += 1);
            count(&osd.counters.scrubbed_objects, 1);
            remember_now_and_then(osd, group.id()).await?;
        }
        match next {
            Some(next) => from = Some(next),
            None => return Ok(()),
        }
    }
}

fn with_running(osd: &Osd, change: impl FnOnce(&mut Running)) {
    if let Some(running) = osd.scrubs.running.borrow_mut().as_mut() {
        change(running);
    }
}

/// Whether the scrub of a group goes on. What nobody asked for ends with the permission to do it.
fn is_wanted(osd: &Osd, group: &PlacementGroup) -> bool {
    let is_periodic = osd.scrubs.running.borrow().as_ref().is_some_and(|running| running.is_periodic);
    let is_allowed = !is_periodic || interval(osd, group.id().pool).is_some();
    goes_on(osd) && is_allowed && !osd.scrubs.cut.get() && osd.group(group.id()).is_some()
}

async fn remember_now_and_then(osd: &Osd, pg: PgId) -> Result<(), Cut> {
    let now = osd.core.now();
    let partial = {
        let mut running = osd.scrubs.running.borrow_mut();
        let Some(running) = running.as_mut() else { return Ok(()) };
        if u128::from(now.0.saturating_sub(running.remembered.0)) < SCRUB_REMEMBER_INTERVAL.as_nanos() {
            return Ok(());
        }
        running.remembered = now;
        (running.cursor, running.found.clone())
    };
    if let Some(known) = osd.scrubs.known.borrow_mut().get_mut(&pg) {
        known.partial = Some(partial);
    }
    store_known(osd, &[pg]).await
}

/// Reads all of an object; gives the bytes of its data.
async fn scrub_object(osd: &Osd, group: &PlacementGroup, name: &ObjectId) -> StoreResult<u64> {
    let collection = group.collection();
    osd.store.attrs(collection, name).await?;
    osd.store.omap_header(collection, name).await?;
    osd.scrubs.pace.pause(osd, SCRUB_OBJECT_BYTES).await;
    let mut after = None;
    loop {
        let bytes_max = usize::try_from(SCRUB_READ_BYTES).unwrap_or(usize::MAX);
        let page = osd
            .store
            .omap_scan(collection, name, after.take(), Bytes::new(), SCRUB_OMAP_KEYS, bytes_max)
            .await?;
        let bytes: usize = page.entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        osd.scrubs.pace.pause(osd, u64::try_from(bytes).unwrap_or(0)).await;
        match page.entries.last().filter(|_| page.more && is_wanted(osd, group)) {
            Some((key, _)) => after = Some(key.clone()),
            None => break,
        }
    }
    let mut at = 0;
    loop {
        let read = osd.store.read_with(collection, name, at, SCRUB_READ_BYTES, AccessHints::VERIFY).await?;
        let bytes = u64::try_from(read.iter().map(Bytes::len).sum::<usize>()).unwrap_or(0);
        at += bytes;
        drop(read);
        osd.scrubs.pace.pause(osd, bytes).await;
        // Less than asked for: it ends here.
        if bytes < SCRUB_READ_BYTES || !is_wanted(osd, group) {
            return Ok(at);
        }
    }
}

/// What the operator should know. Of a group that is not served here, whoever serves it tells.
pub fn alert(osd: &Osd) -> Option<Alert> {
    let damaged: Vec<(PgId, u64)> = served(osd)
        .iter()
        .map(|group| (group.id(), osd.scrubs.errors(group.id())))
        .filter(|(_, errors)| *errors > 0)
        .collect();
    let groups: Vec<String> = damaged.iter().map(|(pg, _)| pg.to_string()).collect();
    (!damaged.is_empty()).then(|| Alert {
        code: ALERT_CODE.to_owned(),
        severity: Severity::Error,
        text: format!(
            "{} objects of pg {} cannot be read: 'ceph tell osd.{} dump_scrubs' names them",
            damaged.iter().map(|(_, errors)| errors).sum::<u64>(),
            groups.join(", "),
            osd.config.whoami
        ),
    })
}

/// For `dump_scrubs`.
pub fn show(osd: &Osd) -> Value {
    let now = osd.core.now();
    let told = |pg: PgId, found: &Found| {
        json!({
            "pgid": pg.to_string(), "objects": found.objects, "bytes": found.bytes, "errors": found.errors,
            "unreadable": found.reasons,
        })
    };
    let time = |seconds: u64| if seconds > 0 { Value::from(seconds) } else { Value::Null };
    let running = osd.scrubs.running.borrow().as_ref().map(|running| {
        let elapsed = now.0.saturating_sub(running.began.0) / 1_000_000_000;
        let done = (running.permille - running.began_permille.min(running.permille)).max(1);
        let mut value = told(running.pg, &running.found);
        value["progress"] = (running.permille / 10).into();
        value["seconds"] = elapsed.into();
        value["seconds_left"] = (elapsed * 1000u64.saturating_sub(running.permille) / done).into();
        value
    });
    let groups = osd.scrubs.known.borrow();
    let groups = groups.iter().map(|(pg, known)| {
        let mut value = told(*pg, &known.found);
        value["last_deep_scrub_stamp"] = time(known.ended);
        value["first_seen_stamp"] = time(known.seen);
        value["cut_off"] = known.partial.as_ref().map(|(_, found)| told(*pg, found)).into();
        value
    });
    json!({
        "running": running,
        "wanted": osd.scrubs.wanted.borrow().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "groups": groups.collect::<Vec<_>>(),
    })
}

/// For fuzzing: one that ended, and one that was cut off.
pub(crate) fn samples() -> [Known; 2] {
    let found = Found { objects: 3, bytes: 70_000, errors: 1, reasons: vec!["object: gone".to_owned()] };
    let ended = Known { seen: 5, tried: 60, ended: 70, found: found.clone(), partial: None };
    [ended.clone(), Known { partial: Some((0x1234_5678, found)), ..ended }]
}

fn count(counter: &Cell<u64>, more: u64) {
    counter.set(counter.get() + more);
}

fn seconds(time: Nanos) -> u64 {
    time.0 / 1_000_000_000
}

#[expect(clippy::cast_precision_loss, reason = "times need no precision")]
fn seconds_f64(seconds: u64) -> f64 {
    seconds as f64
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
        let mut found = Found { objects: 6, bytes: 7, ..Found::default() };
        let name = ObjectId { name: "ä".repeat(2000).into(), ..superblock::object("scrub") };
        for _ in 0..40 {
            found.add(&name, &StoreError::Io("gone".into()));
        }
        assert_eq!((found.errors, found.reasons.len()), (40, SCRUB_ERRORS_KEPT));
        assert!(found.reasons[0].len() <= SCRUB_ERROR_BYTES_MAX);
        let over = Known { seen: 3, tried: 4, ended: 5, found: found.clone(), partial: None };
        let partial = Known { found: Found::default(), partial: Some((9, found)), ..over.clone() };
        assert_eq!((over.errors(), partial.errors()), (40, 40));
        for known in [over, partial] {
            let value = known.encode();
            assert_eq!(Known::decode(value.clone()), Ok(known));
            assert!(Known::decode(value.slice(..value.len() - 1)).is_err());
        }
    }

    #[test]
    fn a_group_is_due_after_its_interval_and_not_at_once_after_an_attempt() {
        let pg = |seed| PgId::new(1, seed);
        let never = Known { seen: 1000, ..Known::default() };
        // Half of the interval to all of it, each another part.
        assert_eq!((never.due(pg(0), 1499, 1000.0), never.due(pg(0), 1500, 1000.0)), (None, Some(1000)));
        assert_eq!((never.due(pg(1), 1700, 1000.0), never.due(pg(1), 1751, 1000.0)), (None, Some(1000)));
        let ended = Known { ended: 2000, ..never };
        assert_eq!((ended.due(pg(0), 2999, 1000.0), ended.due(pg(0), 3000, 1000.0)), (None, Some(2000)));
        assert_eq!(ended.due(pg(0), 1999, 1000.0), Some(2000), "the clock was set back");
        let retry = SCRUB_RETRY_INTERVAL.as_secs();
        let tried = Known { tried: 3000, ..ended };
        let long = 10.0 * seconds_f64(retry);
        assert_eq!(tried.due(pg(0), 3500, 500.0), Some(2000));
        let later = 2000 + 20 * retry;
        let tried = Known { tried: later, ..tried };
        assert_eq!(
            (tried.due(pg(0), later + 1, long), tried.due(pg(0), later + retry, long)),
            (None, Some(2000))
        );
    }
}
