//! `spirula bench device`: a raw device, or memory, through the backends that the store has.

use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use load::targets::DeviceTarget;
use load::{Job, Measured};
use nvme::uring::{Polling, UringDevice};
use nvme::{DeviceFile, MemoryDevice, PooledBuffers};
use rt::alien::BridgeConfig;
use rt::limits::ALIEN_THREADS_MAX;
use rt::uring::Config;
use rt::{Core, CoreId};

use super::options::{Backend, DeviceOptions};
use super::place::{Place, PlaceOptions, check_block_size};
use super::{Bars, Outcome, tell};
use crate::size::show_size;

/// Bytes of a device in memory.
const MEMORY_BYTES: u64 = 1 << 30;

/// Runs the command.
pub fn run(options: &DeviceOptions) -> anyhow::Result<ExitCode> {
    let in_memory = options.backend == Backend::Memory;
    // Who only reads a device of his own does not want it written.
    let job = options.job.job(in_memory || options.job.mix < 100);
    let (measured, mut about) = match in_memory {
        true => on_memory(options, &job)?,
        false => on_path(options, &job)?,
    };
    about.push(("backend", options.backend.name().to_owned()));
    let flushes = options.flush_each.map_or("never".to_owned(), |writes| format!("after {writes} writes"));
    about.push(("flushed", flushes));
    tell(Outcome { target: "device", about, job, measured }, &options.output)
}

type Told = (Measured, Vec<(&'static str, String)>);

fn on_memory(options: &DeviceOptions, job: &Job) -> anyhow::Result<Told> {
    ensure!(
        options.path.is_none(),
        "--backend memory uses no device: leave out --path, or choose another backend"
    );
    let unit = u64::from(MemoryDevice::default_geometry(0).block_size);
    ensure!(
        job.block_size.is_multiple_of(unit),
        "--block-size {} is not a multiple of the {unit} bytes that the device in memory reads and writes at a time",
        job.block_size
    );
    let bytes = options.size.unwrap_or(MEMORY_BYTES);
    job.check(job.positions_in(bytes)?)?;
    let (doing, flushing) = (job.clone(), options.flush_each);
    let measured = on_core(job, move |core| async move {
        let device = Rc::new(MemoryDevice::new(bytes.next_multiple_of(unit)));
        let target = DeviceTarget::new(&core, device, usize::try_from(doing.block_size)?, bytes, flushing);
        Ok(load::run(&core, &target, &doing, &Bars::default()).await?)
    })?;
    Ok((measured, vec![("path", "memory of this process".to_owned()), ("used", show_size(bytes))]))
}

fn on_path(options: &DeviceOptions, job: &Job) -> anyhow::Result<Told> {
    let Some(path) = &options.path else {
        bail!("--backend {} needs a device: give --path", options.backend.name());
    };
    ensure!(
        options.backend != Backend::Blocking || job.depth <= ALIEN_THREADS_MAX,
        "--backend blocking has a thread for each operation in flight, and {ALIEN_THREADS_MAX} are the most: give a --depth up to that"
    );
    let place = Place::open(
        path,
        &PlaceOptions {
            size: options.size,
            writes: !job.only_reads(),
            force: options.force,
            rotational: None,
        },
    )?;
    let block_bytes = check_block_size(job.block_size, place.file())?;
    job.check(job.positions_in(place.bytes())?)?;
    let about = place.about();
    let (backend, doing, flushing) = (options.backend, job.clone(), options.flush_each);
    let (file, bytes) = (place.file().clone(), place.bytes());
    let measured = on_core(job, move |core| async move {
        // Memory that the ring knows, as an OSD has it.
        let _pooled = PooledBuffers::begin();
        let target = attach(&core, file, backend, block_bytes, bytes, flushing)?;
        Ok(load::run(&core, &target, &doing, &Bars::default()).await?)
    })?;
    Ok((measured, about))
}

fn attach(
    core: &Core,
    file: Arc<DeviceFile>,
    backend: Backend,
    block_bytes: usize,
    bytes: u64,
    flushing: Option<u64>,
) -> anyhow::Result<DeviceTarget> {
    if backend == Backend::Blocking {
        let device = Arc::new(file.blocking());
        return Ok(DeviceTarget::blocking(core, device, block_bytes, bytes, flushing));
    }
    let polling = if backend == Backend::Polled { Polling::WherePossible } else { Polling::Never };
    let device = UringDevice::attach(core, file.clone(), polling)?;
    if backend == Backend::Polled && !device.is_polled() {
        bail!(
            "{} cannot be polled: a block device is needed whose driver has queues for that, as NVMe with \
             'nvme.poll_queues=4' on the kernel's command line; --backend uring needs none",
            file.name()
        );
    }
    Ok(DeviceTarget::new(core, Rc::new(device), block_bytes, bytes, flushing))
}

fn on_core<F: Future<Output = anyhow::Result<Measured>> + 'static>(
    job: &Job,
    main: impl FnOnce(Core) -> F,
) -> anyhow::Result<Measured> {
    // No network. A foreign thread for each operation in flight, where those are asked.
    let bridge_config = BridgeConfig { threads: job.depth, ..BridgeConfig::default() };
    let config = Config { recv_buffers: 0, bridge_config, ..Config::default() };
    rt::uring::run(CoreId(0), &config, main).context("io_uring cannot be used on this machine")?
}
