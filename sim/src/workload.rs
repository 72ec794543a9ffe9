//! Which requests a simulated client sends: small and large writes at aligned and odd places, overwrites, appends,
//! truncations, removals, attributes, omap, and requests that must fail. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use rt::sim::RandomStream;

use crate::judge::Asked;
use crate::operation::{Change, OBJECT_BYTES_MAX, State};

/// Shape of the load.
#[derive(Clone, Debug)]
pub struct Config {
    /// Names in use; no two clients share one.
    pub names: Vec<String>,
    /// Largest size of an object, at most [`OBJECT_BYTES_MAX`].
    pub object_bytes_max: usize,
    /// There are times in which objects only grow, and times in which they go.
    pub tides: bool,
}

/// What most changes do for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tide {
    /// All kinds.
    Mixed,
    /// Write much, remove nothing.
    Flood,
    /// Remove.
    Ebb,
    /// Write little to few objects, replace and remove them: what is freed is soon used again.
    Churn,
}

/// Objects that are used more than others for a while.
const FAVOURITES: usize = 4;

/// What a client does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Asks something of an object.
    Ask {
        /// Its name.
        object: String,
        /// What.
        asked: Asked,
    },
    /// Lists all objects.
    List,
}

/// The generator.
pub struct Workload {
    config: Config,
    dice: RandomStream,
    tide: Tide,
    favourites: Vec<String>,
    /// The object that is changed again at once, and how often.
    again: Option<(String, usize)>,
    /// The object that is looked at next, as it was just removed.
    look: Option<String>,
}

impl Workload {
    /// A generator of its own stream.
    pub fn new(config: Config, dice: RandomStream) -> Self {
        assert!(config.object_bytes_max <= OBJECT_BYTES_MAX, "the oracle keeps whole objects");
        Self { config, dice, tide: Tide::Mixed, favourites: Vec::new(), again: None, look: None }
    }

    /// The next step; `likely` tells what an object probably holds.
    pub fn next(&mut self, likely: impl Fn(&str) -> State) -> Step {
        if self.dice.one_in(120) {
            self.tide = match self.dice.below(8) {
                2..=4 if self.config.tides => Tide::Flood,
                5 if self.config.tides => Tide::Ebb,
                6 | 7 => Tide::Churn,
                _ => Tide::Mixed,
            };
            self.favourites = (0..FAVOURITES).map(|_| self.any_name()).collect();
        }
        if let Some(object) = self.look.take() {
            // An answer that shows what nobody acknowledged yet.
            let asked = if self.dice.one_in(2) { Asked::Size } else { Asked::Whole };
            return if self.dice.one_in(4) { Step::List } else { Step::Ask { object, asked } };
        }
        if let Some((object, left)) = self.again.take() {
            let state = likely(&object);
            self.again = (left > 1).then(|| (object.clone(), left - 1));
            return Step::Ask { asked: Asked::Change(vec![self.replacement(&state)]), object };
        }
        let object = self.name();
        let state = likely(&object);
        // One that is new is in no checkpoint yet: what it was a moment ago is nowhere else.
        if self.dice.one_in(if state.is_some() { 30 } else { 6 }) {
            self.again = Some((object.clone(), 1 + self.index(4)));
        }
        let size = state.as_ref().map_or(0, |content| content.data.len());
        let asked = match self.dice.below(40) {
            0..=4 => {
                let (offset, len) = self.part(size);
                Asked::Range { offset, len }
            }
            5 | 6 => {
                let (offset, len) = self.part(size);
                Asked::Sparse { offset, len }
            }
            7 => Asked::Size,
            8 | 9 => Asked::OmapPage { after: self.omap_key(), max: 1 + self.index(6) },
            10 => Asked::Meta,
            11 | 12 => Asked::Whole,
            13 if self.dice.one_in(4) => return Step::List,
            _ => Asked::Change(self.request(&state)),
        };
        let removes = matches!(&asked, Asked::Change(request) if request.contains(&Change::Remove));
        self.look = (removes && self.dice.one_in(2)).then(|| object.clone());
        Step::Ask { object, asked }
    }

