//! The blocking shell over memory: files, names, the log, lending, threads, failures.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use allocator::Extent;
use bluefs::fs::{BlueFs, FormatOptions, FsError, MountOptions, Superblock, space_desk};
use nvme::{BlockingDevice, DeviceError, DeviceResult, DmaBuf, Geometry, MemoryDevice};
use uuid::Uuid;

const COPIES: [u64; 2] = [0, 4096];
const UNIT: u64 = 4096;

fn options(nonce: u64) -> MountOptions {
    MountOptions { superblocks: COPIES, nonce, low_water: 0, lend: 1 << 20, fast: None }
}

fn format_options(space: Vec<Extent>) -> FormatOptions {
    FormatOptions {
        alloc_unit: UNIT as u32,
        log_bytes_min: 4 * UNIT,
        ..FormatOptions::new(Uuid::from_u128(7), COPIES, space, 1)
    }
}

fn fresh(size: u64) -> (Arc<MemoryDevice>, BlueFs) {
    let device = Arc::new(MemoryDevice::new(size));
    BlueFs::format(&*device, &format_options(vec![Extent::new(2 * 4096, size - 2 * 4096)])).unwrap();
    let fs = BlueFs::mount(device.clone(), options(2), None).unwrap();
    fs.with(|machine| machine.create_dir("db")).unwrap();
    (device, fs)
}

fn content(seed: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u64 * 31 + seed * 7 + (at as u64 >> 8)) as u8).collect()
}

fn write(fs: &BlueFs, path: &str, bytes: &[u8]) {
    let mut writer = fs.create(path).unwrap();
    writer.append(bytes).unwrap();
    writer.sync().unwrap();
}

fn read(fs: &BlueFs, path: &str) -> Vec<u8> {
    let reader = fs.open(path).unwrap();
    let mut all = vec![0; reader.size().unwrap() as usize + 100];
    let len = reader.read_at(0, &mut all).unwrap();
    all.truncate(len);
    all
}

fn clean(device: &dyn BlockingDevice) {
    let loaded = BlueFs::load(device, COPIES).unwrap();
    assert_eq!(loaded.check(COPIES), []);
}

#[test]
fn files_come_back_after_a_mount() {
    let (device, fs) = fresh(16 << 20);
    for (index, len) in [0, 1, 4095, 4096, 4097, 600_000, 3_000_000].into_iter().enumerate() {
        write(&fs, &format!("db/{index}"), &content(index as u64, len));
        assert_eq!(read(&fs, &format!("db/{index}")), content(index as u64, len));
    }
    fs.sync_metadata().unwrap();
    drop(fs);
    clean(&*device);
    let fs = BlueFs::mount(device, options(3), None).unwrap();
    assert_eq!(fs.with(|machine| machine.list("db")).unwrap(), ["0", "1", "2", "3", "4", "5", "6"]);
    for (index, len) in [0, 1, 4095, 4096, 4097, 600_000, 3_000_000].into_iter().enumerate() {
        assert_eq!(read(&fs, &format!("db/{index}")), content(index as u64, len));
    }
    let reader = fs.open("db/6").unwrap();
    let mut part = [0; 5000];
    assert_eq!(reader.read_at(2_997_000, &mut part).unwrap(), 3000);
    assert_eq!(part[..3000], content(6, 3_000_000)[2_997_000..]);
    assert_eq!(reader.read_at(3_000_001, &mut part).unwrap(), 0);
    assert_eq!(reader.read_at(u64::MAX, &mut part).unwrap(), 0);
}

