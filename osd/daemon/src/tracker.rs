//! What requests are in progress, where each of them is, and which of the finished ones were slow.
//!
//! A request carries its own [`Timeline`]; marking a stage is a clock reading and a store, so it is always on.
//! Lives on one core.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use rt::Nanos;
use serde_json::{Value, json};

use crate::limits::{HISTORIC_OPS, SHOWN_OPS_MAX};

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Came from the network.
    Arrived,
    /// Has its turn on its object.
    Turn,
    /// Its ops are done.
    Executed,
    /// Its changes can be read.
    Readable,
    /// What it shows or changed is durable.
    Durable,
    /// The answer is on its way.
    Answered,
}

impl Stage {
    const ALL: [Self; 6] =
        [Self::Arrived, Self::Turn, Self::Executed, Self::Readable, Self::Durable, Self::Answered];

    fn name(self) -> &'static str {
        match self {
            Self::Arrived => "arrived",
            Self::Turn => "reached_object",
            Self::Executed => "executed",
            Self::Readable => "readable",
            Self::Durable => "durable",
            Self::Answered => "answered",
        }
    }
}

/// The times of one request.
pub struct Timeline {
    id: u64,
    description: Box<dyn Fn() -> String>,
    times: [Cell<Option<Nanos>>; Stage::ALL.len()],
}

impl Timeline {
    /// Notes that the stage was reached now.
    pub fn mark(&self, stage: Stage, now: Nanos) {
        self.times[stage as usize].set(Some(now));
    }

    /// When the request came.
    pub fn arrived(&self) -> Nanos {
        self.times[Stage::Arrived as usize].get().unwrap_or_default()
    }

    /// Time from coming to answering, or until `now`.
    pub fn duration_ns(&self, now: Nanos) -> u64 {
        let end = self.times[Stage::Answered as usize].get().unwrap_or(now);
        end.0.saturating_sub(self.arrived().0)
    }

    fn stage(&self) -> Stage {
        let reached = Stage::ALL.into_iter().rev().find(|&stage| self.times[stage as usize].get().is_some());
        reached.unwrap_or(Stage::Arrived)
    }

    fn to_json(&self, now: Nanos) -> Value {
        let start = self.arrived().0;
        let events: Vec<Value> = Stage::ALL
            .into_iter()
            .filter_map(|stage| {
                let at = self.times[stage as usize].get()?;
                Some(json!({ "event": stage.name(), "after_us": at.0.saturating_sub(start) / 1000 }))
            })
            .collect();
        json!({
            "description": (self.description)(),
            "initiated_at": seconds(start),
            "age": seconds(now.0.saturating_sub(start)),
            "duration": seconds(self.duration_ns(now)),
            "type_data": { "flag_point": self.stage().name(), "events": events },
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "for display")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// All requests of one OSD.
#[derive(Default)]
pub struct Tracker {
    next: Cell<u64>,
    in_progress: RefCell<BTreeMap<u64, Rc<Timeline>>>,
    newest: RefCell<VecDeque<Rc<Timeline>>>,
    slowest: RefCell<Vec<Rc<Timeline>>>,
}

impl Tracker {
    /// A request came. `description` is only made when somebody looks.
    pub fn start(&self, now: Nanos, description: impl Fn() -> String + 'static) -> Rc<Timeline> {
        let id = self.next.get();
        self.next.set(id + 1);
        let timeline =
            Rc::new(Timeline { id, description: Box::new(description), times: Default::default() });
        timeline.mark(Stage::Arrived, now);
        self.in_progress.borrow_mut().insert(id, timeline.clone());
        timeline
    }

    /// It is answered or dropped.
    pub fn finish(&self, timeline: &Rc<Timeline>, now: Nanos) {
        self.in_progress.borrow_mut().remove(&timeline.id);
        let mut newest = self.newest.borrow_mut();
        newest.push_back(timeline.clone());
        if newest.len() > HISTORIC_OPS {
            newest.pop_front();
        }
        drop(newest);
        let mut slowest = self.slowest.borrow_mut();
        let duration = timeline.duration_ns(now);
        if slowest.len() == HISTORIC_OPS
            && slowest.last().is_some_and(|last| last.duration_ns(now) >= duration)
        {
            return;
        }
        let at = slowest.partition_point(|one| one.duration_ns(now) >= duration);
        slowest.insert(at, timeline.clone());
        slowest.truncate(HISTORIC_OPS);
    }

    /// Requests in progress.
    pub fn in_flight(&self) -> usize {
        self.in_progress.borrow().len()
    }

    /// Those in progress, the oldest first.
    pub fn dump_in_flight(&self, now: Nanos) -> Value {
        let in_progress = self.in_progress.borrow();
        let ops: Vec<Value> = in_progress.values().take(SHOWN_OPS_MAX).map(|one| one.to_json(now)).collect();
        json!({ "ops": ops, "num_ops": in_progress.len() })
    }

    /// The newest of those finished.
    pub fn dump_newest(&self, now: Nanos) -> Value {
        let ops: Vec<Value> = self.newest.borrow().iter().map(|one| one.to_json(now)).collect();
        json!({ "size": HISTORIC_OPS, "num_ops": ops.len(), "ops": ops })
    }

    /// The slowest of those finished, the slowest first.
    pub fn dump_slowest(&self, now: Nanos) -> Value {
        let ops: Vec<Value> = self.slowest.borrow().iter().map(|one| one.to_json(now)).collect();
        json!({ "size": HISTORIC_OPS, "num_ops": ops.len(), "ops": ops })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_newest_and_the_slowest() {
        let tracker = Tracker::default();
        let mut all = Vec::new();
        for number in 0..50u64 {
            let one = tracker.start(Nanos(number), move || format!("op {number}"));
            one.mark(Stage::Turn, Nanos(number + 1));
            all.push(one);
        }
        assert_eq!(tracker.dump_in_flight(Nanos(60))["num_ops"], 50);
        for (number, one) in (0..).zip(&all) {
            // Number 7 is the slowest.
            let end = if number == 7 { 10_000 } else { 100 + number };
            one.mark(Stage::Answered, Nanos(end));
            tracker.finish(one, Nanos(end));
        }
        assert_eq!(tracker.in_flight(), 0);
        let newest = tracker.dump_newest(Nanos(0));
        assert_eq!(newest["ops"][0]["description"], "op 30");
        assert_eq!(newest["num_ops"], HISTORIC_OPS);
        let slowest = tracker.dump_slowest(Nanos(0));
        assert_eq!(slowest["ops"][0]["description"], "op 7");
        assert_eq!(slowest["ops"][0]["type_data"]["flag_point"], "answered");
        assert_eq!(slowest["num_ops"], HISTORIC_OPS);
    }
}
