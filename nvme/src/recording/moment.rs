//! [`Moment`]: a device at one cut of a recording. Pure.
//!
//! Invariant: the durable image holds the initial one and every settled write in order of completion; the unsettled
//! writes are the others.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use rt::sim::RandomStream;

use super::{Event, Recording};
use crate::crash::{self, Fate, UnsettledWrite};
use crate::device::Geometry;
use crate::image::Image;
use crate::memory::MemoryDevice;

/// What power loss does to the unsettled writes of a moment, numbered as in [`Moment::unsettled`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// None is there.
    None,
    /// All are there.
    All,
    /// All but this one.
    Missing(usize),
    /// All, this one torn.
    Torn(usize),
    /// Each has a fate drawn from this seed, and overlapping ones land in any order.
    Random(u64),
}

/// The device after the first events of a recording.
#[derive(Clone)]
pub struct Moment {
    geometry: Arc<Geometry>,
    cut: usize,
    durable: Image,
    in_flight: BTreeMap<u64, UnsettledWrite>,
    /// Completed and not durable, by order of completion.
    cached: BTreeMap<u64, UnsettledWrite>,
    completions: u64,
    /// For each flush in flight, the completions it covers, and the bytes.
    barriers: BTreeMap<u64, (u64, Range<u64>)>,
    marks: Vec<u64>,
}

impl Moment {
    pub(super) fn new(geometry: Arc<Geometry>, initial: Image) -> Self {
        Self {
            geometry,
            cut: 0,
            durable: initial,
            in_flight: BTreeMap::new(),
            cached: BTreeMap::new(),
            completions: 0,
            barriers: BTreeMap::new(),
            marks: Vec::new(),
        }
    }

    /// How many events lie before.
    pub fn cut(&self) -> usize {
        self.cut
    }

    /// Words marked before, in order.
    pub fn marks(&self) -> &[u64] {
        &self.marks
    }

    /// Writes and discards which power loss decides about: completed ones in order of completion, then those in
    /// flight in order of submission.
    pub fn unsettled(&self) -> Vec<&UnsettledWrite> {
        self.cached.values().chain(self.in_flight.values()).collect()
    }

    /// Every choice of the crash sweep: none, all, each one missing, each one torn that can be, and `random` more.
    pub fn choices(&self, random: u64) -> Vec<Choice> {
        let unsettled = self.unsettled();
        if unsettled.is_empty() {
            return vec![Choice::None];
        }
        let mut choices = vec![Choice::None, Choice::All];
        if unsettled.len() > 1 {
            choices.extend((0..unsettled.len()).map(Choice::Missing));
        }
        let tearable = unsettled.iter().enumerate().filter(|(_, write)| self.units(write) > 1);
        choices.extend(tearable.map(|(index, _)| Choice::Torn(index)));
        if unsettled.len() > 1 {
            choices.extend((0..random).map(Choice::Random));
        }
        choices
    }

    /// The device after power loss now.
    pub fn image(&self, choice: &Choice) -> MemoryDevice {
        let seed = match choice {
            Choice::Random(seed) => *seed,
            _ => 0,
        };
        let mut random = RandomStream::new(seed, &format!("cut {}", self.cut));
        let mut survivors = Vec::new();
        for (index, write) in self.unsettled().into_iter().enumerate() {
            let fate = match choice {
                Choice::None => Fate::Lost,
                Choice::Missing(missing) if *missing == index => Fate::Lost,
                Choice::Torn(torn) if *torn == index => crash::torn(&mut random, self.units(write)),
                Choice::All | Choice::Missing(_) | Choice::Torn(_) => Fate::Kept,
                Choice::Random(_) => crash::random_fate(&mut random, self.units(write)),
            };
            let pieces = write.surviving(&fate, self.geometry.atomic_write_unit);
            survivors.extend(pieces.into_iter().map(|piece| (write, piece)));
        }
        if matches!(choice, Choice::Random(_)) {
            crash::shuffle(&mut random, &mut survivors);
        }
        let mut image = self.durable.clone();
        for (write, piece) in survivors {
            write.store(&piece, &mut image);
        }
        let name = format!("recording cut at {} with {choice:?}", self.cut);
        MemoryDevice::from_image(&name, Geometry::clone(&self.geometry), image)
    }

    /// A recording that goes on from here after the process that wrote died and the device did not: what was in flight
    /// completed, and is still not durable. The device reads as [`Choice::All`]; cuts up to now are the last so far of
    /// [`Recording::cuts`].
    pub fn survived(&self) -> Recording {
        Recording::of_unsettled(self.geometry.clone(), self.durable.clone(), self.unsettled())
    }

    pub(super) fn apply(&mut self, event: &Event) {
        self.cut += 1;
        match event {
            Event::Submitted { number, offset, len, data } => {
                let write = UnsettledWrite {
                    number: *number,
                    offset: *offset,
                    len: *len,
                    completed: false,
                    data: data.clone(),
                };
                self.in_flight.insert(*number, write);
            }
            Event::Completed { number } => self.complete(*number),
            Event::FlushSubmitted { flush, within } => {
                self.barriers.insert(*flush, (self.completions, within.clone()));
            }
            Event::FlushCompleted { flush } => {
                if let Some((barrier, within)) = self.barriers.remove(flush) {
                    self.settle(barrier, &within);
                }
            }
            Event::Mark(word) => self.marks.push(*word),
        }
    }

    fn complete(&mut self, number: u64) {
        let Some(mut write) = self.in_flight.remove(&number) else { return };
        write.completed = true;
        self.cached.insert(self.completions, write);
        self.completions += 1;
        if !self.geometry.volatile_cache {
            self.settle(self.completions, &(0..u64::MAX));
        }
    }

    fn settle(&mut self, barrier: u64, within: &Range<u64>) {
        let is_settled =
            |number: &u64, write: &mut UnsettledWrite| *number < barrier && within.contains(&write.offset);
        for (_, write) in self.cached.extract_if(.., is_settled) {
            write.store(&(write.offset..write.offset + write.len), &mut self.durable);
        }
    }

    fn units(&self, write: &UnsettledWrite) -> usize {
        write.units(self.geometry.atomic_write_unit).count()
    }
}