#[test]
fn unsynced_bytes_are_readable_but_may_be_lost() {
    let (device, fs) = fresh(16 << 20);
    let mut writer = fs.create("db/a").unwrap();
    writer.append(&content(1, 700_000)).unwrap();
    writer.sync().unwrap();
    writer.append(&content(2, 800_000)).unwrap();
    let expected = [content(1, 700_000), content(2, 800_000)].concat();
    assert_eq!(read(&fs, "db/a"), expected);
    writer.flush().unwrap();
    assert_eq!(read(&fs, "db/a"), expected);
    let other = BlueFs::mount(Arc::new(device.snapshot()), options(9), None).unwrap();
    assert_eq!(read(&other, "db/a"), content(1, 700_000));
    drop(writer);
    assert_eq!(read(&fs, "db/a"), content(1, 700_000), "what was not synced is let go with its writer");
}

#[test]
fn appending_and_truncating_across_mounts() {
    let (device, fs) = fresh(16 << 20);
    let mut expected = content(1, 10_000);
    write(&fs, "db/a", &expected);
    drop(fs);
    for round in 0..40_u64 {
        let fs = BlueFs::mount(device.clone(), options(10 + round), None).unwrap();
        let mut writer = fs.open_append("db/a").unwrap();
        assert!(matches!(fs.open_append("db/a"), Err(FsError::Busy { .. })));
        if round % 3 == 2 {
            let size = expected.len() as u64 * (round % 7) / 7;
            writer.truncate(size).unwrap();
            expected.truncate(size as usize);
        }
        let more = content(round, (round as usize * 977) % 9000);
        writer.append(&more).unwrap();
        expected.extend(&more);
        assert_eq!(read(&fs, "db/a"), expected);
        writer.sync().unwrap();
        drop(writer);
        assert_eq!(read(&fs, "db/a"), expected);
        drop(fs);
        clean(&*device);
    }
    let fs = BlueFs::mount(device, options(100), None).unwrap();
    assert_eq!(read(&fs, "db/a"), expected);
}

#[test]
fn names_follow_the_rules() {
    let (device, fs) = fresh(4 << 20);
    write(&fs, "db/a", b"a");
    write(&fs, "db/b", b"b");
    fs.with(|machine| machine.rename("db/a", "db/b")).unwrap();
    assert_eq!(read(&fs, "db/b"), b"a");
    assert!(matches!(fs.open("db/a"), Err(FsError::NotFound { .. })));
    assert!(matches!(fs.open("nowhere/a"), Err(FsError::NotFound { .. })));
    assert!(matches!(fs.create("nowhere/a"), Err(FsError::NotFound { .. })));
    assert!(matches!(fs.create("a"), Err(FsError::Name { .. })));
    assert!(matches!(fs.create(&format!("db/{}", "x".repeat(256))), Err(FsError::Name { .. })));
    assert!(matches!(fs.with(|machine| machine.create_dir("db")), Err(FsError::Exists { .. })));
    assert!(matches!(fs.with(|machine| machine.remove_dir("db")), Err(FsError::NotEmpty { .. })));
    fs.with(|machine| machine.rename("db/b", "db/b")).unwrap();
    fs.with(|machine| machine.create_dir("db/archive")).unwrap();
    write(&fs, "db/archive/a", b"c");
    fs.with(|machine| machine.unlink("db/archive/a")).unwrap();
    fs.with(|machine| machine.remove_dir("db/archive")).unwrap();
    let writer = fs.create("db/w").unwrap();
    assert!(matches!(fs.create("db/w"), Err(FsError::Busy { .. })));
    drop(writer);
    fs.sync_metadata().unwrap();
    clean(&*device);
}

#[test]
fn an_unlinked_file_stays_readable_and_its_space_comes_back() {
    let (device, fs) = fresh(4 << 20);
    let before = fs.stats().free_bytes;
    write(&fs, "db/a", &content(3, 1_000_000));
    let reader = fs.open("db/a").unwrap();
    fs.with(|machine| machine.unlink("db/a")).unwrap();
    fs.sync_metadata().unwrap();
    // Enough to reuse the space if it were free.
    write(&fs, "db/b", &content(4, 1_500_000));
    let mut all = vec![0; 1_000_000];
    assert_eq!(reader.read_at(0, &mut all).unwrap(), 1_000_000);
    assert_eq!(all, content(3, 1_000_000));
    drop(reader);
    fs.with(|machine| machine.unlink("db/b")).unwrap();
    assert!(fs.stats().free_bytes < before, "space is not free before its free is durable");
    fs.sync_metadata().unwrap();
    assert_eq!(fs.stats().free_bytes, before);
    clean(&*device);
}

