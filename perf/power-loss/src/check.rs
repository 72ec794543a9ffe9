//! One point: opens every store on the device as it was then, replays, checks it and compares it with the history.
//!
//! Each check runs in a world of its own whose clock is virtual, so it takes as long as its work.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nvme::{Geometry, MemoryDevice};
use rt::Core;
use rt::sim::{Config, Sim};

use crate::history::History;
use crate::replay::{Case, Point};
use crate::slices;

/// Every so many-th case is opened once more after it was closed: replay must leave a store that opens.
const REOPENED: u64 = 16;

/// What checking needs to know.
pub struct Checker<'a> {
    /// What may be there.
    pub history: &'a History,
    /// Of the device.
    pub geometry: Geometry,
}

impl Checker<'_> {
    /// Everything wrong at a point, a sentence each.
    pub fn check(&self, case: &Case) -> Vec<String> {
        let checked = catch_unwind(AssertUnwindSafe(|| self.check_in_world(case)));
        match checked {
            Ok(wrong) => wrong,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                vec![format!("it panics: {}", text.unwrap_or("without a word"))]
            }
        }
    }

    fn check_in_world(&self, case: &Case) -> Vec<String> {
        let number = match case.point {
            Point::Flush(at) => at as u64,
            Point::Cut(cut) => cut,
        };
        let name = case.point.to_string();
        let device = MemoryDevice::from_image(&name, self.geometry.clone(), case.image.clone());
        let sim = Sim::new(number, Config::default());
        let made = case.made;
        let lives = if number.is_multiple_of(REOPENED) { 2 } else { 1 };
        let found = sim.run(0, move |core| async move {
            let mut wrong = Vec::new();
            let mut found = BTreeMap::new();
            for life in 0..lives {
                found.clear();
                if let Err(error) = look(&core, &device, made, &mut wrong, &mut found).await {
                    wrong.push(format!("life {life}: {error:#}"));
                    // What is in it is not known then, and need not be.
                    return (wrong, None);
                }
            }
            (wrong, Some(found))
        });
        let (mut wrong, found) = found;
        if let Some(found) = found {
            wrong.extend(self.history.judge(&case.floor, &found));
        }
        wrong
    }
}

async fn look(
    core: &Core,
    device: &MemoryDevice,
    made: bool,
    wrong: &mut Vec<String>,
    found: &mut BTreeMap<Vec<u8>, u128>,
) -> anyhow::Result<()> {
    let labelled = match slices::label(device).await {
        Ok(labelled) => labelled,
        // The label is written last: a device without one was never handed over.
        Err(_) if !made => return Ok(()),
        Err(error) => return Err(error),
    };
    for slice in 0..labelled.label.slices.len() {
        let in_slice = |error: anyhow::Error| error.context(format!("slice {slice}"));
        let engine = slices::open(core, device, &labelled, slice).await.map_err(in_slice)?;
        let checked = slices::fsck(&engine).await;
        let read = slices::contents(&engine, found).await;
        let closed = store::ObjectStore::close(&engine).await;
        wrong.extend(
            checked.map_err(in_slice)?.into_iter().map(|finding| format!("slice {slice}: fsck: {finding}")),
        );
        read.map_err(in_slice)?;
        closed.map_err(|error| in_slice(error.into()))?;
    }
    Ok(())
}
