//! `fsck --repair` on real stores whose keys were damaged: what loses nothing is repaired, what cannot be read is given up only
//! if that was asked for, by name, and everything else stays.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bluefs::fs::MountOptions;
use bluefs::kv::{KvBatch, KvOp, KvStore, ScanLimit};
use bluefs_rocks::{RocksKv, RocksOptions};
use bytes::Bytes;
use nvme::uring::{Polling, UringDevice};
use nvme::{BlockDevice, BlockingPartition, OpenOptions, Partition};
use rt::CoreId;
use rt::uring::Config;
use store::Engine;
use store::label::Labelled;

use crate::load::with_pool;
use crate::process::{Cluster, Folder, spirula};

/// Alignment of what BlueFS has.
const UNIT: u64 = 64 << 10;
const OBJECTS: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

/// Changes the keys of the only store on a device, as `damage` says when it is shown those of objects.
fn damage_keys(device: &Path, damage: impl FnOnce(Vec<Bytes>) -> Vec<KvOp> + Send + 'static) {
    let file = nvme::open(device, &OpenOptions::default()).expect("a device");
    let done = rt::uring::run(CoreId(0), &Config::default(), |core| async move {
        let attached = UringDevice::attach(&core, file.clone(), Polling::WherePossible).expect("attached");
        let whole: Rc<dyn BlockDevice> = Rc::new(attached);
        let window =
            Labelled::read(&*whole, None).await.expect("a label").window(&*whole, 0).expect("a slice");
        let slice = Partition::new(whole, "slice", window.start, window.len).expect("a slice");
        let kv = Engine::superblock(&slice).await.expect("a superblock").kv;
        let (first, last) = (kv.start.next_multiple_of(UNIT), kv.end() / UNIT * UNIT - UNIT);
        let space = last - first - UNIT;
        let mount = MountOptions {
            superblocks: [first, last],
            nonce: core.random_u64(),
            low_water: space / 4,
            lend: space / 4,
            fast: None,
        };
        let below = BlockingPartition::new(Arc::new(file.blocking()), window.start, window.len)
            .expect("a window of the device");
        let options = RocksOptions::for_space(space);
        let kv = RocksKv::mount(core.clone(), Arc::new(below), mount, None, options).await.expect("keys");
        let (start, end) = (Bytes::from_static(b"O"), Bytes::from_static(b"P"));
        let limit = ScanLimit { keys: 10_000, bytes: 16 << 20 };
        let page = kv.scan(&kv.view(), start, end, limit).await.expect("scan");
        let ops = damage(page.entries.into_iter().map(|(key, _)| key).collect());
        kv.apply(KvBatch { ops }).await.expect("apply");
        kv.flush().await.expect("flush");
        kv.close().await.expect("close");
    });
    done.expect("io_uring");
}

/// The key of an object's onode.
fn onode_of(keys: &[Bytes], name: &str) -> Bytes {
    let is_it =
        |key: &&Bytes| key.ends_with(b"o") && key.windows(name.len()).any(|part| part == name.as_bytes());
    keys.iter().find(is_it).expect("an onode").clone()
}

/// A stopped cluster of one OSD with some objects.
fn made(folder: &Folder) {
    let cluster = Cluster::up(&folder.path("c"), &[]);
    with_pool(&cluster, async move |_, pool| {
        for (fill, name) in (1..).zip(OBJECTS) {
            pool.write(name, 0, vec![fill; 200_000]).await.expect("written");
        }
    });
    cluster.stop();
}

