//! Defragmenting on request: objects that lie in many short pieces move to where they lie in fewer, and pieces that keep free space
//! apart go elsewhere. In the background, a part of an object at a time, each by a transaction of its own; while clients wait for
//! something it goes slowly. Lives on one core.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use rt::Nanos;
use rt::sync::{Notify, select};
use serde_json::{Value, json};
use store::{CollectionId, ObjectId, Op, StoreError, StoreResult, Transaction};

use crate::clear;
use crate::limits::{DEFRAG_LIST_MAX, DEFRAG_OBJECT_BYTES, DEFRAG_PART_BYTES};
use crate::osd::Osd;
use crate::pace::Pace;

/// Pieces that are shorter than this on average are too short, unless somebody says otherwise.
pub const THRESHOLD_DEFAULT: u64 = 64 << 10;

/// The run that goes on, and the last one.
#[derive(Default)]
pub struct Defrags {
    /// With this threshold.
    wanted: Cell<Option<u64>>,
    running: RefCell<Option<Run>>,
    last: RefCell<Option<Run>>,
    /// The running one is to end.
    cut: Cell<bool>,
    changed: Notify,
    pace: Pace,
}

/// Free space at a moment, for [`crate::clear`] as well.
#[derive(Clone, Copy)]
pub struct FreeSpace {
    pieces: u64,
    permille: u64,
}

/// A run through all objects.
#[derive(Clone, Copy)]
struct Run {
    threshold: u64,
    began: Nanos,
    /// Collections that are done, of so many.
    collections: (u64, u64),
    /// How much of the present one, in thousandths.
    permille: u64,
    objects: u64,
    /// Bytes of parts that were in too many pieces.
    bytes: u64,
    /// Pieces that these were in, and are in now.
    pieces: (u64, u64),
    before: FreeSpace,
    /// None before the end.
    end: Option<End>,
}

#[derive(Clone, Copy)]
struct End {
    /// Seconds since 1970.
    stamp: u64,
    seconds: u64,
    is_whole: bool,
    free: FreeSpace,
}

impl Defrags {
    /// Wants all objects to be looked at.
    pub fn want(&self, threshold: u64) {
        self.wanted.set(Some(threshold));
        self.wake();
    }

    /// Something is wanted.
    pub fn wake(&self) {
        self.changed.notify_all();
    }

    /// Nothing is wanted any more, and what goes on is cut off.
    pub fn stop(&self) {
        self.wanted.set(None);
        self.cut.set(true);
    }
}

impl FreeSpace {
    pub fn now(osd: &Osd) -> Self {
        let stats = osd.store.stats();
        Self { pieces: stats.free_pieces, permille: stats.fragmentation_permille }
    }

    pub fn show(self) -> Value {
        json!({ "pieces": self.pieces, "fragmentation_permille": self.permille })
    }
}

/// Defragments, and clears space, when that is wanted, until the OSD stops.
pub async fn defrag_loop(osd: Rc<Osd>) {
    while goes_on(&osd) {
        let outcome = match osd.defrags.wanted.take() {
            Some(threshold) => run(&osd, threshold).await,
            None if osd.clears.take_wanted() => clear::run(&osd).await,
            None => {
                select(osd.stopping(), osd.defrags.changed.notified()).await;
                continue;
            }
        };
        match outcome {
            Ok(()) => {}
            Err(StoreError::Down(reason)) if goes_on(&osd) => return osd.fail(&reason),
            Err(error) => log::warn!("osd.{}: defragmenting ends: {error}", osd.config.whoami),
        }
    }
}

async fn run(osd: &Osd, threshold: u64) -> StoreResult<()> {
    osd.defrags.cut.set(false);
    let began = osd.core.now();
    let run = Run {
        threshold,
        began,
        collections: (0, 0),
        permille: 0,
        objects: 0,
        bytes: 0,
        pieces: (0, 0),
        before: FreeSpace::now(osd),
        end: None,
    };
    osd.defrags.running.replace(Some(run));
    let mut outcome = run_through(osd, threshold).await;
    if outcome.is_ok() {
        // What was left is free only then.
        outcome = osd.store.settle_frees().await.and(outcome);
    }
    if let Some(mut run) = osd.defrags.running.take() {
        run.end = Some(End {
            stamp: seconds(osd.core.wall_clock()),
            seconds: seconds(Nanos(osd.core.now().0.saturating_sub(began.0))),
            is_whole: matches!(outcome, Ok(true)),
            free: FreeSpace::now(osd),
        });
        osd.defrags.last.replace(Some(run));
    }
    outcome.map(drop)
}

fn goes_on(osd: &Osd) -> bool {
    !osd.is_stopping() && !osd.has_failed()
}

/// Whether the run goes on. On a full device there is no better space.
fn is_wanted(osd: &Osd) -> bool {
    goes_on(osd) && !osd.defrags.cut.get() && !osd.store_full.get()
}

fn with_running(osd: &Osd, change: impl FnOnce(&mut Run)) {
    if let Some(run) = osd.defrags.running.borrow_mut().as_mut() {
        change(run);
    }
}

