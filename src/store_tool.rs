//! `spirula store`: looks into the stores of a cluster that is not running, and changes what is in them. Each is opened as
//! it would be after replay.

mod args;
mod bluefs;
mod change;
mod device;
mod inspect;
mod label;
mod leaving;
mod objects;
mod portable;
mod space;

pub use args::StoreOptions;

use std::io;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use rt::CoreId;
use rt::uring::Config;
use store::ObjectStore;
use uuid::Uuid;

use crate::backend::{self, Opened, SliceStore};
use crate::cluster_dir::ClusterDir;
use crate::daemons::DeviceFiles;
use args::{Action, LabelOptions, Target};

/// One OSD's store, and how to tell what is found in it.
struct Look {
    osd: u32,
    fsid: Uuid,
    opened: Opened,
    json: bool,
}

/// Runs the command.
pub fn run(options: &StoreOptions) -> anyhow::Result<ExitCode> {
    let (dir, plan) = ClusterDir::existing(&options.dir)?;
    if let Action::Device(action) = &options.action {
        return device::run(&dir, &plan, action, options.json);
    }
    let ids = plan.osds_meant(options.id);
    if let Action::Label(LabelOptions { action: Some(action) }) = &options.action
        && let Some(change) = label::Change::of(action)
    {
        return label::change(&plan, &ids, &change, options.json);
    }
    let is_of_one = options.action.is_of_one_store();
    ensure!(!is_of_one || ids.len() == 1, "there are {} OSDs: say which with --id", ids.len());
    let mut files = DeviceFiles::default();
    let mut slice_of = |osd: u32| -> anyhow::Result<SliceStore> {
        let (device, slice) =
            plan.osd(osd).with_context(|| format!("there is no osd.{osd} in this cluster"))?;
        files.slice(device, slice, osd)
    };
    let ids = match options.action.only_target() {
        Some(target) if ids.len() > 1 => {
            let mut holders = Vec::new();
            for osd in ids {
                let slice = slice_of(osd)?;
                if holds(slice, plan.fsid, target.clone()).with_context(|| format!("osd.{osd}"))? {
                    holders.push(osd);
                }
            }
            ensure!(holders.len() <= 1, "OSDs {holders:?} have that: say which is meant with --id");
            holders
        }
        _ => ids,
    };
    let is_shown = !options.action.changes() && !matches!(options.action, Action::Export(_));
    let mut found = false;
    for osd in ids {
        let slice = slice_of(osd)?;
        match look(slice, plan.fsid, options.action.clone(), options.json) {
            // Whoever read it has seen enough.
            Err(error) if is_shown && is_broken_pipe(&error) => return Ok(ExitCode::SUCCESS),
            done => found |= done.with_context(|| format!("osd.{osd}"))?,
        }
        if found && options.action.is_about_one_thing() {
            break;
        }
    }
    if !found {
        bail!("none of these stores has that; 'spirula store list' shows what there is");
    }
    Ok(ExitCode::SUCCESS)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Whether a store has this.
fn holds(slice: SliceStore, fsid: Uuid, target: Target) -> anyhow::Result<bool> {
    let done = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        let osd = slice.osd;
        let opened = backend::open_read_only(&core, &slice, fsid).await?;
        let look = Look { osd, fsid, opened, json: false };
        let holds = match &target {
            Target::Object(object) => look.collection_of(object).await.map(|found| found.is_some()),
            Target::Group(group) => look.has(*group).await,
        };
        look.opened.store.close().await?;
        holds
    });
    done.context("io_uring cannot be used on this machine")?
}

/// Opens one store and does what is asked. False if what is asked for is not in it.
fn look(slice: SliceStore, fsid: Uuid, action: Action, json: bool) -> anyhow::Result<bool> {
    let done = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        let osd = slice.osd;
        if let Action::Bluefs(action) = &action {
            return bluefs::act(&core, &slice, fsid, action, json).await.map(|()| true);
        }
        let opened = match action.changes() {
            true => backend::open(&core, &slice, fsid, None).await?,
            false => backend::open_read_only(&core, &slice, fsid).await?,
        };
        let look = Look { osd, fsid, opened, json };
        let done = look.act(&action).await;
        let closed = look.opened.store.close().await;
        let found = done?;
        closed?;
        Ok(found)
    });
    done.context("io_uring cannot be used on this machine")?
}

impl Look {
    async fn act(&self, action: &Action) -> anyhow::Result<bool> {
        match action {
            Action::Statfs => self.statfs(),
            Action::Label(_) => self.label(),
            Action::FreeDump => self.free_dump(),
            Action::FreeScore => self.free_score(),
            Action::List(options) => self.list(options).await,
            Action::Info(name) => self.info(&name.id()).await,
            Action::Dump(name) => self.dump(&name.id()).await,
            Action::Histogram(options) => self.histogram(options).await,
            Action::Get(options) => self.get(options).await,
            Action::ListAttrs(name) => self.list_attrs(&name.id()).await,
            Action::GetAttr(options) => self.get_attr(options).await,
            Action::ListOmap(name) => self.list_omap(&name.id()).await,
            Action::GetOmap(options) => self.get_omap(options).await,
            Action::GetOmapHeader(name) => self.get_omap_header(&name.id()).await,
            Action::Put(name) => self.put(&name.id()).await,
            Action::SetSize(options) => self.set_size(options).await,
            Action::SetAttr(options) => self.set_attr(options).await,
            Action::RmAttr(options) => self.remove_attr(options).await,
            Action::SetOmap(options) => self.set_omap(options).await,
            Action::RmOmap(options) => self.remove_omap(options).await,
            Action::SetOmapHeader(name) => self.set_omap_header(&name.id()).await,
            Action::Remove(name) => self.remove(&name.id()).await,
            Action::RemovePg(options) => self.remove_group(options.group).await,
            Action::Export(options) => self.export(options).await,
            Action::Import(options) => self.import(options).await,
            Action::Log(options) => self.log(options.group).await,
            Action::Bluefs(_) | Action::Device(_) => unreachable!("it is done without opening the store"),
        }
    }
}
