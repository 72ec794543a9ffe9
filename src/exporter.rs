//! `spirula exporter`: a running cluster's counters for Prometheus, over HTTP. A client as any other: it asks the monitor and
//! the OSDs at each scrape, so nothing of it is in the daemons.

mod metrics;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use client::{Client, ClientConfig};
use futures_util::future::join_all;
use rt::uring::Config;
use rt::{Core, CoreId, Lane};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use tiny_http::{Header, Response, Server};

use crate::cli::ExporterOptions;
use metrics::Metrics;

/// The cluster must answer within this: Prometheus gives up after ten seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the order to stop is looked for.
const POLL: Duration = Duration::from_millis(200);
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Runs the command.
pub fn run(options: &ExporterOptions) -> anyhow::Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The second one ends the process at once.
        signal_hook::flag::register_conditional_default(signal, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .context("cannot listen for signals")?;
    }
    let server = Server::http(options.listen).map_err(|error| {
        anyhow!("cannot listen at {}: {error}; choose another with --listen", options.listen)
    })?;
    let address = server.server_addr();
    writeln!(io::stdout(), "ready: http://{address}/metrics; ctrl-C stops it")?;
    let mon = options.mon;
    let served = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        serve(&core, Arc::new(server), mon, &stop).await
    });
    served.context("io_uring cannot be used on this machine")??;
    Ok(ExitCode::SUCCESS)
}

/// Answers requests until it is told to stop.
async fn serve(core: &Core, server: Arc<Server>, mon: SocketAddr, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut cluster = None;
    while !stop.load(Ordering::Relaxed) {
        let listening = Arc::clone(&server);
        let asked = core.alien(Lane::Space, move || listening.recv_timeout(POLL)).await;
        let Some(request) = asked.context("HTTP")? else { continue };
        let (status, text) = match request.url() {
            "/metrics" => match scrape(core, mon, &mut cluster).await {
                Ok(text) => (200, text),
                Err(error) => {
                    log::warn!("nothing to tell: {error:#}");
                    (503, format!("{error:#}\n"))
                }
            },
            "/" => (200, "The counters are at /metrics.\n".to_owned()),
            other => (404, format!("there is nothing at {other}; the counters are at /metrics\n")),
        };
        let answer = Response::from_string(text).with_status_code(status);
        let answer = match Header::from_bytes("Content-Type", CONTENT_TYPE) {
            Ok(header) => answer.with_header(header),
            Err(()) => answer,
        };
        // Whoever asked may be gone.
        if let Err(error) = core.alien(Lane::Space, move || request.respond(answer)).await {
            log::info!("an answer was not taken: {error}");
        }
    }
    Ok(())
}

/// Everything there is to tell now. Connects if that was not done yet, and goes on with the connection.
async fn scrape(core: &Core, mon: SocketAddr, cluster: &mut Option<Client>) -> anyhow::Result<String> {
    let client = match cluster.take() {
        Some(client) => client,
        None => {
            let config = ClientConfig { timeout: Some(PATIENCE), ..ClientConfig::new(vec![mon]) };
            let connected = Client::connect(core, config).await;
            connected.with_context(|| format!("no cluster answers at {mon}"))?
        }
    };
    let client = cluster.insert(client);
    let mut metrics = Metrics::default();
    let ask = async |prefix: &str, detail: bool| -> anyhow::Result<Value> {
        let mut command = json!({ "prefix": prefix, "format": "json" });
        if detail {
            command["detail"] = "detail".into();
        }
        let answer = client.mon_command(&command.to_string(), Bytes::new()).await?;
        serde_json::from_slice(&answer.output).with_context(|| format!("the answer to '{prefix}'"))
    };
    metrics.health(&ask("health", true).await?);
    metrics.pools(&ask("df", false).await?);
    let map = ask("osd dump", false).await?;
    let up = metrics.osds(&map);
    let command = json!({ "prefix": "perf dump", "format": "json" }).to_string();
    let asked = up.iter().map(|osd| client.osd_command(*osd, &command, Bytes::new()));
    for (osd, answer) in up.iter().zip(join_all(asked).await) {
        // One that does not answer must not hide the others; that it did not is told.
        let counters = answer.map_err(anyhow::Error::from);
        let counters = counters.and_then(|answer| Ok(serde_json::from_slice::<Value>(&answer.output)?));
        metrics.answered(*osd, counters.is_ok());
        match counters {
            Ok(counters) => metrics.counters(*osd, &counters),
            Err(error) => log::warn!("osd.{osd}: {error:#}"),
        }
    }
    metrics.text()
}
