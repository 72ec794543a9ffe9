//! Labels, superblocks and the monitor's store, damaged: one good copy is enough, none is a sentence, and nothing is
//! written over what cannot be read.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::process::{Cluster, Folder, SIZE, spirula};

const LABELS: [u64; 2] = [0, 128 << 10];
const TABLES: [u64; 2] = [256 << 10, 512 << 10];
/// Where the only slice begins, and its superblock.
const SLICE: u64 = 1 << 20;

struct Made {
    folder: Folder,
    device: PathBuf,
}

fn made() -> Made {
    let folder = Folder::new();
    let said = spirula(&["mkfs", "--dir", &folder.text("c"), "--size", SIZE, "--mon-port", "0"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let device = folder.path("c").join("osd.0").join("block");
    Made { folder, device }
}

impl Made {
    fn damage(&self, at: u64, bytes: usize) {
        let file = File::options().write(true).open(&self.device).expect("there");
        file.write_all_at(&vec![0x5a; bytes], at).expect("written");
    }

    /// The label copy at the end is 64 KiB from there.
    fn last_label(&self) -> u64 {
        fs::metadata(&self.device).expect("there").len() - (64 << 10)
    }

    /// Every way in says these words, and none writes anything.
    #[track_caller]
    fn refused(&self, words: &[&str]) {
        let dir = self.folder.text("c");
        let before = fs::read(&self.device).expect("read");
        for command in [&["up"][..], &["fsck"], &["fsck", "--deep"], &["osd", "--id", "0"]] {
            spirula(&[command, &["--dir", &dir]].concat()).refused(1, words);
        }
        assert!(fs::read(&self.device).expect("read") == before, "nothing was overwritten");
    }
}

#[test]
fn one_copy_of_the_label_is_enough_and_the_others_are_written_anew() {
    let made = made();
    LABELS.iter().for_each(|place| made.damage(*place, 8192));
    made.damage(TABLES[0], 4096);
    let checked = spirula(&["fsck", "--dir", &made.folder.text("c")]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.err.contains("3 copies of its label or segment table are damaged"), "{checked:?}");
    let said = Cluster::up(&made.folder.path("c"), &[]).stop();
    assert!(said.contains("3 copies") && said.contains("written anew"), "{said}");
    assert_eq!(Cluster::up(&made.folder.path("c"), &[]).stop(), "", "now all are good");
    made.damage(made.last_label(), 8192);
    Cluster::up(&made.folder.path("c"), &[]).stop();
}

#[test]
fn a_device_without_any_label_is_refused() {
    let made = made();
    LABELS.iter().for_each(|place| made.damage(*place, 8192));
    made.damage(made.last_label(), 8192);
    made.refused(&["osd.0", "block", "has no label of spirula at any of its places", "nothing was written"]);
}

#[test]
fn labels_that_are_recognised_but_damaged_are_refused() {
    let made = made();
    // Past the magic, so that it is clear whose it was.
    LABELS.iter().for_each(|place| made.damage(place + 20, 64));
    made.damage(made.last_label() + 20, 64);
    made.refused(&["block", "all copies of the label", "are damaged", "do not write to it"]);
}

#[test]
fn a_lost_segment_table_is_refused() {
    let made = made();
    TABLES.iter().for_each(|place| made.damage(*place, 4096));
    made.refused(&["block", "all copies of the segment table", "are damaged"]);
}

#[test]
fn a_superblock_has_a_second_copy() {
    let made = made();
    made.damage(SLICE, 4096);
    Cluster::up(&made.folder.path("c"), &[]).stop();
    // The mount wrote both; now the other one.
    let file = fs::read(&made.device).expect("read");
    let magic = b"SPIRSLIC";
    let places: Vec<u64> = (0..file.len() / 4096)
        .filter(|block| file[block * 4096..].starts_with(magic))
        .map(|block| block as u64 * 4096)
        .collect();
    assert_eq!(places.len(), 2, "{places:?}");
    assert_eq!(places[0], SLICE);
    made.damage(places[1], 4096);
    Cluster::up(&made.folder.path("c"), &[]).stop();
    made.damage(places[0], 4096);
    made.damage(places[1], 4096);
    made.refused(&["osd.0", "block", "holds no store", "magic"]);
}

#[test]
fn a_device_of_another_cluster_is_refused() {
    let (one, other) = (made(), made());
    fs::copy(&other.device, &one.device).expect("copied");
    one.refused(&["belongs to cluster", "this is", "give the device of this cluster"]);
}

#[test]
fn a_damaged_store_of_the_monitor_is_refused() {
    let made = made();
    let store = made.folder.path("c").join("mon.a").join("store");
    let mut bytes = fs::read(&store).expect("read");
    let len = bytes.len();
    bytes[..1 << 20].fill(0x5a);
    bytes[len - (1 << 20)..].fill(0x5a);
    fs::write(&store, &bytes).expect("written");
    for command in ["up", "mon"] {
        let said = spirula(&[command, "--dir", &made.folder.text("c")]);
        said.refused(1, &["the monitor does not start"]);
    }
    assert!(fs::read(&store).expect("read") == bytes, "nothing was overwritten");
}