#[test]
fn the_log_is_compacted_and_never_lost() {
    let (device, fs) = fresh(8 << 20);
    let mut writer = fs.create("db/log").unwrap();
    let mut expected = Vec::new();
    for round in 0..300 {
        writer.append(&content(round, 100)).unwrap();
        expected.extend(content(round, 100));
        writer.sync().unwrap();
        if round % 20 == 0 {
            write(&fs, &format!("db/{round}"), &content(round, 50));
        }
    }
    let stats = fs.stats();
    assert!(stats.compactions > 20, "{stats:?}");
    drop((writer, fs));
    let fs = BlueFs::mount(device, options(4), None).unwrap();
    assert_eq!(read(&fs, "db/log"), expected);
    assert_eq!(fs.stats().files, 16);
}

#[test]
fn either_superblock_copy_is_enough_and_neither_is_an_error() {
    let (device, fs) = fresh(4 << 20);
    write(&fs, "db/a", b"kept");
    drop(fs);
    for copy in COPIES {
        let damaged = device.snapshot();
        damaged.write_at(copy, &nvme::DmaBuf::from_slice_padded(&[0xa5; 4096], 4096)).unwrap();
        let fs = BlueFs::mount(Arc::new(damaged), options(5), None).unwrap();
        assert_eq!(read(&fs, "db/a"), b"kept");
    }
    for copy in COPIES {
        device.write_at(copy, &nvme::DmaBuf::zeroed(4096)).unwrap();
    }
    let refused = BlueFs::mount(device, options(6), None).err();
    assert_eq!(refused, Some(FsError::NotFormatted { offsets: COPIES }));
}

#[test]
fn damage_in_the_log_is_corruption_not_truncation() {
    let device = Arc::new(MemoryDevice::new(4 << 20));
    let format =
        FormatOptions { log_bytes_min: 16 * UNIT, ..format_options(vec![Extent::new(2 * 4096, 2 << 20)]) };
    BlueFs::format(&*device, &format).unwrap();
    let fs = BlueFs::mount(device.clone(), options(2), None).unwrap();
    fs.with(|machine| machine.create_dir("db")).unwrap();
    for index in 0..6 {
        write(&fs, &format!("db/{index}"), b"x");
    }
    drop(fs);
    // One block of snapshot, then a group of one block per file.
    let loaded = BlueFs::load(&*device, COPIES).unwrap();
    let superblock: &Superblock = &loaded.superblock;
    assert_eq!((superblock.snapshot_bytes, loaded.tree.files.len()), (4096, 6));
    for block in 0..7 {
        let damaged = device.snapshot();
        let at = superblock.log[0].start + block * 4096;
        damaged.write_at(at, &nvme::DmaBuf::zeroed(4096)).unwrap();
        let result = BlueFs::load(&damaged, COPIES);
        if block < 6 {
            // The groups that follow prove that it was durable.
            assert!(matches!(result, Err(FsError::Corrupt { .. })), "block {block}: {:?}", result.is_ok());
        } else {
            assert_eq!(
                result.unwrap().tree.files.len(),
                5,
                "the last group may have been torn by power loss"
            );
        }
    }
}

