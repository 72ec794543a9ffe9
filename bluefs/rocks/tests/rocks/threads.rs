//! RocksDB on BlueFS on a file, with a real core and real foreign threads: no more of them than a process must have,
//! so that waiting for each other would show.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::common::{COPIES, SIZE, formatted, mount_options, open, rocks_options};
use allocator::Extent;
use bluefs::fs::{BlueFs, FormatOptions, MountOptions, space_desk};
use bluefs::kv::suite::{self, Workload, contents};
use bluefs::kv::{KvStore, MemKv};
use bluefs_rocks::RocksKv;
use nvme::{BlockingDevice, OpenOptions, Space};
use rt::alien::BridgeConfig;
use rt::uring::{Config, run};
use rt::{CoreId, Group};
use uuid::Uuid;

fn config(threads: usize) -> Config {
    Config { bridge_config: BridgeConfig { threads, ..BridgeConfig::default() }, ..Config::default() }
}

#[test]
fn conforms_on_real_threads() {
    for threads in [1, 3] {
        run(CoreId(0), &config(threads), |core| async move {
            suite::run(async || open(&core, Arc::new(formatted(16 << 20))).await).await;
        })
        .unwrap();
    }
}

#[test]
fn a_core_lends_space_while_all_foreign_threads_wait_for_it() {
    run(CoreId(0), &config(1), |core| async move {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device");
        nvme::create(&path, SIZE, Space::Sparse).unwrap();
        let file =
            nvme::open(&path, &OpenOptions { allow_buffered: true, ..OpenOptions::default() }).unwrap();
        let device: Arc<dyn BlockingDevice> = Arc::new(file.blocking());
        let format = FormatOptions {
            alloc_unit: 4096,
            log_bytes_min: 64 << 10,
            ..FormatOptions::new(Uuid::from_u128(1), COPIES, vec![Extent::new(1 << 20, 1 << 20)], 1)
        };
        BlueFs::format(&*device, &format).unwrap();

        let (desk, requests) = space_desk();
        let lent = Rc::new(Cell::new(0_u64));
        let count = Rc::clone(&lent);
        core.spawn(Group::Background, "lender", async move {
            let mut at = 2 << 20;
            while let Some(wish) = requests.next().await {
                let bytes = wish.bytes.next_multiple_of(64 << 10);
                if at + bytes > SIZE {
                    requests.deny();
                    continue;
                }
                requests.grant(vec![Extent::new(at, bytes)]);
                count.set(count.get() + bytes);
                at += bytes;
            }
        });
        // Nothing ahead: writers do run out and wait.
        let mount = MountOptions { low_water: 0, lend: 256 << 10, ..mount_options() };
        let store = RocksKv::mount(core.clone(), Arc::clone(&device), mount, Some(desk), rocks_options());
        let store = store.await.unwrap();
        store.begin_compacting();
        let mut workload = Workload::new(4);
        let oracle = MemKv::new();
        for round in 0..300 {
            let mut batch = workload.batch();
            let noise: Vec<u8> = (0..20_000).map(|_| workload.draw(256) as u8).collect();
            batch.ops.push(bluefs::kv::KvOp::Put(format!("Xbig{:03}", round % 200).into(), noise.into()));
            oracle.apply(batch.clone()).await.unwrap();
            let applied = store.apply(batch);
            if round % 3 == 0 {
                let view = applied.await.unwrap();
                if round % 60 == 0 {
                    assert_eq!(contents(&store, &view).await, oracle.contents());
                }
            }
        }
        store.flush().await.unwrap();
        assert!(lent.get() > 1 << 20, "{} bytes lent", lent.get());
        assert_eq!(contents(&store, &store.view()).await, oracle.contents());
        store.close().await.unwrap();
        drop(store);
        let loaded = BlueFs::load(&*device, COPIES).unwrap();
        assert_eq!(loaded.check(COPIES), []);
        assert!(loaded.tree.space_bytes() <= (1 << 20) + lent.get());
        let store = open(&core, device).await;
        assert_eq!(contents(&store, &store.view()).await, oracle.contents());
        store.close().await.unwrap();
    })
    .unwrap();
}
