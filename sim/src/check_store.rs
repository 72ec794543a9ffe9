//! The checker that looks at a store after a crash: it must mount, replay, be consistent, and hold what the clients'
//! oracles allow. It works on a copy of the disks in a world of its own, so that looking changes nothing.

use std::rc::Rc;

use rt::sim::{Config, Sim};
use store::{FsckFinding, FsckLevel, ObjectStore, Unwatched};

use crate::cluster::Node;
use crate::damage::{self, Place};
use crate::node_store;
use crate::store_content::StoreContent;

/// What was found.
pub struct Found {
    /// Everything that the store shows.
    pub content: StoreContent,
    /// Groups of the journal that its next mount will replay.
    pub replayed_groups: u64,
    /// Where the blocks of the objects lie.
    pub places: Vec<Place>,
}

/// Looks at the node's store; an error says what is wrong.
pub fn check(node: &Node) -> Result<Found, String> {
    let disks = &node.parts.disks;
    let damaged = node.damaged.borrow().clone();
    // A copy in memory is faster, but every block of it can be read.
    let copy = (!damaged.is_empty()).then(|| disks.copy());
    let memory = disks.to_memory();
    let parts = node.parts.clone();
    let (report, found) = in_own_world(node, |core| async move {
        let devices = copy.map_or(memory, |copy| copy.open(&core));
        let engine = node_store::open_read_only(&core, devices, &parts).await;
        let engine = engine.map_err(|error| format!("the store does not mount: {error}"))?;
        let replayed_groups = counter(&engine, "replayed_groups");
        let report = engine.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await;
        let report = report.map_err(|error| error.to_string())?;
        let content = StoreContent::read(&engine).await?;
        let places = damage::places(&engine, &content).await?;
        Ok::<_, String>((report, Found { content, replayed_groups, places }))
    })?;
    let expected = |finding: &FsckFinding| {
        let of = |address: &u64| finding.detail.contains(&format!("{address:#x}:"));
        finding.kind == "checksum" && damaged.iter().any(of)
    };
    if let Some(first) = report.findings.iter().find(|finding| !expected(finding)) {
        return Err(format!(
            "fsck found {} problems in {} objects, the first: {} ({:?}): {}",
            report.findings.len(),
            report.objects,
            first.kind,
            first.severity,
            first.detail
        ));
    }
    for (object, stored) in found.content.objects() {
        if let Err(error) = stored {
            return Err(format!("object {:?} cannot be read: {error}", object.name));
        }
    }
    Ok(found)
}

/// Looks at disks on which a store was being made: they hold none, or a sound one.
pub fn check_unmade(node: &Node) -> Result<(), String> {
    let devices = node.parts.disks.to_memory();
    let parts = node.parts.clone();
    in_own_world(node, |core| async move {
        let Ok(engine) = node_store::open_read_only(&core, devices, &parts).await else { return Ok(()) };
        let report =
            engine.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.map_err(|error| error.to_string())?;
        match report.findings.first() {
            None if report.objects == 0 => Ok(()),
            None => Err(format!("a new store has {} objects", report.objects)),
            Some(first) => Err(format!("a new store is not sound: {}", first.detail)),
        }
    })
}

/// Runs it apart from the simulated cluster.
pub fn in_own_world<T: 'static, F: Future<Output = T> + 'static>(
    node: &Node,
    main: impl FnOnce(rt::Core) -> F,
) -> T {
    Sim::new(node.parts.scenario.seed, Config::default()).run(0, main)
}

fn counter(engine: &store::Engine, name: &str) -> u64 {
    engine.stats().counters.iter().find(|(other, _)| *other == name).map_or(0, |(_, value)| *value)
}