/// Polls a future on this thread, parked in between.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn space_is_lent_ahead_and_given_back() {
    let device = Arc::new(MemoryDevice::new(64 << 20));
    let start = 2 * 4096;
    BlueFs::format(&*device, &format_options(vec![Extent::new(start, 1 << 20)])).unwrap();
    let (desk, requests) = space_desk();
    let mount = MountOptions { low_water: 512 << 10, lend: 2 << 20, ..options(2) };
    let fs = BlueFs::mount(device.clone(), mount, Some(desk)).unwrap();
    fs.with(|machine| machine.create_dir("db")).unwrap();
    let lending = std::thread::spawn(move || {
        let (mut at, mut asked) = (start + (1 << 20), 0);
        block_on(async move {
            while let Some(wish) = requests.next().await {
                let bytes = wish.bytes;
                asked += 1;
                if at + bytes > 24 << 20 {
                    requests.deny();
                } else {
                    requests.grant(vec![Extent::new(at, bytes)]);
                    at += bytes;
                }
            }
            asked
        })
    });
    let mut writer = fs.create("db/big").unwrap();
    let mut written = 0;
    let full = loop {
        match writer.append(&content(written, 300_000)).and_then(|()| writer.sync()) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, FsError::NoSpace { .. }), "{full}");
    assert!(written > 60, "{written} appends of 300 kB in 24 MiB");
    // Full is not dead: names still change, deletes make room, and the room goes back.
    drop(writer);
    fs.with(|machine| machine.unlink("db/big")).unwrap();
    fs.sync_metadata().unwrap();
    write(&fs, "db/small", b"room again");
    let given = fs.give_back(16 << 20, 1 << 20, 0, &[Extent::new(0, u64::MAX)]).unwrap();
    assert_eq!(given.iter().map(|extent| extent.len).sum::<u64>(), 16 << 20);
    assert!(
        fs.add_space(&[Extent::new(4096, UNIT)]).is_ok_and(|()| true),
        "not lent so far, so free to lend"
    );
    let twice = fs.add_space(&[Extent::new(start, UNIT)]);
    assert!(twice.is_err(), "{twice:?}");
    assert!(fs.add_space(&[Extent::new(1, UNIT)]).is_err());
    assert!(fs.add_space(&[Extent::new(64 << 20, UNIT)]).is_err());
    drop(fs);
    let asked = lending.join().unwrap();
    assert!(asked >= 12, "asked {asked} times");
    // 4096.. is the second superblock copy: lending it was the lender's mistake, and is found.
    let found = BlueFs::load(&*device, COPIES).unwrap();
    let problems: Vec<String> = found.check(COPIES).iter().map(ToString::to_string).collect();
    assert!(matches!(&problems[..], [one] if one.ends_with("holds the superblock at 4096")), "{problems:?}");
}

#[test]
fn space_whose_free_is_not_durable_yet_is_made_free_when_needed() {
    let (_, fs) = fresh(4 << 20);
    for round in 0..20 {
        // More than half of the space each time, and nobody syncs the unlink.
        write(&fs, "db/a", &content(round, 2_500_000));
        fs.with(|machine| machine.unlink("db/a")).unwrap();
    }
}

#[test]
fn threads_share_one_file_system() {
    let (device, fs) = fresh(64 << 20);
    std::thread::scope(|scope| {
        for thread in 0..6_u64 {
            let fs = fs.clone();
            scope.spawn(move || {
                for round in 0..20 {
                    let path = format!("db/{thread}-{round}");
                    let bytes = content(
                        thread * 100 + round,
                        1 + (thread * 7919 + round * 104_729) as usize % 400_000,
                    );
                    write(&fs, &format!("{path}.tmp"), &bytes);
                    fs.with(|machine| machine.rename(&format!("{path}.tmp"), &path)).unwrap();
                    fs.sync_metadata().unwrap();
                    assert_eq!(read(&fs, &path), bytes);
                    if round % 3 == 0 {
                        fs.with(|machine| machine.unlink(&path)).unwrap();
                    }
                }
            });
        }
    });
    drop(fs);
    clean(&*device);
    let fs = BlueFs::mount(device, options(8), None).unwrap();
    for thread in 0..6_u64 {
        for round in (0..20).filter(|round| round % 3 != 0) {
            let len = 1 + (thread * 7919 + round * 104_729) as usize % 400_000;
            assert_eq!(read(&fs, &format!("db/{thread}-{round}")), content(thread * 100 + round, len));
        }
    }
}

