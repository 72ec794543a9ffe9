//! The load, in the machine whose power is to go: makes the logging device and a cluster on it, sends the script's
//! requests, marks in the log what was answered, and restarts the cluster on the way, once in order and twice by kill -9.
//!
//! Invariant: a request is marked as answered only after its answer came, and as sent before a later mark; so where a
//! mark lies in the log, the answers that it names had been given, and what they tell had to be durable.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use client::{Client, ClientConfig, Error, Pool};
use futures_util::stream::{FuturesUnordered, StreamExt};
use rt::uring::Config;
use rt::{Core, CoreId};
use serde_json::json;
use sim::oracle::{Answer, Oracle, RequestId};
use sim::requests::ask;

use crate::cluster::{self, Cluster, MONITOR};
use crate::log_writes::LogWrites;
use crate::loop_device::LoopDevice;
use crate::mark::Mark;
use crate::replay::MADE;
use crate::script::{Request, Script};

/// The pool of the load.
const POOL: &str = "load";
/// Name of the mapped device.
const MAPPED: &str = "power-loss";

/// What to do.
#[derive(clap::Args)]
pub struct Options {
    /// Device for the cluster.
    #[arg(long)]
    data: PathBuf,
    /// Device for the log of writes.
    #[arg(long)]
    log: PathBuf,
    /// MiB of the device to use.
    #[arg(long, default_value_t = 256)]
    mebibytes: u64,
    /// Bytes of its sectors.
    #[arg(long, default_value_t = 4096)]
    sector: u32,
    /// The command spirula.
    #[arg(long)]
    spirula: PathBuf,
    /// OSDs, each a slice of the device.
    #[arg(long, default_value_t = 2)]
    osds: u32,
    /// Seed of the requests.
    #[arg(long)]
    seed: u64,
    /// Number of requests.
    #[arg(long)]
    requests: u64,
    /// Requests in flight.
    #[arg(long, default_value_t = 24)]
    depth: usize,
}

/// What was done.
#[derive(Default)]
struct Done {
    sent: u64,
    changes: u64,
    reads: u64,
}

/// Runs the load. An error if an answer was wrong or the cluster failed.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let sectors = options.mebibytes << 11;
    let show = |path: &PathBuf| path.display().to_string();
    let mapped = LogWrites::create(MAPPED, sectors, &show(&options.data), &show(&options.log));
    let mapped =
        Arc::new(mapped.context("cannot make a logging device; is the module dm-log-writes loaded?")?);
    let device = LoopDevice::create(&mapped.path(), options.sector).context("cannot make a loop device")?;
    let start = Instant::now();
    let mut cluster = Cluster::start(cluster::Options {
        program: options.spirula.clone(),
        dir: "/tmp/cluster".into(),
        device: device.path().to_owned(),
        osds: options.osds,
    })?;
    mapped.mark(&Mark::event(MADE))?;
    println!("load: the cluster was made in {:.1} s", start.elapsed().as_secs_f64());

    let (progress, reached) = mpsc::channel();
    let restarts = restarts(cluster, mapped.clone(), options.requests, reached)?;
    let (seed, requests, depth, marks) = (options.seed, options.requests, options.depth, mapped.clone());
    let start = Instant::now();
    let done = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        send_all(&core, seed, requests, depth, &marks, &progress).await
    })
    .context("io_uring cannot be used")??;
    let elapsed = start.elapsed().as_secs_f64();
    cluster = restarts.join().map_err(|_| anyhow::anyhow!("the thread of restarts ended badly"))?;
    mapped.mark(&Mark::event("stop"))?;
    cluster.stop()?;
    drop(cluster);
    device.remove().context("cannot remove the loop device")?;
    let mapped = Arc::into_inner(mapped).context("nobody else has the device")?;
    mapped.remove().context("cannot remove the logging device")?;
    println!(
        "{}",
        json!({
            "requests": done.sent, "changes_answered": done.changes, "reads_verified": done.reads,
            "seconds": elapsed, "clean_restarts": 1, "kills": 2,
        })
    );
    Ok(())
}

