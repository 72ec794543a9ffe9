//! The devices of a cluster's stores: which there are, what they have grown by, and one more for keys or journals.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use nvme::{DeviceFile, OpenOptions};
use rt::uring::Config;
use rt::{Core, CoreId};
use serde_json::json;
use store::devices::Role;
use uuid::Uuid;

use super::args::DeviceAction;
use super::leaving;
use crate::backend::{self, Beside, SliceStore};
use crate::cluster_dir::{ClusterDir, Plan};
use crate::daemons::DeviceFiles;
use crate::mkfs::open_new;
use crate::size::show_size;

/// Does what is asked.
pub fn run(dir: &ClusterDir, plan: &Plan, action: &DeviceAction, json: bool) -> anyhow::Result<ExitCode> {
    let mut files = DeviceFiles::default();
    match action {
        DeviceAction::List => list(plan, &mut files, json)?,
        DeviceAction::Grow => grow(plan, &mut files, json)?,
        DeviceAction::Migrate { role, path, force } => {
            leaving::migrate(dir, plan, &mut files, role.role(), path, *force)?;
        }
        DeviceAction::Remove { role } => leaving::remove(dir, plan, &mut files, role.role())?,
        DeviceAction::Add { role, path, force } => {
            add(dir, plan, &mut files, role.role(), path, *force)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn slices(plan: &Plan, files: &mut DeviceFiles) -> anyhow::Result<Vec<SliceStore>> {
    let slice = |osd| {
        let (device, slice) = plan.osd(osd).with_context(|| format!("there is no osd.{osd}"))?;
        files.slice(device, slice, osd)
    };
    (0..plan.osds()).map(slice).collect()
}

/// That no store has a part of another kind on the device, nor of this kind on another device.
fn check_unused(plan: &Plan, files: &mut DeviceFiles, role: Role, path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let of_all = plan.devices.iter().all(|device| device.beside.iter().any(|other| other == path));
    ensure!(of_all, "{shown} is a device of some of this cluster's OSDs already: choose another one");
    let (slices, fsid) = (slices(plan, files)?, plan.fsid);
    let found = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        places(&core, &slices, fsid).await
    });
    let found = found.context("io_uring cannot be used on this machine")??;
    if let Some((osd, other, ..)) = found.iter().find(|(_, other, place, _)| place == path && *other != role)
    {
        bail!("{shown} is the {} device of osd.{osd}: choose another one", other.name());
    }
    if let Some((osd, _, place, _)) =
        found.iter().find(|(_, other, place, _)| place != path && *other == role)
    {
        bail!("osd.{osd} has a {} device already: {}", role.name(), place.display());
    }
    Ok(())
}

/// What of which device is whose: OSD, role, path, bytes.
pub(super) type Places = Vec<(u32, Role, PathBuf, u64)>;

pub(super) async fn places(core: &Core, slices: &[SliceStore], fsid: Uuid) -> anyhow::Result<Places> {
    let mut found = Vec::new();
    for slice in slices {
        let osd = slice.osd;
        let places = backend::places(core, slice, fsid).await.with_context(|| format!("osd.{osd}"))?;
        found.extend(places.into_iter().map(|(role, path, bytes)| (osd, role, path, bytes)));
    }
    Ok(found)
}

/// Takes up what devices have grown by, and tells of every part that has.
fn grow(plan: &Plan, files: &mut DeviceFiles, json: bool) -> anyhow::Result<()> {
    let (slices, fsid) = (slices(plan, files)?, plan.fsid);
    let mut devices: BTreeMap<PathBuf, Arc<DeviceFile>> = BTreeMap::new();
    for file in slices.iter().flat_map(|slice| slice.beside.iter().chain([&slice.file])) {
        devices.insert(file.path().to_owned(), file.clone());
    }
    let grown = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        let before = places(&core, &slices, fsid).await?;
        for (path, file) in devices {
            let shown = path.display();
            let growth = backend::grow_device(&core, file, fsid).await.with_context(|| format!("{shown}"))?;
            let (has, had) = (growth.device_bytes, growth.label_bytes);
            if has > had && !growth.is_taken_up {
                log::warn!("{shown} has grown from {had} to {has} bytes, which is too little to divide");
            }
        }
        for slice in &slices {
            let osd = slice.osd;
            backend::take_up(&core, slice, fsid).await.with_context(|| format!("osd.{osd}"))?;
        }
        let after = places(&core, &slices, fsid).await?;
        anyhow::Ok(
            before.into_iter().zip(after).filter(|(before, after)| before != after).collect::<Vec<_>>(),
        )
    });
    let mut out = io::stdout().lock();
    let grown = grown.context("io_uring cannot be used on this machine")??;
    if grown.is_empty() && !json {
        writeln!(out, "nothing has grown")?;
    }
    for ((osd, role, path, before), (.., bytes)) in grown {
        let (role, path) = (role.name(), path.display().to_string());
        if json {
            let all = json!({ "osd": osd, "role": role, "path": path, "before": before, "bytes": bytes });
            writeln!(out, "{all}")?;
        } else {
            let (before, bytes) = (show_size(before), show_size(bytes));
            writeln!(out, "osd.{osd}: {role}: {bytes} of {path}, instead of {before}")?;
        }
    }
    Ok(())
}

