//! Which requests a simulated client sends: small and large writes at aligned and odd places, overwrites, appends,
//! truncations, removals, attributes, omap, and requests that must fail. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use rt::sim::RandomStream;

use crate::operation::{Change, OBJECT_BYTES_MAX, State};

/// Shape of the load.
#[derive(Clone, Debug)]
pub struct Config {
    /// First part of every name, so that no two clients share an object.
    pub prefix: String,
    /// Names in use.
    pub objects: usize,
    /// Largest size of an object, at most [`OBJECT_BYTES_MAX`].
    pub object_bytes_max: usize,
}

/// What a client does next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are what their names say")]
pub enum Step {
    /// Sends a change.
    Change { object: String, request: Vec<Change> },
    /// Reads a range.
    Read { object: String, offset: usize, len: usize },
    /// Reads everything of an object and compares.
    Verify { object: String },
}

/// The generator.
pub struct Workload {
    config: Config,
    dice: RandomStream,
}

impl Workload {
    /// A generator of its own stream.
    pub fn new(config: Config, dice: RandomStream) -> Self {
        assert!(config.object_bytes_max <= OBJECT_BYTES_MAX, "the oracle keeps whole objects");
        Self { config, dice }
    }

    /// The next step; `likely` tells what an object probably holds.
    pub fn next(&mut self, likely: impl Fn(&str) -> State) -> Step {
        let object = self.name();
        let state = likely(&object);
        match self.dice.below(10) {
            0 | 1 => {
                let size = state.map_or(0, |content| content.data.len());
                let offset = self.index(size.max(1));
                let len = 1 + self.index((size - offset.min(size)).max(1) + 4096);
                Step::Read { object, offset, len }
            }
            2 => Step::Verify { object },
            _ => {
                let request = self.request(&state);
                Step::Change { object, request }
            }
        }
    }

    fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.dice.below(bound as u64)).unwrap_or(0)
    }

    /// Random bytes; a quarter of the time a pattern that compresses.
    fn bytes(&mut self, len: usize) -> Bytes {
        let mut bytes = vec![0_u8; len];
        if self.dice.one_in(4) {
            let pattern = self.dice.next_u64().to_le_bytes();
            for (byte, value) in bytes.iter_mut().zip(pattern.iter().cycle()) {
                *byte = *value;
            }
        } else {
            self.dice.fill(&mut bytes);
        }
        Bytes::from(bytes)
    }

    fn name(&mut self) -> String {
        let index = self.index(self.config.objects);
        let prefix = &self.config.prefix;
        match index % 7 {
            0 => format!("{prefix} with spaces {index}"),
            1 => format!("{prefix}-größe-{index}-✓"),
            _ => format!("{prefix}-{index:04}"),
        }
    }

    fn request(&mut self, state: &State) -> Vec<Change> {
        let mut request = Vec::new();
        if self.dice.one_in(20) {
            request.push(Change::AssertExists);
        }
        if self.dice.one_in(20) {
            request.push(Change::CompareXattr { name: self.attr_name(), value: self.small_value() });
        }
        let changes = if self.dice.one_in(6) { 2 + self.index(3) } else { 1 };
        for _ in 0..changes {
            let change = self.change(state);
            request.push(change);
        }
        request
    }

    fn change(&mut self, state: &State) -> Change {
        let size = state.as_ref().map_or(0, |content| content.data.len());
        let max = self.config.object_bytes_max;
        match self.dice.below(100) {
            0..=29 => {
                let (offset, len) = self.range(size);
                Change::Write { offset, data: self.bytes(len) }
            }
            30..=39 => {
                let len = self.length().min(max);
                Change::WriteFull { data: self.bytes(len) }
            }
            40..=47 if size < max / 2 => {
                let len = self.length().min(max / 4);
                Change::Append { data: self.bytes(len) }
            }
            48..=53 => {
                let (offset, len) = self.range(size);
                Change::Zero { offset, len }
            }
            54..=58 => Change::Truncate { size: self.index(max) },
            59..=64 => Change::Remove,
            65..=66 => Change::CreateExclusive,
            67..=72 => Change::SetXattr { name: self.attr_name(), value: self.small_value() },
            73..=74 => Change::RemoveXattr { name: self.attr_name() },
            75..=88 => Change::OmapSet { entries: self.entries() },
            89..=91 => Change::OmapRemove { keys: (0..1 + self.index(4)).map(|_| self.omap_key()).collect() },
            92..=93 => {
                let (a, b) = (self.omap_key(), self.omap_key());
                Change::OmapRemoveRange { first: a.clone().min(b.clone()), end: a.max(b) }
            }
            94..=95 => Change::OmapSetHeader { header: self.small_value() },
            96..=97 => Change::OmapClear,
            _ => Change::Write { offset: self.index(max - 1), data: self.bytes(1) },
        }
    }

    /// A range to write or zero: mostly within or just past what is there, half the time on block boundaries.
    fn range(&mut self, size: usize) -> (usize, usize) {
        let max = self.config.object_bytes_max;
        let mut len = self.length().min(max);
        let mut offset = self.index((size + 8192).min(max));
        if self.dice.one_in(2) {
            offset &= !4095;
            len = len.next_multiple_of(4096);
        }
        (offset, len.min(max - offset).max(1))
    }

    fn length(&mut self) -> usize {
        match self.dice.below(20) {
            0..=5 => 1 + self.index(512),
            6..=9 => 4096,
            10..=13 => 1 + self.index(16 * 1024),
            14..=17 => 4096 * (1 + self.index(16)),
            18 => 65536 + self.index(65536),
            _ => 65536 + 4096 * self.index(48),
        }
    }

    fn attr_name(&mut self) -> Bytes {
        Bytes::from(format!("attr{}", self.dice.below(4)))
    }

    fn omap_key(&mut self) -> Bytes {
        Bytes::from(format!("key{:03}", self.dice.below(200)))
    }

    fn small_value(&mut self) -> Bytes {
        let len = self.index(64);
        self.bytes(len)
    }

    fn entries(&mut self) -> BTreeMap<Bytes, Bytes> {
        (0..1 + self.index(12)).map(|_| (self.omap_key(), self.small_value())).collect()
    }
}
