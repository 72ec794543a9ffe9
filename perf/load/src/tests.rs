//! Loads in the simulated world, where time is exact: on a target that stalls, and on one that loses, misplaces and damages.

mod faulty;
mod reports;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rt::sim::{Config, Sim};
use rt::{Core, Nanos};

use crate::{Content, Distribution, Failed, Job, Length, Measured, Party, Spacing, Target, TargetError, run};

/// What an operation takes.
const SERVICE: Duration = Duration::from_micros(100);

/// Answers each operation after [`SERVICE`], but for a stretch of time in which it answers nobody.
struct Stalling {
    core: Core,
    stall: (Nanos, Nanos),
    in_flight: Cell<usize>,
    in_flight_max: Rc<Cell<usize>>,
}

impl Stalling {
    /// Stalls from `at` seconds on, for a second.
    fn new(core: &Core, at: f64) -> Self {
        let begin = core.now().0 + (at * 1e9) as u64;
        let stall = (Nanos(begin), Nanos(begin + 1_000_000_000));
        Self { core: core.clone(), stall, in_flight: Cell::new(0), in_flight_max: Rc::default() }
    }

    async fn serve(&self) -> Result<(), TargetError> {
        self.in_flight.set(self.in_flight.get() + 1);
        self.in_flight_max.set(self.in_flight_max.get().max(self.in_flight.get()));
        self.core.sleep(SERVICE).await;
        if (self.stall.0..self.stall.1).contains(&self.core.now()) {
            self.core.sleep_until(self.stall.1).await;
        }
        self.in_flight.set(self.in_flight.get() - 1);
        Ok(())
    }
}

impl Target for Stalling {
    fn positions(&self) -> u64 {
        1000
    }

    fn place(&self, position: u64) -> String {
        format!("block {position}")
    }

    async fn read(&self, _: u64, _: bool) -> Result<Bytes, TargetError> {
        self.serve().await.map(|()| Bytes::new())
    }

    async fn write(&self, _: u64, _: Content) -> Result<(), TargetError> {
        self.serve().await
    }

    async fn spent(&self) -> Result<Vec<Party>, TargetError> {
        Ok(Vec::new())
    }

    async fn device_bytes(&self) -> Result<Option<u64>, TargetError> {
        Ok(None)
    }
}

fn stalled(job: Job) -> (Measured, usize) {
    let sim = Sim::new(1, Config::default());
    sim.run(0, |core| async move {
        let target = Stalling::new(&core, 5.0);
        let measured = run(&core, &target, &job, &()).await.expect("nothing fails");
        (measured, target.in_flight_max.get())
    })
}

fn p99_ms(measured: &Measured) -> f64 {
    measured.reads.latencies.value_at_quantile(0.99) as f64 / 1e6
}

fn reads(depth: usize, rate: Option<f64>) -> Job {
    Job { depth, rate, mix: 100, length: Length::Seconds(10.0), ..Job::default() }
}

#[test]
fn a_stall_of_a_second_is_in_the_p99_of_an_open_loop_and_not_in_that_of_a_closed_one() {
    // The reason for open loops: here one operation of 90,000 sees the stall, so its p99 says that all is well.
    let (closed, _) = stalled(reads(1, None));
    assert!(p99_ms(&closed) < 1.0 && closed.reads.latencies.max() >= 990_000_000, "{}", p99_ms(&closed));
    // A tenth of what arrives in ten seconds arrives in the stall, and waits for half a second on average.
    for spacing in [Spacing::Fixed, Spacing::Exponential] {
        // Whether all of it may be in flight, or hardly any.
        for depth in [1024, 4] {
            let (open, in_flight_max) = stalled(Job { spacing, ..reads(depth, Some(1000.0)) });
            let told = open.open_loop.expect("it is one");
            assert!(
                (880.0..1010.0).contains(&p99_ms(&open)),
                "{spacing:?} {depth}: p99 {} ms",
                p99_ms(&open)
            );
            let mean_ms = open.reads.latencies.mean() / 1e6;
            assert!((40.0..70.0).contains(&mean_ms), "{spacing:?} {depth}: mean {mean_ms} ms");
            assert!(told.arrivals.abs_diff(10_000) < 300 && told.not_started == 0, "{told:?}");
            assert_eq!(told.arrivals, open.reads.operations());
            assert!(in_flight_max <= depth && told.in_flight_max == in_flight_max, "{told:?}");
            assert_eq!(told.delayed > 0, depth == 4, "{told:?}");
            assert_eq!(told.delay_ns_max > 900_000_000, depth == 4, "{told:?}");
        }
    }
}

