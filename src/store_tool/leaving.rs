//! Keys and journals that leave the devices that they are on, for another one or for the main one. One store after the other
//! changes, each at once; so a call that is killed leaves some of them changed, and the next one changes the others.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, ensure};
use nvme::OpenOptions;
use rt::CoreId;
use rt::uring::Config;
use store::devices::Role;

use super::device::{places, plan_beside, slices};
use crate::backend::{self, Beside};
use crate::cluster_dir::{ClusterDir, Plan};
use crate::daemons::DeviceFiles;

/// Moves all parts of a role to another device. Gives the plan that results.
pub fn migrate(
    dir: &ClusterDir,
    plan: &Plan,
    files: &mut DeviceFiles,
    role: Role,
    path: &Path,
    force: bool,
) -> anyhow::Result<Plan> {
    let path = path.canonicalize().with_context(|| {
        format!("cannot use the device {}: give the path of one that exists", path.display())
    })?;
    let (shown, name) = (path.display().to_string(), role.name());
    let is_main = plan.devices.iter().any(|device| device.path == path);
    ensure!(
        !is_main,
        "{shown} holds objects of this cluster: '{name}' leaves its device with 'device remove'"
    );
    // By a call that did not get to its end, or for something else.
    let is_named = plan.devices.iter().any(|device| device.beside.contains(&path));
    let file = files.open(path.clone(), &OpenOptions::default())?;
    let (all, fsid, target) = (slices(plan, files)?, plan.fsid, path.clone());
    let prepared = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        let now = places(&core, &all, fsid).await?;
        for ((osd, other), place) in &now {
            let (shown, is_other) = (target.display(), *other != role && place.path == target);
            ensure!(!is_other, "{shown} is the {} device of osd.{osd}: choose another one", other.name());
        }
        ensure!(now.keys().any(|(_, found)| *found == role), "no OSD has a {name} device");
        if is_named {
            return Beside::read(&core, file, fsid).await;
        }
        let mut stores = Vec::new();
        for slice in &all {
            stores.push(backend::superblock(&core, slice, fsid).await?);
        }
        let beside = plan_beside(&core, file, fsid, &stores, force).await?;
        let view = beside.attach(&core)?;
        // Before anything is written.
        for superblock in &stores {
            let len = backend::length(&beside.labelled.runs_of(&*view, superblock.store)?);
            let need = superblock.parts.get(role).map_or(0, |part| match role {
                // Its file system takes no smaller space than it had.
                Role::Db => part.len,
                _ => superblock.part_bytes_min(role),
            });
            ensure!(
                len >= need,
                "{} is too small: each of {} OSDs has {len} bytes of it, and one needs {need}; 'device remove' moves \
                 what is on the old one to the main device",
                view.name(),
                stores.len()
            );
        }
        beside.write(&core).await?;
        anyhow::Ok(beside)
    });
    let beside = prepared.context("io_uring cannot be used on this machine")??;
    let mut next = plan.clone();
    next.devices.iter_mut().filter(|device| !device.beside.contains(&path)).for_each(|device| {
        device.beside.push(path.clone());
    });
    dir.write_plan(&next)?;
    let all = slices(&next, files)?;
    let moved = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        for slice in &all {
            let osd = slice.osd;
            let moved = backend::move_part(&core, slice, fsid, role, &beside).await;
            moved.with_context(|| format!("the {name} part of osd.{osd} cannot move to {shown}"))?;
        }
        anyhow::Ok(())
    });
    moved.context("io_uring cannot be used on this machine")??;
    let_go(dir, &next, files)
}

/// Moves what is on all parts of a role to where it belongs without them. Gives the plan that results.
pub fn remove(dir: &ClusterDir, plan: &Plan, files: &mut DeviceFiles, role: Role) -> anyhow::Result<Plan> {
    let (all, fsid) = (slices(plan, files)?, plan.fsid);
    let removed = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        for slice in &all {
            let (osd, name) = (slice.osd, role.name());
            let removed = backend::remove_part(&core, slice, fsid, role).await;
            removed.with_context(|| format!("the {name} part of osd.{osd} cannot be removed"))?;
        }
        anyhow::Ok(())
    });
    removed.context("io_uring cannot be used on this machine")??;
    let_go(dir, plan, files)
}

/// Lets go of the devices that no store has a part on any more. The plan forgets them first: it must never name what has no label.
fn let_go(dir: &ClusterDir, plan: &Plan, files: &mut DeviceFiles) -> anyhow::Result<Plan> {
    let (all, fsid) = (slices(plan, files)?, plan.fsid);
    let used = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        let places = places(&core, &all, fsid).await?;
        anyhow::Ok(places.into_values().map(|place| place.path).collect::<BTreeSet<_>>())
    });
    let used = used.context("io_uring cannot be used on this machine")??;
    let mut next = plan.clone();
    let mut left = BTreeSet::new();
    for device in &mut next.devices {
        let (kept, gone): (Vec<_>, Vec<_>) = device.beside.drain(..).partition(|path| used.contains(path));
        device.beside = kept;
        left.extend(gone);
    }
    dir.write_plan(&next)?;
    for path in left {
        let (shown, file) = (path.display().to_string(), files.open(path, &OpenOptions::default())?);
        let erased = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
            backend::erase_label(&core, file, fsid).await
        });
        let erased = erased.context("io_uring cannot be used on this machine")?;
        erased.with_context(|| format!("{shown} is in no use any more, but its label cannot be erased"))?;
    }
    Ok(next)
}
