//! The checker that looks at a store after a crash: it must mount, replay and be consistent. It works on a copy of the
//! disk in a world of its own, so that looking changes nothing.

use std::rc::Rc;

use nvme::BlockDevice;
use rt::sim::{Config, Sim};
use store::{FsckLevel, ObjectStore};

use crate::cluster::Node;
use crate::node_store;
use crate::scenario::Scenario;

/// What is wrong, if anything is.
pub fn check(scenario: &Scenario, node: &Node) -> Result<(), String> {
    if !node.is_made() {
        return Ok(());
    }
    let device: Rc<dyn BlockDevice> = Rc::new(node.disk.to_memory());
    let sim = Sim::new(scenario.seed, Config::default());
    let scenario = scenario.clone();
    let checked = sim.run(0, |core| async move {
        let engine = node_store::open_read_only(&core, device, &scenario).await?;
        engine.fsck(FsckLevel::Deep, Box::new(|_, _| {})).await.map_err(|error| error.to_string())
    });
    let report = checked.map_err(|error| format!("the store does not mount: {error}"))?;
    match report.findings.first() {
        None => Ok(()),
        Some(first) => Err(format!(
            "fsck found {} problems in {} objects, the first: {} ({:?}): {}",
            report.findings.len(),
            report.objects,
            first.kind,
            first.severity,
            first.detail
        )),
    }
}
