//! Ctrl-C and SIGTERM at any time, twice, and kill -9: the process ends within seconds, and the next start finds everything.

use std::time::{Duration, Instant};

use crate::process::{Cluster, Folder, Running, SIZE, spirula};

/// Generous for a machine that does other things too.
const SECONDS: Duration = Duration::from_secs(20);

#[test]
fn both_signals_stop_cleanly() {
    let folder = Folder::new();
    for signal in ["INT", "TERM"] {
        let mut cluster = Cluster::up(&folder.path("c"), &["--osds", "2"]);
        let begin = Instant::now();
        cluster.running.signal(signal);
        assert_eq!(cluster.running.ended().code(), Some(0), "{}", cluster.running.err());
        assert!(begin.elapsed() < SECONDS);
        assert_eq!(cluster.running.err(), "", "nothing to complain about");
    }
}

#[test]
fn the_ready_line_comes_with_three_commands() {
    let folder = Folder::new();
    let cluster = Cluster::up(&folder.path("c"), &[]);
    let conf = folder.text("c/ceph.conf");
    for word in ["  ceph -c", "  ceph -c", "  rados -c"] {
        let command = cluster.running.line(word);
        assert!(command.contains(&conf), "{command}");
    }
    cluster.stop();
}

#[test]
fn a_signal_during_the_start_stops_it() {
    let folder = Folder::new();
    Cluster::up(&folder.path("c"), &["--osds", "2"]).kill();
    let dir = folder.text("c");
    for _ in 0..5 {
        // Somewhere in opening and replaying; how far it got does not matter.
        let mut starting = Running::start(&["up", "--dir", &dir]);
        while starting.handles_signals() == Some(false) {
            std::thread::yield_now();
        }
        starting.signal("TERM");
        assert_eq!(starting.ended().code(), Some(0), "{}", starting.err());
    }
    Cluster::up(&folder.path("c"), &[]).stop();
}

#[test]
fn an_osd_that_waits_for_its_monitor_can_be_stopped() {
    let folder = Folder::new();
    let dir = folder.text("c");
    assert_eq!(spirula(&["mkfs", "--dir", &dir, "--size", SIZE, "--mon-port", "0"]).code, Some(0));
    let mut osd = Running::start(&["osd", "--dir", &dir, "--id", "0"]);
    osd.error("no session with the monitor");
    let begin = Instant::now();
    osd.signal("INT");
    assert_eq!(osd.ended().code(), Some(0), "{}", osd.err());
    assert!(begin.elapsed() < SECONDS);
}

#[test]
fn an_interrupted_mkfs_can_be_repeated() {
    let folder = Folder::new();
    let dir = folder.text("c");
    for signal in ["INT", "TERM", "KILL"] {
        let mut making =
            Running::start(&["mkfs", "--dir", &dir, "--size", SIZE, "--osds", "4", "--mon-port", "0"]);
        while making.is_running() && !folder.path("c/osd.2/block").exists() {
            std::thread::yield_now();
        }
        if making.is_running() {
            making.signal(signal);
        }
        making.ended();
        if folder.path("c/cluster.json").exists() {
            break; // It was quicker.
        }
    }
    Cluster::up(&folder.path("c"), &[]).stop();
}

#[test]
fn kill_9_leaves_a_cluster_that_starts() {
    let folder = Folder::new();
    for _ in 0..3 {
        Cluster::up(&folder.path("c"), &["--osds", "2"]).kill();
    }
    Cluster::up(&folder.path("c"), &[]).stop();
    let said = spirula(&["fsck", "--dir", &folder.text("c"), "--deep"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("osd.0: clean") && said.out.contains("osd.1: clean"), "{said:?}");
}
