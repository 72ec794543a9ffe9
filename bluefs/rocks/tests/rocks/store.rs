//! RocksDB on BlueFS: the suite, reopening, failures of the device, a full device.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::{COPIES, formatted, mount_options, on_core, open, rocks_options};
use bluefs::fs::BlueFs;
use bluefs::kv::suite::{self, Workload, contents};
use bluefs::kv::{Compact, KvBatch, KvError, KvOp, KvStore, MemKv};
use bluefs_rocks::{RocksKv, RocksOptions};
use bytes::Bytes;
use nvme::{BlockingDevice, DeviceError, DeviceResult, Geometry, MemoryDevice};

#[test]
fn conforms() {
    on_core(|core| async move {
        suite::run(async || open(&core, Arc::new(formatted(16 << 20))).await).await;
    });
}

#[test]
fn what_was_flushed_is_there_after_reopening() {
    on_core(|core| async move {
        let device = Arc::new(formatted(16 << 20));
        let oracle = MemKv::new();
        let mut workload = Workload::new(3);
        for _ in 0..4 {
            let store = open(&core, device.clone()).await;
            assert_eq!(contents(&store, &store.view()).await, oracle.contents());
            for _ in 0..200 {
                let batch = workload.batch();
                oracle.apply(batch.clone()).await.unwrap();
                store.apply(batch).await.unwrap();
            }
            store.flush().await.unwrap();
            store.compact().await.unwrap();
            let report = store.report().await.unwrap();
            assert!(report.families.iter().map(|family| family.file_bytes).sum::<u64>() > 0, "{report:?}");
            assert_eq!(report.background_errors, 0);
            let stats = store.stats();
            assert!(stats.written_files > 0 && stats.written_log > 0 && stats.flushes > 0, "{stats:?}");
            store.close().await.unwrap();
            let loaded = BlueFs::load(&*device, COPIES).unwrap();
            assert_eq!(loaded.check(COPIES), []);
        }
    });
}

