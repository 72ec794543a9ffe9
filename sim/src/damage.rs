//! Damage that a disk does by itself: flipped bits and unreadable blocks. What is damaged must be noticed, and nothing
//! else may be lost by it. On copies of a disk as a crash left it, in worlds of their own.

use std::collections::BTreeMap;
use std::rc::Rc;

use rt::Core;
use rt::sim::RandomStream;
use store::{BlockPlace, CollectionId, FsckLevel, ObjectId, ObjectStore, Unwatched};

use crate::check_store::in_own_world;
use crate::cluster::Node;
use crate::disks::{self, Disks};
use crate::node_store::{self, NodeStore};
use crate::store_content::StoreContent;

/// Blocks of data damaged on one copy.
const VICTIMS_MAX: usize = 4;
const BLOCK: u64 = 4096;
/// Bytes looked at for something that is not zero before a bit of them is flipped.
const SECTOR: usize = 512;
/// Sectors looked at until one is found that is in use.
const TRIES: usize = 50;

/// Where a block of an object lies.
pub type Place = (CollectionId, ObjectId, BlockPlace);

/// The blocks of every object of clients in a store that hold nothing else.
pub async fn places(engine: &store::Engine, content: &StoreContent) -> Result<Vec<Place>, String> {
    let mut places = Vec::new();
    for (id, group) in content.groups.iter().filter(|(id, _)| **id != CollectionId::META) {
        for object in group.objects.keys() {
            let found = engine.block_places(*id, object).await.map_err(|error| error.to_string())?;
            // A block of a compressed blob takes others with it.
            let plain = found.into_iter().filter(|place| !place.is_packed);
            places.extend(plain.map(|place| (*id, object.clone(), place)));
        }
    }
    Ok(places)
}

/// Damages blocks of data on a copy: a check must name these and no others, and reads must fail for these only. Gives
/// how many were damaged.
pub fn check_data(node: &Node, clean: &StoreContent, seed: u64) -> Result<u64, String> {
    let copy = node.parts.disks.copy();
    let parts = NodeStore { disks: copy.clone(), stage: Rc::default(), ..node.parts.clone() };
    let (window, clean) = (node.regions.window.start, clean.clone());
    in_own_world(node, move |core| async move {
        let mut dice = RandomStream::new(seed, "damage of data");
        // Closed in good order, so that no replay looks at what is damaged.
        let opened = node_store::open(&core, &parts).await.map_err(|error| format!("a copy: {error}"))?;
        let engine = opened.engine;
        let content = StoreContent::read(&*engine).await?;
        if let Some(difference) = clean.first_difference(&content) {
            return Err(format!("a store that is opened is not as one that is looked at: {difference}"));
        }
        let mut places = places(&engine, &content).await?;
        engine.close().await.map_err(|error| format!("closing a copy: {error}"))?;
        drop(engine);
        let mut victims = BTreeMap::new();
        while victims.len() < VICTIMS_MAX && !places.is_empty() {
            let index = usize::try_from(dice.below(places.len() as u64)).unwrap_or(0);
            let (_, object, place) = places.swap_remove(index);
            let at = window + place.address;
            if dice.one_in(3) {
                copy.main().break_blocks(at..at + BLOCK);
            } else {
                copy.main().corrupt(at + dice.below(BLOCK), 1 << dice.below(8));
            }
            victims.insert(place.address, (object, place.offset));
        }
        compare_damaged(&core, &parts, &clean, &victims).await?;
        Ok(victims.len() as u64)
    })
}

async fn compare_damaged(
    core: &Core,
    parts: &NodeStore,
    clean: &StoreContent,
    victims: &BTreeMap<u64, (ObjectId, u64)>,
) -> Result<(), String> {
    let engine = node_store::open_read_only(core, parts.disks.open(core), parts).await;
    let engine = engine.map_err(|error| format!("with damaged blocks of data: {error}"))?;
    let report = engine.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.map_err(|error| error.to_string())?;
    for (address, (object, offset)) in victims {
        let name = format!("{address:#x}:");
        let found = report.findings.iter().filter(|one| one.kind == "checksum" && one.detail.contains(&name));
        if found.count() != 1 {
            return Err(format!(
                "a check does not name the block at {address:#x}, damaged at {offset} of {:?}",
                object.name
            ));
        }
    }
    if report.findings.len() != victims.len() {
        return Err(format!(
            "a check finds {} problems where {} blocks are damaged: {:?}",
            report.findings.len(),
            victims.len(),
            report.findings
        ));
    }
    let seen = StoreContent::read(&engine).await?;
    let mut expected = clean.clone();
    for (object, offset) in victims.values() {
        let stored = expected.groups.values_mut().find_map(|group| group.objects.get_mut(object));
        let Some(Ok(stored)) = stored else { continue };
        let from = usize::try_from(*offset).unwrap_or(usize::MAX);
        let to = (from + BLOCK as usize).min(stored.content.data.len());
        stored.content.data[from..to].fill(0);
        stored.unreadable.push(from);
        stored.unreadable.sort_unstable();
    }
    match expected.first_difference(&seen) {
        None => Ok(()),
        Some(difference) => Err(format!("with {} damaged blocks: {difference}", victims.len())),
    }
}

