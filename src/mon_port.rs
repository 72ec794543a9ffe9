//! The monitor's port: chosen when the cluster is made, and the same ever after, as clients know it.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, bail};

use crate::cluster_dir::ClusterDir;

const DEFAULT: u16 = 3300;

/// The port for a new cluster's monitor: the one asked for, any for 0, or the usual one if it is free.
pub fn choose(asked: Option<u16>) -> anyhow::Result<u16> {
    match asked {
        Some(port @ 1..) => asked_port(port),
        Some(0) => free_port(0),
        None => free_port(DEFAULT),
    }
}

/// Refuses a monitor's port that somebody else has, before anything is started.
pub fn check(address: SocketAddr, dir: &ClusterDir) -> anyhow::Result<()> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
            "port {} on loopback is taken, and the cluster in {} was made with its monitor there: stop what listens \
             on it ('ss -ltnp' shows what), then start again; clients know that address, so it is not changed",
            address.port(),
            dir.path().display()
        ),
        Err(error) => Err(error).with_context(|| format!("the monitor cannot listen on {address}")),
    }
}

fn asked_port(port: u16) -> anyhow::Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
        format!(
            "the monitor cannot have port {port}: give another with --mon-port, or 0 for any that is free"
        )
    })?;
    Ok(port)
}

fn free_port(preferred: u16) -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, preferred))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .context("no free port on loopback for the monitor")?;
    Ok(listener.local_addr()?.port())
}