/// One key out of a file of many, all of it far larger than the cache: neither its index nor its filter is read as a whole.
#[test]
fn a_key_that_is_not_in_memory_takes_few_bytes() {
    const KEYS: u64 = 200_000;
    on_core(|core| async move {
        let device = Arc::new(formatted(32 << 20));
        let options = RocksOptions {
            file_bytes: 16 << 20,
            memtable_bytes: 128 << 10,
            block_cache_bytes: 64 << 10,
            ..rocks_options()
        };
        let store = RocksKv::mount(core, device.clone(), mount_options(), None, options).await.unwrap();
        let key = |number: u64| Bytes::from(format!("O{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        for first in (0..KEYS).step_by(10_000) {
            let put = |number| KvOp::Put(key(number), Bytes::copy_from_slice(&number.to_le_bytes()));
            store.apply(KvBatch { ops: (first..first + 10_000).map(put).collect() }).await.unwrap();
        }
        store.flush().await.unwrap();
        store.compact().await.unwrap();
        let (_, before) = device.reads();
        for number in (0..KEYS).step_by(100) {
            let found = store.get(&store.view(), vec![key(number), key(KEYS + number)]).await.unwrap();
            assert_eq!((found[0].as_deref(), found[1].as_deref()), (Some(&number.to_le_bytes()[..]), None));
        }
        let (_, after) = device.reads();
        let each = (after - before) / (KEYS / 100);
        assert!(each < 64 << 10, "{each} bytes are read for a key that is there and one that is not");
        store.close().await.unwrap();
    });
}

#[test]
fn removed_ranges_are_compacted_without_being_asked() {
    on_core(|core| async move {
        let store = open(&core, Arc::new(formatted(16 << 20))).await;
        let key = |number: u32| Bytes::from(format!("M{number:08}"));
        for first in (0..40_000).step_by(1000) {
            let puts = (first..first + 1000).map(|number| KvOp::Put(key(number), Bytes::from(vec![7; 20])));
            store.apply(KvBatch { ops: puts.collect() }).await.unwrap();
        }
        store.flush().await.unwrap();
        // Not the last one, and each by itself.
        for first in (0..39_000).step_by(1000) {
            let range = KvOp::DeleteRange(key(first), key(first + 1000));
            store.apply(KvBatch { ops: vec![range] }).await.unwrap();
        }
        assert_eq!(store.stats().ranges_compacted, 0);
        store.flush().await.unwrap();
        for _ in 0..1000 {
            if store.stats().ranges_compacted == 39 {
                break;
            }
            core.sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(store.stats().ranges_compacted, 39);
        let report = store.report().await.unwrap();
        let omap = report.families.iter().find(|family| family.name == "M").unwrap();
        assert_eq!(omap.keys_estimated, 1000, "what was removed is not in files any more: {report:?}");
        assert_eq!(contents(&store, &store.view()).await.len(), 1000);
        // A few are not worth it.
        store.apply(KvBatch { ops: vec![KvOp::DeleteRange(key(39_000), key(39_500))] }).await.unwrap();
        store.flush().await.unwrap();
        core.sleep(Duration::from_secs(60)).await;
        assert_eq!(store.stats().ranges_compacted, 39);
        assert_eq!(contents(&store, &store.view()).await.len(), 500);
        store.close().await.unwrap();
    });
}

#[test]
fn what_an_old_view_kept_is_compacted_once_that_has_ended() {
    on_core(|core| async move {
        let store = open(&core, Arc::new(formatted(16 << 20))).await;
        let keys = || (0..2000).map(|number| Bytes::from(format!("O{number:08}")));
        let puts = keys().map(|key| KvOp::Put(key, Bytes::from(vec![7; 100]))).collect();
        store.apply(KvBatch { ops: puts }).await.unwrap();
        store.flush().await.unwrap();
        let old = store.view();
        store.apply(KvBatch { ops: keys().map(KvOp::Delete).collect() }).await.unwrap();
        store.flush().await.unwrap();
        // It has nothing to spare, so it compacts if that may help.
        let bytes_after = async |tries: u32| {
            let mut bytes = 0;
            for _ in 0..tries {
                assert_eq!(store.give_back(1 << 20, u64::MAX / 8, true, Vec::new()).await.unwrap(), []);
                core.sleep(Duration::from_millis(20)).await;
                let report = store.report().await.unwrap();
                bytes = report.families.iter().find(|family| family.name == "O").unwrap().file_bytes;
                if bytes == 0 {
                    break;
                }
            }
            bytes
        };
        assert!(bytes_after(20).await > 0, "the view needs them");
        assert_eq!(contents(&store, &old).await.len(), 2000);
        drop(old);
        assert_eq!(bytes_after(500).await, 0, "nobody does any more");
        store.close().await.unwrap();
    });
}

#[test]
fn a_store_dropped_without_closing_lets_go_of_its_files() {
    on_core(|core| async move {
        let device = Arc::new(formatted(16 << 20));
        let store = open(&core, device.clone()).await;
        let view = store.apply(suite::puts(&[("Ma", "1"), ("Ob", "2")])).await.unwrap();
        store.flush().await.unwrap();
        drop(view);
        let fs = store.fs().clone();
        drop(store);
        core.sleep(std::time::Duration::from_secs(1)).await;
        // The database is gone, so nothing writes any more: a second mount is safe.
        let (written, again) = (fs.stats().written_files, open(&core, device).await);
        assert_eq!(contents(&again, &again.view()).await.len(), 2);
        assert_eq!(fs.stats().written_files, written);
        again.close().await.unwrap();
    });
}

/// Fails writes, or reads, from some moment on.
struct Failing {
    device: MemoryDevice,
    writes_fail: AtomicBool,
    reads_fail: AtomicBool,
}

impl Failing {
    fn check(&self, flag: &AtomicBool, op: &'static str, offset: u64) -> DeviceResult<()> {
        if flag.load(Ordering::SeqCst) {
            let device = "failing".to_owned();
            return Err(DeviceError::Io { op, offset, len: 0, device, reason: "injected".to_owned() });
        }
        Ok(())
    }
}

impl BlockingDevice for Failing {
    fn geometry(&self) -> &Geometry {
        self.device.geometry()
    }
    fn name(&self) -> &str {
        "failing"
    }
    fn read_at(&self, offset: u64, memory: &mut [u8]) -> DeviceResult<()> {
        self.check(&self.reads_fail, "read", offset)?;
        self.device.read_at(offset, memory)
    }
    fn write_at(&self, offset: u64, memory: &[u8]) -> DeviceResult<()> {
        self.check(&self.writes_fail, "write", offset)?;
        self.device.write_at(offset, memory)
    }
    fn flush(&self) -> DeviceResult<()> {
        self.check(&self.writes_fail, "flush", 0)?;
        BlockingDevice::flush(&self.device)
    }
    fn discard(&self, _: u64, _: u64) -> DeviceResult<()> {
        Ok(())
    }
}

#[test]
fn a_failed_write_is_final_and_loses_nothing_flushed() {
    on_core(|core| async move {
        let memory = formatted(16 << 20);
        let failing = Arc::new(Failing {
            device: memory.clone(),
            writes_fail: AtomicBool::new(false),
            reads_fail: AtomicBool::new(false),
        });
        let store = open(&core, failing.clone()).await;
        store.apply(suite::puts(&[("Ma", "kept")])).await.unwrap();
        store.flush().await.unwrap();
        failing.writes_fail.store(true, Ordering::SeqCst);
        store.apply(suite::puts(&[("Mb", "lost")])).await.unwrap();
        let failed = store.flush().await;
        assert!(matches!(failed, Err(KvError::Io(_))), "{failed:?}");
        let after = store.apply(suite::puts(&[("Mc", "refused")])).await.err();
        assert!(matches!(after, Some(KvError::Closed(_))), "{after:?}");
        assert!(matches!(store.flush().await, Err(KvError::Closed(_))));
        store.close().await.unwrap();
        failing.writes_fail.store(false, Ordering::SeqCst);
        let store = open(&core, Arc::new(memory)).await;
        assert_eq!(contents(&store, &store.view()).await.len(), 1);
        store.close().await.unwrap();
    });
}

#[test]
fn a_failed_read_fails_that_read_only() {
    on_core(|core| async move {
        let memory = formatted(16 << 20);
        let failing = Arc::new(Failing {
            device: memory,
            writes_fail: AtomicBool::new(false),
            reads_fail: AtomicBool::new(false),
        });
        let store = open(&core, failing.clone()).await;
        let value = "x".repeat(30_000);
        for index in 0..20 {
            store.apply(suite::puts(&[(&format!("M{index:02}"), &value)])).await.unwrap();
        }
        store.flush().await.unwrap();
        let view = store.view();
        failing.reads_fail.store(true, Ordering::SeqCst);
        let keys = |index: usize| vec![format!("M{index:02}").into()];
        let failed = store.get(&view, keys(7)).await;
        assert!(matches!(failed, Err(KvError::Io(_))), "{failed:?}");
        failing.reads_fail.store(false, Ordering::SeqCst);
        assert!(store.get(&view, keys(7)).await.unwrap()[0].is_some());
        store.close().await.unwrap();
    });
}

/// Of six files, for which the store keeps room.
const OPTIONS_BYTES_MAX: u64 = 128 << 10;

#[test]
fn a_full_store_refuses_batches_and_stays_up() {
    on_core(|core| async move {
        let device = Arc::new(formatted(6 << 20));
        let store = open(&core, device.clone()).await;
        let mut workload = Workload::new(9);
        let mut written = 0;
        let full = loop {
            let value: String = (0..20_000).map(|_| char::from(33 + workload.draw(90) as u8)).collect();
            match store.apply(suite::puts(&[(&format!("M{written:05}"), &value)])).await {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
            store.flush().await.unwrap();
        };
        assert!(matches!(full, KvError::Full(_)), "{full}");
        assert!(written > 30, "{written} values of 20 kB in 6 MiB");
        assert_eq!(contents(&store, &store.view()).await.len(), written);
        store.flush().await.unwrap();
        store.close().await.unwrap();
        // What is kept free is enough for what is written when compactions begin.
        let store = open(&core, device).await;
        store.make_headroom(0, Compact::Never).await.unwrap();
        assert_eq!(contents(&store, &store.view()).await.len(), written);
        let options = files(&store, |name| name.starts_with("OPTIONS-"));
        let bytes: u64 = options.iter().map(|(_, bytes)| bytes).sum();
        assert!(options.len() == 2 && 3 * bytes <= OPTIONS_BYTES_MAX, "{options:?}");
        assert_eq!(store.report().await.unwrap().background_errors, 0);
        store.close().await.unwrap();
    });
}

/// RocksDB's files whose names are such: names and bytes.
fn files(store: &RocksKv, is_one: impl Fn(&str) -> bool) -> Vec<(String, u64)> {
    let all = store.fs().with(|machine| {
        let mut all = Vec::new();
        for dir in machine.directories() {
            for name in machine.list(&dir)?.into_iter().filter(|name| is_one(name)) {
                let bytes = machine.size(&format!("{dir}/{name}"))?;
                all.push((name, bytes));
            }
        }
        Ok(all)
    });
    all.unwrap()
}

fn sorted_files(store: &RocksKv) -> usize {
    files(store, |name| name.ends_with(".sst")).len()
}

/// What a store was killed in is not gone on with while it is opened, nor by who only looks; but in every family from then on.
#[test]
fn no_compaction_begins_before_it_is_asked_for() {
    const FLUSHES: usize = 8;
    on_core(|core| async move {
        let device = Arc::new(formatted(16 << 20));
        let store = RocksKv::mount(core, device, mount_options(), None, rocks_options()).await.unwrap();
        for _ in 0..FLUSHES {
            store.apply(suite::puts(&[("A", "rest"), ("Ma", "omap"), ("Oa", "node")])).await.unwrap();
            store.flush().await.unwrap();
        }
        thread::sleep(Duration::from_millis(200));
        assert_eq!(sorted_files(&store), 3 * FLUSHES);
        store.begin_compacting();
        let mut waited = 0;
        while sorted_files(&store) >= FLUSHES {
            // RocksDB's threads are real ones.
            store.make_headroom(0, Compact::Never).await.unwrap();
            thread::sleep(Duration::from_millis(10));
            waited += 1;
            assert!(waited < 3000, "{} files of {FLUSHES} flushes are left", sorted_files(&store));
        }
        store.close().await.unwrap();
    });
}

/// Every compaction of a full store would rewrite all of it, for the few keys that were removed since the one before.
#[test]
fn a_full_store_compacts_for_what_is_worth_it() {
    on_core(|core| async move {
        let store = open(&core, Arc::new(formatted(6 << 20))).await;
        let mut workload = Workload::new(9);
        let key = |number: usize| Bytes::from(format!("M{number:05}"));
        let mut written = 0;
        // Full enough for compactions to be wanted, and with room for removals.
        while store.stats().headroom_bytes.unwrap() > 512 << 10 {
            let value: String = (0..20_000).map(|_| char::from(33 + workload.draw(90) as u8)).collect();
            let put = KvOp::Put(key(written), Bytes::from(value));
            store.apply(KvBatch { ops: vec![put] }).await.unwrap();
            store.flush().await.unwrap();
            written += 1;
        }
        let remove = async |from: usize, to: usize| {
            let range = KvOp::DeleteRange(key(from), key(to));
            store.apply(KvBatch { ops: vec![range] }).await.unwrap();
            store.flush().await.unwrap();
        };
        // The first is for what may have been removed before; nothing was.
        store.make_headroom(u64::MAX / 8, Compact::IfAny).await.unwrap();
        let before = store.stats();
        for number in 0..3 {
            for _ in 0..5 {
                store.make_headroom(u64::MAX / 8, Compact::IfWorthIt).await.unwrap();
            }
            remove(number, number + 1).await;
        }
        assert_eq!(store.stats().compactions, before.compactions, "for three keys of {written}");
        remove(3, 3 + written / 8).await;
        store.make_headroom(u64::MAX / 8, Compact::IfWorthIt).await.unwrap();
        assert_eq!(store.stats().compactions, before.compactions + 1, "for an eighth of them");
        let gained = store.stats().headroom_bytes.unwrap() - before.headroom_bytes.unwrap();
        assert!(gained > written as u64 / 8 * 20_000 / 4, "{gained} bytes of headroom");
        // Little is not forgotten either, and who cannot do without does not wait.
        remove(written - 1, written).await;
        store.make_headroom(u64::MAX / 8, Compact::IfWorthIt).await.unwrap();
        assert_eq!(store.stats().compactions, before.compactions + 1);
        core.sleep(Duration::from_secs(2)).await;
        assert_eq!(store.stats().compactions, before.compactions + 1, "nobody wants anything");
        store.make_headroom(u64::MAX / 8, Compact::IfWorthIt).await.unwrap();
        assert_eq!(store.stats().compactions, before.compactions + 2);
        remove(written - 2, written - 1).await;
        store.make_headroom(u64::MAX / 8, Compact::IfAny).await.unwrap();
        assert_eq!(store.stats().compactions, before.compactions + 3);
        store.close().await.unwrap();
    });
}

/// What compactions write ends in more files than they merge, the more the sparser the keys are; and one that begins while
/// another runs would keep the inputs of both. None of that may take what was promised.
#[test]
fn headroom_is_never_taken_back() {
    on_core(|core| async move {
        let store = open(&core, Arc::new(formatted(40 << 20))).await;
        let mut workload = Workload::new(5);
        let (mut written, mut promised, mut compacted) = (0, 0, 0);
        loop {
            let entries: Vec<(String, String)> = (0..40)
                .map(|entry| {
                    let value = (0..256).map(|_| char::from(33 + workload.draw(90) as u8)).collect();
                    (format!("M{:03}-{written:05}-{entry}", written % 100), value)
                })
                .collect();
            let batch =
                suite::puts(&entries.iter().map(|(key, value)| (&key[..], &value[..])).collect::<Vec<_>>());
            let stats = store.stats();
            let cost = batch.bytes() + stats.flush_bytes;
            promised = stats.headroom_bytes.unwrap().max(promised);
            if promised < cost {
                break;
            }
            store.apply(batch).await.unwrap();
            store.flush().await.unwrap();
            promised -= cost;
            written += 1;
            if workload.draw(16) == 0 {
                store.compact().await.unwrap();
                compacted += 1;
            }
            // Whoever relies on it keeps what a few flushes take beside.
            let headroom = store.stats().headroom_bytes.unwrap() + stats.flush_bytes;
            assert!(headroom >= promised, "{headroom} after {written}, {promised} was promised");
        }
        assert!(written > 1500 && compacted > 50, "{written} {compacted}");
        store.close().await.unwrap();
    });
}
