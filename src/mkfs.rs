//! Making a cluster: files or devices, their labels, the OSDs' stores, and the monitor's. `up` does it when the folder
//! is new; `spirula mkfs` does only this.
//!
//! The plan is written last, so an interrupted mkfs leaves no cluster, and can be repeated. One that fails takes away the
//! files it made.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use mon_lite::MkfsOptions;
use mon_lite::osd_life::NewOsd;
use nvme::uring::{Polling, UringDevice};
use nvme::{BlockDevice, DeviceFile, Found, OpenOptions, OwnMagic, Space, probe_foreign};
use rt::uring::Config;
use rt::{Core, CoreId};
use store::devices::Role;
use store::label::LABELLED_FROM;
use uuid::Uuid;

use crate::backend::{self, Beside, NewDevice};
use crate::cli::{Media, UpOptions};
use crate::cluster_dir::{ClusterDir, DevicePlan, Plan, describe, new_plan};
use crate::daemons::{MON_NAME, hostname};
use crate::progress;

/// Bytes of the monitor's store.
const MON_STORE_BYTES: u64 = 64 << 20;
/// What a device of ours begins with.
const OWN: OwnMagic<'static> = OwnMagic { magic: backend::LABEL_MAGIC, offset: 0 };

/// `spirula mkfs`.
pub fn run(options: &UpOptions) -> anyhow::Result<ExitCode> {
    let dir = ClusterDir::take(&options.dir)?;
    if let Some(plan) = dir.plan()? {
        bail!(
            "there is a cluster in {} already ({}): start it with 'spirula up --dir {0}', or give another --dir",
            dir.path().display(),
            describe(&plan)
        );
    }
    let plan = make(&dir, options)?;
    println!("made: {}", describe(&plan));
    Ok(ExitCode::SUCCESS)
}

/// Makes the cluster that the options ask for in an empty folder.
pub fn make(dir: &ClusterDir, options: &UpOptions) -> anyhow::Result<Plan> {
    let plan = new_plan(dir, options)?;
    let mut files = NewFiles::default();
    let mut devices = Vec::new();
    for device in &plan.devices {
        devices.push((device.clone(), prepare(device, options.force, &mut files)?));
    }
    let mut beside = BTreeMap::new();
    for path in plan.devices.iter().flat_map(|device| &device.beside) {
        if !beside.contains_key(path) {
            beside.insert(path.clone(), open_new(path, &OpenOptions::default(), options.force)?);
        }
    }
    let roles: Vec<Role> = [(Role::Db, &options.db_device), (Role::Wal, &options.wal_device)]
        .into_iter()
        .filter(|(_, given)| !given.is_empty())
        .map(|(role, _)| role)
        .collect();
    let mon = prepare_mon(&dir.mon_store(), &mut files)?;
    let fsid = plan.fsid;
    let host = hostname();
    let bar = progress::bar("making stores", u64::from(plan.osds()) + 1);
    let made = rt::uring::run(CoreId(0), &Config::default(), {
        let bar = bar.clone();
        move |core| async move { make_stores(&core, fsid, devices, (roles, beside), mon, host, &bar).await }
    });
    bar.finish_and_clear();
    made.context("io_uring cannot be used on this machine")??;
    dir.write_plan(&plan)?;
    files.keep();
    Ok(plan)
}

/// Files and folders that this mkfs made; those that are not kept go again.
#[derive(Default)]
struct NewFiles(Vec<PathBuf>);

impl NewFiles {
    /// A file of zeroes in our own folder; what an interrupted mkfs left there goes.
    fn replace(&mut self, path: &Path, bytes: u64) -> anyhow::Result<()> {
        let folder = path.parent().context("a store's file is in a folder")?;
        if !folder.exists() {
            fs::create_dir(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
            self.0.push(folder.to_owned());
        }
        if path.exists() {
            ensure!(path.is_file(), "{} is in the way: it is not a file", path.display());
            fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        nvme::create(path, bytes, Space::Reserved)?;
        self.0.push(path.to_owned());
        Ok(())
    }

    /// All is well.
    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let removed = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
            if let Err(error) = removed {
                log::warn!("{} is left behind: {error}", path.display());
            }
        }
    }
}

