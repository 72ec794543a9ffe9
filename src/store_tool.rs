//! `spirula store`: looks into the stores of a cluster that is not running. Each is opened as it would be after replay,
//! and nothing is written.

mod args;
mod objects;
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
use args::Action;

/// One OSD's store, and how to tell what is found in it.
struct Look {
    osd: u32,
    opened: Opened,
    json: bool,
}

/// Runs the command.
pub fn run(options: &StoreOptions) -> anyhow::Result<ExitCode> {
    let (_dir, plan) = ClusterDir::existing(&options.dir)?;
    let ids = plan.osds_meant(options.id);
    // What is printed as one document cannot be of several stores.
    let is_of_one = matches!(options.action, Action::FreeDump);
    ensure!(!is_of_one || ids.len() == 1, "there are {} OSDs: say which with --id", ids.len());
    let is_one_value = matches!(options.action, Action::Get(_) | Action::GetAttr(_) | Action::GetOmap(_));
    let mut files = DeviceFiles::default();
    let mut found = false;
    for osd in ids {
        let (device, slice) =
            plan.osd(osd).with_context(|| format!("there is no osd.{osd} in this cluster"))?;
        let slice = SliceStore { file: files.open(device.path.clone(), &device.open_options())?, slice, osd };
        match look(slice, plan.fsid, options.action.clone(), options.json) {
            // Whoever read it has seen enough.
            Err(error) if is_broken_pipe(&error) => return Ok(ExitCode::SUCCESS),
            done => found |= done.with_context(|| format!("osd.{osd}"))?,
        }
        if found && is_one_value {
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

/// Opens one store and does what is asked. False if what is asked for is not in it.
fn look(slice: SliceStore, fsid: Uuid, action: Action, json: bool) -> anyhow::Result<bool> {
    let done = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        let osd = slice.osd;
        let look = Look { osd, opened: backend::open_read_only(&core, &slice, fsid).await?, json };
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
            Action::Label => self.label(),
            Action::FreeDump => self.free_dump(),
            Action::FreeScore => self.free_score(),
            Action::List(options) => self.list(options).await,
            Action::Info(name) => self.info(&name.id()).await,
            Action::Get(options) => self.get(options).await,
            Action::GetAttr(options) => self.get_attr(options).await,
            Action::ListOmap(name) => self.list_omap(&name.id()).await,
            Action::GetOmap(options) => self.get_omap(options).await,
            Action::Log(options) => self.log(options.group).await,
        }
    }
}
