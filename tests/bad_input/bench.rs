//! `spirula bench`: options, devices that hold somebody's data, and what it tells.

use std::fs;
use std::os::unix::fs::FileExt;

use serde_json::Value;

use crate::load::with_pool;
use crate::process::{Cluster, Folder, Said, spirula};

#[track_caller]
fn json(said: &Said) -> Value {
    assert_eq!(said.code, Some(0), "{said:?}");
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

#[test]
fn options_that_make_no_job_say_what_would() {
    spirula(&["bench"]).refused(2, &["Usage: spirula bench", "cluster", "device"]);
    // As it was once called.
    spirula(&["bench", "--pool", "p"]).refused(2, &["'--pool'", "spirula bench cluster --pool POOL"]);
    let device = |words: &[&str], code: i32, said: &[&str]| {
        spirula(&[&["bench", "device", "--backend", "memory", "--size", "1M"][..], words].concat())
            .refused(code, said);
    };
    device(&["--depth", "0"], 2, &["'0' is not a number from 1 to 1024"]);
    device(&["--depth", "1025"], 2, &["'1025' is not a number from 1 to 1024"]);
    device(&["--mix", "101"], 2, &["101 is not in 0..=100"]);
    device(&["--rate", "0"], 2, &["'0' is not a number above 0"]);
    device(&["--seconds", "-1"], 2, &["-1"]);
    device(&["--age", "nan"], 2, &["'nan' is not a number from 0 on"]);
    device(&["--distribution", "pareto"], 2, &["uniform, sequential or zipf:THETA", "zipf:1.1"]);
    device(&["--distribution", "zipf:99"], 2, &["at most 10"]);
    device(&["--spacing", "fixed"], 2, &["--rate <PER_SECOND>"]);
    device(&["--seconds", "1", "--operations", "1"], 2, &["cannot be used with"]);
    device(&["--block-size", "1000"], 1, &["--block-size 1000 is not a multiple of the 4096 bytes"]);
    device(&["--block-size", "2M"], 1, &["no room for a block of 2097152 bytes in 1048576 bytes"]);
    device(&["--verify", "--depth", "200"], 1, &["256 blocks are too few", "at least 400 blocks"]);
    device(&["--path", "x"], 1, &["--backend memory uses no device"]);
    spirula(&["bench", "device"]).refused(2, &["--path <PATH>"]);
    spirula(&["bench", "device", "--backend", "uring"])
        .refused(1, &["--backend uring needs a device: give --path"]);
    for store in ["engine", "osd"] {
        let refused = |words: &[&str], said: &[&str]| {
            spirula(&[&["bench", store, "--objects", "4"][..], words].concat()).refused(1, said);
        };
        refused(&["--object-size", "5000"], &["--object-size 5000 is not a multiple of --block-size 4096"]);
        refused(
            &["--size", "64M"],
            &["64.0 MiB are too few for 16.0 MiB of objects", "at least 272.0 MiB", "--objects"],
        );
        refused(&["--path", "/dev/null"], &["/dev/null", "it is a character device"]);
    }
    let cluster = |words: &[&str], said: &[&str]| {
        spirula(&[&["bench", "cluster", "--pool", "p"][..], words].concat()).refused(1, said);
    };
    cluster(&["--objects", "0"], &["--objects 0", "at least 1"]);
    cluster(&["--object-size", "5000"], &["--object-size 5000 is not a multiple of --block-size 4096"]);
    cluster(&["--server-pid", "4294967295"], &["--server-pid 4294967295: no process", "No such file"]);
}

#[test]
fn every_load_has_help_with_an_example() {
    for load in ["allocator", "cluster", "device", "engine", "osd"] {
        let said = spirula(&["bench", load, "--help"]);
        assert_eq!(said.code, Some(0));
        assert!(
            said.out.contains(&format!("  spirula bench {load} --")) && said.out.contains("--html"),
            "{said:?}"
        );
    }
}

#[test]
fn a_device_that_holds_something_is_only_read_unless_told_to() {
    let folder = Folder::new();
    let (path, name) = (folder.path("device"), folder.text("device"));
    let bench = |words: &[&str]| {
        let usual = ["bench", "device", "--path", &name, "--operations", "200", "--depth", "8"];
        spirula(&[&usual[..], words].concat())
    };
    bench(&[]).refused(1, &["there is no", &name, "--size"]);
    bench(&["--size", "1M", "--mix", "100"]).refused(1, &["there is no", "--fill always"]);
    assert!(!path.exists());
    let file = fs::File::create(&path).expect("a file");
    file.set_len(4 << 20).expect("a size");
    file.write_all_at(b"XFSB", 0).expect("written");
    let before = fs::read(&path).expect("read");
    bench(&[]).refused(1, &[&name, "holds ", "XFS", "--force"]);
    bench(&["--size", "5M", "--mix", "100"]).refused(1, &["--size 5.0 MiB is more than", "which is 4.0 MiB"]);
    bench(&["--backend", "polled", "--mix", "100"])
        .refused(1, &["cannot be polled", "nvme.poll_queues", "--backend uring"]);
    let said = spirula(&[
        "bench",
        "device",
        "--path",
        &name,
        "--mix",
        "100",
        "--backend",
        "blocking",
        "--depth",
        "65",
    ]);
    said.refused(1, &["--backend blocking", "64 are the most"]);
    for backend in ["uring", "blocking"] {
        let told = json(&bench(&["--mix", "100", "--json", "--backend", backend]));
        assert_eq!(
            (&told["reads"]["operations"], &told["job"]["fill"]),
            (&Value::from(200), &Value::from(false))
        );
    }
    assert!(fs::read(&path).expect("read") == before, "nothing was written");
    let said = bench(&["--force", "--mix", "50", "--verify", "--json"]);
    let told = json(&said);
    assert_eq!((&told["verified"]["wrong"], &told["operations"]), (&Value::from(0), &Value::from(200)));
    // What it left itself is nobody's data; a cluster's is.
    let said = bench(&["--backend", "blocking", "--verify", "--flush-each", "10"]);
    assert!(said.code == Some(0) && said.out.contains("none is wrong"), "{said:?}");
    let made = spirula(&["mkfs", "--dir", &folder.text("c"), "--mon-port", "0", "--size", "80M"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let osd = folder.path("c").join("osd.0").join("block");
    spirula(&["bench", "device", "--path", osd.to_str().expect("UTF-8")])
        .refused(1, &["belongs to a spirula cluster", "--force"]);
}

#[test]
fn a_file_made_for_a_run_is_gone_after_it_and_the_page_is_there() {
    let folder = Folder::new();
    let (name, page) = (folder.text("file"), folder.text("page.html"));
    let said = spirula(&[
        "bench",
        "device",
        "--path",
        &name,
        "--size",
        "4M",
        "--rate",
        "2000",
        "--seconds",
        "0.5",
        "--mix",
        "50",
        "--age",
        "1",
        "--distribution",
        "zipf:1.1",
        "--warm-up",
        "0.1",
        "--html",
        &page,
    ]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.out.contains("open loop: ") && said.out.contains("read : ") && said.err.is_empty(),
        "{said:?}"
    );
    assert!(!folder.path("file").exists());
    let page = fs::read_to_string(page).expect("a page");
    assert!(
        page.starts_with("<!DOCTYPE html>") && page.contains("zipf:1.1") && page.contains("<svg"),
        "{page}"
    );
    let nowhere = folder.text("none/page.html");
    spirula(&[
        "bench",
        "device",
        "--backend",
        "memory",
        "--size",
        "1M",
        "--operations",
        "10",
        "--html",
        &nowhere,
    ])
    .refused(1, &["cannot write the page", &nowhere]);
}

#[test]
fn a_cluster_is_loaded_verified_and_left_clean() {
    let folder = Folder::new();
    let cluster = Cluster::up(&folder.path("c"), &[]);
    with_pool(&cluster, async |_, _| ());
    let (monitor, pid) = (cluster.monitor.to_string(), cluster.running.pid().to_string());
    let bench = |words: &[&str]| {
        let usual =
            ["bench", "cluster", "--mon", &monitor, "--objects", "40", "--operations", "300", "--depth", "8"];
        spirula(&[&usual[..], words].concat())
    };
    bench(&["--pool", "nope"]).refused(1, &["pool 'nope'", "ceph osd pool create nope"]);
    let told = json(&bench(&[
        "--pool",
        "p",
        "--mix",
        "50",
        "--verify",
        "--object-size",
        "64K",
        "--json",
        "--server-pid",
        &pid,
        "--clean-up",
    ]));
    assert_eq!((&told["verified"]["wrong"], &told["job"]["blocks"]), (&Value::from(0), &Value::from(640)));
    assert_eq!(told["spent"][1]["who"], format!("server process {pid}"));
    assert!(told["spent"][1]["cpu_s"].is_number(), "{told:#}");
    let left = with_pool(&cluster, async |_, pool| pool.read("bench-0", 0, 0).await.is_ok());
    assert!(!left, "it was removed");
    // Whole objects, which stay.
    let told = json(&bench(&["--pool", "p", "--json"]));
    assert_eq!(told["writes"]["operations"], 300);
    let length = with_pool(&cluster, async |_, pool| pool.read("bench-0", 0, 0).await.map(|data| data.len()));
    assert_eq!(length.expect("it is there"), 4096);
    cluster.stop();
}

#[test]
fn the_engine_and_an_osd_are_loaded_in_memory_and_on_a_file_and_verified() {
    let folder = Folder::new();
    let name = folder.text("file");
    for (store, parties) in [("engine", 2), ("osd", 3)] {
        for place in [&["--data-cache", "0"][..], &["--path", &name, "--size", "300M", "--media", "ssd"]] {
            let usual =
                ["bench", store, "--objects", "2", "--operations", "1000", "--depth", "16", "--mix", "50"];
            let said = spirula(&[&usual[..], &["--age", "0.5", "--verify", "--json"], place].concat());
            let told = json(&said);
            assert_eq!(
                (&told["verified"]["wrong"], &told["operations"]),
                (&Value::from(0), &Value::from(1000))
            );
            assert_eq!(told["spent"].as_array().map(Vec::len), Some(parties), "{told:#}");
            // What was written, its record, and keys.
            let times = told["device_bytes_per_client_byte"].as_f64().expect("it is counted");
            assert!(times > 1.0, "{told:#}");
            assert!(!folder.path("file").exists());
        }
    }
}

#[test]
fn allocators_are_measured_and_told_in_every_form() {
    let folder = Folder::new();
    let page = folder.text("page.html");
    let usual = [
        "bench",
        "allocator",
        "--size",
        "1",
        "--full",
        "50",
        "--turns",
        "1",
        "--samples",
        "1000",
        "--zone",
        "16",
    ];
    let told = json(&spirula(&[&usual[..], &["--json", "--html", &page]].concat()));
    let rows = told["rows"].as_array().expect("a list");
    assert_eq!(rows.len(), 16, "four allocators, four sizes: {told:#}");
    assert!(rows.iter().all(|row| row["p99_ns"].is_number()), "{told:#}");
    let page = fs::read_to_string(page).expect("a page");
    assert_eq!(page.matches("<svg").count(), 4);
    let said = spirula(&[&usual[..], &["--allocator", "hybrid"]].concat());
    assert!(said.code == Some(0) && said.out.lines().count() == 5 && said.err.is_empty(), "{said:?}");
    spirula(&["bench", "allocator", "--full", "100"]).refused(2, &["100 is not in 1..=99"]);
    spirula(&["bench", "allocator", "--free-dump", "/nowhere"]).refused(1, &["/nowhere"]);
}
