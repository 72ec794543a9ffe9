//! What runs on a core: the monitor, OSDs, or both; and `spirula mon` and `spirula osd`, which run one of them alone.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, bail};
use futures_util::future::select_all;
use mon_lite::{MonConfig, MonHandle, Monitor};
use nvme::uring::{Polling, UringDevice};
use nvme::{BlockDevice, DeviceFile, OpenOptions};
use osd::{Osd, OsdConfig, OsdHandle};
use rt::sync::{Either, select};
use rt::uring::Config;
use rt::{Core, LocalBoxFuture};
use store::ObjectStore;
use uuid::Uuid;

use crate::backend::{self, SliceStore};
use crate::cli::{MonOptions, OsdOptions};
use crate::cluster_dir::{ClusterDir, DevicePlan, Plan};
use crate::cores::{Cores, Orders, Report};
use crate::memory;
use crate::mon_port;
use crate::stop;

/// Name of the one monitor.
pub const MON_NAME: &str = "a";

/// What one core does.
#[derive(Default)]
pub struct Work {
    /// It runs the monitor.
    pub mon: bool,
    /// It runs these OSDs.
    pub osds: Vec<u32>,
    /// Memory that each of them may take.
    pub memory: Memory,
}

/// Memory for OSDs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Bytes for each.
    pub target: u64,
    /// OSDs of this process.
    pub osds: u64,
}

/// Everything a core needs to start its work; may be sent to its thread.
struct Start {
    fsid: Uuid,
    mon_address: SocketAddr,
    mon: Option<Arc<DeviceFile>>,
    osds: Vec<(u32, SliceStore)>,
    memory: Memory,
    host: String,
}

/// Opens what the work needs and starts its core.
pub fn start_core(
    cores: &mut Cores,
    dir: &ClusterDir,
    plan: &Plan,
    work: Work,
    files: &mut DeviceFiles,
) -> anyhow::Result<()> {
    let mon = match work.mon {
        true => {
            mon_port::check(plan.mon_address(), dir)?;
            Some(files.open(dir.mon_store(), &OpenOptions::default())?)
        }
        false => None,
    };
    let mut osds = Vec::new();
    for osd in work.osds {
        let (device, slice) =
            plan.osd(osd).with_context(|| format!("there is no osd.{osd} in this cluster"))?;
        osds.push((osd, files.slice(device, slice, osd)?));
    }
    let (fsid, mon_address, memory) = (plan.fsid, plan.mon_address(), work.memory);
    let start = Start { fsid, mon_address, mon, osds, memory, host: hostname() };
    cores.start(Config::default(), move |core, orders| run(core, start, orders))
}

/// Devices opened by this process, each once, however many slices of it are used.
#[derive(Default)]
pub struct DeviceFiles(BTreeMap<PathBuf, Arc<DeviceFile>>);

impl DeviceFiles {
    /// An OSD's slice of a device, with the devices that have parts of it.
    pub fn slice(&mut self, device: &DevicePlan, slice: u32, osd: u32) -> anyhow::Result<SliceStore> {
        let file = self.open(device.path.clone(), &device.open_options())?;
        let beside = device.beside.iter().map(|path| self.open(path.clone(), &OpenOptions::default()));
        Ok(SliceStore { file, slice, osd, beside: beside.collect::<anyhow::Result<_>>()? })
    }

    /// The device at a path.
    pub fn open(&mut self, path: PathBuf, options: &OpenOptions) -> anyhow::Result<Arc<DeviceFile>> {
        if let Some(file) = self.0.get(&path) {
            return Ok(file.clone());
        }
        let file = nvme::open(&path, options)?;
        self.0.insert(path, file.clone());
        Ok(file)
    }
}

/// The life of a core.
async fn run(core: Core, start: Start, mut orders: Orders) {
    let mut running = Running { mon: None, osds: Vec::new() };
    let mut stop = pin!(orders.stop.recv());
    let started = select(&mut stop, Box::pin(start_all(&core, start, &mut running))).await;
    let result = match started {
        // What was half way is dropped: opening changes nothing that cannot be opened again.
        Either::Left(_) => Ok(()),
        Either::Right(Ok(())) => {
            // The main thread is gone only when the process ends.
            let _ = orders.reports.send(Report::Ready);
            match select(stop, running.failed()).await {
                Either::Left(_) => Ok(()),
                Either::Right(reason) => Err(anyhow::anyhow!(reason)),
            }
        }
        Either::Right(Err(error)) => Err(error),
    };
    let stopped = running.stop().await;
    if let Err(error) = result.and(stopped) {
        let _ = orders.reports.send(Report::Failed(format!("{error:#}")));
        // Others stop when the main thread says so; until then this core has nothing to do.
    }
}

