//! Devices that are too small, in use, of the wrong kind, or hold somebody's data.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Cluster, Folder, SIZE, listing, spirula};

fn blank(path: &Path, bytes: u64) {
    File::create(path).and_then(|file| file.set_len(bytes)).expect("a file");
}

#[test]
fn what_is_no_device_is_refused() {
    let folder = Folder::new();
    let dir = folder.text("c");
    let up = |device: &str, words: &[&str]| {
        spirula(&["up", "--dir", &dir, "--mon-port", "0", "--device", device]).refused(1, words);
        assert!(!folder.path("c").join("cluster.json").exists());
    };
    up("/dev/null", &["/dev/null", "it is a character device, not a block device or a regular file"]);
    up(&folder.text("none"), &["none", "give the path of one that exists"]);
    let here = folder.text(".");
    up(&here, &["it is a directory, not a block device or a regular file"]);
}

#[test]
fn a_device_too_small_says_what_is_needed() {
    let folder = Folder::new();
    let (dir, device) = (folder.text("c"), folder.path("device"));
    let name = folder.text("device");
    for (bytes, osds, need) in [(0, "1", 66 << 20), (65 << 20, "1", 66 << 20), (100 << 20, "2", 130 << 20)] {
        blank(&device, bytes);
        let said = spirula(&["up", "--dir", &dir, "--mon-port", "0", "--device", &name, "--osds", osds]);
        said.refused(1, &[&name, &format!("it has {bytes} bytes and at least {need} are needed")]);
    }
    spirula(&["up", "--dir", &dir, "--device", &name, "--device", &name, "--osds", "3"])
        .refused(1, &["--osds 3 is not a multiple of the 2 devices", "--osds 2 or --osds 4"]);
    spirula(&["up", "--dir", &dir, "--device", &name, "--device", &name]).refused(1, &["is given twice"]);
}

#[test]
fn somebodys_data_is_refused_unless_told_to() {
    let folder = Folder::new();
    let (dir, device) = (folder.text("c"), folder.path("device"));
    let name = folder.text("device");
    let up = ["mkfs", "--dir", &dir, "--mon-port", "0", "--device", &name];
    blank(&device, 96 << 20);
    // Signatures as their owners write them: ext4, xfs, a GUID partition table, and something that nobody knows.
    for (at, bytes, word) in [
        (1080, &[0x53, 0xef][..], "ext"),
        (0, b"XFSB", "xfs"),
        (512, b"EFI PART", "GPT"),
        (70_000, b"letters to grandmother", "data of an unknown kind"),
    ] {
        let file = File::options().write(true).open(&device).expect("there");
        file.write_all_at(bytes, at).expect("written");
        let before = fs::read(&device).expect("read");
        let said = spirula(&up);
        said.refused(1, &[&name, "holds ", "--force", "loses that data"]);
        assert!(said.err.to_lowercase().contains(&word.to_lowercase()), "{said:?}");
        assert!(fs::read(&device).expect("read") == before, "nothing was written over {word}");
        file.write_all_at(&vec![0; bytes.len()], at).expect("written");
    }
    let mut forced = up.to_vec();
    forced.push("--force");
    fs::OpenOptions::new().write(true).open(&device).and_then(|mut f| f.write_all(b"XFSB")).expect("written");
    let said = spirula(&forced);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("it is formatted because of --force"), "{said:?}");
    // Now it is ours, and another cluster does not take it either.
    let other = folder.text("other");
    spirula(&["mkfs", "--dir", &other, "--mon-port", "0", "--device", &name])
        .refused(1, &[&name, "belongs to a spirula cluster", "--force"]);
    Cluster::up(&folder.path("c"), &[]).stop();
}

