//! The suite over the memory and the simulated store, and crashes of the latter against the former.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use allocator::Extent;
use bluefs::fs::{FormatOptions, LocalBlueFs, MountOptions, space_desk};
use bluefs::kv::suite::{self, Workload, contents};
use bluefs::kv::{Compact, KvBatch, KvError, KvOp, KvStore, MemKv, SimKv, SimKvOptions};
use bytes::Bytes;
use nvme::{BlockDevice, MemoryDevice, SimDisk, SimDiskConfig};
use rt::Core;
use rt::sim::{Config, Sim};
use uuid::Uuid;

const COPIES: [u64; 2] = [0, 4096];

async fn format(device: &dyn BlockDevice, space: u64) {
    let options = FormatOptions {
        alloc_unit: 4096,
        log_bytes_min: 16384,
        ..FormatOptions::new(Uuid::from_u128(1), COPIES, vec![Extent::new(8192, space)], 1)
    };
    LocalBlueFs::format(device, &options).await.unwrap();
}

async fn mount(core: &Core, device: Rc<dyn BlockDevice>) -> LocalBlueFs {
    let options = MountOptions {
        superblocks: COPIES,
        nonce: core.random_u64(),
        low_water: 0,
        lend: 1 << 20,
        fast: None,
    };
    LocalBlueFs::mount(device, options, None).await.unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn memory_conforms() {
    Sim::new(1, Config::default()).run(0, |_| suite::run(async || MemKv::new()));
}

#[test]
fn simulated_conforms() {
    for (seed, spontaneous_one_in, memtable_bytes) in [(1, 0, 1 << 20), (2, 3, 4096), (3, 1, 64 << 10)] {
        Sim::new(seed, Config::default()).run(0, |core| async move {
            let options = SimKvOptions { spontaneous_one_in, memtable_bytes, ..SimKvOptions::default() };
            suite::run(async || {
                let device = Rc::new(MemoryDevice::new(32 << 20));
                format(&*device, 16 << 20).await;
                let fs = mount(&core, device).await;
                SimKv::open(core.clone(), fs, "kv", options).await.unwrap()
            })
            .await;
        });
    }
}

/// What a life of the store left behind for the next to check.
#[derive(Clone)]
struct Known {
    oracle: MemKv,
}

#[test]
fn a_crash_keeps_a_prefix_with_all_that_was_flushed() {
    let mut crashes = 0;
    let mut lost = 0;
    for seed in 0..30 {
        let sim = Sim::new(seed, Config::default());
        let disk = SimDisk::new(SimDiskConfig::new("disk", 4 << 20), seed);
        let formatted = disk.clone();
        sim.run(1, |core| async move { format(&formatted.open(&core), 2 << 20).await });
        let known = Rc::new(RefCell::new(Known { oracle: MemKv::new() }));
        for life in 0..5_u64 {
            let (disk_now, known_now) = (disk.clone(), Rc::clone(&known));
            sim.core(1).spawn(rt::Group::Client, "life", {
                let core = sim.core(1);
                async move { live(core, disk_now, known_now, seed * 100 + life).await }
            });
            // Mount, check and a varying number of steps of work.
            let steps = 300 + (seed * 7919 + life * 104_729) % 4000;
            for _ in 0..steps {
                if !sim.step() {
                    break;
                }
            }
            sim.kill(1);
            disk.crash();
            crashes += 1;
        }
        let (disk_now, known_now) = (disk.clone(), Rc::clone(&known));
        lost += sim.run(1, |core| async move { recover(&core, &disk_now, &known_now).await.1 });
    }
    assert!(crashes == 150 && lost > 10, "{crashes} crashes, {lost} batches lost at the last of each seed");
}

/// Opens the store after a crash; its contents are those of some prefix that includes all that was flushed.
async fn recover(core: &Core, disk: &SimDisk, known: &RefCell<Known>) -> (SimKv, usize) {
    let fs = mount(core, Rc::new(disk.open(core))).await;
    let options = SimKvOptions { memtable_bytes: 8192, ..SimKvOptions::default() };
    let store = SimKv::open(core.clone(), fs, "kv", options).await.unwrap();
    let found = contents(&store, &store.view()).await;
    let oracle = known.borrow().oracle.clone();
    let kept = (0..=oracle.unflushed()).rev().find(|kept| oracle.after_crash(*kept).contents() == found);
    let kept = kept.unwrap_or_else(|| panic!("a state that never was, or a flush was lost"));
    // From here on only what is there counts: it was found once, so it is durable.
    known.borrow_mut().oracle = oracle.after_crash(kept);
    (store, oracle.unflushed() - kept)
}

async fn live(core: Core, disk: SimDisk, known: Rc<RefCell<Known>>, seed: u64) {
    let (store, _) = recover(&core, &disk, &known).await;
    let mut workload = Workload::new(seed);
    loop {
        let batch = workload.batch();
        let applied = store.apply(batch.clone());
        let oracle = known.borrow().oracle.clone();
        oracle.apply(batch).await.unwrap();
        if workload.draw(3) > 0 {
            applied.await.unwrap();
        }
        if workload.draw(20) == 0 {
            let before = oracle.unflushed();
            store.flush().await.unwrap();
            assert_eq!(oracle.unflushed(), before, "one task, nothing in between");
            oracle.flush().await.unwrap();
        }
    }
}

#[test]
fn a_full_store_says_so_and_goes_on_when_there_is_room() {
    Sim::new(5, Config::default()).run(0, |core| async move {
        let device = Rc::new(MemoryDevice::new(8 << 20));
        format(&*device, 1 << 20).await;
        let fs = mount(&core, device).await;
        let store = SimKv::open(core.clone(), fs.clone(), "kv", SimKvOptions::default()).await.unwrap();
        let value = "x".repeat(20_000);
        let mut written = 0;
        let full = loop {
            let applied = store.apply(suite::puts(&[(&format!("M{written:04}"), &value)])).await;
            match applied.map(|_| ()) {
                Ok(()) => match store.flush().await {
                    Ok(()) => written += 1,
                    Err(error) => break error,
                },
                Err(error) => break error,
            }
        };
        assert!(matches!(full, KvError::Full(_)), "{full}");
        assert!(written > 10, "{written} of 20 kB in 1 MiB");
        fs.add_space(&[Extent::new(2 << 20, 4 << 20)]).await.unwrap();
        store.flush().await.unwrap();
        assert!(contents(&store, &store.view()).await.len() >= written);
    });
}

/// A filled store of which everything was removed, so that a compaction gives room.
async fn emptied(core: &Core) -> SimKv {
    let device = Rc::new(SimDisk::new(SimDiskConfig::new("disk", 16 << 20), 8).open(core));
    format(&*device, 4 << 20).await;
    let fs = mount(core, device).await;
    let options = SimKvOptions { spontaneous_one_in: 0, runs_max: 1000, ..SimKvOptions::default() };
    let store = SimKv::open(core.clone(), fs, "kv", options).await.unwrap();
    let value = "x".repeat(20_000);
    for written in 0..40 {
        store.apply(suite::puts(&[(&format!("M{written:04}"), &value)])).await.unwrap();
    }
    let everything = KvOp::DeleteRange(Bytes::from_static(b"M"), Bytes::from_static(b"N"));
    store.apply(KvBatch { ops: vec![everything] }).await.unwrap();
    store.flush().await.unwrap();
    store
}

#[test]
fn who_wants_room_waits_for_the_compaction_that_runs() {
    for steps in 0..40 {
        Sim::new(8, Config::default()).run(0, move |core| async move {
            let store = emptied(&core).await;
            let headroom = |store: &SimKv| store.stats().headroom_bytes.unwrap();
            let before = headroom(&store);
            let (done, first) = rt::sync::oneshot();
            let asking = store.make_headroom(u64::MAX, Compact::IfAny);
            let told = store.clone();
            core.spawn(rt::Group::Background, "first", async move {
                asking.await.unwrap();
                assert!(done.send(headroom(&told)).is_ok());
            });
            core.sleep(Duration::from_micros(50) * steps).await;
            store.make_headroom(u64::MAX, Compact::IfAny).await.unwrap();
            let second = headroom(&store);
            assert_eq!(second, first.await.unwrap(), "asked after {steps} steps");
            assert!(second >= before + 100_000, "{before} before, {second} after 800 kB were removed");
        });
    }
}

#[test]
fn a_corrupt_block_is_found_by_its_reader() {
    Sim::new(6, Config::default()).run(0, |core| async move {
        let device = Rc::new(MemoryDevice::new(8 << 20));
        format(&*device, 4 << 20).await;
        let fs = mount(&core, device.clone()).await;
        let options = SimKvOptions { spontaneous_one_in: 0, ..SimKvOptions::default() };
        let store = SimKv::open(core.clone(), fs.clone(), "kv", options).await.unwrap();
        store.apply(suite::puts(&[("Ma", &"1".repeat(5000)), ("Mb", &"2".repeat(5000))])).await.unwrap();
        store.flush().await.unwrap();
        let run = fs.with(|machine| {
            let ino = machine.tree().find("kv", "000001.run")?;
            Ok(machine.tree().inode(ino)?.extents[0].start)
        });
        let run = run.unwrap();
        let mut block = device.read(run, nvme::DmaBuf::zeroed(4096)).await.unwrap();
        block[100] ^= 1;
        device.write(run, block).await.unwrap();
        let view = store.view();
        let bad = store.get(&view, vec![Bytes::from_static(b"Ma")]).await;
        assert!(matches!(bad, Err(KvError::Corrupt(_))), "{bad:?}");
        let good = store.get(&view, vec![Bytes::from_static(b"Mb")]).await.unwrap();
        assert_eq!(good[0].as_ref().map(|value| value.len()), Some(5000));
    });
}

#[test]
fn a_task_lends_ahead_and_gets_space_back() {
    Sim::new(7, Config::default()).run(0, |core| async move {
        let device = Rc::new(MemoryDevice::new(16 << 20));
        format(&*device, 256 << 10).await;
        let (desk, requests) = space_desk();
        let granted = Rc::new(std::cell::Cell::new(0_u64));
        let count = Rc::clone(&granted);
        core.spawn(rt::Group::Background, "lender", async move {
            let mut at = 1 << 20;
            while let Some(wish) = requests.next().await {
                let bytes = wish.bytes;
                if at + bytes > 4 << 20 {
                    requests.deny();
                    continue;
                }
                requests.grant(vec![Extent::new(at, bytes)]);
                count.set(count.get() + 1);
                at += bytes;
            }
        });
        let options = MountOptions {
            superblocks: COPIES,
            nonce: core.random_u64(),
            low_water: 128 << 10,
            lend: 256 << 10,
            fast: None,
        };
        let fs = LocalBlueFs::mount(device.clone(), options, Some(desk)).await.unwrap();
        let store = SimKv::open(core.clone(), fs.clone(), "kv", SimKvOptions::default()).await.unwrap();
        let value = "x".repeat(20_000);
        for written in 0..60 {
            store.apply(suite::puts(&[(&format!("M{written:04}"), &value)])).await.unwrap();
            store.flush().await.unwrap();
        }
        assert!(granted.get() >= 5, "{} grants", granted.get());
        let lent = fs.stats().space_bytes;
        let given = fs.give_back(1 << 20, 64 << 10, 0, &[Extent::new(0, u64::MAX)]).await.unwrap();
        assert!(!given.is_empty());
        store.close().await.unwrap();
        drop((store, fs));
        let fs = mount(&core, device).await;
        assert_eq!(fs.stats().space_bytes, lent - given.iter().map(|extent| extent.len).sum::<u64>());
        let store = SimKv::open(core.clone(), fs, "kv", SimKvOptions::default()).await.unwrap();
        assert_eq!(contents(&store, &store.view()).await.len(), 60);
    });
}
