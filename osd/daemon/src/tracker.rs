//! What requests are in progress, where each of them is, and which of the finished ones were slow.
//!
//! A request carries its own [`Timeline`]; marking a stage is a clock reading and a store, so it is always on.
//! Lives on one core.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use rt::Nanos;
use serde_json::{Value, json};
use wire::msg::OpCode;
use wire::types::{PgId, RequestId};

use crate::latency::{self, Latency};
use crate::limits::{HISTORIC_OPS, SHOWN_OPS_MAX};

/// Ops of a request that its description names.
pub const OPS_SHOWN: usize = 4;

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

/// What a request is, in as few bytes as tell it apart.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its id.
    pub reqid: RequestId,
    /// Its group.
    pub pg: PgId,
    /// Its object.
    pub object: Bytes,
    /// Its first ops.
    pub codes: [OpCode; OPS_SHOWN],
    /// How many it has.
    pub ops: usize,
    /// Whether it may change the object.
    pub writes: bool,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.codes[..self.ops.min(OPS_SHOWN)];
        let name = String::from_utf8_lossy(&self.object);
        write!(f, "osd_op({} {} {name} {shown:?}", self.reqid, self.pg)?;
        match self.ops.checked_sub(OPS_SHOWN) {
            Some(more) if more > 0 => write!(f, " and {more} more)"),
            _ => f.write_str(")"),
        }
    }
}

/// The times of one request.
pub struct Timeline {
    id: u64,
    description: Description,
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
            "description": self.description.to_string(),
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

/// How long requests of one kind took: in all, and to each stage from the one before.
#[derive(Default)]
struct Latencies {
    all: Latency,
    to_stage: [Latency; Stage::ALL.len()],
}

impl Latencies {
    fn add(&self, timeline: &Timeline) {
        let mut before = timeline.arrived().0;
        for (at, latency) in timeline.times.iter().zip(&self.to_stage).skip(1) {
            // A request that is turned away skips some: the next has it all.
            let Some(at) = at.get() else { continue };
            latency.add(at.0.saturating_sub(before));
            before = at.0;
        }
        self.all.add(before.saturating_sub(timeline.arrived().0));
    }

    fn stages(&self) -> Value {
        latency::table(Stage::ALL.iter().map(|stage| stage.name()).zip(&self.to_stage).skip(1))
    }
}

/// All requests of one OSD.
#[derive(Default)]
pub struct Tracker {
    reads: Latencies,
    writes: Latencies,
    next: Cell<u64>,
    in_progress: RefCell<BTreeMap<u64, Rc<Timeline>>>,
    newest: RefCell<VecDeque<Rc<Timeline>>>,
    slowest: RefCell<Vec<Rc<Timeline>>>,
}

impl Tracker {
    /// A request came.
    pub fn start(&self, now: Nanos, description: Description) -> Rc<Timeline> {
        let id = self.next.get();
        self.next.set(id + 1);
        let timeline = Rc::new(Timeline { id, description, times: Default::default() });
        timeline.mark(Stage::Arrived, now);
        self.in_progress.borrow_mut().insert(id, timeline.clone());
        timeline
    }

    /// It is answered or dropped.
    pub fn finish(&self, timeline: &Rc<Timeline>, now: Nanos) {
        self.in_progress.borrow_mut().remove(&timeline.id);
        // One that nobody was told of tells nothing of what clients wait for.
        if timeline.stage() == Stage::Answered {
            let latencies = if timeline.description.writes { &self.writes } else { &self.reads };
            latencies.add(timeline);
        }
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

    /// How long answered requests took since start: reads, and writes.
    pub fn latencies(&self) -> (Value, Value) {
        (self.reads.all.to_json(), self.writes.all.to_json())
    }

    /// The same from each stage to the next: reads, and writes.
    pub fn stages(&self) -> (Value, Value) {
        (self.reads.stages(), self.writes.stages())
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

    fn description(number: u64) -> Description {
        Description {
            reqid: RequestId { tid: number, ..RequestId::default() },
            pg: PgId::new(1, 2),
            object: "x".into(),
            codes: [OpCode::READ; OPS_SHOWN],
            ops: 6,
            writes: false,
        }
    }

    #[test]
    fn descriptions_are_short() {
        assert_eq!(
            description(7).to_string(),
            "osd_op(unknown.0.0:7 1.2 x [READ, READ, READ, READ] and 2 more)"
        );
        let one = Description { ops: 1, ..description(7) };
        assert_eq!(one.to_string(), "osd_op(unknown.0.0:7 1.2 x [READ])");
    }

    #[test]
    fn remembers_the_newest_and_the_slowest() {
        let tracker = Tracker::default();
        let mut all = Vec::new();
        for number in 0..50u64 {
            let one = tracker.start(Nanos(number), description(number));
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
        assert_eq!(newest["ops"][0]["description"], description(30).to_string());
        assert_eq!(newest["num_ops"], HISTORIC_OPS);
        let slowest = tracker.dump_slowest(Nanos(0));
        assert_eq!(slowest["ops"][0]["description"], description(7).to_string());
        assert_eq!(slowest["ops"][0]["type_data"]["flag_point"], "answered");
        assert_eq!(slowest["num_ops"], HISTORIC_OPS);
    }

    #[test]
    fn each_stage_counts_from_the_one_before() {
        let tracker = Tracker::default();
        let one = tracker.start(Nanos(1000), Description { writes: true, ..description(1) });
        let times = [
            (Stage::Turn, 3000),
            (Stage::Executed, 6000),
            (Stage::Durable, 10_000),
            (Stage::Answered, 15_000),
        ];
        times.into_iter().for_each(|(stage, at)| one.mark(stage, Nanos(at)));
        tracker.finish(&one, Nanos(15_000));
        let silent = tracker.start(Nanos(1000), description(2));
        tracker.finish(&silent, Nanos(9000));
        let (reads, writes) = tracker.stages();
        let sums: Vec<f64> = ["reached_object", "executed", "readable", "durable", "answered"]
            .map(|name| writes[name]["sum"].as_f64().expect("a number") * 1e6)
            .to_vec();
        assert_eq!(sums, [2.0, 3.0, 0.0, 4.0, 5.0]);
        assert_eq!(reads["answered"]["avgcount"], 0);
        assert_eq!(tracker.latencies().1["sum"], 14e-6);
    }
}
