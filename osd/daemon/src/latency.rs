//! How long requests take, and which part of it where: from each stage to the next, since start. Lives on one core.
//!
//! A request adds all of its stages once, when it is finished, so this costs it a few additions.

use std::cell::RefCell;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

/// Longest time told apart, microseconds; what took longer counts as this.
const LONGEST_US: u64 = 1000 * 1_000_000;
/// Digits of a quantile that are right: a histogram has some hundred counts.
const DIGITS: u8 = 1;

/// Times of one kind.
pub struct Latency {
    counted: RefCell<Counted>,
}

struct Counted {
    sum_ns: u64,
    most_ns: u64,
    by_us: Histogram<u64>,
}

impl Default for Latency {
    fn default() -> Self {
        let Ok(by_us) = Histogram::new_with_max(LONGEST_US, DIGITS) else {
            panic!("a histogram up to {LONGEST_US} of {DIGITS} digits is possible")
        };
        Self { counted: RefCell::new(Counted { sum_ns: 0, most_ns: 0, by_us }) }
    }
}

impl Latency {
    /// One more.
    pub fn add(&self, ns: u64) {
        let mut counted = self.counted.borrow_mut();
        counted.sum_ns += ns;
        counted.most_ns = counted.most_ns.max(ns);
        counted.by_us.saturating_record(ns / 1000);
    }

    /// As Ceph shows an average of times, in seconds, //= ceph 16.2 perf dump
    /// with the longest and quantiles beside it.
    pub fn to_json(&self) -> Value {
        let counted = self.counted.borrow();
        let count = counted.by_us.len();
        // A histogram gives the end of a bucket.
        let quantile = |of| seconds((counted.by_us.value_at_quantile(of) * 1000).min(counted.most_ns));
        json!({
            "avgcount": count,
            "sum": seconds(counted.sum_ns),
            "avgtime": seconds(counted.sum_ns.checked_div(count).unwrap_or(0)),
            "max": seconds(counted.most_ns),
            "p50": quantile(0.5),
            "p99": quantile(0.99),
            "p999": quantile(0.999),
        })
    }
}

/// Times by name, one after the other.
pub fn table<'a>(all: impl Iterator<Item = (&'a str, &'a Latency)>) -> Value {
    Value::Object(all.map(|(name, latency)| (name.to_owned(), latency.to_json())).collect::<Map<_, _>>())
}

#[expect(clippy::cast_precision_loss, reason = "for display")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_add_up() {
        let latency = Latency::default();
        assert_eq!(latency.to_json()["avgtime"], 0.0);
        for us in 1..=1000 {
            latency.add(us * 1000);
        }
        latency.add(u64::from(u32::MAX) * 1_000_000);
        let shown = latency.to_json();
        assert_eq!(shown["avgcount"], 1001);
        assert_eq!(shown["max"], 4_294_967.295);
        let p50 = shown["p50"].as_f64().expect("a number");
        assert!((0.00045..0.00056).contains(&p50), "{shown}");
    }
}
