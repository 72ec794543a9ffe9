//! Garbage, silence, truncated and enormous frames on every port: each costs its own connection and nothing else.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::process::{Cluster, Folder};

/// Longer than a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(60);

fn banner() -> Vec<u8> {
    let mut bytes = b"ceph v2\n".to_vec();
    bytes.extend(16u16.to_le_bytes());
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend([0; 8]);
    bytes
}

/// A frame's preamble that claims 4 GiB for its first segment, with a checksum that is right.
fn enormous() -> Vec<u8> {
    let mut preamble = vec![1, 1];
    preamble.extend(u32::MAX.to_le_bytes());
    preamble.extend([8, 0]);
    preamble.extend([0; 20]);
    // Ceph's crc32c starts from 0 and is not inverted.
    let crc = !crc32c::crc32c_append(!0, &preamble);
    preamble.extend(crc.to_le_bytes());
    [banner(), preamble].concat()
}

fn hello_cut_short() -> Vec<u8> {
    let mut bytes = banner();
    bytes.extend([1, 1, 40, 0, 0, 0, 8, 0]);
    bytes
}

/// Every port that the process listens on.
fn ports(cluster: &Cluster) -> Vec<SocketAddr> {
    let process = format!("/proc/{}", cluster.running.pid());
    let sockets: Vec<String> = fs::read_dir(format!("{process}/fd"))
        .expect("descriptors")
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = fs::read_to_string(format!("{process}/net/tcp")).expect("sockets");
    let listening = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ours =
            fields.get(3) == Some(&"0A") && sockets.iter().any(|inode| Some(&&**inode) == fields.get(9));
        let port = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
        ours.then(|| SocketAddr::from(([127, 0, 0, 1], port)))
    };
    table.lines().skip(1).filter_map(listening).collect()
}

/// Most memory that the process ever had, bytes; the kernel sums it up roughly, so it may seem to shrink a little.
fn memory_peak(cluster: &Cluster) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", cluster.running.pid())).expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).expect("kB") << 10
}

/// Reads until the other side ends the connection.
#[track_caller]
fn closed(mut peer: TcpStream, what: &str) {
    peer.set_read_timeout(Some(HANDSHAKE)).expect("set");
    let mut buffer = [0; 4096];
    loop {
        match peer.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("{what}: still open: {error}"),
        }
    }
}

#[test]
fn every_port_survives_every_kind_of_nonsense() {
    let folder = Folder::new();
    let mut cluster = Cluster::up(&folder.path("c"), &["--osds", "2"]);
    let ports = ports(&cluster);
    assert_eq!(ports.len(), 3, "a monitor and two OSDs: {ports:?}");
    assert!(ports.contains(&cluster.monitor));
    let before = memory_peak(&cluster);
    let noise: Vec<u8> = (0..65_536u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut open = Vec::new();
    for port in &ports {
        for (what, bytes) in [
            ("silence", vec![]),
            ("another protocol", b"GET / HTTP/1.0\r\n\r\n".to_vec()),
            ("noise", noise.clone()),
            ("half a banner", banner()[..5].to_vec()),
            ("a banner and nothing more", banner()),
            ("a banner that claims 64 KiB", b"ceph v2\n\xff\xff".to_vec()),
            ("a banner and noise", [banner(), noise[..4096].to_vec()].concat()),
            ("a truncated frame", hello_cut_short()),
        ] {
            open.push((what, port, bytes));
        }
        // Many, so that a buffer made for what is claimed would show.
        open.extend((0..20).map(|_| ("a frame of 4 GiB", port, enormous())));
    }
    let peers: Vec<_> = open
        .into_iter()
        .map(|(what, port, bytes)| {
            let mut peer = TcpStream::connect(port).expect("it listens");
            // It may have hung up already.
            let _ = peer.write_all(&bytes);
            (format!("{what} at {port}"), peer)
        })
        .collect();
    // Others are served meanwhile: a whole handshake's first answer comes.
    for port in &ports {
        let mut good = TcpStream::connect(port).expect("it listens");
        good.set_read_timeout(Some(HANDSHAKE)).expect("set");
        good.write_all(&banner()).expect("written");
        let mut answer = [0; 26];
        good.read_exact(&mut answer).expect("its banner");
        assert!(answer.starts_with(b"ceph v2\n"));
    }
    peers.into_iter().for_each(|(what, peer)| closed(peer, &what));
    assert!(cluster.running.is_running());
    let grown = memory_peak(&cluster).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    let log = cluster.stop();
    assert!(log.contains("is closed: "), "it is said: {log}");
    assert!(log.lines().count() < 40, "but not for everyone: {log}");
}

#[test]
fn a_flood_of_half_open_connections_keeps_nobody_out_for_long() {
    let folder = Folder::new();
    let mut cluster = Cluster::up(&folder.path("c"), &[]);
    for port in ports(&cluster) {
        let silent: Vec<TcpStream> = (0..300).filter_map(|_| TcpStream::connect(port).ok()).collect();
        drop(silent);
    }
    assert!(cluster.running.is_running());
    let log = cluster.stop();
    assert!(log.lines().count() < 20, "{log}");
}

#[test]
fn bench_says_what_answers_instead_of_a_monitor() {
    // Nobody listens there, and nobody is given it by chance.
    let nobody = "127.0.0.1:1";
    let said = crate::process::spirula(&["bench", "cluster", "--pool", "p", "--mon", nobody]);
    said.refused(1, &["no cluster answers at", nobody, "'spirula up' prints"]);
}
