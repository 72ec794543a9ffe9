//! Options, subcommands, help, and folders.

use std::fs;

use crate::process::{Cluster, Folder, SIZE, listing, spirula};

#[test]
fn unknown_words_are_refused_with_a_hint() {
    spirula(&["--nope"]).refused(2, &["unexpected argument '--nope'", "--help"]);
    spirula(&["up", "--nope"]).refused(2, &["unexpected argument '--nope'", "Usage: spirula up"]);
    spirula(&["frob"]).refused(2, &["unrecognized subcommand 'frob'", "--help"]);
    spirula(&["osd"]).refused(2, &["--id <ID>"]);
    spirula(&[]).refused(2, &["Usage: spirula", "up"]);
}

#[test]
fn values_out_of_range_say_the_range() {
    for osds in ["0", "257", "-1", "two"] {
        let said = spirula(&["up", &format!("--osds={osds}")]);
        said.refused(2, &["--osds", osds]);
    }
    spirula(&["up", "--osds", "0"]).refused(2, &["0 is not in 1..=256"]);
    spirula(&["up", "--cores", "0"]).refused(2, &["--cores", "0 is not in 1..=256"]);
    spirula(&["up", "--size", "5x"]).refused(2, &["'5x' is not a size", "as in 8G"]);
    spirula(&["up", "--mon-port", "70000"]).refused(2, &["--mon-port", "70000"]);
}