fn list(plan: &Plan, files: &mut DeviceFiles, json: bool) -> anyhow::Result<()> {
    let (slices, fsid) = (slices(plan, files)?, plan.fsid);
    let found = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        places(&core, &slices, fsid).await
    });
    let mut out = io::stdout().lock();
    for (osd, role, path, bytes) in found.context("io_uring cannot be used on this machine")?? {
        let (role, path) = (role.name(), path.display().to_string());
        match json {
            true => writeln!(out, "{}", json!({ "osd": osd, "role": role, "path": path, "bytes": bytes }))?,
            false => writeln!(out, "osd.{osd}: {role}: {} of {path}", show_size(bytes))?,
        }
    }
    Ok(())
}

fn add(
    dir: &ClusterDir,
    plan: &Plan,
    files: &mut DeviceFiles,
    role: Role,
    path: &Path,
    force: bool,
) -> anyhow::Result<()> {
    let path = path.canonicalize().with_context(|| {
        format!("cannot use the device {}: give the path of one that exists", path.display())
    })?;
    let is_main = plan.devices.iter().any(|device| device.path == path);
    ensure!(!is_main, "{} holds objects of this cluster: choose another device", path.display());
    // Named already: by a call that did not get to its end, if it is in use for nothing else.
    let is_named = plan.devices.iter().any(|device| device.beside.contains(&path));
    if is_named {
        check_unused(plan, files, role, &path)?;
    }
    let file = match is_named {
        true => files.open(path.clone(), &OpenOptions::default())?,
        false => open_new(&path, &OpenOptions::default(), force)?,
    };
    files.keep(path.clone(), file.clone());
    let (all, fsid, device) = (slices(plan, files)?, plan.fsid, file.clone());
    let prepared = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        if is_named {
            return Beside::read(&core, device, fsid).await;
        }
        let mut stores = Vec::new();
        for slice in &all {
            stores.push(backend::store_without(&core, slice, fsid, role).await?);
        }
        let ids = stores.iter().map(|superblock| superblock.store).collect();
        let beside = Beside::plan(&core, device, fsid, ids)?;
        // Before anything is written.
        let view = beside.attach(&core)?;
        for superblock in &stores {
            let runs = beside.labelled.runs_of(&*view, superblock.store)?;
            let (len, need) = (backend::length(&runs), superblock.part_bytes_min(role));
            ensure!(
                len >= need && view.geometry().block_size <= superblock.journal_block,
                "{} is too small for {} OSDs, or its blocks are too large: each has {len} bytes of it and needs at \
                 least {need}, in blocks of at most {}",
                view.name(),
                stores.len(),
                superblock.journal_block
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
    let (all, name) = (slices(&next, files)?, path.display().to_string());
    let added = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        for slice in &all {
            let osd = slice.osd;
            backend::add_part(&core, slice, fsid, role, &beside)
                .await
                .with_context(|| format!("osd.{osd} cannot have {name} as its {} device", role.name()))?;
        }
        anyhow::Ok(())
    });
    added.context("io_uring cannot be used on this machine")??;
    Ok(())
}