#[test]
fn what_could_not_be_started_is_told() {
    // Four at a time, each 100 us (and what the simulated core takes): 40,000 per second at most.
    let (open, _) =
        stalled(Job { length: Length::Seconds(2.0), spacing: Spacing::Fixed, ..reads(4, Some(80_000.0)) });
    let told = open.open_loop.expect("it is one");
    assert_eq!(told.arrivals, 160_000);
    assert_eq!(told.not_started + open.reads.operations(), told.arrivals);
    assert!(told.not_started > 80_000, "{told:?}");
    // Those that never started were late by half of the time and more.
    assert!(told.not_started_ns > 1_000_000_000, "{told:?}");
    assert!(open.reads.latencies.max() > 900_000_000, "latencies grow all the time");
}

#[test]
fn a_closed_loop_has_as_many_in_flight_as_it_should_and_both_loops_end_after_so_many_operations() {
    for rate in [None, Some(5000.0)] {
        let job = Job { mix: 30, length: Length::Operations(1000), ..reads(16, rate) };
        let (measured, in_flight_max) = stalled(job);
        assert_eq!(measured.reads.operations() + measured.writes.operations(), 1000);
        assert!((200..400).contains(&measured.reads.operations()), "{}", measured.reads.operations());
        assert!(rate.is_some() || in_flight_max == 16, "{in_flight_max}");
        let told = measured.reads.intervals.operations.iter().sum::<u64>();
        assert_eq!(told, measured.reads.operations());
    }
}

#[test]
fn filling_ageing_and_warming_up_are_not_measured() {
    let job = Job { fill: true, age: 2.0, warm_up: 1.0, length: Length::Operations(10), ..reads(8, None) };
    let (measured, _) = stalled(job);
    assert_eq!((measured.reads.operations(), measured.writes.operations()), (10, 0));
    // 3000 writes, eight at a time, took 37 ms and a second passed before the measurement.
    assert!(measured.elapsed < Duration::from_millis(10), "{:?}", measured.elapsed);
}

#[test]
fn a_job_that_cannot_be_done_is_refused_with_a_sentence() {
    let refused = |job: Job| match run_refused(job) {
        Failed::Job(error) => error.to_string(),
        other => panic!("{other}"),
    };
    let check = |job: Job, words: &str| {
        let said = refused(job);
        assert!(said.contains(words), "{said}");
    };
    check(Job { block_size: 0, ..Job::default() }, "from 1 to");
    check(Job { depth: 0, ..Job::default() }, "from 1 to 1024");
    check(Job { rate: Some(0.0), ..Job::default() }, "a rate of 0");
    check(Job { rate: Some(f64::NAN), ..Job::default() }, "more than 0");
    check(Job { mix: 101, ..Job::default() }, "from 0 to 100");
    check(Job { age: -1.0, ..Job::default() }, "an age of -1");
    check(Job { length: Length::Seconds(0.0), ..Job::default() }, "nothing to measure");
    check(Job { verify: true, block_size: 1000, ..Job::default() }, "multiple of 512");
    check(Job { verify: true, depth: 501, ..Job::default() }, "at least 1002 blocks");
    assert!(Job::default().positions_in(4095).unwrap_err().to_string().contains("no room"));
    let zipf =
        Job { distribution: Distribution::Zipf(1.2), length: Length::Operations(10), ..Job::default() };
    assert_eq!(stalled(zipf).0.writes.operations(), 10);
}

fn run_refused(job: Job) -> Failed {
    let sim = Sim::new(1, Config::default());
    sim.run(0, |core| async move {
        let target = Stalling::new(&core, 5.0);
        run(&core, &target, &job, &()).await.err().expect("it is refused")
    })
}
