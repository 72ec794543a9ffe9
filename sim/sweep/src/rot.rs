//! Bit rot: one bit flips somewhere on the devices of a store, before it is opened or under its feet, and the store goes on
//! under load. The flip must be found (by a refused mount or request, a failed read, or a check), or must change nothing that
//! anybody can ask for, then and later: nothing but the truth may be told, and nothing may break.
//!
//! The store is at rest when it is taken, so that every group of the journal is vouched for by a later one: of the last one
//! of a store that lost power, a flipped bit cannot be told from a torn write.

mod places;
mod trial;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use nvme::{Image, MemoryDevice};
use rt::sim::RandomStream;
use store::ObjectStore;

use crate::life::rest;
use crate::plan::Plan;
use crate::stack::{Setup, in_world};
use crate::sweep::guarded;
use crate::views::Views;
use crate::workload::workload_with_journal;
use places::{DATA, Place, divide, places};
use trial::Trial;

/// Rounds of the workload that a store has seen.
const ROUNDS: u32 = 2;

/// A store at rest, and where what lies of it.
pub struct AtRest {
    setup: Arc<Setup>,
    plan: Arc<Plan>,
    image: Image,
    places: Vec<Place>,
}

/// A flip, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// What lies there.
    pub place: &'static str,
    /// What found it; none if it was harmless. An error if it was neither, or broke something.
    pub found_by: Result<Option<&'static str>, String>,
}

/// Flips of one kind of place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaceCount {
    /// Bits flipped.
    pub flips: u64,
    /// Of those, found, by what.
    pub found: BTreeMap<&'static str, u64>,
}

impl PlaceCount {
    /// Adds a flip.
    pub fn add(&mut self, found_by: Option<&'static str>) {
        self.flips += 1;
        if let Some(finder) = found_by {
            *self.found.entry(finder).or_default() += 1;
        }
    }

    /// Flips that were harmless.
    pub fn harmless(&self) -> u64 {
        self.flips - self.found.values().sum::<u64>()
    }
}

impl AtRest {
    /// Lives through the workload on blank devices, and stops at rest with a journal that is to be replayed.
    pub fn new(setup: Setup) -> Result<Self, String> {
        let (setup, plan) = (Arc::new(setup), Arc::new(workload_with_journal(ROUNDS)));
        let device = MemoryDevice::with_geometry("at rest", setup.devices.all());
        let (life, lives) = (Arc::clone(&setup), Arc::clone(&plan));
        let (image, places) = guarded(|| {
            in_world(setup.below, 1, |core| async move {
                let views = Rc::new(Views::plain(&life.devices, &device));
                let store = rest(core.clone(), Arc::clone(&life), views, lives).await?;
                let at_rest = device.snapshot();
                let (mut places, blocks) = places(&life, &at_rest, &store).await?;
                store.close().await.map_err(|error| error.to_string())?;
                let divided = divide(&core, &life, &at_rest.snapshot(), blocks).await?;
                places.extend(Place::of_data(divided));
                Ok::<_, String>((at_rest.image(), places))
            })
        })?;
        Ok(Self { setup, plan, image, places })
    }

    /// Flips one bit, which the seed chooses, and looks at what comes of it.
    pub fn flip(&self, seed: u64) -> Flip {
        let mut dice = RandomStream::new(seed, "bit rot");
        let place = self.choose(&mut dice);
        let (at, bit) = (place.byte(&mut dice), dice.below(8));
        let trial = Trial {
            setup: Arc::clone(&self.setup),
            plan: Arc::clone(&self.plan),
            device: MemoryDevice::from_image("rotten", self.setup.devices.all(), self.image.clone()),
            flip: (at, 1 << bit),
            while_open: dice.one_in(3),
            salt: dice.next_u64(),
        };
        let found = guarded(|| in_world(self.setup.below, seed, |core| trial.run(core)));
        let found_by = match found {
            Ok(None) if place.name == DATA => Err("nobody found it, and an object has it".to_owned()),
            found => found,
        };
        let said = |what| format!("seed {seed}: bit {bit} of {at:#x} ({}): {what}", place.name);
        Flip { place: place.name, found_by: found_by.map_err(said) }
    }

    fn choose(&self, dice: &mut RandomStream) -> &Place {
        let mut drawn = dice.below(self.places.iter().map(|place| place.weight).sum());
        for place in &self.places {
            match drawn.checked_sub(place.weight) {
                None => return place,
                Some(left) => drawn = left,
            }
        }
        unreachable!("less than the sum was drawn")
    }
}
