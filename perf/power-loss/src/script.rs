//! The load: a list of requests that follows from a seed alone, so that the guest which sends them and the host which
//! checks what became of them need to agree on nothing else. Pure.
//!
//! Invariant: request `n` depends on the seed and on requests before it, never on an answer.

use std::collections::BTreeMap;

use rt::sim::RandomStream;
use sim::operation::{State, apply};
use sim::oracle::Asked;
use sim::workload::{Config, Step, Workload};

/// Objects in use.
const OBJECTS: usize = 120;
/// Largest object, bytes: above what a store writes before its record joins a group.
const OBJECT_BYTES_MAX: usize = 160 << 10;

/// One request.
pub struct Request {
    /// Its place in the list, from 0.
    pub number: u64,
    /// Its object.
    pub object: String,
    /// What it asks.
    pub asked: Asked,
    /// What the object holds once this request and all before it took effect.
    pub after: State,
}

/// Some names are unusual.
fn name(index: usize) -> String {
    match index % 7 {
        0 => format!("o with spaces {index}"),
        1 => format!("o-größe-{index}-✓"),
        _ => format!("o-{index:04}"),
    }
}

/// The list, generated as it is walked.
pub struct Script {
    workload: Workload,
    objects: BTreeMap<String, State>,
    next: u64,
}

impl Script {
    /// From the beginning.
    pub fn new(seed: u64) -> Self {
        let config = Config {
            names: (0..OBJECTS).map(name).collect(),
            object_bytes_max: OBJECT_BYTES_MAX,
            tides: false,
        };
        Self {
            workload: Workload::new(config, RandomStream::new(seed, "power loss")),
            objects: BTreeMap::new(),
            next: 0,
        }
    }
}

impl Iterator for Script {
    type Item = Request;

    /// The list has no end.
    fn next(&mut self) -> Option<Request> {
        let objects = &self.objects;
        let (object, asked) = loop {
            match self.workload.next(|object| objects.get(object).cloned().flatten()) {
                Step::Ask { object, asked } => break (object, asked),
                // What is listed at a moment does not follow from the seed.
                Step::List => {}
            }
        };
        let state = self.objects.entry(object.clone()).or_default();
        if let Asked::Change(request) = &asked {
            *state = apply(state, request).0;
        }
        let number = self.next;
        self.next += 1;
        Some(Request { number, object, asked, after: state.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_list() {
        let list =
            |seed| Script::new(seed).take(300).map(|r| (r.object, r.asked, r.after)).collect::<Vec<_>>();
        assert_eq!(list(3), list(3));
        assert_ne!(list(3), list(4));
    }
}