#[test]
fn store_says_what_it_cannot_find() {
    let folder = Folder::new();
    let dir = folder.text("c");
    spirula(&["store", "--dir", &dir, "statfs"]).refused(1, &["no cluster in", &dir]);
    let said = spirula(&["mkfs", "--dir", &dir, "--osds", "2", "--size", SIZE]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let look = |words: &[&str]| spirula(&[&["store", "--dir", &dir][..], words].concat());
    look(&["get", "--pool", "1", "nothing"]).refused(1, &["none of these stores has that", "store list"]);
    look(&["get", "nothing"]).refused(2, &["--pool <POOL>"]);
    look(&["log", "1.x"]).refused(2, &["'1.x' is not a placement group", "as in 1.7f"]);
    look(&["free-dump"]).refused(1, &["2 OSDs", "--id"]);
    look(&["statfs", "--id", "2"]).refused(1, &["no osd.2 in this cluster"]);
    look(&["put", "--pool", "1", "nothing"]).refused(1, &["none of these stores has that"]);
    look(&["remove-pg", "1.0"]).refused(1, &["none of these stores has that"]);
    look(&["remove-pg", "-1.0"]).refused(2, &["-1"]);
    let (export, foreign) = (folder.text("export"), folder.text("foreign"));
    look(&["export", "--pg", "1.0", &export]).refused(1, &["none of these stores has that"]);
    look(&["export", "--pg", "1.0", "--namespace", "n", &export]).refused(2, &["--object <OBJECT>"]);
    assert!(!folder.path("export").exists(), "an export of nothing leaves no file");
    look(&["import", &export]).refused(1, &["2 OSDs", "--id"]);
    look(&["import", "--id", "0", &export]).refused(1, &["export'", "No such file"]);
    std::fs::write(&foreign, "#!/bin/sh\nexit 0\n").expect("written");
    look(&["import", "--id", "0", &foreign])
        .refused(1, &["foreign'", "it is no export: it begins with", "#!/bin/sh"]);
    let said = look(&["statfs", "--json"]);
    assert_eq!((said.code, said.out.lines().count(), said.err.as_str()), (Some(0), 2, ""), "{said:?}");
    let _running = Cluster::up(&folder.path("d"), &[]);
    for words in [&["statfs"][..], &["remove", "--pool", "1", "o"]] {
        let said = spirula(&[&["store", "--dir", &folder.text("d")][..], words].concat());
        said.refused(1, &["in use by another process"]);
    }
}

#[test]
fn every_part_has_help_with_an_example() {
    for part in ["up", "mkfs", "mon", "osd", "fsck", "store", "bench", "exporter", "version"] {
        let said = spirula(&[part, "--help"]);
        assert_eq!(said.code, Some(0));
        assert!(said.out.contains("Example") && said.out.contains(&format!("  spirula {part}")), "{said:?}");
    }
    assert!(spirula(&["--help"]).out.contains("Examples:"));
    let version = spirula(&["version", "--json"]);
    assert!(version.out.contains("\"version\":\"") && version.err.is_empty(), "{version:?}");
}

#[test]
fn sizes_too_small_and_too_large() {
    let folder = Folder::new();
    let dir = folder.text("c");
    spirula(&["mkfs", "--dir", &dir, "--size", "1M"])
        .refused(1, &["--size 1.0 MiB is too small for an OSD", "at least 66M"]);
    assert!(listing(&folder.path("c")).iter().all(|(_, bytes)| *bytes == 0), "nothing was made");
    spirula(&["mkfs", "--dir", &dir, "--size", "9000000T"]).refused(1, &["do not fit on its file system"]);
    // An odd size is fine, and what was refused before is not in the way.
    let said = spirula(&["mkfs", "--dir", &dir, "--size", "70000001", "--mon-port", "0"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.is_empty(), "no progress bar without a terminal: {said:?}");
}

#[test]
fn the_smallest_size_works() {
    let folder = Folder::new();
    let dir = folder.text("c");
    let said = spirula(&["mkfs", "--dir", &dir, "--size", "66M", "--osds", "3", "--mon-port", "0"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    // More OSDs than this machine may have cores: they share them.
    Cluster::up(&folder.path("c"), &[]).stop();
}

#[test]
fn folders_that_are_none_of_a_cluster() {
    let folder = Folder::new();
    let empty = folder.text("empty");
    fs::create_dir(&empty).expect("made");
    for command in [&["fsck"][..], &["mon"], &["osd", "--id", "0"]] {
        for dir in [&empty, &folder.text("nowhere")] {
            let arguments = [command, &["--dir", dir]].concat();
            spirula(&arguments).refused(1, &["no cluster in", dir, "--dir", "spirula up"]);
        }
    }
    assert_eq!(listing(&folder.path("empty")), [], "nothing is left in a folder that is not ours");
    assert!(!folder.path("nowhere").exists());
    let file = folder.text("file");
    fs::write(&file, "mine").expect("written");
    for command in ["up", "mkfs", "fsck"] {
        spirula(&[command, "--dir", &file]).refused(1, &[&file, "is not a folder", "--dir"]);
    }
    assert_eq!(fs::read(&file).expect("there"), b"mine");
    spirula(&["up", "--dir", "/proc/none"]).refused(1, &["cannot make the folder /proc/none"]);
}

#[test]
fn another_shape_of_a_cluster_that_exists() {
    let folder = Folder::new();
    let dir = folder.text("c");
    let made = spirula(&["mkfs", "--dir", &dir, "--osds", "2", "--size", SIZE, "--mon-port", "0"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    spirula(&["mkfs", "--dir", &dir]).refused(1, &["there is a cluster in", "spirula up"]);
    spirula(&["up", "--dir", &dir, "--osds", "3"])
        .refused(1, &["was made with 2 OSDs, not 3", "not possible yet", "without --osds"]);
    spirula(&["up", "--dir", &dir, "--mon-port", "1"]).refused(1, &["was made with its monitor on port"]);
    spirula(&["up", "--dir", &dir, "--device", &folder.text("x")])
        .refused(1, &["is not a device of the cluster", "without --device"]);
    spirula(&["osd", "--dir", &dir, "--id", "7"]).refused(1, &["there is no osd.7 in this cluster"]);
    spirula(&["fsck", "--dir", &dir, "--id", "7"]).refused(1, &["there is no osd.7 in this cluster"]);
}

#[test]
fn a_damaged_plan_is_named() {
    let folder = Folder::new();
    let dir = folder.text("c");
    fs::create_dir(&dir).expect("made");
    let plan = folder.path("c").join("cluster.json");
    for (text, words) in [
        ("not json", ["cluster.json", "it is not JSON"]),
        ("{\"format\": 9}", ["cluster.json", "it has format 9, this version knows 1"]),
        ("{\"format\": 1, \"fsid\": 7}", ["cluster.json", "'fsid' is missing"]),
    ] {
        fs::write(&plan, text).expect("written");
        for command in ["up", "fsck"] {
            spirula(&[command, "--dir", &dir]).refused(1, &words);
        }
        assert_eq!(fs::read_to_string(&plan).expect("there"), text);
    }
}
