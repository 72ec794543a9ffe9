//! `spirula bench osd`: one OSD and a monitor on a core of their own, the load and our client on another, and loopback between.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use client::{Client, ClientConfig};
use load::counted::Written;
use load::one_osd::{OneOsd, Remote, RemoteEnds};
use load::setup::Setup;
use load::targets::{ObjectNames, PoolTarget, Servers};
use load::{Job, Measured};
use nvme::PooledBuffers;
use rt::uring::{Config, spawn_core};
use rt::{Core, CoreId};

use super::options::OsdOptions;
use super::store::{StoreDevice, StorePlace, setup, shape};
use super::{Bars, Outcome, tell};

const POOL: &str = "bench";
/// A call that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the command.
pub fn run(options: &OsdOptions) -> anyhow::Result<ExitCode> {
    // Reads would find no objects.
    let job = options.job.job(true);
    let shape = shape(&options.store, &job, 1)?;
    let place = StorePlace::open(&options.store, &shape)?;
    let about = place.about(&options.store);
    let names = ObjectNames {
        prefix: POOL.to_owned(),
        objects: shape.objects,
        blocks: shape.object_bytes / shape.block_bytes,
        block_bytes: shape.block_bytes,
    };
    let (remote, ends) = Remote::new();
    let (device, setup) = (place.device(), setup(&options.store));
    let server = spawn_core(CoreId(0), Config::default(), move |core| async move {
        serve(&core, &device, &setup, ends).await
    })
    .context("io_uring cannot be used on this machine")?;
    let doing = job.clone();
    let measured = rt::uring::run(CoreId(1), &Config::default(), move |core| async move {
        measure(&core, remote, names, &doing).await
    });
    let ended = server.join().context("the OSD's core")?;
    let measured = measured.context("the load's core")?;
    // Why the OSD does not start says more than that it did not.
    ended?;
    tell(Outcome { target: "osd", about, job, measured: measured? }, &options.output)
}

async fn serve(core: &Core, device: &StoreDevice, setup: &Setup, ends: RemoteEnds) -> anyhow::Result<()> {
    let _pooled = PooledBuffers::begin();
    let written = Written::default();
    let below = device.below(core, &written)?;
    let cluster = OneOsd::start(core, &below, setup).await?;
    cluster.serve(core, &written, ends).await;
    cluster.stop().await
}

async fn measure(core: &Core, remote: Remote, names: ObjectNames, job: &Job) -> anyhow::Result<Measured> {
    let Some(first) = remote.first().await else { bail!("the OSD does not start") };
    let config = ClientConfig { timeout: Some(TIMEOUT), ..ClientConfig::new(vec![first.mon]) };
    let cluster = Client::connect(core, config).await.context("the client")?;
    let pool = cluster.create_pool(POOL).await.context("the pool")?;
    let target = PoolTarget::new(pool, names, Servers::Core(remote));
    let measured = load::run(core, &target, job, &Bars::default()).await;
    cluster.shut_down();
    Ok(measured?)
}
