//! One point: opens every store on the device as it was then, replays, checks it and compares it with the history.
//!
//! Each check runs on a reactor of its own: RocksDB's threads wake the store's core, for space, as they do in use.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nvme::{Geometry, MemoryDevice};
use rt::uring::{Config, run};
use rt::{Core, CoreId};
use store::{Engine, ObjectStore};

use crate::group_log;
use crate::history::{Digest, History};
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

/// What was seen at a point.
#[derive(Debug, Default)]
pub struct Seen {
    /// Everything wrong, a sentence each.
    pub wrong: Vec<String>,
    /// Objects compared with the history.
    pub objects: u64,
    /// Entries of groups' logs compared with objects.
    pub log_entries: u64,
}

impl Checker<'_> {
    /// Looks at a point.
    pub fn check(&self, case: &Case) -> Seen {
        let checked = catch_unwind(AssertUnwindSafe(|| self.check_in_world(case)));
        checked.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let wrong = vec![format!("it panics: {}", text.unwrap_or("without a word"))];
            Seen { wrong, ..Seen::default() }
        })
    }

    fn check_in_world(&self, case: &Case) -> Seen {
        let number = match case.point {
            Point::Flush(at) => at as u64,
            Point::Cut(cut) => cut,
        };
        let name = case.point.to_string();
        let device = MemoryDevice::from_image(&name, self.geometry.clone(), case.image.clone());
        let made = case.made;
        let lives = if number.is_multiple_of(REOPENED) { 2 } else { 1 };
        let config = Config { recv_buffers: 0, ..Config::default() };
        let looked = run(CoreId(0), &config, move |core| async move {
            let mut seen = Seen::default();
            let mut found = BTreeMap::new();
            for life in 0..lives {
                found.clear();
                if let Err(error) = look(&core, &device, made, &mut seen, &mut found).await {
                    seen.wrong.push(format!("life {life}: {error:#}"));
                    // What is in it is not known then, and need not be.
                    return (seen, None);
                }
            }
            (seen, Some(found))
        });
        let (mut seen, found) = match looked {
            Ok(looked) => looked,
            Err(error) => {
                let wrong = vec![format!("io_uring cannot be used on this machine: {error}")];
                return Seen { wrong, ..Seen::default() };
            }
        };
        if let Some(found) = found {
            seen.objects = found.len() as u64;
            seen.wrong.extend(self.history.judge(&case.floor, &found));
        }
        seen
    }
}

async fn look(
    core: &Core,
    device: &MemoryDevice,
    made: bool,
    seen: &mut Seen,
    found: &mut BTreeMap<Vec<u8>, Digest>,
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
        let before = seen.wrong.len();
        let looked = look_at_slice(&engine, seen, found).await;
        for what in seen.wrong.iter_mut().skip(before) {
            what.insert_str(0, &format!("slice {slice}: "));
        }
        // Closed in any case, as RocksDB's threads would go on.
        let closed = ObjectStore::close(&engine).await;
        looked.map_err(in_slice)?;
        closed.map_err(|error| in_slice(error.into()))?;
    }
    Ok(())
}

async fn look_at_slice(
    engine: &Engine,
    seen: &mut Seen,
    found: &mut BTreeMap<Vec<u8>, Digest>,
) -> anyhow::Result<()> {
    seen.wrong.extend(slices::fsck(engine).await?.into_iter().map(|finding| format!("fsck: {finding}")));
    for group in slices::groups(engine).await? {
        seen.log_entries += group_log::check(engine, group, &mut seen.wrong).await?;
    }
    slices::contents(engine, found).await
}
