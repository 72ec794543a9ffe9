//! Keys of devices' labels, which operators set for themselves.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use nvme::OpenOptions;
use rt::CoreId;
use rt::uring::Config;
use serde_json::json;

use super::args::LabelAction;
use crate::backend;
use crate::cluster_dir::Plan;
use crate::daemons::DeviceFiles;

/// What becomes of a key.
pub struct Change {
    key: String,
    /// None to remove it.
    value: Option<String>,
    /// None for the main device of the OSD that is meant.
    device: Option<PathBuf>,
}

impl Change {
    /// What is asked for, if it is a change.
    pub fn of(action: &LabelAction) -> Option<Self> {
        let (key, value, device) = match action {
            LabelAction::Show => return None,
            LabelAction::Set { key, value, device } => (key, Some(value.clone()), device),
            LabelAction::Remove { key, device } => (key, None, device),
        };
        Some(Self { key: key.clone(), value, device: device.clone() })
    }
}

/// Changes a key of one label, and tells what keys that has then.
pub fn change(plan: &Plan, osds: &[u32], change: &Change, json: bool) -> anyhow::Result<ExitCode> {
    let mut files = DeviceFiles::default();
    let file = match &change.device {
        Some(path) => {
            let path = path.canonicalize().with_context(|| {
                format!("cannot use the device {}: give the path of one that exists", path.display())
            })?;
            let mut all = plan.devices.iter().flat_map(|device| device.beside.iter().chain([&device.path]));
            let shown = path.display();
            ensure!(all.any(|other| *other == path), "{shown} is not a device of this cluster");
            files.open(path, &OpenOptions::default())?
        }
        None => {
            let [osd] = osds else {
                bail!("there are {} OSDs: say which with --id, or which device with --device", osds.len());
            };
            let (device, _) = plan.osd(*osd).with_context(|| format!("there is no osd.{osd}"))?;
            files.open(device.path.clone(), &device.open_options())?
        }
    };
    let (path, fsid) = (file.path().display().to_string(), plan.fsid);
    let (key, value) = (change.key.clone(), change.value.clone());
    let label = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        backend::set_label_key(&core, file, fsid, &key, value.as_deref()).await
    });
    let label = label.context("io_uring cannot be used on this machine")??;
    if json {
        writeln!(io::stdout(), "{}", json!({ "device": path, "keys": label.keys }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for (key, value) in &label.keys {
        writeln!(io::stdout(), "{path}: {key} = {value}")?;
    }
    Ok(ExitCode::SUCCESS)
}