#[test]
fn a_real_file_system_is_recognised() {
    let folder = Folder::new();
    let (device, name) = (folder.path("device"), folder.text("device"));
    blank(&device, 96 << 20);
    let made = Command::new("mkfs.ext4").args(["-q", "-F", "-L", "precious", &name]).status();
    let Ok(status) = made else {
        return eprintln!("no mkfs.ext4 on this machine: the signature test stands for it");
    };
    assert!(status.success());
    spirula(&["up", "--dir", &folder.text("c"), "--mon-port", "0", "--device", &name])
        .refused(1, &["holds", "ext", "precious", "--force"]);
}

/// A loop device with an ext4 on it, mounted until it is dropped.
struct Mounted {
    device: String,
    place: PathBuf,
}

impl Mounted {
    /// None where loop devices cannot be had, which is said.
    fn new(folder: &Folder, bytes: u64) -> Option<Self> {
        let (image, place) = (folder.path("image"), folder.path("mounted"));
        blank(&image, bytes);
        let run = |command: &str, arguments: &[&str]| -> Result<String, String> {
            let done = Command::new(command).args(arguments).output();
            let done = done.map_err(|error| format!("{command}: {error}"))?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
            if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
        };
        let image = folder.text("image");
        let device = match run("losetup", &["--find", "--show", &image]) {
            Ok(device) => device,
            Err(error) => {
                eprintln!("skipped: no loop device can be had here (it takes root): {error}");
                return None;
            }
        };
        fs::create_dir(&place).expect("made");
        let mounted = Self { device, place };
        run("mkfs.ext4", &["-q", "-F", &mounted.device]).expect("a file system");
        run("mount", &[&mounted.device, mounted.place.to_str().expect("UTF-8")]).expect("mounted");
        Some(mounted)
    }

    fn umount(&self) -> bool {
        Command::new("umount").arg(&self.place).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // It may be unmounted already, or still held for a moment by the rings of a process that ended.
        let _ = Command::new("umount").arg("--lazy").arg(&self.place).output();
        let _ = Command::new("losetup").args(["-d", &self.device]).output();
    }
}

