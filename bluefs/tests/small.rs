//! A file system that is lent pieces smaller than its allocation unit, as nothing else is free on its device.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::Arc;

use allocator::Extent;
use bluefs::fs::{BlueFs, FormatOptions, FsError, Loaded, MountOptions, Move};
use nvme::joined::member_base;
use nvme::{
    BlockingDevice, BlockingJoined, Geometry, JoinedState, MemoryDevice, Recording, RecordingBlockingDevice,
};
use uuid::Uuid;

const BLOCK: u64 = 4096;
const UNIT: u64 = 64 << 10;
const COPIES: [u64; 2] = [0, UNIT];
/// What it has from the start: two logs' worth for itself, a log, and two units.
const SPACE: Extent = Extent { start: 2 * UNIT, len: 5 * UNIT };
const SIZE: u64 = 8 << 20;

fn geometry() -> Geometry {
    Geometry { volatile_cache: true, atomic_write_unit: 512, ..MemoryDevice::default_geometry(SIZE) }
}

fn format(device: &dyn BlockingDevice, fast: Option<Extent>) {
    let usual = FormatOptions::new(Uuid::from_u128(7), COPIES, vec![SPACE], 1);
    BlueFs::format(device, &FormatOptions { log_bytes_min: UNIT, fast, ..usual }).unwrap();
}

fn mount(device: &Arc<dyn BlockingDevice>, nonce: u64, fast: Option<Extent>) -> BlueFs {
    let options = MountOptions { superblocks: COPIES, nonce, low_water: 0, lend: UNIT, fast };
    BlueFs::mount(Arc::clone(device), options, None).unwrap()
}

/// Every other block of the rest of the device, so many of them.
fn holes(count: u64) -> Vec<Extent> {
    (0..count).map(|n| Extent::new((1 << 20) + 2 * n * BLOCK, BLOCK)).collect()
}

fn content(seed: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u64 * 31 + seed * 7 + (at as u64 >> 8)) as u8).collect()
}

fn write(fs: &BlueFs, path: &str, bytes: &[u8]) -> Result<(), FsError> {
    let mut writer = fs.create(path)?;
    writer.append(bytes)?;
    writer.sync()
}

fn read(fs: &BlueFs, path: &str) -> Vec<u8> {
    let reader = fs.open(path).unwrap();
    let mut all = vec![0; reader.size().unwrap() as usize];
    reader.read_at(0, &mut all).unwrap();
    all
}

fn clean(device: &dyn BlockingDevice) -> Loaded {
    let loaded = BlueFs::load(device, COPIES).unwrap();
    assert_eq!(loaded.check(COPIES), []);
    loaded
}

#[test]
fn units_that_are_free_one_by_one_are_given_back() {
    let device: Arc<dyn BlockingDevice> = Arc::new(MemoryDevice::with_geometry("memory", geometry()));
    format(&*device, None);
    let fs = mount(&device, 1, None);
    let lent = Extent::new(1 << 20, 4 << 20);
    fs.add_space(&[lent]).unwrap();
    let files = || (0..64).map(|number| format!("db/{number}"));
    fs.with(|machine| machine.create_dir("db")).unwrap();
    files().for_each(|path| write(&fs, &path, &content(1, 1000)).unwrap());
    // Every other one goes: no two units lie together.
    for path in files().step_by(2) {
        fs.with(|machine| machine.unlink(&path)).unwrap();
    }
    fs.sync_metadata().unwrap();
    let mut units = 0;
    loop {
        let given = fs.give_back(1 << 20, UNIT, 0, &[lent]).unwrap();
        if given.is_empty() {
            break;
        }
        units += given.iter().map(|extent| extent.len / UNIT).sum::<u64>();
    }
    assert!(units >= 25, "{units} units of 32 files came back");
    for path in files().skip(1).step_by(2) {
        assert_eq!(read(&fs, &path), content(1, 1000));
    }
    drop(fs);
    clean(&*device);
}

#[test]
fn files_have_what_they_need_although_only_single_blocks_are_free() {
    let device: Arc<dyn BlockingDevice> = Arc::new(MemoryDevice::with_geometry("device", geometry()));
    format(&*device, None);
    let fs = mount(&device, 2, None);
    fs.with(|machine| machine.create_dir("db")).unwrap();
    let is_full = |result| matches!(result, Err(FsError::NoSpace { .. }));
    assert!(is_full(write(&fs, "db/large", &content(1, 300_000))));
    fs.add_space(&holes(100)).unwrap();
    assert_eq!(fs.stats().small_bytes, 100 * BLOCK);
    write(&fs, "db/large", &content(1, 300_000)).unwrap();
    let loaded = clean(&*device);
    let extents: Vec<_> = loaded.tree.files.values().flat_map(|file| &file.extents).collect();
    assert!(extents.len() > 30, "units first, and then blocks: {extents:?}");
    fs.compact().unwrap();
    drop(fs);
    let fs = mount(&device, 3, None);
    assert!(read(&fs, "db/large") == content(1, 300_000));
    assert!(is_full(write(&fs, "db/more", &content(2, 300_000))));
    // Cut in the middle of the blocks, and written on.
    let mut writer = fs.open_append("db/large").unwrap();
    writer.truncate(150_000).unwrap();
    writer.append(&content(3, 100_000)).unwrap();
    writer.sync().unwrap();
    drop(writer);
    let bytes = [&content(1, 300_000)[..150_000], &content(3, 100_000)].concat();
    assert!(read(&fs, "db/large") == bytes);
    fs.compact().unwrap();
    clean(&*device);
    // As long as it is needed nothing goes; and then blocks first.
    let among = [holes(100), vec![SPACE]].concat();
    assert!(fs.give_back(1 << 20, UNIT, 1 << 20, &among).unwrap().is_empty());
    fs.with(|machine| machine.unlink("db/large")).unwrap();
    fs.sync_metadata().unwrap();
    let mut back = 0;
    while fs.stats().small_bytes > 0 {
        let given = fs.give_back(1 << 20, UNIT, 0, &among[..100]).unwrap();
        assert!(!given.is_empty() && given.len() <= 16 && given.iter().all(|extent| extent.len == BLOCK));
        back += given.len();
    }
    assert_eq!(back, 100);
    assert!(fs.give_back(1 << 20, UNIT, 0, &among).unwrap().iter().all(|extent| extent.len % UNIT == 0));
    clean(&*device);
}

