//! The devices of a cluster's stores: which there are, and one more for keys or journals.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use nvme::OpenOptions;
use rt::CoreId;
use rt::uring::Config;
use serde_json::json;
use store::devices::Role;

use super::args::DeviceAction;
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
        DeviceAction::Add { role, path, force } => {
            add(dir, plan, &mut files, role.role(), path, *force)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn slices(plan: &Plan, files: &mut DeviceFiles) -> anyhow::Result<Vec<SliceStore>> {
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
        let mut found = Vec::new();
        for slice in slices {
            let osd = slice.osd;
            let places = backend::places(&core, &slice, fsid).await.with_context(|| format!("osd.{osd}"))?;
            found.extend(places.into_iter().map(|(role, path, _)| (osd, role, path)));
        }
        anyhow::Ok(found)
    });
    let found = found.context("io_uring cannot be used on this machine")??;
    if let Some((osd, other, _)) = found.iter().find(|(_, other, place)| place == path && *other != role) {
        bail!("{shown} is the {} device of osd.{osd}: choose another one", other.name());
    }
    if let Some((osd, _, place)) = found.iter().find(|(_, other, place)| place != path && *other == role) {
        bail!("osd.{osd} has a {} device already: {}", role.name(), place.display());
    }
    Ok(())
}

fn list(plan: &Plan, files: &mut DeviceFiles, json: bool) -> anyhow::Result<()> {
    let (slices, fsid) = (slices(plan, files)?, plan.fsid);
    let found = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        let mut found = Vec::new();
        for slice in slices {
            let osd = slice.osd;
            let places = backend::places(&core, &slice, fsid).await.with_context(|| format!("osd.{osd}"))?;
            found.extend(places.into_iter().map(|(role, path, bytes)| (osd, role, path, bytes)));
        }
        anyhow::Ok(found)
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
            let (len, need) =
                (beside.labelled.window_of(&*view, superblock.store)?.len, superblock.part_bytes_min(role));
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
