//! The monitor's port: chosen when the cluster is made, and the same ever after, as clients know it.
//!
//! A port that the kernel gives to outgoing connections can be taken by any process while the cluster is down, so none
//! of those is chosen. OSDs have such ports: theirs are told with every map, and may be others after a start.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use uuid::Uuid;

use crate::cluster_dir::ClusterDir;

const DEFAULT: u16 = 3300;
/// Ports below need privileges.
const LEAST: u16 = 1024;
/// Ports that are tried before giving up.
const TRIES: u32 = 1000;
/// The ports of outgoing connections, as two numbers.
const OUTGOING_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// As [`OUTGOING_FILE`] has it unless somebody changed it.
const OUTGOING_DEFAULT: RangeInclusive<u16> = 32768..=60999;
/// How long a start waits for a port: a process that was killed lets go of its listener a moment after it ended, when
/// the kernel has taken down its rings.
const TAKEN_WAIT: Duration = Duration::from_secs(3);
const TAKEN_WAIT_STEP: Duration = Duration::from_millis(10);

/// The port for a new cluster's monitor: the one asked for, any for 0, or the usual one if it is free.
pub fn choose(asked: Option<u16>) -> anyhow::Result<u16> {
    match asked {
        Some(port @ 1..) => asked_port(port),
        None if is_free(DEFAULT) => Ok(DEFAULT),
        Some(0) | None => any_port(&outgoing()),
    }
}

/// Refuses a monitor's port that somebody else has, before anything is started.
pub fn check(address: SocketAddr, dir: &ClusterDir) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        match TcpListener::bind(address) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => {
                return Err(error).with_context(|| format!("the monitor cannot listen on {address}"));
            }
        }
        if start.elapsed() >= TAKEN_WAIT {
            bail!(
                "port {} on loopback is taken, and the cluster in {} was made with its monitor there: stop what uses \
                 it ('ss -tanp sport = :{0}' shows what), then start again; clients know that address, so it is not \
                 changed",
                address.port(),
                dir.path().display()
            );
        }
        thread::sleep(TAKEN_WAIT_STEP);
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

/// Any that is free and no outgoing connection's.
fn any_port(outgoing: &RangeInclusive<u16>) -> anyhow::Result<u16> {
    let (first, last) = (outgoing.start(), outgoing.end());
    let stays_free: Vec<u16> = (LEAST..=u16::MAX).filter(|port| !outgoing.contains(port)).collect();
    if stays_free.is_empty() {
        bail!(
            "no port for the monitor: the kernel may give any to outgoing connections ({OUTGOING_FILE} is {first} to \
             {last}); narrow that, or give a port with --mon-port and keep it free with net.ipv4.ip_local_reserved_ports"
        );
    }
    let free = (0..TRIES).map(|_| random_of(&stays_free)).find(|port| is_free(*port));
    free.with_context(|| {
        format!(
            "no port for the monitor: {TRIES} tried from {LEAST} on, but outside {first} to {last} which outgoing \
             connections get, are taken; give one with --mon-port"
        )
    })
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The first 48 bits of a random UUID are all random.
fn random_of(ports: &[u16]) -> u16 {
    let (random, _) = Uuid::new_v4().as_u64_pair();
    let index = (random >> 16) % ports.len() as u64;
    ports[usize::try_from(index).unwrap_or_default()]
}

fn outgoing() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string(OUTGOING_FILE).unwrap_or_default();
    parse_range(&text).unwrap_or(OUTGOING_DEFAULT)
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_ports_are_no_outgoing_connections() {
        let outgoing = outgoing();
        let ports: Vec<u16> = (0..50).map(|_| choose(Some(0)).expect("a free port")).collect();
        assert!(ports.iter().all(|port| *port >= LEAST && !outgoing.contains(port)), "{ports:?}");
        assert!(ports.iter().any(|port| *port != ports[0]), "random: {ports:?}");
    }

    #[test]
    fn without_a_port_that_stays_free_there_is_none() {
        let error = any_port(&(1..=u16::MAX)).expect_err("all are outgoing connections'");
        assert!(error.to_string().contains("1 to 65535"), "{error}");
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = taken.local_addr().expect("bound").port();
        assert!(!is_free(port));
    }

    #[test]
    fn the_kernels_range_is_read() {
        assert_eq!(parse_range("32768\t60999\n"), Some(32768..=60999));
        for text in ["", "5", "a b", "1 70000"] {
            assert_eq!(parse_range(text), None, "{text}");
        }
    }
}