#[test]
fn what_holds_a_unit_is_taken_as_one() {
    let device: Arc<dyn BlockingDevice> = Arc::new(MemoryDevice::with_geometry("device", geometry()));
    format(&*device, None);
    let fs = mount(&device, 2, None);
    let before = fs.stats();
    // A block before two units, and half of one behind them.
    fs.add_space(&[Extent::new((1 << 20) - BLOCK, BLOCK + 2 * UNIT + UNIT / 2)]).unwrap();
    let after = fs.stats();
    assert_eq!((before.small_bytes, after.small_bytes), (0, BLOCK + UNIT / 2));
    assert_eq!(after.space_bytes - before.space_bytes, BLOCK + 2 * UNIT + UNIT / 2);
    for wrong in [Extent::new((2 << 20) + 512, BLOCK), Extent::new(2 << 20, 512), Extent::new(1 << 20, BLOCK)]
    {
        assert!(matches!(fs.add_space(&[wrong]), Err(FsError::Space { .. })), "{wrong}");
    }
    clean(&*device);
}

#[test]
fn blocks_move_to_the_fast_device_and_from_it() {
    let member =
        || Some(Arc::new(MemoryDevice::with_geometry("device", geometry())) as Arc<dyn BlockingDevice>);
    let device: Arc<dyn BlockingDevice> =
        Arc::new(BlockingJoined::new(vec![member(), member()], JoinedState::new()));
    let fast = |units: u64| Some(Extent::new(member_base(1), units * UNIT));
    format(&*device, fast(1));
    let fs = mount(&device, 2, fast(1));
    fs.with(|machine| machine.create_dir("db")).unwrap();
    fs.add_space(&holes(100)).unwrap();
    write(&fs, "db/file", &content(1, 400_000)).unwrap();
    assert!(fs.stats().spilled_bytes > 200_000);
    fs.grow_fast(fast(16).unwrap()).unwrap();
    fs.move_files(Move::IntoFast, u64::MAX).unwrap();
    fs.compact().unwrap();
    let is_fast = |extent: &Extent| extent.start >= member_base(1);
    assert!(clean(&*device).tree.files.values().all(|file| file.extents.iter().all(is_fast)));
    fs.move_files(Move::OutOfFast, u64::MAX).unwrap();
    let loaded = clean(&*device);
    assert!(!loaded.tree.files.values().any(|file| file.extents.iter().any(is_fast)));
    assert!(read(&fs, "db/file") == content(1, 400_000));
}

#[test]
fn nothing_is_lost_wherever_power_is_cut_while_blocks_come_and_go() {
    let initial = MemoryDevice::with_geometry("device", geometry());
    format(&initial, None);
    let recording = Recording::new(geometry(), initial.image());
    let device: Arc<dyn BlockingDevice> =
        Arc::new(RecordingBlockingDevice::new(recording.clone(), Arc::new(initial)));
    let fs = mount(&device, 2, None);
    fs.with(|machine| machine.create_dir("db")).unwrap();
    let sizes = [70_000, 150_000, 5_000, 120_000];
    for (number, size) in (0_u64..).zip(sizes) {
        fs.add_space(&holes(100)[number as usize * 25..][..25]).unwrap();
        write(&fs, &format!("db/{number}"), &content(number, size)).unwrap();
        recording.mark(number + 1);
        if number == 2 {
            fs.with(|machine| machine.unlink("db/1")).unwrap();
            fs.sync_metadata().unwrap();
            recording.mark(100);
            fs.give_back(20 * BLOCK, UNIT, 0, &holes(100)).unwrap();
            fs.compact().unwrap();
        }
    }
    drop((fs, device));
    let mut cuts = 0;
    for cut in recording.cuts() {
        let moment = recording.at(cut);
        let marks = moment.marks().to_vec();
        for choice in moment.choices(3) {
            let device: Arc<dyn BlockingDevice> = Arc::new(moment.image(&choice));
            clean(&*device);
            let fs = mount(&device, 1000 + cut as u64, None);
            for (number, size) in (0_u64..).zip(sizes) {
                let is_there = marks.contains(&(number + 1)) && !(number == 1 && marks.contains(&100));
                let may_be_gone = number == 1 && marks.contains(&3);
                if is_there && !may_be_gone {
                    assert!(read(&fs, &format!("db/{number}")) == content(number, size), "{number} at {cut}");
                }
            }
            clean(&*device);
            cuts += 1;
        }
    }
    assert!(cuts > 50, "{cuts}");
}
