//! Allocators on an aged device: what an allocation costs when the space is nearly full and in pieces.
//!
//! Expected before the first run: a bitmap's allocation of a few blocks looks at one page and changes one word, some 50 ns
//! while its page is in the processor's cache and as much again for each line that is not; a tree of extents costs four
//! searches among millions of nodes, above 500 ns.
//!
//! On a device with zones what is released is free only after somebody cleaned its zone. Here a cleaner does it before an
//! allocation, outside the time that is measured, and what it moved is told: blocks for a block that the load wrote, in the
//! last turn of the ageing. Expected before the first run: an allocation is at a write pointer, so it comes in one piece
//! whatever the age, looks at some ten words, and takes some 200 ns for three small lists and the sets of zones. If space
//! dies at random, a zone that is cleaned has `v` alive where `(1 - v) / -ln v` of the device is, which moves `v / (1 - v)`:
//! 0.3 blocks at 50 %, 1.6 at 80 %, 8 at 95 %, where there were turns enough to come to rest.
//!
//! Times are less what reading the clock takes. On a shared machine the slowest ones are the machine's; words are exact.

mod aged;
mod cleaner;
mod dice;
mod dump;
mod held;
mod report;
mod upkeep;

use std::path::PathBuf;

use allocator::{Allocator, BitmapAllocator, BtreeAllocator, Extent, HybridAllocator, ZonedAllocator};
use anyhow::ensure;
use clap::{Args, ValueEnum};

use aged::Aged;
use cleaner::Cleaner;
use dump::FreeDump;
pub use report::Row;
use upkeep::{AtOnce, Upkeep};

const BLOCK: u64 = 4096;
const NO_WRITE_POINTERS: &str = "a dump of free space has no write pointers";

/// What is measured.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// One kind only.
    #[arg(long)]
    allocator: Option<Kind>,
    /// Size of the device, GiB.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=16384))]
    size: u64,
    /// How full it is kept, percent; with zones, of all but the three that are kept for cleaning.
    #[arg(long, default_values_t = [50, 80, 95], value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=99))]
    full: Vec<u64>,
    /// Size of a zone, MiB, if the allocator is for zones; up to 14 may be open, and at least 16 are needed.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=65536))]
    zone: u64,
    /// How often all that is in use is written anew before anything is measured.
    #[arg(long, default_value_t = 2)]
    turns: u64,
    /// Allocations measured of each size.
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1000..))]
    samples: u64,
    /// Of the load.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Starts from this device, as `ceph-bluestore-tool free-dump` writes it, instead of one that is aged here. Not for
    /// zones: it has no write pointers.
    #[arg(long, value_name = "FILE")]
    free_dump: Option<PathBuf>,
}

/// Allocators.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Kind {
    /// The hierarchical bitmap.
    Bitmap,
    /// The same with hints of long runs.
    Hybrid,
    /// Trees of free runs, best fit.
    Btree,
    /// For zones that are written in order and emptied as a whole; a cleaner moves what is alive.
    Zoned,
}

impl Settings {
    fn measures(&self, kind: Kind) -> bool {
        self.allocator.is_none_or(|only| only == kind)
    }

    fn capacity(&self) -> u64 {
        self.size << 30
    }

    /// Of the load.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Rows that there will be.
    pub fn rows(&self) -> usize {
        let is_dump = self.free_dump.is_some();
        let kinds = Kind::value_variants().iter().filter(|kind| self.measures(**kind));
        let kinds = kinds.filter(|kind| !is_dump || **kind != Kind::Zoned).count();
        kinds * aged::SIZES_MEASURED.len() * if is_dump { 1 } else { self.full.len() }
    }
}

/// Measures all that was asked for; each row is told as it comes.
pub fn measure(settings: &Settings, mut told: impl FnMut(Row)) -> anyhow::Result<()> {
    let dump = settings.free_dump.as_deref().map(FreeDump::read).transpose()?;
    check_zones(settings)?;
    for kind in Kind::value_variants().iter().filter(|kind| settings.measures(**kind)) {
        let dump = dump.as_ref();
        let told = &mut told;
        match kind {
            Kind::Bitmap => measure_kind("bitmap", settings, dump, BitmapAllocator::new, told)?,
            Kind::Hybrid => measure_kind("hybrid", settings, dump, HybridAllocator::new, told)?,
            Kind::Btree => measure_kind("btree", settings, dump, BtreeAllocator::new, told)?,
            Kind::Zoned if dump.is_some() => eprintln!("zoned is left out: {NO_WRITE_POINTERS}"),
            Kind::Zoned => measure_zoned(settings, told)?,
        }
    }
    Ok(())
}

/// Refuses what cannot be measured before the rest was.
fn check_zones(settings: &Settings) -> anyhow::Result<()> {
    if settings.free_dump.is_some() {
        ensure!(settings.allocator != Some(Kind::Zoned), "zoned cannot be measured: {NO_WRITE_POINTERS}");
    } else if settings.measures(Kind::Zoned) {
        cleaner::layout(settings.capacity(), settings.zone)?;
    }
    Ok(())
}

/// Measures one kind at every fullness, or on what was dumped.
fn measure_kind<A: Allocator>(
    name: &'static str,
    settings: &Settings,
    dump: Option<&FreeDump>,
    make: impl Fn(u64, u64) -> A,
    told: &mut dyn FnMut(Row),
) -> anyhow::Result<()> {
    if let Some(dump) = dump {
        let mut space = make(dump.capacity, dump.alloc_unit);
        ensure!(space.capacity() == dump.capacity, "its capacity is not a multiple of its unit");
        dump.free_in(&mut space)?;
        return tell(name, settings, Aged::found(space, settings.seed), told);
    }
    for full in &settings.full {
        let space = empty(make(settings.capacity(), BLOCK))?;
        let mut aged = Aged::filled(space, AtOnce, *full, settings.seed);
        aged.age(settings.turns)?;
        tell(name, settings, aged, told)?;
    }
    Ok(())
}

/// Measures the one for zones at every fullness.
fn measure_zoned(settings: &Settings, told: &mut dyn FnMut(Row)) -> anyhow::Result<()> {
    let layout = cleaner::layout(settings.capacity(), settings.zone)?;
    for full in &settings.full {
        let space = empty(ZonedAllocator::new(settings.capacity(), BLOCK, layout))?;
        let mut aged = Aged::filled(space, Cleaner::new(layout), *full, settings.seed);
        aged.age(settings.turns)?;
        tell("zoned", settings, aged, told)?;
    }
    Ok(())
}

/// Frees all of a new space.
fn empty<A: Allocator>(mut space: A) -> anyhow::Result<A> {
    space.mark_free(Extent::new(0, space.capacity()))?;
    Ok(space)
}

/// Measures each size on one device.
fn tell<A: Allocator, U: Upkeep<A>>(
    name: &'static str,
    settings: &Settings,
    mut aged: Aged<A, U>,
    told: &mut dyn FnMut(Row),
) -> anyhow::Result<()> {
    for blocks in aged::SIZES_MEASURED {
        let costs = aged.measure(blocks, settings.samples)?;
        let row = Row::new(name, costs, aged.space().memory_bytes());
        told(row);
    }
    Ok(())
}
