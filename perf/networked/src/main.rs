//! One OSD over loopback with our own client, on a device in memory: what the network, the messenger and the placement group
//! add to the engine. Beside it, on the same core and ring, a bare echo.
//!
//! Expected before the first run: the echo is two copies by the kernel and its TCP, about 7 us; a read is that and some 4 us of
//! the engine's, decoding, dispatch and a reply about 3 us more; a durable write some 20 us of the engine's and as much as a
//! read beside.
//!
//! Loads are interleaved, round after round; medians count. What is counted is the server's core; the client has one of its
//! own, but with `--together`, where all is done by one thread, so that callgrind sees it.

mod echo;
mod load;
mod server;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use engine::setup::Kv;
use rt::uring::{Config, run, spawn_core};
use rt::{Core, CoreId};

use load::{Client, Load};
use server::{Remote, Server, Spent};

/// Measure one OSD over loopback on a device in memory: CPU, allocations and calls into the kernel per operation.
#[derive(Parser, Clone)]
#[command(after_help = "Examples:
  cargo run --release -p networked
  cargo run --release -p networked -- --only overwrite --depth 1 --json result.json
  valgrind --tool=callgrind target/release/networked --together --warm-up 0 --rounds 1 --operations 5000 --only read")]
struct Settings {
    /// Operations of a measurement.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    operations: u64,
    /// Measurements of each load.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Rounds before these that are not counted.
    #[arg(long, default_value_t = 1)]
    warm_up: u16,
    /// Operations in flight.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    depth: u16,
    /// Objects, each of 4 MiB.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    objects: u32,
    /// MiB of blocks that are kept in memory; 0, so that reads come from the device.
    #[arg(long, default_value_t = 0)]
    data_cache: u64,
    /// What keeps the keys.
    #[arg(long, default_value = "memory")]
    kv: Kv,
    /// Microseconds for which the server's core polls before it sleeps.
    #[arg(long, default_value_t = 0)]
    spin: u64,
    /// Microseconds that a write or read of the device takes.
    #[arg(long, default_value_t = 0)]
    io: u64,
    /// Microseconds that a flush of the device takes. Default: the device needs none.
    #[arg(long)]
    flush: Option<u64>,
    /// One load only.
    #[arg(long)]
    only: Option<Load>,
    /// Client and server on one thread, which counts as the server's.
    #[arg(long)]
    together: bool,
    /// Write JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// One measurement of a load.
struct Sample {
    /// By the client's clock.
    took: Duration,
    /// By the server.
    spent: Spent,
}

/// What a load took, each time.
type Samples = Vec<(Load, Vec<Sample>)>;

fn main() -> anyhow::Result<()> {
    measure(&Settings::parse())
}

fn measure(settings: &Settings) -> anyhow::Result<()> {
    let given = settings.clone();
    let samples = match settings.together {
        true => run(CoreId(0), &Config::default(), move |core| async move {
            let server = Server::start(&core, &given).await?;
            let samples = rounds(&core, Remote::Here(&server), &given).await;
            let stopped = server.stop().await;
            samples.and_then(|samples| stopped.map(|()| samples))
        })
        .context("io_uring cannot be used on this machine")?,
        false => apart(given),
    }?;
    let told = table::tell(settings, &samples);
    if let Some(path) = &settings.json {
        std::fs::write(path, format!("{told:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The server on a core of its own.
fn apart(settings: Settings) -> anyhow::Result<Samples> {
    let (orders, told) = rt::mailbox::mailbox(1);
    let (tell, mut answers) = rt::mailbox::mailbox(1);
    let given = settings.clone();
    let config = Config { spin: Duration::from_micros(settings.spin), ..Config::default() };
    let server = spawn_core(CoreId(0), config, move |core| async move {
        let server = Server::start(&core, &given).await?;
        server.serve(told, tell).await;
        server.stop().await
    })
    .context("io_uring cannot be used on this machine")?;
    let samples = run(CoreId(1), &Config::default(), move |core| async move {
        // It says where it is, or ends.
        let Some(first) = answers.recv().await else { anyhow::bail!("the server does not start") };
        rounds(&core, Remote::There { orders, answers, addresses: first.addresses }, &settings).await
    });
    let ended = server.join().context("the server's core")?;
    let samples = samples.context("the client's core")?;
    // Why the server does not start says more than that it did not.
    ended.and(samples)
}

async fn rounds(core: &Core, mut server: Remote<'_>, settings: &Settings) -> anyhow::Result<Samples> {
    let mut client = Client::connect(core, &server, settings).await?;
    let loads = Load::all().filter(|load| settings.only.is_none_or(|only| only == *load));
    let mut samples: Samples = loads.map(|load| (load, Vec::new())).collect();
    for round in 0..u32::from(settings.warm_up) + u32::from(settings.rounds) {
        for (load, samples) in &mut samples {
            let before = server.spent().await?;
            let since = core.now();
            client.run(*load, settings.operations, settings.depth).await?;
            let took = Duration::from_nanos(core.now().0 - since.0);
            let sample = Sample { took, spent: server.spent().await?.since(&before) };
            samples.extend(Some(sample).filter(|_| round >= settings.warm_up.into()));
        }
    }
    client.disconnect();
    Ok(samples)
}

#[cfg(test)]
mod tests;