/// Restarts the cluster when a quarter, half and three quarters of the requests were answered; gives it back at the end.
fn restarts(
    mut cluster: Cluster,
    log: Arc<LogWrites>,
    requests: u64,
    reached: mpsc::Receiver<u64>,
) -> anyhow::Result<std::thread::JoinHandle<Cluster>> {
    let run = move || {
        let mut left = [("stop", 1), ("kill", 2), ("kill", 3)].into_iter().peekable();
        for answered in reached {
            let Some((how, _)) = left.next_if(|(_, quarter)| answered * 4 >= requests * quarter) else {
                continue;
            };
            let start = Instant::now();
            let mut restart = || -> anyhow::Result<()> {
                log.mark(&Mark::event(how))?;
                if how == "kill" {
                    cluster.kill()?
                } else {
                    cluster.stop()?
                }
                cluster.start_again()?;
                log.mark(&Mark::event("ready"))?;
                Ok(())
            };
            if let Err(error) = restart() {
                // The load would wait for its answers for ever.
                println!("load: {how} after {answered} answers: {error:#}");
                std::process::exit(1);
            }
            println!(
                "load: {how} after {answered} answers, ready again after {:.1} s",
                start.elapsed().as_secs_f64()
            );
        }
        cluster
    };
    Ok(std::thread::Builder::new().name("restarts".to_owned()).spawn(run)?)
}

type InFlight = Pin<Box<dyn Future<Output = (u64, String, RequestId, Result<(Answer, u64), Error>)>>>;

async fn send_all(
    core: &Core,
    seed: u64,
    requests: u64,
    depth: usize,
    log: &LogWrites,
    progress: &mpsc::Sender<u64>,
) -> anyhow::Result<Done> {
    let monitor = SocketAddr::new(MONITOR.0.parse::<IpAddr>()?, MONITOR.1);
    let pool = make_pool(core, monitor).await?;
    let mut script = Script::new(seed);
    let mut oracle = Oracle::default();
    let mut flying: FuturesUnordered<InFlight> = FuturesUnordered::new();
    let mut done = Done::default();
    let mut answers = Vec::new();
    loop {
        while flying.len() < depth && done.sent < requests {
            let Some(Request { number, object, asked, .. }) = script.next() else { break };
            done.sent += 1;
            let id = oracle.submitted(&object, asked.clone());
            let pool = pool.clone();
            let mut request: InFlight = Box::pin(async move {
                let answer = ask(&pool, &object, &asked).await;
                (number, object, id, answer)
            });
            // The first poll sends it, so that requests leave in the script's order.
            match futures_util::poll!(&mut request) {
                Poll::Ready(answer) => answers.push(answer),
                Poll::Pending => flying.push(request),
            }
        }
        if answers.is_empty() {
            let Some(answer) = flying.next().await else { break };
            answers.push(answer);
        }
        while let Poll::Ready(Some(answer)) = futures_util::poll!(flying.next()) {
            answers.push(answer);
        }
        let numbers: Vec<u64> = answers.iter().map(|(number, ..)| *number).collect();
        for text in Mark::answered(done.sent, &numbers) {
            log.mark(&text)?;
        }
        for (number, object, id, answer) in answers.drain(..) {
            let (answer, version) =
                answer.with_context(|| format!("request {number} on object '{object}'"))?;
            if matches!(answer, Answer::Errno(_)) {
                done.changes += 1
            } else {
                done.reads += 1
            }
            oracle.told_version(&object, id, version);
            oracle.answered(&object, id, answer)?;
        }
        // Nobody listens after the last restart failed, and then the process ends.
        let _ = progress.send(done.changes + done.reads);
    }
    Ok(done)
}

async fn make_pool(core: &Core, monitor: SocketAddr) -> anyhow::Result<Pool> {
    let config = ClientConfig { timeout: Some(Duration::from_secs(60)), ..ClientConfig::new(vec![monitor]) };
    let first = Client::connect(core, config).await.context("cannot connect")?;
    first.create_pool(POOL).await.context("cannot make the pool")?;
    first.shut_down();
    // The load's own client waits as long as the cluster needs.
    let client = Client::connect(core, ClientConfig::new(vec![monitor])).await?;
    let pool = client.pool(POOL).await?;
    ensure!(pool.id() > 0, "the pool has no id");
    Ok(pool)
}
