//! `spirula bench`: load on a running cluster through our own client, closed loop, with a latency histogram. The server's
//! CPU is not in it; `perf/side-by-side` measures that.

use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use client::{Client, ClientConfig, Pool};
use futures_util::future::join_all;
use hdrhistogram::Histogram;
use rt::uring::Config;
use rt::{Core, CoreId, Nanos};
use serde_json::json;

use crate::cli::{BenchLoad, BenchOptions};
use crate::progress;
use crate::size::show_size;

/// Latencies beyond this are counted as this, nanoseconds.
const LATENCY_MAX_NS: u64 = 600_000_000_000;
/// Cluster must be there within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What was measured.
struct Measured {
    latencies: Histogram<u64>,
    elapsed: Duration,
}

/// Runs the command.
pub fn run(options: &BenchOptions) -> anyhow::Result<ExitCode> {
    ensure!(options.objects > 0, "--objects 0 leaves nothing to write to; give at least 1");
    let bar = progress::bar("load", options.seconds);
    let shown = bar.clone();
    let given = options.clone();
    let measured = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        load(&core, &given, &shown).await
    });
    bar.finish_and_clear();
    let measured = measured.context("io_uring cannot be used on this machine")??;
    print(options, &measured);
    Ok(ExitCode::SUCCESS)
}

async fn load(core: &Core, options: &BenchOptions, bar: &indicatif::ProgressBar) -> anyhow::Result<Measured> {
    let config = ClientConfig { timeout: Some(CONNECT_TIMEOUT), ..ClientConfig::new(vec![options.mon]) };
    let cluster = Client::connect(core, config).await.with_context(|| {
        format!("no cluster answers at {}; 'spirula up' prints its monitor's address", options.mon)
    })?;
    let pool = cluster
        .pool(&options.pool)
        .await
        .with_context(|| format!("pool '{}'; make it with 'ceph osd pool create {0} 16'", options.pool))?;
    let payload = payload(core, options.block_size)?;
    if options.load == BenchLoad::Read {
        fill(&pool, options, &payload).await?;
    }
    let shared = Rc::new(Shared {
        latencies: RefCell::new(Histogram::new_with_max(LATENCY_MAX_NS, 3)?),
        next: Cell::new(0),
        failure: RefCell::new(None),
    });
    let begin = core.now();
    let end = Nanos(begin.0 + options.seconds * 1_000_000_000);
    let workers = (0..options.depth).map(|_| work(core, &pool, options, &payload, end, shared.clone()));
    let ticking = async {
        while core.now() < end {
            core.sleep(Duration::from_millis(200)).await;
            bar.set_position((core.now().0 - begin.0) / 1_000_000_000);
        }
    };
    futures_util::future::join(join_all(workers), ticking).await;
    if let Some(error) = shared.failure.take() {
        return Err(error).context("the load stopped");
    }
    let elapsed = Duration::from_nanos(core.now().0 - begin.0);
    Ok(Measured { latencies: shared.latencies.borrow().clone(), elapsed })
}

struct Shared {
    latencies: RefCell<Histogram<u64>>,
    next: Cell<u64>,
    failure: RefCell<Option<client::Error>>,
}

async fn work(
    core: &Core,
    pool: &Pool,
    options: &BenchOptions,
    payload: &Bytes,
    end: Nanos,
    shared: Rc<Shared>,
) {
    while core.now() < end && shared.failure.borrow().is_none() {
        let number = shared.next.get();
        shared.next.set(number + 1);
        let name = name(number % options.objects);
        let started = core.now();
        let done = match options.load {
            BenchLoad::Write => pool.write_full(name, payload.clone()).await.map(drop),
            BenchLoad::Read => pool.read(name, 0, options.block_size).await.map(drop),
        };
        match done {
            Ok(()) => shared.latencies.borrow_mut().saturating_record(core.now().0 - started.0),
            Err(error) => {
                shared.failure.borrow_mut().get_or_insert(error);
            }
        }
    }
}

/// Writes every object once, so that reads find something.
async fn fill(pool: &Pool, options: &BenchOptions, payload: &Bytes) -> anyhow::Result<()> {
    let numbers: Vec<u64> = (0..options.objects).collect();
    for batch in numbers.chunks(options.depth.max(1)) {
        let writes = batch.iter().map(|number| pool.write_full(name(*number), payload.clone()));
        for written in join_all(writes).await {
            written.context("the objects to read cannot be written")?;
        }
    }
    Ok(())
}

fn name(number: u64) -> String {
    format!("bench-{number}")
}

/// Bytes that do not compress.
fn payload(core: &Core, bytes: u64) -> anyhow::Result<Bytes> {
    let bytes = usize::try_from(bytes)?;
    let mut payload = Vec::with_capacity(bytes + 8);
    while payload.len() < bytes {
        payload.extend_from_slice(&core.random_u64().to_le_bytes());
    }
    payload.truncate(bytes);
    Ok(Bytes::from(payload))
}

fn print(options: &BenchOptions, measured: &Measured) {
    let latencies = &measured.latencies;
    let seconds = measured.elapsed.as_secs_f64();
    let rate = latencies.len() as f64 / seconds;
    let bandwidth = rate * options.block_size as f64;
    let us = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    if options.json {
        let result = json!({
            "load": options.load.name(), "block_size": options.block_size, "depth": options.depth,
            "seconds": seconds, "operations": latencies.len(), "operations_per_s": rate, "bytes_per_s": bandwidth,
            "latency_us": {
                "mean": latencies.mean() / 1000.0, "p50": us(0.5), "p99": us(0.99), "p99.9": us(0.999),
                "max": latencies.max() as f64 / 1000.0,
            },
        });
        println!("{result}");
        return;
    }
    println!(
        "{} {} at depth {}: {} operations in {seconds:.1} s, {rate:.0}/s, {:.1} MiB/s",
        options.load.name(),
        show_size(options.block_size),
        options.depth,
        latencies.len(),
        bandwidth / (1 << 20) as f64
    );
    println!(
        "latency us: mean {:.0}, p50 {:.0}, p99 {:.0}, p99.9 {:.0}, max {:.0}",
        latencies.mean() / 1000.0,
        us(0.5),
        us(0.99),
        us(0.999),
        latencies.max() as f64 / 1000.0
    );
}
