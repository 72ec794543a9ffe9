//! `spirula bench engine`: the engine alone, without network and OSD.

use std::process::ExitCode;
use std::rc::Rc;

use anyhow::Context;
use load::counted::Written;
use load::targets::EngineTarget;
use nvme::PooledBuffers;
use rt::CoreId;
use rt::uring::Config;

use super::options::EngineOptions;
use super::store::{StorePlace, setup, shape};
use super::{Bars, Outcome, tell};

/// Runs the command.
pub fn run(options: &EngineOptions) -> anyhow::Result<ExitCode> {
    // Reads would find no objects.
    let job = options.job.job(true);
    let shape = shape(&options.store, &job, options.groups)?;
    let place = StorePlace::open(&options.store, &shape)?;
    let mut about = place.about(&options.store);
    about.push(("placement groups", options.groups.next_power_of_two().to_string()));
    let (device, setup, doing) = (place.device(), setup(&options.store), job.clone());
    let config = Config { recv_buffers: 0, ..Config::default() };
    let measured = rt::uring::run(CoreId(0), &config, move |core| async move {
        let _pooled = PooledBuffers::begin();
        let written = Written::default();
        let below = device.below(&core, &written)?;
        let engine =
            Rc::new(load::setup::make(&core, &below, &setup).await.context("the store cannot be made")?);
        let target = EngineTarget::new(engine.clone(), shape, written).await?;
        let measured = load::run(&core, &target, &doing, &Bars::default()).await;
        // What stopped the load says more than that the store does not close after it.
        let closed = load::setup::close(&engine).await;
        let measured = measured?;
        closed.context("the store does not close")?;
        anyhow::Ok(measured)
    });
    let measured = measured.context("io_uring cannot be used on this machine")??;
    tell(Outcome { target: "engine", about, job, measured }, &options.output)
}
