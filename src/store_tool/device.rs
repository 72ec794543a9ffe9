//! The devices of a cluster's stores: which there are, what they have grown by, and one more for keys or journals.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, ensure};
use nvme::{DeviceFile, OpenOptions};
use rt::uring::Config;
use rt::{Core, CoreId};
use serde_json::{Value, json};
use store::Superblock;
use store::devices::Role;
use uuid::Uuid;

use super::args::DeviceAction;
use super::leaving;
use crate::backend::{self, Beside, SliceStore};
use crate::cluster_dir::{ClusterDir, Plan};
use crate::daemons::DeviceFiles;
use crate::mkfs::{refuse_foreign, refuse_others};
use crate::size::show_size;

/// Does what is asked.
pub fn run(dir: &ClusterDir, plan: &Plan, action: &DeviceAction, json: bool) -> anyhow::Result<ExitCode> {
    let mut files = DeviceFiles::default();
    match action {
        DeviceAction::List => list(plan, &mut files, json)?,
        DeviceAction::Grow => {
            let (before, after) = grow(plan, &mut files)?;
            tell(&before, &after, "nothing has grown", json)?;
        }
        DeviceAction::Migrate { role, path, force } => {
            let before = places_now(plan, &mut files)?;
            let plan = leaving::migrate(dir, plan, &mut files, role.role(), path, *force)?;
            tell(&before, &places_now(&plan, &mut files)?, "nothing is left to move", json)?;
        }
        DeviceAction::Remove { role } => {
            let before = places_now(plan, &mut files)?;
            let plan = leaving::remove(dir, plan, &mut files, role.role())?;
            tell(&before, &places_now(&plan, &mut files)?, "nothing is left to remove", json)?;
        }
        DeviceAction::Add { role, path, force } => {
            let before = places_now(plan, &mut files)?;
            let plan = add(dir, plan, &mut files, role.role(), path, *force)?;
            tell(&before, &places_now(&plan, &mut files)?, "nothing is left to add", json)?;
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
    let places = places_now(plan, files)?;
    for ((osd, other), _) in places.iter().filter(|(_, place)| place.path == path) {
        ensure!(*other == role, "{shown} is the {} device of osd.{osd}: choose another one", other.name());
    }
    for ((osd, other), place) in places.iter().filter(|(_, place)| place.path != path) {
        let (name, shown) = (role.name(), place.path.display());
        ensure!(*other != role, "osd.{osd} has a {name} device already: {shown}");
    }
    Ok(())
}

/// What of which device is whose: by OSD and role.
pub(super) type Places = BTreeMap<(u32, Role), Place>;

/// What an OSD has of a device.
#[derive(PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    bytes: u64,
}

impl Place {
    fn json(&self) -> Value {
        json!({ "path": self.path.display().to_string(), "bytes": self.bytes })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", show_size(self.bytes), self.path.display())
    }
}

pub(super) async fn places(core: &Core, slices: &[SliceStore], fsid: Uuid) -> anyhow::Result<Places> {
    let mut found = Places::new();
    for slice in slices {
        let osd = slice.osd;
        let places = backend::places(core, slice, fsid).await.with_context(|| format!("osd.{osd}"))?;
        found.extend(places.into_iter().map(|(role, path, bytes)| ((osd, role), Place { path, bytes })));
    }
    Ok(found)
}

fn places_now(plan: &Plan, files: &mut DeviceFiles) -> anyhow::Result<Places> {
    let (slices, fsid) = (slices(plan, files)?, plan.fsid);
    let found = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        places(&core, &slices, fsid).await
    });
    found.context("io_uring cannot be used on this machine")?
}

/// Tells what differs; or that it is nothing, to people.
fn tell(before: &Places, after: &Places, nothing: &str, json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let all: BTreeSet<_> = before.keys().chain(after.keys()).copied().collect();
    let changes = all.into_iter().map(|key| (key, before.get(&key), after.get(&key)));
    let changes: Vec<_> = changes.filter(|(_, before, after)| before != after).collect();
    if changes.is_empty() && !json {
        writeln!(out, "{nothing}")?;
    }
    for ((osd, role), before, after) in changes {
        let name = role.name();
        if json {
            let (before, after) = (before.map(Place::json), after.map(Place::json));
            writeln!(out, "{}", json!({ "osd": osd, "role": name, "before": before, "after": after }))?;
            continue;
        }
        let text = |place: Option<&Place>| place.map_or_else(|| "nothing".to_owned(), Place::to_string);
        writeln!(out, "osd.{osd}: {name}: {}, instead of {}", text(after), text(before))?;
    }
    Ok(())
}

/// Takes up what devices have grown by; what was whose before and is after.
fn grow(plan: &Plan, files: &mut DeviceFiles) -> anyhow::Result<(Places, Places)> {
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
        anyhow::Ok((before, places(&core, &slices, fsid).await?))
    });
    grown.context("io_uring cannot be used on this machine")?
}

fn list(plan: &Plan, files: &mut DeviceFiles, json: bool) -> anyhow::Result<()> {
    let places = places_now(plan, files)?;
    let mut out = io::stdout().lock();
    for ((osd, role), place) in places {
        let mut all = place.json();
        (all["osd"], all["role"]) = (osd.into(), role.name().into());
        match json {
            true => writeln!(out, "{all}")?,
            false => writeln!(out, "osd.{osd}: {}: {place}", role.name())?,
        }
    }
    Ok(())
}

/// Cuts a device into parts for these stores, if it is nobody's, or was prepared for them by a call that was killed before the
/// plan named it, or `force`. Nothing is written.
pub(super) async fn plan_beside(
    core: &Core,
    file: Arc<DeviceFile>,
    fsid: Uuid,
    stores: &[Superblock],
    force: bool,
) -> anyhow::Result<Beside> {
    match Beside::is_prepared(core, file.clone(), fsid, stores).await? {
        true => refuse_others(&file, force)?,
        false => refuse_foreign(&file, force)?,
    }
    Beside::plan(core, file, fsid, stores.iter().map(|superblock| superblock.store).collect())
}

fn add(
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
    let is_main = plan.devices.iter().any(|device| device.path == path);
    ensure!(!is_main, "{} holds objects of this cluster: choose another device", path.display());
    // Named already: by a call that did not get to its end, if it is in use for nothing else.
    let is_named = plan.devices.iter().any(|device| device.beside.contains(&path));
    if is_named {
        check_unused(plan, files, role, &path)?;
    }
    let file = files.open(path.clone(), &OpenOptions::default())?;
    let (all, fsid) = (slices(plan, files)?, plan.fsid);
    let prepared = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        if is_named {
            return Beside::read(&core, file, fsid).await;
        }
        let mut stores = Vec::new();
        for slice in &all {
            let superblock = backend::superblock(&core, slice, fsid).await?;
            let (osd, name) = (slice.osd, role.name());
            ensure!(superblock.parts.get(role).is_none(), "osd.{osd} has a {name} device already");
            stores.push(superblock);
        }
        let beside = plan_beside(&core, file, fsid, &stores, force).await?;
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
    Ok(next)
}
