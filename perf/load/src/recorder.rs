//! [`Recorder`]: what happened in a measurement, by kind of operation and over time.

use hdrhistogram::Histogram;
use rt::Nanos;

use crate::limits::{INTERVAL_NS, INTERVALS_MAX, LATENCY_DIGITS, LATENCY_NS_MAX};

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Reads.
    Read,
    /// Writes.
    Write,
}

impl Direction {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// Operations of one direction.
#[derive(Clone)]
pub struct Lane {
    /// Nanoseconds from the intended start to the end.
    pub latencies: Histogram<u64>,
    /// Operations that ended in each interval.
    pub intervals: Intervals,
}

/// Equal stretches of time, from the beginning of the measurement on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// Length of each, nanoseconds.
    pub length_ns: u64,
    /// Operations that ended within.
    pub operations: Vec<u64>,
    /// The longest latency of these, nanoseconds.
    pub latency_ns_max: Vec<u64>,
}

impl Intervals {
    fn new() -> Self {
        Self { length_ns: INTERVAL_NS, operations: Vec::new(), latency_ns_max: Vec::new() }
    }

    fn add(&mut self, at_ns: u64, latency_ns: u64) {
        while at_ns / self.length_ns >= INTERVALS_MAX as u64 {
            self.join();
        }
        let index = (at_ns / self.length_ns) as usize;
        if self.operations.len() <= index {
            self.operations.resize(index + 1, 0);
            self.latency_ns_max.resize(index + 1, 0);
        }
        self.operations[index] += 1;
        self.latency_ns_max[index] = self.latency_ns_max[index].max(latency_ns);
    }

    /// Two become one.
    fn join(&mut self) {
        self.length_ns *= 2;
        self.operations = self.operations.chunks(2).map(|pair| pair.iter().sum()).collect();
        self.latency_ns_max =
            self.latency_ns_max.chunks(2).map(|pair| pair.iter().copied().max().unwrap_or(0)).collect();
    }
}

impl Lane {
    fn new() -> Self {
        let latencies = match Histogram::new_with_max(LATENCY_NS_MAX, LATENCY_DIGITS) {
            Ok(latencies) => latencies,
            Err(error) => unreachable!("the bounds are sound: {error}"),
        };
        Self { latencies, intervals: Intervals::new() }
    }

    /// Number of operations.
    pub fn operations(&self) -> u64 {
        self.latencies.len()
    }
}

/// See the module.
#[derive(Clone)]
pub struct Recorder {
    begin: Nanos,
    reads: Lane,
    writes: Lane,
}

impl Recorder {
    /// Of a measurement that begins at that moment.
    pub fn new(begin: Nanos) -> Self {
        Self { begin, reads: Lane::new(), writes: Lane::new() }
    }

    /// An operation that was to start then has ended now.
    pub fn record(&mut self, direction: Direction, intended: Nanos, now: Nanos) {
        let latency_ns = now.0.saturating_sub(intended.0);
        let lane = match direction {
            Direction::Read => &mut self.reads,
            Direction::Write => &mut self.writes,
        };
        lane.latencies.saturating_record(latency_ns);
        lane.intervals.add(now.0.saturating_sub(self.begin.0), latency_ns);
    }

    /// Reads and writes, over intervals of one length.
    pub fn into_lanes(mut self) -> (Lane, Lane) {
        let length_ns = self.reads.intervals.length_ns.max(self.writes.intervals.length_ns);
        for lane in [&mut self.reads, &mut self.writes] {
            while lane.intervals.length_ns < length_ns {
                lane.intervals.join();
            }
        }
        (self.reads, self.writes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_has_as_many_intervals_as_a_plot_has_room_for_and_loses_nothing() {
        let mut recorder = Recorder::new(Nanos(1000));
        let mut ended = 0;
        for second in 0..1000 {
            recorder.record(
                Direction::Write,
                Nanos(second * 1_000_000_000),
                Nanos(1_000_001_000 * (second + 1)),
            );
            ended += 1;
        }
        recorder.record(Direction::Read, Nanos(1000), Nanos(4000));
        let (reads, writes) = recorder.into_lanes();
        assert_eq!(reads.intervals.length_ns, writes.intervals.length_ns);
        assert_eq!((reads.operations(), reads.intervals.operations[0]), (1, 1));
        assert!(
            reads.intervals.latency_ns_max[0] == 3000 && writes.intervals.operations.len() <= INTERVALS_MAX
        );
        assert_eq!((writes.operations(), writes.intervals.operations.iter().sum::<u64>()), (ended, ended));
    }
}