#[test]
fn a_mounted_device_is_refused_even_with_force() {
    let folder = Folder::new();
    let Some(mounted) = Mounted::new(&folder, 96 << 20) else { return };
    fs::write(mounted.place.join("letter"), "dear grandmother").expect("written");
    let (dir, device) = (folder.text("c"), mounted.device.as_str());
    let holder = format!("in use by a file system mounted at {}", mounted.place.display());
    for command in ["up", "mkfs"] {
        for force in [&[][..], &["--force"]] {
            let arguments =
                [&[command, "--dir", &dir, "--mon-port", "0", "--device", device], force].concat();
            spirula(&arguments).refused(1, &[device, &holder, "stop that first"]);
        }
    }
    assert!(!folder.path("c").join("cluster.json").exists());
    assert_eq!(fs::read(mounted.place.join("letter")).expect("whole"), b"dear grandmother");
    // No longer mounted it still holds that, and is still refused; with --force it is ours.
    assert!(mounted.umount());
    let arguments = ["mkfs", "--dir", &dir, "--mon-port", "0", "--device", device];
    spirula(&arguments).refused(1, &[device, "holds ", "ext", "--force"]);
    let said = spirula(&[&arguments[..], &["--force"]].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    Cluster::up(&folder.path("c"), &[]).stop();
}

#[test]
fn a_file_system_without_room_says_what_is_missing_and_gets_it_all_back() {
    let folder = Folder::new();
    let Some(mounted) = Mounted::new(&folder, 200 << 20) else { return };
    let dir = mounted.place.join("c");
    let name = dir.to_str().expect("UTF-8");
    let free = || {
        let df = Command::new("df").args(["--output=avail", "-B1"]).arg(&mounted.place).output().expect("df");
        let text = String::from_utf8(df.stdout).expect("UTF-8");
        text.lines().nth(1).and_then(|line| line.trim().parse::<u64>().ok()).expect("a number")
    };
    let before = free();
    // The first file, the second, and the monitor's do not fit; the last asks for 64 MiB.
    for (size, osds, missing) in [("1G", "1", 1 << 30), ("100M", "2", 100 << 20), ("160M", "1", 64 << 20)] {
        for command in ["mkfs", "up"] {
            let said = spirula(&[command, "--dir", name, "--size", size, "--osds", osds, "--mon-port", "0"]);
            said.refused(1, &[&format!("{missing} bytes do not fit on its file system, where "), "are free"]);
            let left: Vec<_> =
                listing(&dir).into_iter().filter(|(path, _)| !path.ends_with("/lock")).collect();
            assert_eq!(left, [], "nothing is left behind");
            assert!(free() + (1 << 20) > before, "all space is back");
        }
    }
    let said = spirula(&["mkfs", "--dir", name, "--size", SIZE, "--mon-port", "0"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    // A cluster that is there starts when not a byte is free any more, and is stopped as always.
    Cluster::up(&dir, &[]).stop();
    let mut filler = File::create(mounted.place.join("filler")).expect("made");
    while filler.write_all(&[1; 4096]).is_ok() {}
    assert_eq!(free(), 0);
    Cluster::up(&dir, &[]).stop();
}

#[test]
fn a_device_or_folder_in_use_names_its_holder() {
    let folder = Folder::new();
    let dir = folder.text("c");
    let cluster = Cluster::up(&folder.path("c"), &[]);
    for command in [&["up"][..], &["mkfs"], &["fsck"], &["mon"], &["osd", "--id", "0"]] {
        let arguments = [command, &["--dir", &dir]].concat();
        spirula(&arguments).refused(1, &[&dir, "in use by another process", "stop that one first"]);
    }
    let device = folder.path("c").join("osd.0").join("block");
    let name = device.to_str().expect("UTF-8");
    let holder = format!("in use by process {} (spirula)", cluster.running.pid());
    spirula(&["up", "--dir", &folder.text("d"), "--mon-port", "0", "--device", name])
        .refused(1, &[name, &holder, "stop that first"]);
    cluster.stop();
    let clean = spirula(&["fsck", "--dir", &dir, "--deep", "--json"]);
    assert_eq!(clean.code, Some(0), "{clean:?}");
    assert!(clean.out.contains("\"findings\":[]"), "{clean:?}");
}

#[test]
fn a_store_that_is_gone_or_changed_its_size() {
    let folder = Folder::new();
    let dir = folder.text("c");
    assert_eq!(spirula(&["mkfs", "--dir", &dir, "--size", SIZE, "--mon-port", "0"]).code, Some(0));
    let device = folder.path("c").join("osd.0").join("block");
    let file = File::options().write(true).open(&device).expect("there");
    file.set_len(200 << 20).expect("grown");
    for arguments in [&["fsck", "--deep"][..], &["store", "device", "grow"], &["fsck", "--deep"]] {
        let done = spirula(&[arguments, &["--dir", &dir]].concat());
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    file.set_len(120 << 20).expect("cut off");
    for command in ["up", "fsck"] {
        spirula(&[command, "--dir", &dir]).refused(1, &["block", "cut off"]);
    }
    fs::remove_file(&device).expect("removed");
    for command in ["up", "fsck"] {
        spirula(&[command, "--dir", &dir]).refused(1, &["block"]);
    }
}

#[test]
fn keys_and_journals_have_devices_of_their_own() {
    let folder = Folder::new();
    let (db, wal) = (folder.path("db"), folder.path("wal"));
    blank(&db, 128 << 20);
    blank(&wal, 32 << 20);
    let dir = folder.text("c");
    let (db_name, wal_name) = (folder.text("db"), folder.text("wal"));
    let make = [&["mkfs", "--dir", &dir, "--size", SIZE, "--osds", "2", "--mon-port", "0"][..]].concat();
    let with = |more: &[&str]| spirula(&[&make[..], more].concat());
    with(&["--db-device", &folder.text("none")]).refused(1, &["none", "one that exists"]);
    with(&["--db-device", &db_name, "--wal-device", &db_name]).refused(1, &[&db_name, "given twice"]);
    let three = ["--db-device", &db_name, "--db-device", &wal_name, "--db-device", &dir];
    with(&three).refused(1, &["--db-device is given 3 times for 2 devices"]);
    let made = with(&["--db-device", &db_name, "--wal-device", &wal_name]);
    assert_eq!(made.code, Some(0), "{made:?}");
    Cluster::up(&folder.path("c"), &["--db-device", &db_name]).stop();
    spirula(&["up", "--dir", &dir, "--wal-device", &folder.text("none")])
        .refused(1, &["none", "store device add"]);
    let checked = spirula(&["fsck", "--dir", &dir, "--deep"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let said = spirula(&["store", "--dir", &dir, "statfs"]);
    assert!(said.out.matches("of a device for keys").count() == 2, "{said:?}");
    let said = spirula(&["store", "--dir", &dir, "--id", "1", "--json", "bluefs", "stats"]);
    assert!(said.out.contains("\"spilled\":0") && !said.out.contains("\"db_used\":0"), "{said:?}");

    // Somebody else's, blank, an older copy, none: no OSD starts, and nothing is written.
    let older = fs::read(&wal).expect("read");
    Cluster::up(&folder.path("c"), &[]).stop();
    let newest = fs::read(&wal).expect("read");
    let refused = |bytes: &[u8], words: &[&str]| {
        fs::write(&wal, bytes).expect("written");
        let before = (fs::read(&db).expect("read"), fs::read(&wal).expect("read"));
        for command in [&["up"][..], &["fsck"], &["osd", "--id", "0"]] {
            spirula(&[command, &["--dir", &dir]].concat()).refused(1, words);
        }
        assert!(before == (fs::read(&db).expect("read"), fs::read(&wal).expect("read")));
    };
    refused(&older, &["wal", "older copy", "would lose data"]);
    refused(&vec![0; newest.len()], &["wal", "no label of spirula"]);
    fs::write(&wal, &newest).expect("written");
    Cluster::up(&folder.path("c"), &[]).stop();
    let other = folder.text("other");
    let other = ["mkfs", "--dir", &other, "--size", SIZE, "--mon-port", "0", "--db-device", &db_name];
    spirula(&other).refused(1, &[&db_name, "belongs to a spirula cluster"]);
}

#[test]
fn a_cluster_gets_devices_for_keys_and_journals_later() {
    let folder = Folder::new();
    let (db, wal) = (folder.path("db"), folder.path("wal"));
    blank(&db, 128 << 20);
    blank(&wal, 32 << 20);
    let dir = folder.text("c");
    let made = spirula(&["mkfs", "--dir", &dir, "--size", SIZE, "--osds", "2", "--mon-port", "0"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    Cluster::up(&folder.path("c"), &[]).stop();
    let device = |arguments: &[&str]| spirula(&[&["store", "--dir", &dir, "device"], arguments].concat());
    device(&["add", "db", &folder.text("none")]).refused(1, &["none", "one that exists"]);
    let main = folder.path("c").join("osd.1").join("block");
    device(&["add", "db", main.to_str().expect("UTF-8")]).refused(1, &["holds objects of this cluster"]);
    let small = folder.path("small");
    blank(&small, 3 << 20);
    device(&["add", "wal", &folder.text("small")]).refused(1, &["small", "need at least"]);
    for (role, path) in [("db", folder.text("db")), ("wal", folder.text("wal"))] {
        let said = device(&["add", role, &path, "--json"]);
        assert_eq!((said.code, said.out.lines().count()), (Some(0), 2), "{said:?}");
        let words = [&format!("\"role\":\"{role}\"")[..], "\"before\":null", &format!("\"path\":\"{path}\"")];
        assert!(said.out.lines().all(|line| words.iter().all(|word| line.contains(word))), "{said:?}");
        // The same again changes nothing.
        let again = device(&["add", role, &path]);
        assert_eq!((again.code, &again.out[..]), (Some(0), "nothing is left to add\n"), "{again:?}");
        let again = device(&["add", role, &path, "--json"]);
        assert_eq!((again.code, &again.out[..]), (Some(0), ""), "{again:?}");
        let other = if role == "db" { "wal" } else { "db" };
        let in_use = format!("is the {role} device of osd.0");
        device(&["add", other, &path]).refused(1, &[&in_use]);
        device(&["add", other, &path, "--force"]).refused(1, &[&in_use]);
        Cluster::up(&folder.path("c"), &[]).stop();
        let checked = spirula(&["fsck", "--dir", &dir, "--deep"]);
        assert_eq!(checked.code, Some(0), "{checked:?}");
    }
    let other = folder.path("other");
    blank(&other, 128 << 20);
    device(&["add", "db", &folder.text("other")]).refused(1, &["osd.0 has a db device already"]);
    let listed = device(&["list"]);
    for words in ["osd.0: block: ", "osd.1: db: ", "osd.1: wal: "] {
        assert!(listed.out.contains(words), "{words}: {listed:?}");
    }
    // It may be in use.
    let cluster = Cluster::up(&folder.path("c"), &[]);
    device(&["list"]).refused(1, &["in use by another process"]);
    cluster.stop();
}

#[test]
fn a_device_that_was_labelled_and_not_noted_is_added_again() {
    const LABELS: [u64; 2] = [0, 128 << 10];
    const TABLES: [u64; 2] = [256 << 10, 512 << 10];
    let folder = Folder::new();
    let (dir, db) = (folder.text("c"), folder.path("db"));
    blank(&db, 128 << 20);
    let made = spirula(&["mkfs", "--dir", &dir, "--size", SIZE, "--osds", "2", "--mon-port", "0"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let add = |dir: &str| spirula(&["store", "--dir", dir, "device", "add", "db", &folder.text("db")]);
    // It ends where it would note the device, which is then labelled.
    let in_the_way = folder.path("c").join("cluster.new");
    fs::create_dir(&in_the_way).expect("made");
    add(&dir).refused(1, &["cluster.json"]);
    let labelled = fs::read(&db).expect("read");
    // Another cluster's is not for the taking.
    let other = folder.text("other");
    let made = spirula(&["mkfs", "--dir", &other, "--size", SIZE, "--osds", "2", "--mon-port", "0"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    add(&other).refused(1, &["belongs to a spirula cluster"]);
    fs::remove_dir(&in_the_way).expect("removed");
    let plan = fs::read(folder.path("c").join("cluster.json")).expect("read");
    let main = |osd: u32| folder.path("c").join(format!("osd.{osd}")).join("block");
    let stores = [0, 1].map(|osd| fs::read(main(osd)).expect("read"));
    // Killed a while before: what is written later is not there, or torn.
    let [first, second] = LABELS;
    let [one, two] = TABLES;
    for missing in [&[][..], &[first], &[first, second], &[first, second, two], &[first, second, one, two]] {
        let mut bytes = labelled.clone();
        missing
            .iter()
            .map(|at| usize::try_from(*at).expect("small"))
            .for_each(|at| bytes[at..][..8192].fill(0));
        fs::write(&db, &bytes).expect("written");
        fs::write(folder.path("c").join("cluster.json"), &plan).expect("written");
        (0..).zip(&stores).for_each(|(osd, bytes)| fs::write(main(osd), bytes).expect("written"));
        let said = add(&dir);
        assert_eq!((said.code, said.out.lines().count()), (Some(0), 2), "{missing:?}: {said:?}");
        let checked = spirula(&["fsck", "--dir", &dir, "--deep"]);
        assert_eq!(checked.code, Some(0), "{checked:?}");
    }
    // What somebody else has put there since is not lost: beside a whole label, and where a label is not yet.
    let in_use = fs::read(&db).expect("read");
    fs::write(folder.path("c").join("cluster.json"), &plan).expect("written");
    (0..).zip(&stores).for_each(|(osd, bytes)| fs::write(main(osd), bytes).expect("written"));
    for (label, at, found, words) in
        [(8192, 4086, "SWAPSPACE2", "swap space"), (0, 5000, "?", "an unknown kind")]
    {
        let mut bytes = labelled.clone();
        bytes[label..8192].fill(0);
        bytes[at..][..found.len()].copy_from_slice(found.as_bytes());
        fs::write(&db, &bytes).expect("written");
        add(&dir).refused(1, &[words, "--force"]);
        assert_eq!(fs::read(&db).expect("read"), bytes);
    }
    fs::write(&db, &in_use).expect("written");
    // One that was in use is not taken for one that was not.
    add(&dir).refused(1, &["belongs to a spirula cluster"]);
}

#[test]
fn devices_that_several_osds_share_grow_for_all_of_them() {
    let folder = Folder::new();
    let dir = folder.text("c");
    let devices = [("main", 200 << 20), ("db", 128 << 20), ("wal", 32 << 20)];
    devices.iter().for_each(|(name, bytes)| blank(&folder.path(name), *bytes));
    let (main, db, wal) = (folder.text("main"), folder.text("db"), folder.text("wal"));
    let beside = ["--db-device", &db, "--wal-device", &wal, "--mon-port", "0"];
    let made = spirula(&[&["mkfs", "--dir", &dir, "--device", &main, "--osds", "2"][..], &beside].concat());
    assert_eq!(made.code, Some(0), "{made:?}");
    Cluster::up(&folder.path("c"), &[]).stop();
    let device = |arguments: &[&str]| spirula(&[&["store", "--dir", &dir, "device"], arguments].concat());
    assert_eq!(device(&["grow"]).out, "nothing has grown\n");
    for times in 2..4 {
        for (name, bytes) in devices {
            let file = File::options().write(true).open(folder.path(name)).expect("there");
            file.set_len(times * bytes).expect("grown");
        }
        let said = device(&["grow", "--json"]);
        assert_eq!((said.code, said.out.matches("\"after\":{").count()), (Some(0), 6), "{said:?}");
        Cluster::up(&folder.path("c"), &[]).stop();
        let checked = spirula(&["fsck", "--dir", &dir, "--deep"]);
        assert_eq!(checked.code, Some(0), "{checked:?}");
    }
    let said = spirula(&["store", "--dir", &dir, "statfs", "--json"]);
    assert_eq!(said.out.matches("\"total\":312475648").count(), 2, "149 segments of 2 MiB: {said:?}");
}

#[test]
fn keys_and_journals_move_and_go() {
    let folder = Folder::new();
    let dir = folder.text("c");
    let devices =
        [("db", 128 << 20), ("wal", 32 << 20), ("db2", 160 << 20), ("wal2", 40 << 20), ("small", 64 << 20)];
    devices.iter().for_each(|(name, bytes)| blank(&folder.path(name), *bytes));
    let path = |name: &str| folder.text(name);
    let beside = ["--db-device", &path("db"), "--wal-device", &path("wal"), "--mon-port", "0"];
    let made = spirula(&[&["mkfs", "--dir", &dir, "--size", SIZE, "--osds", "2"][..], &beside].concat());
    assert_eq!(made.code, Some(0), "{made:?}");
    let device = |arguments: &[&str]| spirula(&[&["store", "--dir", &dir, "device"], arguments].concat());
    let has = |roles: &[(&str, &str)]| {
        Cluster::up(&folder.path("c"), &[]).stop();
        let checked = spirula(&["fsck", "--dir", &dir, "--deep"]);
        assert_eq!(checked.code, Some(0), "{checked:?}");
        let listed = device(&["list"]);
        for (role, name) in roles {
            let of = format!("of {}\n", path(name));
            let lines = listed.out.split_inclusive('\n');
            assert_eq!(
                lines.filter(|line| line.contains(role) && line.ends_with(&of)).count(),
                2,
                "{listed:?}"
            );
        }
        assert_eq!(listed.out.lines().count(), 2 + 2 * roles.len(), "{listed:?}");
    };
    has(&[("db", "db"), ("wal", "wal")]);
    device(&["migrate", "db", &path("none")]).refused(1, &["none", "one that exists"]);
    device(&["migrate", "db", &path("small")]).refused(1, &["small", "is too small"]);
    device(&["migrate", "db", &path("wal")]).refused(1, &["is the wal device of osd.0"]);
    for (role, name) in [("db", "db2"), ("wal", "wal2")] {
        let said = device(&["migrate", role, &path(name), "--json"]);
        let (from, to) = (format!("\"path\":\"{}\"", path(role)), format!("\"path\":\"{}\"", path(name)));
        let tells = |line: &str| line.contains(&from) && line.contains(&to);
        assert_eq!(
            (said.code, said.out.lines().filter(|line| tells(line)).count()),
            (Some(0), 2),
            "{said:?}"
        );
        // The same again changes nothing.
        let again = device(&["migrate", role, &path(name)]);
        assert_eq!((again.code, &again.out[..]), (Some(0), "nothing is left to move\n"), "{again:?}");
    }
    has(&[("db", "db2"), ("wal", "wal2")]);
    // What they were on is nobody's, but has somebody's bytes.
    let other = folder.text("other");
    let other = ["mkfs", "--dir", &other, "--size", SIZE, "--mon-port", "0", "--db-device", &path("db")];
    spirula(&other).refused(1, &["db", "holds data of an unknown kind"]);
    let cluster = Cluster::up(&folder.path("c"), &[]);
    device(&["remove", "wal"]).refused(1, &["in use by another process"]);
    cluster.stop();
    let said = device(&["remove", "wal", "--json"]);
    assert_eq!((said.code, said.out.matches("\"after\":null").count()), (Some(0), 2), "{said:?}");
    has(&[("db", "db2")]);
    device(&["migrate", "wal", &path("wal2"), "--force"]).refused(1, &["no OSD has a wal device"]);
    for _ in 0..2 {
        let said = device(&["remove", "db"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        has(&[]);
    }
}

#[test]
fn labels_keep_what_operators_note() {
    let folder = Folder::new();
    let dir = folder.text("c");
    let made = spirula(&["mkfs", "--dir", &dir, "--size", SIZE, "--osds", "2", "--mon-port", "0"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let label = |arguments: &[&str]| spirula(&[&["store", "--dir", &dir], arguments].concat());
    label(&["label", "set", "shelf", "12"]).refused(1, &["there are 2 OSDs", "--id", "--device"]);
    label(&["label", "set", "shelf", "12", "--device", &folder.text("c")]).refused(1, &["is not a device"]);
    let said = label(&["--id", "1", "--json", "label", "set", "shelf", "12"]);
    assert!(said.out.contains("\"keys\":{\"shelf\":\"12\"}"), "{said:?}");
    Cluster::up(&folder.path("c"), &[]).stop();
    assert!(label(&["--id", "1", "--json", "label"]).out.contains("\"shelf\":\"12\""));
    assert!(label(&["--id", "0", "--json", "label", "show"]).out.contains("\"keys\":{}"));
    label(&["--id", "0", "label", "remove", "shelf"]).refused(1, &["no key \"shelf\""]);
    label(&["--id", "1", "label", "set", "long", &"x".repeat(9000)]).refused(1, &["at most 8192"]);
    assert_eq!(label(&["--id", "1", "label", "remove", "shelf"]).out, "");
}
