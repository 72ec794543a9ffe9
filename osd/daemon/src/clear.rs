//! Clearing parts of the device on request: where it is mostly free, what lies there moves to holes elsewhere. In the background and
//! in small steps, after defragmenting if both are wanted; while clients wait for something it goes slowly. Lives on one core.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use rt::{LocalBoxFuture, Nanos};
use serde_json::{Value, json};
use store::{ClearReport, StoreError, StoreResult, Watch};

use crate::defrag::{FreeSpace, seconds};
use crate::osd::Osd;
use crate::pace::Pace;

/// The run that goes on, and the last one.
#[derive(Default)]
pub struct Clears {
    wanted: Cell<bool>,
    running: RefCell<Option<Running>>,
    last: RefCell<Option<Ended>>,
    /// The running one is to end.
    cut: Cell<bool>,
    pace: Pace,
}

#[derive(Clone, Copy)]
struct Running {
    began: Nanos,
    /// Objects that were looked at, or windows that were cleared, of so many: of the present step.
    step: (u64, u64),
    step_began: Nanos,
    before: FreeSpace,
}

struct Ended {
    /// Seconds since 1970.
    stamp: u64,
    seconds: u64,
    report: ClearReport,
    before: FreeSpace,
    after: FreeSpace,
}

/// Who slows it down while clients wait for something.
struct Watcher(Rc<Osd>);

impl Watch for Watcher {
    fn progress(&self, done: u64, total: u64) {
        if let Some(running) = self.0.clears.running.borrow_mut().as_mut() {
            if done < running.step.0 {
                running.step_began = self.0.core.now();
            }
            running.step = (done, total);
        }
    }

    fn pause(&self, bytes: u64) -> LocalBoxFuture<'static, bool> {
        let osd = self.0.clone();
        Box::pin(async move {
            osd.clears.pace.pause(&osd, bytes).await;
            // On a full device space is not for moving things.
            !osd.is_stopping() && !osd.has_failed() && !osd.clears.cut.get() && !osd.store_full.get()
        })
    }
}

impl Clears {
    /// Wants it once.
    pub fn want(&self) {
        self.wanted.set(true);
    }

    /// Whether it was wanted; it is not any more.
    pub fn take_wanted(&self) -> bool {
        self.wanted.take()
    }

    /// It is not wanted any more, and what goes on is cut off.
    pub fn stop(&self) {
        self.wanted.set(false);
        self.cut.set(true);
    }
}

/// Clears what there is to clear. An error if the store is down.
pub async fn run(osd: &Rc<Osd>) -> StoreResult<()> {
    osd.clears.cut.set(false);
    let (began, before) = (osd.core.now(), FreeSpace::now(osd));
    osd.clears.running.replace(Some(Running { began, step: (0, 0), step_began: began, before }));
    let outcome = osd.store.clear_space(Rc::new(Watcher(osd.clone()))).await;
    osd.clears.running.replace(None);
    match outcome {
        Ok(report) => {
            let stamp = seconds(osd.core.wall_clock());
            let seconds = seconds(Nanos(osd.core.now().0.saturating_sub(began.0)));
            let after = FreeSpace::now(osd);
            osd.clears.last.replace(Some(Ended { stamp, seconds, report, before, after }));
            Ok(())
        }
        Err(error @ StoreError::Down(_)) => Err(error),
        Err(error) => {
            log::warn!("osd.{}: clearing space ends: {error}", osd.config.whoami);
            Ok(())
        }
    }
}

/// For `dump_defrag`.
pub fn show(osd: &Osd) -> Value {
    let running = osd.clears.running.borrow().map(|running| {
        let since = |then: Nanos| seconds(Nanos(osd.core.now().0.saturating_sub(then.0)));
        let (done, total) = running.step;
        let left = since(running.step_began) * total.saturating_sub(done);
        json!({
            "step_done": done,
            "step_total": total,
            "step_progress": (100 * done).checked_div(total).unwrap_or(0).min(100),
            "step_seconds_left": left.checked_div(done),
            "seconds": since(running.began),
            "free_before": running.before.show(),
        })
    });
    let last = osd.clears.last.borrow();
    let last = last.as_ref().map(|last| {
        let ClearReport { passes, windows, bytes, moved_bytes, is_whole } = last.report;
        json!({
            "stamp": last.stamp,
            "seconds": last.seconds,
            "passes": passes,
            "windows": windows,
            "cleared_bytes": bytes,
            "moved_bytes": moved_bytes,
            "cut_off": !is_whole,
            "free_before": last.before.show(),
            "free_after": last.after.show(),
        })
    });
    json!({ "running": running, "wanted": osd.clears.wanted.get(), "last": last })
}
