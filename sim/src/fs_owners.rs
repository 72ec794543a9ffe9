//! The checker of the file system below the key-value store, while it runs: what files hold now may not be what a crash at
//! this moment would find in another place of a file, or in the log. Whoever waits for the damage to be read may wait
//! long, as it is obsolete files that are overwritten first.

use std::collections::BTreeMap;

use allocator::Extent;
use bluefs::fs::{Ino, LocalBlueFs};

use crate::check_store;
use crate::cluster::Node;

/// Where a unit of space is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// So many bytes from the file's beginning.
    File(Ino, u64),
    Log,
}

/// Compares what the running file system has with what its disks hold durably; an error says what is given away too early.
pub fn check(node: &Node) -> Result<(), String> {
    let now = node.with_fs(|machine| {
        let files = machine.extents().map(|(ino, extents)| (ino, extents.to_vec())).collect();
        (Files(files), machine.superblock().log.clone(), u64::from(machine.superblock().alloc_unit))
    });
    // None if there is no life, or a disk failed in it.
    let Some((files, log, unit)) = now else { return Ok(()) };
    let (devices, window) = (node.parts.disks.durable(), node.regions.window);
    let superblocks = node.regions.fs_superblocks();
    let durable = check_store::in_own_world(node, |_| async move {
        let view = devices.joined(window)?;
        LocalBlueFs::load(&*view, superblocks).await.map_err(|error| error.to_string())
    });
    let durable = durable.map_err(|error| format!("BlueFS, if all is lost that may be: {error}"))?;
    let logged = durable.tree.files.iter().map(|(ino, inode)| (*ino, inode.extents.clone())).collect();
    let (before, now) = (Files(logged).uses(&durable.superblock.log, unit), files.uses(&log, unit));
    for (address, was) in before {
        match now.get(&address) {
            Some(is) if *is != was => {
                return Err(format!("BlueFS gives away {address:#x}, which is durably {was:?}, as {is:?}"));
            }
            _ => {}
        }
    }
    Ok(())
}

struct Files(Vec<(Ino, Vec<Extent>)>);

impl Files {
    /// Each unit in use, by address.
    fn uses(&self, log: &[Extent], unit: u64) -> BTreeMap<u64, Use> {
        let step = usize::try_from(unit).unwrap_or(usize::MAX);
        let units = |extent: &Extent| (extent.start..extent.end()).step_by(step);
        let mut uses: BTreeMap<u64, Use> = log.iter().flat_map(units).map(|at| (at, Use::Log)).collect();
        for (ino, extents) in &self.0 {
            let places = (0..).step_by(step).map(|at| Use::File(*ino, at));
            uses.extend(extents.iter().flat_map(units).zip(places));
        }
        uses
    }
}
