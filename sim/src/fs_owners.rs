//! The checker of the file system below the key-value store, while it runs: what files hold now may not be what a crash at
//! this moment would find in another place of a file, or in the log. Whoever waits for the damage to be read may wait
//! long, as it is obsolete files that are overwritten first.

use std::collections::BTreeMap;
use std::time::Duration;

use allocator::Extent;
use bluefs::fs::limits::SMALL_UNIT;
use bluefs::fs::{Ino, LocalBlueFs, Machine, Superblock, Ticket, Tree};
use rt::Core;

use crate::check_store;
use crate::cluster::Node;

/// Virtual time between two looks at a running file system: less than it takes to write a file and to log that.
const LOOK: Duration = Duration::from_micros(300);

/// Where the least piece of space is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// So many bytes from the file's beginning.
    File(Ino, u64),
    Log,
}

/// Each of these pieces in use, by address.
#[derive(Default)]
struct Uses(BTreeMap<u64, Use>);

impl Uses {
    fn new<'a>(superblock: &Superblock, files: impl Iterator<Item = (Ino, &'a [Extent])>) -> Self {
        // Files may have pieces smaller than the allocation unit.
        let least = SMALL_UNIT.max(superblock.block_size.into()).min(superblock.alloc_unit.into());
        let step = usize::try_from(least).unwrap_or(usize::MAX);
        let units = |extent: &Extent| (extent.start..extent.end()).step_by(step);
        let log = superblock.log.iter().flat_map(units).map(|at| (at, Use::Log));
        let mut uses = Self(log.collect());
        for (ino, extents) in files {
            let places = (0..).step_by(step).map(|at| Use::File(ino, at));
            uses.0.extend(extents.iter().flat_map(units).zip(places));
        }
        uses
    }

    fn logged(superblock: &Superblock, tree: &Tree) -> Self {
        Self::new(superblock, tree.files.iter().map(|(ino, inode)| (*ino, inode.extents.as_slice())))
    }

    /// An error if something that is durably so is used otherwise `now`, or might be at once.
    fn check(&self, now: &Now) -> Result<(), String> {
        for (at, was) in &self.0 {
            if let Some(is) = now.uses.0.get(at).filter(|is| *is != was) {
                return Err(format!("BlueFS gives away {at:#x}, which is durably {was:?}, as {is:?}"));
            }
            if now.is_free(*at) {
                return Err(format!("BlueFS would give away {at:#x}, which is durably {was:?}"));
            }
        }
        Ok(())
    }
}

/// What a running file system does with its space.
struct Now {
    uses: Uses,
    free: Vec<Extent>,
}

impl Now {
    fn of(machine: &Machine) -> Self {
        let uses = Uses::new(machine.superblock(), machine.extents());
        Self { uses, free: machine.free_extents() }
    }

    fn is_free(&self, at: u64) -> bool {
        let after = self.free.partition_point(|extent| extent.start <= at);
        after.checked_sub(1).is_some_and(|before| at < self.free[before].end())
    }
}

/// Compares what the running file system has with what its disks hold durably.
pub fn check(node: &Node) -> Result<(), String> {
    // None if there is no life, or a disk failed in it.
    let Some(now) = node.with_fs(|machine| Now::of(machine)) else { return Ok(()) };
    let (devices, window) = (node.parts.disks.durable(), node.regions.window);
    let superblocks = node.regions.fs_superblocks();
    let durable = check_store::in_own_world(node, |_| async move {
        let view = devices.joined(window)?;
        LocalBlueFs::load(&*view, superblocks).await.map_err(|error| error.to_string())
    });
    let durable = durable.map_err(|error| format!("BlueFS, if all is lost that may be: {error}"))?;
    Uses::logged(&durable.superblock, &durable.tree).check(&now)
}

/// Compares, all the time, what a file system has with what it had when everything was durable, until something else is;
/// gives what is wrong, if anything ever is.
pub async fn watch(core: Core, fs: LocalBlueFs) -> String {
    let mut watch = Watch::default();
    loop {
        core.sleep(LOOK).await;
        match fs.with(|machine| Ok(watch.look(machine))) {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => return problem,
            // It failed, and says so to whoever uses it.
            Err(_) => std::future::pending().await,
        }
    }
}

/// What was durable when everything was.
#[derive(Default)]
struct Watch {
    durable: Option<(Moment, Uses)>,
    /// Bytes of files written, and the last record staged.
    seen: (u64, Ticket),
}

/// Of the log: what is durable, and in which one.
type Moment = (Ticket, u64);

impl Watch {
    fn look(&mut self, machine: &Machine) -> Result<(), String> {
        let moment = (machine.durable_ticket(), machine.superblock().generation);
        let is_known = self.durable.as_ref().is_some_and(|(known, _)| *known == moment);
        if !is_known {
            let is_all = machine.staged_ticket() == machine.durable_ticket();
            self.durable = is_all.then(|| (moment, Uses::logged(machine.superblock(), machine.tree())));
        }
        // Only who writes a file has taken space for it, and only a record lets go of some.
        let seen = (machine.stats().written_files, machine.staged_ticket());
        let before = std::mem::replace(&mut self.seen, seen);
        match &self.durable {
            Some((_, durable)) if before != seen => durable.check(&Now::of(machine)),
            _ => Ok(()),
        }
    }
}