struct Running {
    mon: Option<MonHandle>,
    osds: Vec<(u32, OsdHandle, Rc<dyn ObjectStore>)>,
}

async fn start_all(core: &Core, start: Start, running: &mut Running) -> anyhow::Result<()> {
    if let Some(file) = start.mon {
        let device: Rc<dyn BlockDevice> = Rc::new(UringDevice::attach(core, file, Polling::WherePossible)?);
        let config = MonConfig {
            fsid: start.fsid,
            name: MON_NAME.to_owned(),
            hostname: start.host.clone(),
            listen: start.mon_address,
        };
        running.mon =
            Some(Monitor::start(core.clone(), device, config).await.context("the monitor does not start")?);
    }
    for (osd, slice) in start.osds {
        let opened = backend::open(core, &slice, start.fsid, Some(start.memory.target))
            .await
            .with_context(|| format!("osd.{osd} does not start"))?;
        let config = OsdConfig {
            whoami: i32::try_from(osd)?,
            fsid: start.fsid,
            osd_uuid: opened.uuid,
            monitors: vec![start.mon_address],
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            metadata: metadata(core, &slice, &start.host),
            memory_sharers: start.memory.osds,
            options: BTreeMap::from([("osd_memory_target".to_owned(), start.memory.target.to_string())]),
        };
        let handle = Osd::start(core.clone(), opened.store.clone(), config)
            .await
            .with_context(|| format!("osd.{osd} does not start"))?;
        running.osds.push((osd, handle, opened.store));
    }
    for (osd, handle, _) in &running.osds {
        if let Either::Left(reason) = select(handle.failed(), handle.up()).await {
            bail!("osd.{osd} does not start: {reason}");
        }
    }
    Ok(())
}

impl Running {
    /// Waits until something on this core fails by itself.
    async fn failed(&self) -> String {
        let mut failures: Vec<LocalBoxFuture<'_, String>> = Vec::new();
        if let Some(mon) = &self.mon {
            failures.push(Box::pin(async { format!("the monitor failed: {}", mon.failed().await) }));
        }
        for (osd, handle, _) in &self.osds {
            failures.push(Box::pin(async move { format!("osd.{osd} failed: {}", handle.failed().await) }));
        }
        if failures.is_empty() {
            return std::future::pending().await;
        }
        select_all(failures).await.0
    }

    /// OSDs first, so that the monitor hears of it.
    async fn stop(self) -> anyhow::Result<()> {
        let mut result = Ok(());
        for (osd, handle, store) in self.osds {
            handle.stop().await;
            if let Err(error) = store.close().await {
                result = Err(error).with_context(|| format!("osd.{osd} did not stop cleanly"));
            }
        }
        if let Some(mon) = self.mon {
            mon.stop().await;
        }
        result
    }
}

fn metadata(core: &Core, slice: &SliceStore, host: &str) -> BTreeMap<String, String> {
    [
        ("hostname", host.to_owned()),
        ("device", slice.file.path().display().to_string()),
        ("slice", slice.slice.to_string()),
        ("core", core.id().0.to_string()),
        ("backend", "io_uring".to_owned()),
        ("rotational", u8::from(slice.file.geometry().rotational).to_string()),
        ("osd_objectstore", "spirula".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// Name of this host, as the kernel has it.
pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or("localhost".to_owned(), |name| name.trim().to_owned())
}

/// `spirula mon`.
pub fn run_mon(options: &MonOptions) -> anyhow::Result<ExitCode> {
    run_part(&options.dir, Work { mon: true, ..Work::default() }, "monitor")
}

/// `spirula osd`.
pub fn run_osd(options: &OsdOptions) -> anyhow::Result<ExitCode> {
    let memory = Memory { target: memory::per_osd(options.memory_target, 1)?, osds: 1 };
    run_part(&options.dir, Work { mon: false, osds: vec![options.id], memory }, "osd")
}

fn run_part(dir: &std::path::Path, work: Work, what: &str) -> anyhow::Result<ExitCode> {
    let (dir, plan) = ClusterDir::join(dir)?;
    let mut cores = Cores::new();
    stop::on_signal(cores.reporter())?;
    let mut files = DeviceFiles::default();
    let started = start_core(&mut cores, &dir, &plan, work, &mut files).and_then(|()| cores.wait_ready());
    let result = match started {
        Ok(true) => {
            println!("ready: {what}, cluster {}", plan.fsid);
            cores.wait_signal()
        }
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    let stopped = cores.stop();
    result.and(stopped).map(|()| ExitCode::SUCCESS)
}
