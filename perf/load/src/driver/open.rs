//! An open loop: operations start when they arrive, not when earlier ones have ended.

use std::future::poll_fn;
use std::task::Poll;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rt::{Core, Nanos};

use super::load::Load;
use crate::arrivals::Arrivals;
use crate::target::Target;

/// What is to be known of an open loop besides its latencies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OpenLoop {
    /// Operations that were to start.
    pub arrivals: u64,
    /// Those among them that did not start before the end, as too many were in flight. No latency was recorded of them.
    pub not_started: u64,
    /// How late the first of these was at the end: the least that it would have taken, nanoseconds.
    pub not_started_ns: u64,
    /// Operations that found too many in flight and started later.
    pub delayed: u64,
    /// The longest delay of a start, whatever the reason, nanoseconds. It is part of the latencies.
    pub delay_ns_max: u64,
    /// The delay of a start on average, nanoseconds. With none delayed this is what the load's own timer adds to latencies.
    pub delay_ns_mean: f64,
    /// The most in flight at once.
    pub in_flight_max: usize,
}

/// Starts operations at a rate per second until `end`, or until so many have started, and waits for them.
pub async fn run<T: Target>(load: &Load<'_, T>, rate: f64, end: Nanos, operations: u64) -> OpenLoop {
    let (core, job) = (load.core, load.job);
    let mut arrivals = Arrivals::new(rate, job.spacing, core.now(), job.seed);
    let mut told = OpenLoop::default();
    let mut in_flight = FuturesUnordered::new();
    let (mut delays, mut was_full) = (0.0, false);
    while !load.has_failed() && told.arrivals < operations {
        let now = core.now();
        while in_flight.len() < job.depth
            && told.arrivals < operations
            && arrivals.peek() <= now
            && arrivals.peek() < end
        {
            let intended = arrivals.peek();
            arrivals.advance();
            told.arrivals += 1;
            let delay = now.0 - intended.0;
            told.delayed += u64::from(was_full);
            told.delay_ns_max = told.delay_ns_max.max(delay);
            delays += delay as f64;
            in_flight.push(load.one(load.draw(), intended));
        }
        told.in_flight_max = told.in_flight_max.max(in_flight.len());
        // Those that were to start before the end have had their chance by now, also if this core came late.
        if now >= end {
            break;
        }
        let is_full = in_flight.len() >= job.depth;
        let next = if is_full { end } else { Nanos(arrivals.peek().0.min(end.0)) };
        wait(core, &mut in_flight, next).await;
        // Whoever was to start by now, and could not.
        was_full = is_full && arrivals.peek() <= core.now();
    }
    told.delay_ns_mean = if told.arrivals > 0 { delays / told.arrivals as f64 } else { 0.0 };
    if !load.has_failed() && told.arrivals < operations {
        if arrivals.peek() < end {
            told.not_started_ns = end.0 - arrivals.peek().0;
        }
        while arrivals.peek() < end {
            arrivals.advance();
            told.not_started += 1;
        }
        told.arrivals += told.not_started;
    }
    while in_flight.next().await.is_some() {}
    told
}

/// Waits until operations have ended, or the moment has come.
async fn wait<F: Future<Output = ()>>(core: &Core, in_flight: &mut FuturesUnordered<F>, until: Nanos) {
    let mut moment = core.sleep_until(until);
    poll_fn(|cx| {
        let mut ended = false;
        while let Poll::Ready(Some(())) = in_flight.poll_next_unpin(cx) {
            ended = true;
        }
        if ended { Poll::Ready(()) } else { moment.as_mut().poll(cx) }
    })
    .await;
}