/// What a flipped bit of metadata did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noticed {
    /// The store does not open, or something in it cannot be read.
    Yes,
    /// Everything is as before.
    Harmless,
}

/// Flips a bit of what is not data, or makes it unreadable, on a copy: either that is noticed, or it changes nothing.
pub fn check_metadata(node: &Node, clean: &StoreContent, groups: u64, seed: u64) -> Result<Noticed, String> {
    let copy = node.parts.disks.copy();
    let mut dice = RandomStream::new(seed, "damage of metadata");
    let Some((region, place)) = somewhere(node, &copy, &mut dice) else { return Ok(Noticed::Harmless) };
    let (broken, at) = (dice.one_in(4), place.range.start);
    if broken {
        copy.of(&place).break_blocks(place.range.clone());
    } else {
        copy.of(&place).corrupt(at, 1 << dice.below(8));
    }
    let parts = NodeStore { disks: copy, stage: Rc::default(), ..node.parts.clone() };
    let clean = clean.clone();
    let what = if broken { "an unreadable block" } else { "a flipped bit" };
    in_own_world(node, move |core| async move {
        let Ok(engine) = node_store::open_read_only(&core, parts.disks.open(&core), &parts).await else {
            return Ok(Noticed::Yes);
        };
        let counters = engine.stats().counters;
        let replayed =
            counters.iter().find(|(name, _)| *name == "replayed_groups").map_or(0, |(_, count)| *count);
        if engine.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.is_err() {
            return Ok(Noticed::Yes);
        }
        let Ok(seen) = StoreContent::read(&engine).await else { return Ok(Noticed::Yes) };
        // The last group of a journal that no later one vouches for cannot be told from one that was torn.
        if region == "journal" && replayed < groups {
            return Ok(Noticed::Yes);
        }
        match clean.first_difference(&seen) {
            None => Ok(Noticed::Harmless),
            Some(difference) if seen.has_errors() => {
                log::debug!("{what} in the {region}: {difference}");
                Ok(Noticed::Yes)
            }
            Some(difference) => {
                let disk = place.role.name();
                Err(format!("{what} at {at:#x} of {disk} in the {region} was not noticed: {difference}"))
            }
        }
    })
}

/// A byte in use of some region that holds no data.
fn somewhere(node: &Node, disks: &Disks, dice: &mut RandomStream) -> Option<(&'static str, disks::Place)> {
    let (regions, window) = (&node.regions, node.regions.window);
    let superblock = &regions.superblock;
    let block = u64::from(superblock.block);
    let main = |name, start, len| (name, disks::Place::main(start..start + len));
    let mut places = vec![
        main("label", 0, 1 << 20),
        main("last label", window.end(), node.parts.scenario.disk_bytes - window.end()),
        main("superblock", window.start, block),
        main("last superblock", window.end() - block, block),
        ("journal", regions.journal()),
        ("log", regions.place(superblock.pg_log)),
    ];
    places.extend(regions.headers().into_iter().map(|place| ("header", place)));
    // Twice, as there is most of it.
    places.extend(
        regions
            .kv()
            .into_iter()
            .flat_map(|place| [("key-value store", place.clone()), ("key-value store", place)]),
    );
    let images: Vec<_> = disks.all().map(|(role, disk)| (role, disk.image())).collect();
    for _ in 0..TRIES {
        let (name, place) = &places[usize::try_from(dice.below(places.len() as u64)).unwrap_or(0)];
        let len = place.range.end - place.range.start;
        let sector = place.range.start + dice.below(len / SECTOR as u64) * SECTOR as u64;
        let mut bytes = [0; SECTOR];
        let Some((_, image)) = images.iter().find(|(role, _)| *role == place.role) else { continue };
        image.read(sector, &mut bytes);
        let used: Vec<u64> = (0..SECTOR as u64).filter(|at| bytes[*at as usize] != 0).collect();
        if let Some(at) = used.get(usize::try_from(dice.below(used.len().max(1) as u64)).unwrap_or(0)) {
            let at = sector + at;
            return Some((name, disks::Place { role: place.role, range: at..at + 1 }));
        }
    }
    None
}