async fn make_stores(
    core: &Core,
    fsid: Uuid,
    devices: Vec<(DevicePlan, Arc<DeviceFile>)>,
    (roles, beside): (Vec<Role>, BTreeMap<PathBuf, Arc<DeviceFile>>),
    mon: Arc<DeviceFile>,
    host: String,
    bar: &indicatif::ProgressBar,
) -> anyhow::Result<()> {
    let mut osds = Vec::new();
    let stores: Vec<Vec<Uuid>> =
        devices.iter().map(|(plan, _)| (0..plan.slices).map(|_| Uuid::new_v4()).collect()).collect();
    let mut labelled = BTreeMap::new();
    for (path, file) in beside {
        // Of every device that has it beside.
        let of = devices.iter().zip(&stores).filter(|((plan, _), _)| plan.beside.contains(&path));
        let all = of.flat_map(|(_, stores)| stores.iter().copied()).collect();
        labelled.insert(path, Beside::plan(core, file, fsid, all)?);
    }
    for ((plan, file), stores) in devices.into_iter().zip(stores) {
        // In the order in which they were planned.
        let parts =
            roles.iter().copied().zip(plan.beside.iter().filter_map(|path| labelled.get(path).cloned()));
        let beside = parts.collect();
        let (first_osd, free_list) = (plan.first_osd, plan.free_list);
        let new = NewDevice { file, fsid, first_osd, free_list, stores, beside };
        let slices = backend::make(core, &new, || bar.inc(1)).await?;
        let rotational = new.file.geometry().rotational;
        for (slice, made) in (0..).zip(slices) {
            osds.push(NewOsd {
                id: i32::try_from(plan.first_osd + slice)?,
                uuid: made.uuid,
                host: host.clone(),
                device: device_name(&plan.path, &host),
                class: if rotational { Media::Hdd } else { Media::Ssd }.name().to_owned(),
                size_bytes: made.bytes,
            });
        }
    }
    for beside in labelled.values() {
        beside.write(core).await?;
    }
    let device: Rc<dyn BlockDevice> = Rc::new(UringDevice::attach(core, mon, Polling::Never)?);
    let options = MkfsOptions { fsid, name: MON_NAME.to_owned(), osds, overwrite: true };
    mon_lite::mkfs(core, device, options).await.context("the monitor's store cannot be made")?;
    bar.inc(1);
    Ok(())
}

/// Name of a device in the CRUSH map: unique, and of the characters that names there may have.
fn device_name(path: &Path, host: &str) -> String {
    let text = path.display().to_string();
    let clean: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("{host}{clean}")
}

/// Makes the file if it is ours to make, opens the device, and refuses somebody's data.
fn prepare(plan: &DevicePlan, force: bool, files: &mut NewFiles) -> anyhow::Result<Arc<DeviceFile>> {
    if let Some(bytes) = plan.create {
        files.replace(&plan.path, bytes)?;
    }
    let size_min = backend::size_min(plan.slices);
    open_new(&plan.path, &OpenOptions { size_min, ..plan.open_options() }, force)
}

/// Opens a device to be formatted, and refuses somebody's data.
pub fn open_new(path: &Path, options: &OpenOptions, force: bool) -> anyhow::Result<Arc<DeviceFile>> {
    let file = nvme::open(path, options)?;
    refuse_foreign(&file, force)?;
    Ok(file)
}

/// An error if there is somebody's data on a device, unless `force`.
pub fn refuse_foreign(file: &Arc<DeviceFile>, force: bool) -> anyhow::Result<()> {
    refuse(file, found_on(file, &[OWN])?, force)
}

/// As [`refuse_foreign`], for a device that one of our own labels, whole or in part, is on: that is no reason, but anybody else's
/// signature is, and so is what is where labelling has not been yet.
pub fn refuse_others(file: &Arc<DeviceFile>, force: bool) -> anyhow::Result<()> {
    let found = match found_on(file, &[])? {
        Some(Found::NotBlank { at }) if at >= LABELLED_FROM => None,
        Some(Found::NotBlank { .. }) => found_on(file, &[OWN])?.filter(|found| *found != Found::Own),
        found => found,
    };
    refuse(file, found, force)
}

/// As [`refuse_foreign`], for a bench, which writes over what an earlier one left: `own` is what that begins with.
pub fn refuse_to_overwrite(file: &Arc<DeviceFile>, own: OwnMagic<'_>, force: bool) -> anyhow::Result<()> {
    let found = match found_on(file, &[OWN])? {
        // Nobody's signature is on it, so it may be as the bench left it.
        Some(Found::NotBlank { .. }) => found_on(file, &[own])?.filter(|found| *found != Found::Own),
        found => found,
    };
    refuse(file, found, force)
}

fn found_on(file: &Arc<DeviceFile>, own: &[OwnMagic<'_>]) -> anyhow::Result<Option<Found>> {
    probe_foreign(&file.blocking(), own)
        .with_context(|| format!("cannot look at what is on {}", file.path().display()))
}

fn refuse(file: &Arc<DeviceFile>, found: Option<Found>, force: bool) -> anyhow::Result<()> {
    let path = file.path();
    match found {
        None => {}
        Some(found) if force => {
            log::warn!("{} held {found}; it is formatted because of --force", path.display())
        }
        Some(Found::Own) => bail!(
            "{} belongs to a spirula cluster: start that with 'spirula up --dir' and its folder, or format the device \
             with --force, which loses the data on it",
            path.display()
        ),
        Some(found) => bail!(
            "{} holds {found}: choose another device, or format it with --force, which loses that data",
            path.display()
        ),
    }
    Ok(())
}

fn prepare_mon(path: &Path, files: &mut NewFiles) -> anyhow::Result<Arc<DeviceFile>> {
    files.replace(path, MON_STORE_BYTES)?;
    Ok(nvme::open(path, &OpenOptions { size_min: MON_STORE_BYTES, ..OpenOptions::default() })?)
}