    /// Some of what is there, and a little beyond.
    fn part(&mut self, size: usize) -> (usize, usize) {
        let offset = self.index(size.max(1));
        (offset, 1 + self.index((size - offset.min(size)).max(1) + 4096))
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
            if pattern[0].is_multiple_of(2) {
                // To a half or so.
                bytes.chunks_mut(2048).for_each(|some| {
                    let half = some.len().min(1024);
                    self.dice.fill(&mut some[..half]);
                });
            }
        } else {
            self.dice.fill(&mut bytes);
        }
        Bytes::from(bytes)
    }

    fn name(&mut self) -> String {
        if self.favourites.is_empty() || self.dice.one_in(if self.tide == Tide::Churn { 8 } else { 2 }) {
            return self.any_name();
        }
        let index = self.index(self.favourites.len());
        self.favourites[index].clone()
    }

    fn any_name(&mut self) -> String {
        let index = self.index(self.config.names.len());
        self.config.names[index].clone()
    }

    fn request(&mut self, state: &State) -> Vec<Change> {
        let mut request = Vec::new();
        if self.dice.one_in(20) {
            request.push(Change::AssertExists);
        }
        if self.dice.one_in(20) {
            request.push(Change::CompareXattr { name: self.attr_name(), value: self.small_value() });
        }
        // A flood's are so large that several might not fit a journal together.
        let several = self.tide != Tide::Flood && self.dice.one_in(6);
        let changes = if several { 2 + self.index(3) } else { 1 };
        for _ in 0..changes {
            let change = self.change(state);
            request.push(change);
        }
        request
    }

    fn change(&mut self, state: &State) -> Change {
        let size = state.as_ref().map_or(0, |content| content.data.len());
        let max = self.config.object_bytes_max;
        let kind = match self.tide {
            Tide::Flood if size < max => 40,
            Tide::Flood => self.dice.below(36),
            Tide::Ebb if self.dice.one_in(2) => 59,
            Tide::Churn => match self.dice.below(20) {
                0..=8 => 99,
                9..=12 => 30,
                13..=15 => 59,
                _ => self.dice.below(100),
            },
            _ => self.dice.below(100),
        };
        match kind {
            0..=29 => {
                let (offset, len) = self.range(size);
                Change::Write { offset, data: self.bytes(len) }
            }
            30..=39 => {
                let len = self.length().min(max);
                Change::WriteFull { data: self.bytes(len) }
            }
            40..=47 if size < max / 2 || self.tide == Tide::Flood => {
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
            // In the middle of a block that exists.
            98 => Change::Write { offset: self.index(max - 1), data: self.bytes(1) },
            _ => {
                let offset = self.index(size.clamp(1, max));
                let len = (1 + self.index(600)).min(max - offset);
                Change::Write { offset, data: self.bytes(len) }
            }
        }
    }

    /// New bytes for some of what was just written: blocks that nobody has read are replaced, or changed in part, before
    /// the ones they follow are durable.
    fn replacement(&mut self, state: &State) -> Change {
        let size = state.as_ref().map_or(0, |content| content.data.len());
        match self.dice.below(3) {
            0 => Change::WriteFull { data: self.bytes(4096 * 3) },
            1 => Change::Write { offset: 0, data: self.bytes(4096) },
            _ => {
                let offset = self.index(size.clamp(1, 4096 * 3));
                let len = 1 + self.index(600);
                Change::Write { offset, data: self.bytes(len) }
            }
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
            _ if self.tide == Tide::Flood => 4096 * (8 + self.index(40)),
            0..=4 => 1 + self.index(512),
            5..=7 => 4096,
            8..=11 => 1 + self.index(16 * 1024),
            12..=15 => 4096 * (1 + self.index(16)),
            16 | 17 => 65536 + self.index(65536),
            _ => 65536 + 4096 * self.index(32),
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
