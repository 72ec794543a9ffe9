//! Ports that are taken, and monitors that are somebody else's.

use std::fs;
use std::net::TcpListener;

use crate::process::{Cluster, Folder, Running, SIZE, spirula};

#[test]
fn a_port_taken_is_refused_before_anything_is_made() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    for command in ["up", "mkfs"] {
        spirula(&[command, "--dir", &folder.text("c"), "--size", SIZE, "--mon-port", &port])
            .refused(1, &[&format!("cannot have port {port}"), "--mon-port", "in use"]);
        assert!(!folder.path("c").join("osd.0").exists());
    }
    // Without one that is asked for, a taken one is no trouble.
    let said = spirula(&["mkfs", "--dir", &folder.text("c"), "--size", SIZE, "--mon-port", "0"]);
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn a_port_that_was_not_asked_for_is_no_outgoing_connections() {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("Linux has it");
    let range: Vec<u16> = range.split_whitespace().map(|text| text.parse().expect("a port")).collect();
    let folder = Folder::new();
    let port = Cluster::up(&folder.path("c"), &[]).monitor.port();
    assert!(port >= 1024 && !(range[0]..=range[1]).contains(&port), "{port}");
}

#[test]
fn a_start_waits_for_a_port_that_is_about_to_be_free() {
    let folder = Folder::new();
    let cluster = Cluster::up(&folder.path("c"), &[]);
    let monitor = cluster.monitor;
    cluster.stop();
    let taken = TcpListener::bind(monitor).expect("free again");
    let mut starting = Running::start(&["up", "--dir", &folder.text("c")]);
    while starting.handles_signals() == Some(false) {
        std::thread::yield_now();
    }
    drop(taken);
    starting.line("ready");
    starting.signal("TERM");
    assert_eq!(starting.ended().code(), Some(0), "{}", starting.err());
}

#[test]
fn a_clusters_port_taken_later_says_what_to_do() {
    let folder = Folder::new();
    let cluster = Cluster::up(&folder.path("c"), &[]);
    let monitor = cluster.monitor;
    cluster.stop();
    let taken = TcpListener::bind(monitor).expect("free again");
    for command in ["up", "mon"] {
        let said = spirula(&[command, "--dir", &folder.text("c")]);
        said.refused(1, &[&format!("port {} on loopback is taken", monitor.port()), "stop what uses it"]);
    }
    drop(taken);
    assert_eq!(Cluster::up(&folder.path("c"), &[]).monitor, monitor, "the port is kept");
}

#[test]
fn an_osd_refuses_the_monitor_of_another_cluster() {
    let folder = Folder::new();
    let (mine, other) = (folder.path("mine"), Cluster::up(&folder.path("other"), &[]));
    let made = spirula(&["mkfs", "--dir", &folder.text("mine"), "--size", SIZE, "--mon-port", "0"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let plan = fs::read_to_string(mine.join("cluster.json")).expect("there");
    let (before, rest) = plan.split_once("\"mon_port\": ").expect("a port");
    let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let changed = format!("{before}\"mon_port\": {}{after}", other.monitor.port());
    fs::write(mine.join("cluster.json"), changed).expect("written");
    spirula(&["osd", "--dir", &folder.text("mine"), "--id", "0"])
        .refused(1, &["osd.0 does not start", &other.monitor.to_string(), "a map of cluster", "not of"]);
    // The other one did not notice.
    other.stop();
}

#[test]
fn an_osd_without_its_monitor_says_so_and_waits() {
    let folder = Folder::new();
    let dir = folder.text("c");
    let made = spirula(&["mkfs", "--dir", &dir, "--size", SIZE, "--mon-port", "0"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let osd = Running::start(&["osd", "--dir", &dir, "--id", "0"]);
    osd.error("no session with the monitor at 127.0.0.1:");
    let monitor = Running::start(&["mon", "--dir", &dir]);
    monitor.line("ready");
    osd.line("ready");
    for mut part in [osd, monitor] {
        part.signal("TERM");
        assert_eq!(part.ended().code(), Some(0), "{}", part.err());
    }
}