/// Fails the n-th write or flush.
struct Failing {
    device: MemoryDevice,
    geometry: Geometry,
    left: AtomicU64,
}

impl Failing {
    fn count(&self, op: &'static str, offset: u64) -> DeviceResult<()> {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.left.store(0, Ordering::SeqCst);
            let device = "failing".to_owned();
            return Err(DeviceError::Io { op, offset, len: 0, device, reason: "injected".to_owned() });
        }
        Ok(())
    }
}

impl BlockingDevice for Failing {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }
    fn name(&self) -> &str {
        "failing"
    }
    fn read_at(&self, offset: u64, memory: &mut [u8]) -> DeviceResult<()> {
        self.device.read_at(offset, memory)
    }
    fn write_at(&self, offset: u64, memory: &[u8]) -> DeviceResult<()> {
        self.count("write", offset)?;
        self.device.write_at(offset, memory)
    }
    fn flush(&self) -> DeviceResult<()> {
        self.count("flush", 0)?;
        BlockingDevice::flush(&self.device)
    }
    fn discard(&self, _: u64, _: u64) -> DeviceResult<()> {
        Ok(())
    }
}

#[test]
fn a_failed_write_or_flush_ends_the_mount_and_loses_nothing_synced() {
    let (device, fs) = fresh(4 << 20);
    write(&fs, "db/kept", &content(1, 5000));
    drop(fs);
    for after in 7..41 {
        let copy = device.snapshot();
        let mut geometry = copy.geometry().clone();
        geometry.volatile_cache = true;
        let failing = Failing { device: copy.clone(), geometry, left: AtomicU64::new(after) };
        let fs = BlueFs::mount(Arc::new(failing), options(20 + after), None).unwrap();
        let mut synced = Vec::new();
        let error = loop {
            let path = format!("db/{}", synced.len());
            let attempt = || {
                let mut writer = fs.create(&path)?;
                writer.append(&content(9, 6000))?;
                writer.sync()
            };
            match attempt() {
                Ok(()) => synced.push(path),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, FsError::Device(_)), "{error}");
        assert!(matches!(fs.create("db/more"), Err(FsError::Failed { .. })));
        assert!(matches!(fs.sync_metadata(), Err(FsError::Failed { .. })));
        drop(fs);
        clean(&copy);
        let fs = BlueFs::mount(Arc::new(copy), options(21 + after), None).unwrap();
        assert_eq!(read(&fs, "db/kept"), content(1, 5000));
        for path in synced {
            assert_eq!(read(&fs, &path), content(9, 6000));
        }
    }
}

#[test]
fn a_superblock_of_a_log_that_is_gone_gives_way_to_the_other() {
    let (device, fs) = fresh(16 << 20);
    write(&fs, "db/1", &content(1, 9000));
    fs.sync_metadata().unwrap();
    drop(fs);
    // A mount that gets as far as one copy of its superblock. That cannot be read then, and can later, when its log is no
    // longer there.
    let later = Arc::new(device.snapshot());
    drop(BlueFs::mount(later.clone(), options(9), None).unwrap());
    let mut newer = DmaBuf::zeroed(4096);
    later.read_at(COPIES[1], &mut newer).unwrap();
    device.write_at(COPIES[1], &newer).unwrap();
    clean(&*device);
    let fs = BlueFs::mount(device.clone(), options(3), None).unwrap();
    assert_eq!(read(&fs, "db/1"), content(1, 9000));
    drop(fs);
    clean(&*device);
    // With one whole copy only, it is said.
    let newest = BlueFs::load(&*device, COPIES).unwrap().superblock;
    for extent in &newest.log {
        device.write_at(extent.start, &DmaBuf::zeroed(4096)).unwrap();
    }
    assert!(matches!(BlueFs::load(&*device, COPIES), Err(FsError::Corrupt { .. })));
}