#[test]
fn what_loses_nothing_is_repaired_and_the_rest_only_with_leave() {
    let folder = Folder::new();
    made(&folder);
    let dir = folder.text("c");
    let device = folder.path("c").join("osd.0").join("block");
    damage_keys(&device, |keys| {
        let orphan = [b"M".as_slice(), &(1u64 << 40).to_be_bytes(), b".key"].concat();
        vec![
            KvOp::Put(Bytes::from(orphan), Bytes::from_static(b"value")),
            KvOp::Put(onode_of(&keys, "beta"), Bytes::from_static(b"garbage")),
        ]
    });
    let fsck = |more: &[&str]| spirula(&[&["fsck", "--dir", &dir], more].concat());

    let said = fsck(&[]);
    assert_eq!(said.code, Some(2), "{said:?}");
    for words in ["omap-without-owner", "(remedy: repair)", "the onode of \"beta\"", "(remedy: discard)"] {
        assert!(said.out.contains(words), "{words:?} is missing: {said:?}");
    }
    // Without leave nothing may go that the object might have.
    let said = fsck(&["--repair"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.out.contains("DAMAGED after the repair") && !said.out.contains("LOST"), "{said:?}");
    let json = fsck(&["--json"]);
    assert!(json.code == Some(2) && json.out.contains("\"remedy\":\"discard\""), "{json:?}");

    let said = fsck(&["--repair", "--discard"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for words in ["LOST: \"beta\"", "the object", "repaired: omap-without-owner", "osd.0: clean"] {
        assert!(said.out.contains(words), "{words:?} is missing: {said:?}");
    }
    let json = fsck(&["--repair", "--json"]);
    assert!(json.code == Some(0) && !json.out.contains("repaired"), "what is clean is not touched: {json:?}");

    let cluster = Cluster::up(&folder.path("c"), &[]);
    with_pool(&cluster, async move |_, pool| {
        for (fill, name) in (1..).zip(OBJECTS).filter(|(_, name)| *name != "beta") {
            let data = pool.read(name, 0, 200_000).await.expect("there");
            assert!(data.len() == 200_000 && data.iter().all(|byte| *byte == fill), "{name}");
        }
        pool.read("beta", 0, 1).await.expect_err("it is gone");
        pool.write("beta", 0, vec![9; 100_000]).await.expect("written anew");
    });
    cluster.stop();
    assert_eq!(fsck(&["--deep"]).code, Some(0));
}

#[test]
fn a_store_that_runs_is_not_repaired_and_nothing_is_given_up_by_mistake() {
    let folder = Folder::new();
    let dir = folder.text("c");
    let cluster = Cluster::up(&folder.path("c"), &[]);
    spirula(&["fsck", "--dir", &dir, "--repair"]).refused(1, &["in use"]);
    cluster.stop();
    spirula(&["fsck", "--dir", &dir, "--discard"]).refused(2, &["--repair"]);
}

#[test]
fn an_export_names_what_cannot_be_read_and_has_the_others_if_that_is_asked_for() {
    let folder = Folder::new();
    let (dir, out) = (folder.text("c"), folder.text("out"));
    let cluster = Cluster::up(&folder.path("c"), &[]);
    with_pool(&cluster, async move |_, pool| {
        for number in 0..200 {
            pool.write(format!("n-{number:03}"), 0, vec![1; 20_000]).await.expect("written");
        }
    });
    cluster.stop();
    let store = |arguments: &[&str]| spirula(&[&["store", "--dir", &dir], arguments].concat());
    let listed = store(&["list", "--json"]);
    let line = listed.out.lines().find(|line| line.contains("n-007")).expect("it is there");
    let pg = line.split("\"pg\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("its group");
    let in_group = listed.out.matches(&format!("\"pg\":\"{pg}\"")).count();
    assert!(in_group > 2, "{listed:?}");
    let in_pg = |line: &&str| line.contains(&format!("\"pg\":\"{pg}\"")) && !line.contains("n-007");
    let line = listed.out.lines().find(in_pg).expect("another one");
    let other = format!("n-{}", line.split("n-").nth(1).and_then(|rest| rest.get(..3)).expect("its number"));
    // Of one nothing can be read; of another there is an onode, but not where its data is.
    let begun = other.clone();
    damage_keys(&folder.path("c").join("osd.0").join("block"), move |keys| {
        let onode = onode_of(&keys, &begun);
        let of_it = |key: &&Bytes| key.starts_with(&onode[..onode.len() - 1]) && **key != onode;
        let shard = keys.iter().find(of_it).expect("a shard").clone();
        [onode_of(&keys, "n-007"), shard].map(|key| KvOp::Put(key, Bytes::from_static(b"garbage"))).into()
    });
    let said = store(&["export", "--pg", pg, &out]);
    said.refused(
        1,
        &[&format!("2 of {in_group} objects cannot be read"), "n-007", &other, "--skip-unreadable"],
    );
    assert!(!folder.path("out").exists(), "there is no export that lacks something");
    let said = store(&["export", "--pg", pg, "--skip-unreadable", &out]);
    said.refused(1, &[&format!("{} objects", in_group - 2), "without what cannot be read: 2 objects"]);
    // It says what it lacks, and is whole otherwise.
    store(&["import", "--dry-run", &out])
        .refused(1, &["it lacks 2 objects", "n-007", &other, "--incomplete"]);
    store(&["import", "--dry-run", "--incomplete", &out]).refused(1, &["has placement group"]);
    let repaired = spirula(&["fsck", "--dir", &dir, "--repair", "--discard"]);
    assert_eq!(repaired.code, Some(0), "{repaired:?}");
    assert_eq!(store(&["remove-pg", pg]).code, Some(0));
    let taken = store(&["import", "--incomplete", "--json", &out]);
    assert!(taken.code == Some(0) && taken.out.contains("\"left_out\":["), "{taken:?}");
    let listed = store(&["list", "--json"]);
    assert_eq!(listed.out.matches(&format!("\"pg\":\"{pg}\"")).count(), in_group - 2, "{listed:?}");
    assert!(!listed.out.contains("n-007") && !listed.out.contains(&other), "{listed:?}");
    let checked = spirula(&["fsck", "--dir", &dir, "--deep"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
}