/// Looks at all objects; false if it was cut off.
async fn run_through(osd: &Osd, threshold: u64) -> StoreResult<bool> {
    let collections = osd.store.collections().await?;
    let count = u64::try_from(collections.len()).unwrap_or(u64::MAX);
    for (number, (collection, bits, _)) in (0..).zip(collections) {
        with_running(osd, |run| (run.collections, run.permille) = ((number, count), 0));
        let mut from = None;
        loop {
            let (names, next) = match osd.store.list(collection, from, DEFRAG_LIST_MAX).await {
                Ok(page) => page,
                // Removed meanwhile, or not readable: a check of the store tells of that.
                Err(StoreError::NotFound(_) | StoreError::Io(_)) => break,
                Err(error) => return Err(error),
            };
            for name in names {
                if !is_wanted(osd) {
                    return Ok(false);
                }
                match defragment(osd, collection, &name, threshold).await {
                    // It is gone, cannot be read, or does not fit into the journal: it stays as it is.
                    Ok(()) | Err(StoreError::NotFound(_) | StoreError::Io(_) | StoreError::TooLarge(_)) => {}
                    Err(StoreError::NoSpace(_) | StoreError::Invalid(_)) => {}
                    Err(error) => return Err(error),
                }
                with_running(osd, |run| {
                    run.objects += 1;
                    run.permille = permille_before(name.hash, bits);
                });
                osd.defrags.pace.pause(osd, DEFRAG_OBJECT_BYTES).await;
            }
            match next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
    }
    with_running(osd, |run| run.collections = (count, count));
    Ok(true)
}

/// Moves those parts of an object that are in too short pieces.
async fn defragment(osd: &Osd, collection: CollectionId, name: &ObjectId, threshold: u64) -> StoreResult<()> {
    let size = osd.store.stat(collection, name).await?.size;
    let mut offset = 0;
    while offset < size && is_wanted(osd) {
        let len = DEFRAG_PART_BYTES.min(size - offset);
        let found = osd.store.fragments(collection, name, offset, len).await?;
        let is_short = found.bytes < found.pieces.saturating_mul(threshold);
        if is_short && (found.pieces > 1 || found.islands > 0) {
            let op = Op::Defragment { collection, object: name.clone(), offset, len };
            osd.store.submit(Transaction { ops: vec![op] }).durable.await?;
            let after = osd.store.fragments(collection, name, offset, len).await?;
            with_running(osd, |run| {
                run.bytes += found.bytes;
                run.pieces = (run.pieces.0 + found.pieces, run.pieces.1 + after.pieces);
            });
            // It was read and written.
            osd.defrags.pace.pause(osd, 2 * found.bytes).await;
        }
        offset += len;
    }
    Ok(())
}

/// How much of a collection lies before the objects of a hash, in thousandths.
fn permille_before(hash: u32, bits: u8) -> u64 {
    let within = (u64::from(hash.reverse_bits()) << bits.min(32)) & u64::from(u32::MAX);
    (within * 1000) >> 32
}

/// For `dump_defrag`.
pub fn show(osd: &Osd) -> Value {
    let running = osd.defrags.running.borrow().map(|run| {
        let elapsed = seconds(Nanos(osd.core.now().0.saturating_sub(run.began.0)));
        let (done, all) = run.collections;
        let done = (done * 1000 + run.permille).checked_div(all).unwrap_or(0);
        let mut value = told(&run);
        value["progress"] = (done / 10).into();
        value["seconds"] = elapsed.into();
        value["seconds_left"] = (elapsed * 1000u64.saturating_sub(done)).checked_div(done).into();
        value
    });
    let last = osd.defrags.last.borrow().and_then(|run| {
        let end = run.end?;
        let mut value = told(&run);
        value["stamp"] = end.stamp.into();
        value["seconds"] = end.seconds.into();
        value["cut_off"] = (!end.is_whole).into();
        value["free_after"] = end.free.show();
        Some(value)
    });
    let wanted = osd.defrags.wanted.get();
    json!({ "running": running, "wanted": wanted, "last": last, "space": clear::show(osd) })
}

fn told(run: &Run) -> Value {
    json!({
        "threshold": run.threshold,
        "objects": run.objects,
        "moved_bytes": run.bytes,
        "pieces_before": run.pieces.0,
        "pieces_after": run.pieces.1,
        "free_before": run.before.show(),
    })
}

pub fn seconds(time: Nanos) -> u64 {
    time.0 / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::permille_before;

    #[test]
    fn progress_in_a_collection_ascends_from_0_to_1000() {
        assert_eq!(permille_before(0, 0), 0);
        assert_eq!(permille_before(1, 0), 500);
        assert_eq!(permille_before(u32::MAX, 0), 999);
        // Of a collection of 3 bits all hashes end with the same three.
        assert_eq!((permille_before(0b101, 3), permille_before(0b1101, 3)), (0, 500));
        assert_eq!(permille_before(u32::MAX, 3), 999);
        assert_eq!(permille_before(7, 32), 0);
    }
}
