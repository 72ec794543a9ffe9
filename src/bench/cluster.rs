//! `spirula bench cluster`: objects of a pool, through our own client.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use client::{Client, ClientConfig, Pool};
use futures_util::future::join_all;
use load::targets::{ObjectNames, PoolTarget, Servers};
use load::{Job, Measured, ServerProcess};
use rt::uring::Config;
use rt::{Core, CoreId};

use super::options::ClusterOptions;
use super::{Bars, Outcome, tell};
use crate::size::show_size;

/// Cluster must be there within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const PREFIX: &str = "bench";

/// Runs the command.
pub fn run(options: &ClusterOptions) -> anyhow::Result<ExitCode> {
    // Reads would find no objects.
    let job = options.job.job(options.job.mix > 0);
    let names = names(options, &job)?;
    job.check(names.objects.saturating_mul(names.blocks))?;
    let servers = servers(&options.server_pid)?;
    let about = about(options, &names);
    let (given, doing, clean_up) = (options.clone(), job.clone(), options.clean_up);
    let measured = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        let pool = connect(&core, &given).await?;
        let target = PoolTarget::new(pool.clone(), names.clone(), servers);
        let measured = load::run(&core, &target, &doing, &Bars::default()).await;
        if clean_up {
            remove(&pool, &names, doing.depth).await?;
        }
        anyhow::Ok(measured?)
    });
    let measured: Measured = measured.context("io_uring cannot be used on this machine")??;
    tell(Outcome { target: "cluster", about, job, measured }, &options.output)
}

fn names(options: &ClusterOptions, job: &Job) -> anyhow::Result<ObjectNames> {
    ensure!(options.objects > 0, "--objects 0 leaves nothing to write to; give at least 1");
    let bytes = options.object_size.unwrap_or(job.block_size);
    ensure!(
        bytes.is_multiple_of(job.block_size),
        "--object-size {bytes} is not a multiple of --block-size {}: give one that is",
        job.block_size
    );
    let (objects, block_bytes) = (options.objects, job.block_size);
    Ok(ObjectNames { prefix: PREFIX.to_owned(), objects, blocks: bytes / job.block_size, block_bytes })
}

fn servers(ids: &[u32]) -> anyhow::Result<Servers> {
    let server = |id: &u32| {
        let process = ServerProcess::new(*id).with_context(|| {
            format!("--server-pid {id}: no process of this machine can be told about by that number")
        });
        Ok((*id, process?))
    };
    let servers: anyhow::Result<Vec<(u32, ServerProcess)>> = ids.iter().map(server).collect();
    Ok(Servers::Processes(servers?.into()))
}

fn about(options: &ClusterOptions, names: &ObjectNames) -> Vec<(&'static str, String)> {
    vec![
        ("monitor", options.mon.to_string()),
        ("pool", options.pool.clone()),
        ("objects", names.objects.to_string()),
        ("object size", show_size(names.blocks * names.block_bytes)),
    ]
}

async fn connect(core: &Core, options: &ClusterOptions) -> anyhow::Result<Pool> {
    let config = ClientConfig { timeout: Some(CONNECT_TIMEOUT), ..ClientConfig::new(vec![options.mon]) };
    let cluster = Client::connect(core, config).await.with_context(|| {
        format!("no cluster answers at {}; 'spirula up' prints its monitor's address", options.mon)
    })?;
    cluster
        .pool(&options.pool)
        .await
        .with_context(|| format!("pool '{}'; make it with 'ceph osd pool create {0} 16'", options.pool))
}

async fn remove(pool: &Pool, names: &ObjectNames, depth: usize) -> anyhow::Result<()> {
    let numbers: Vec<u64> = (0..names.objects).collect();
    for batch in numbers.chunks(depth) {
        let removals = batch.iter().map(|number| pool.remove(names.name(*number)));
        for removed in join_all(removals).await {
            match removed {
                // A short run need not have come to all of them.
                Ok(()) | Err(client::Error::Refused { errno: client::Errno::ENOENT, .. }) => {}
                Err(error) => return Err(error).context("the objects cannot be removed"),
            }
        }
    }
    Ok(())
}
