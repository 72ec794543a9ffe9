//! Devices that are too small, in use, of the wrong kind, or hold somebody's data.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use crate::process::{Cluster, Folder, SIZE, spirula};

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
    for command in ["up", "fsck"] {
        spirula(&[command, "--dir", &dir]).refused(1, &["block", "resized"]);
    }
    fs::remove_file(&device).expect("removed");
    for command in ["up", "fsck"] {
        spirula(&[command, "--dir", &dir]).refused(1, &["block"]);
    }
}
