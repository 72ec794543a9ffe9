//! A file system on two devices: what spills, what moves back, what both devices lose at power loss.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use allocator::Extent;
use bluefs::fs::{
    BlueFs, Commit, FormatOptions, FsError, FsResult, FsStats, LocalBlueFs, Machine, MountOptions, Move,
    Record,
};
use nvme::joined::member_base;
use nvme::{
    BlockDevice, BlockingDevice, BlockingJoined, Joined, JoinedState, MemoryDevice, SimDisk, SimDiskConfig,
};
use rt::sim::{Config, RandomStream, Sim};
use rt::{Core, Group};
use uuid::Uuid;

const COPIES: [u64; 2] = [0, 4096];
const UNIT: u64 = 4096;
const MAIN: u64 = 3 << 20;
const FAST: u64 = 512 << 10;
/// Space of the main device where both are nearly full.
const TIGHT: u64 = 560 << 10;

fn fast(len: u64) -> Extent {
    Extent::new(member_base(1) + UNIT, len - UNIT)
}

fn options(nonce: u64, fast: Option<Extent>) -> MountOptions {
    MountOptions { superblocks: COPIES, nonce, low_water: 0, lend: 1 << 20, fast }
}

fn format_options(fast: Option<Extent>) -> FormatOptions {
    let space = vec![Extent::new(2 * UNIT, MAIN - 2 * UNIT)];
    let usual = FormatOptions::new(Uuid::from_u128(7), COPIES, space, 1);
    FormatOptions { alloc_unit: UNIT as u32, log_bytes_min: 4 * UNIT, fast, ..usual }
}

fn content(seed: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u64 * 31 + seed * 7 + (at as u64 >> 8)) as u8).collect()
}

/// Two devices in memory.
fn joined(main: &MemoryDevice, fast: &MemoryDevice) -> Arc<dyn BlockingDevice> {
    let member = |device: &MemoryDevice| Some(Arc::new(device.clone()) as Arc<dyn BlockingDevice>);
    Arc::new(BlockingJoined::new(vec![member(main), member(fast)], JoinedState::new()))
}

fn write(fs: &BlueFs, path: &str, bytes: &[u8]) {
    let mut writer = fs.create(path).unwrap();
    writer.append(bytes).unwrap();
    writer.sync().unwrap();
}

fn read(fs: &BlueFs, path: &str) -> Vec<u8> {
    let reader = fs.open(path).unwrap();
    let mut all = vec![0; reader.size().unwrap() as usize];
    reader.read_at(0, &mut all).unwrap();
    all
}

/// No bytes of files or log where there is no space for them, no byte twice, and counted as they are.
fn clean(device: &dyn BlockingDevice, stats: &FsStats) {
    let loaded = BlueFs::load(device, COPIES).unwrap();
    assert_eq!(loaded.check(COPIES), []);
    let files = loaded.tree.files.values().flat_map(|inode| &inode.extents);
    let in_main: u64 = files
        .chain(&loaded.superblock.log)
        .filter(|extent| extent.start < member_base(1))
        .map(|one| one.len)
        .sum();
    assert_eq!(in_main, stats.spilled_bytes);
}

#[test]
fn files_and_log_are_fast_until_they_spill_and_move_back_when_there_is_room() {
    let (main, db) = (MemoryDevice::new(MAIN), MemoryDevice::new(FAST));
    let device = joined(&main, &db);
    BlueFs::format(&*device, &format_options(Some(fast(FAST)))).unwrap();
    let fs = BlueFs::mount(Arc::clone(&device), options(2, Some(fast(FAST))), None).unwrap();
    fs.with(|machine| machine.create_dir("db")).unwrap();
    write(&fs, "db/first", &content(1, 300_000));
    let stats = fs.stats();
    assert_eq!((stats.fast_bytes, stats.spilled_bytes), (FAST - UNIT, 0));
    write(&fs, "db/second", &content(2, 700_000));
    clean(&*device, &fs.stats());
    // A write spills as a whole; what room it left is for moves.
    fs.move_files(Move::IntoFast, u64::MAX).unwrap();
    let (before, spilled) = (fs.stats().moved_bytes, fs.stats().spilled_bytes);
    assert!(spilled > 400_000, "{spilled}");
    assert_eq!(fs.move_files(Move::IntoFast, u64::MAX).unwrap(), 0, "there is no room");
    fs.compact().unwrap();
    assert_eq!(fs.stats().spilled_bytes, spilled, "the log's room is its own");

    let open = fs.open("db/second").unwrap();
    fs.with(|machine| machine.unlink("db/first")).unwrap();
    fs.sync_metadata().unwrap();
    let moved = fs.move_files(Move::IntoFast, 64 << 10).unwrap();
    assert!(moved >= 64 << 10, "{moved}");
    let more = fs.move_files(Move::IntoFast, u64::MAX).unwrap();
    let stats = fs.stats();
    assert_eq!(stats.moved_bytes - before, moved + more);
    assert_eq!(stats.spilled_bytes, spilled - moved - more, "what moved is free again");
    let kept = stats.fast_free_bytes;
    assert!(kept >= stats.fast_bytes / 16 && kept < 100_000, "{kept} stay for what is new");
    let mut bytes = vec![0; 700_000];
    open.read_at(0, &mut bytes).unwrap();
    assert!(bytes == content(2, 700_000) && read(&fs, "db/second") == bytes);
    clean(&*device, &fs.stats());
    drop((open, fs));
    let fs = BlueFs::mount(Arc::clone(&device), options(3, Some(fast(FAST))), None).unwrap();
    assert!(read(&fs, "db/second") == content(2, 700_000));
    clean(&*device, &fs.stats());
}

#[test]
fn both_spaces_fill_to_the_last_unit() {
    let (main, db) = (MemoryDevice::new(MAIN), MemoryDevice::new(FAST));
    let device = joined(&main, &db);
    BlueFs::format(&*device, &format_options(Some(fast(FAST)))).unwrap();
    let fs = BlueFs::mount(Arc::clone(&device), options(2, Some(fast(FAST))), None).unwrap();
    fs.with(|machine| machine.create_dir("db")).unwrap();
    let room = fs.with(|machine| Ok(machine.room())).unwrap();
    write(&fs, "db/all", &content(1, usize::try_from(room).unwrap()));
    assert_eq!(fs.with(|machine| Ok(machine.room())).unwrap(), 0);
    let mut writer = fs.create("db/more").unwrap();
    writer.append(b"no").unwrap();
    assert!(matches!(writer.sync(), Err(FsError::NoSpace { .. })));
    drop(writer);
    // The log's room is still there.
    fs.compact().unwrap();
    fs.compact().unwrap();
    clean(&*device, &fs.stats());
    assert!(read(&fs, "db/all") == content(1, usize::try_from(room).unwrap()));
}

#[test]
fn a_fast_space_is_added_and_grows_at_a_mount_and_is_never_left_out() {
    let (main, db) = (MemoryDevice::new(MAIN), MemoryDevice::new(FAST));
    BlueFs::format(&main, &format_options(None)).unwrap();
    let alone: Arc<dyn BlockingDevice> = Arc::new(main.clone());
    let fs = BlueFs::mount(Arc::clone(&alone), options(2, None), None).unwrap();
    fs.with(|machine| machine.create_dir("db")).unwrap();
    write(&fs, "db/old", &content(1, 200_000));
    drop(fs);
    let device = joined(&main, &db);
    let half = fast(FAST / 2);
    let fs = BlueFs::mount(Arc::clone(&device), options(3, Some(half)), None).unwrap();
    assert_eq!(fs.stats().fast_bytes, half.len);
    assert!(fs.move_files(Move::IntoFast, u64::MAX).unwrap() > 100_000);
    drop(fs);
    let fs = BlueFs::mount(Arc::clone(&device), options(4, Some(fast(FAST))), None).unwrap();
    assert_eq!(fs.stats().fast_bytes, fast(FAST).len);
    write(&fs, "db/new", &content(2, 200_000));
    assert!(read(&fs, "db/old") == content(1, 200_000));
    drop(fs);
    let image = |device: &MemoryDevice| {
        let mut bytes = vec![0; device.geometry().size as usize];
        device.image().read(0, &mut bytes);
        bytes
    };
    let before = (image(&main), image(&db));
    for wrong in [None, Some(half), Some(Extent::new(member_base(2), FAST))] {
        let mounted = BlueFs::mount(Arc::clone(&device), options(5, wrong), None);
        assert!(matches!(mounted, Err(FsError::Space { .. })), "{wrong:?}");
    }
    assert!(before == (image(&main), image(&db)), "what is refused is not written to");
}

#[test]
fn a_move_is_a_record_that_replaces_as_much() {
    let unit = |at: u64, len: u64| Extent::new(at * UNIT, len * UNIT);
    let file = |extents: Vec<Extent>| {
        let mut tree = bluefs::fs::Tree::default();
        let len = extents.iter().map(|extent| extent.len).sum();
        for record in [
            Record::DirCreate { dir: "db".into() },
            Record::FileCreate { ino: bluefs::fs::Ino(1), dir: "db".into(), name: "a".into() },
            Record::FileAppend { ino: bluefs::fs::Ino(1), allocated_before: 0, size: len, extents },
        ] {
            tree.apply(&record).unwrap();
        }
        tree
    };
    let moved = |at: u64, to: Vec<Extent>| -> FsResult<(Vec<Extent>, Vec<Extent>)> {
        let mut tree = file(vec![unit(10, 4), unit(20, 4)]);
        let freed = tree.apply(&Record::FileMove { ino: bluefs::fs::Ino(1), at: at * UNIT, extents: to })?;
        Ok((tree.files[&bluefs::fs::Ino(1)].extents.clone(), freed))
    };
    assert_eq!(moved(0, vec![unit(50, 4)]).unwrap(), (vec![unit(50, 4), unit(20, 4)], vec![unit(10, 4)]));
    assert_eq!(
        moved(3, vec![unit(50, 1), unit(60, 1)]).unwrap(),
        (vec![unit(10, 3), unit(50, 1), unit(60, 1), unit(21, 3)], vec![unit(13, 1), unit(20, 1)])
    );
    assert_eq!(moved(6, vec![unit(24, 2)]).unwrap().1, [unit(22, 2)]);
    for (at, to) in [(5, vec![unit(50, 4)]), (0, vec![]), (u64::MAX / UNIT, vec![unit(50, 1)])] {
        assert!(matches!(moved(at, to), Err(FsError::Corrupt { .. })));
    }
}

/// Does what is staged, or a part of a commit that began before.
fn commit(machine: &mut Machine, begun: Option<Commit>) {
    let begun = begun.or_else(|| machine.begin_commit().unwrap());
    let mut commit = begun.unwrap();
    while commit.next_io().is_some() {}
    machine.commit_done(commit);
}

#[test]
fn what_moved_is_let_go_of_once_that_is_durable_and_nobody_reads_there() {
    let (main, db) = (MemoryDevice::new(MAIN), MemoryDevice::new(FAST));
    BlueFs::format(&main, &format_options(None)).unwrap();
    let fs = BlueFs::mount(Arc::new(main.clone()), options(2, None), None).unwrap();
    fs.with(|machine| machine.create_dir("db")).unwrap();
    write(&fs, "db/a", &content(1, 100_000));
    write(&fs, "db/b", &content(2, 100_000));
    drop(fs);
    let fs = BlueFs::mount(joined(&main, &db), options(3, Some(fast(FAST))), None).unwrap();
    fs.with(|machine| {
        let spilled = |machine: &Machine| machine.stats().spilled_bytes;
        let all = spilled(machine);
        machine.create_dir("other")?;
        let begun = machine.begin_commit()?;
        let plan = machine.begin_move(Move::IntoFast)?.unwrap();
        assert!(machine.begin_move(Move::IntoFast)?.is_none(), "one at a time");
        let ticket = machine.move_done(plan)?.unwrap();
        commit(machine, begun);
        assert!(machine.durable_ticket() < ticket);
        assert_eq!(spilled(machine), all, "the record is not durable");
        commit(machine, None);
        let half = spilled(machine);
        assert!(half < all, "it is");
        let ino = machine.open_read("db/b")?;
        let reading = machine.plan_read(ino, 0, 1000)?;
        let plan = machine.begin_move(Move::IntoFast)?.unwrap();
        machine.move_done(plan)?.unwrap();
        commit(machine, None);
        assert_eq!(spilled(machine), half, "somebody reads there");
        let late = machine.plan_read(ino, 0, 1000)?;
        drop(reading);
        machine.create_dir("another")?;
        commit(machine, None);
        assert!(spilled(machine) < half, "later reads are of the new place");
        drop(late);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_file_that_changes_while_it_moves_stays() {
    let (main, db) = (MemoryDevice::new(MAIN), MemoryDevice::new(FAST));
    BlueFs::format(&main, &format_options(None)).unwrap();
    let fs = BlueFs::mount(Arc::new(main.clone()), options(2, None), None).unwrap();
    fs.with(|machine| machine.create_dir("db")).unwrap();
    write(&fs, "db/a", &content(1, 200_000));
    drop(fs);
    let fs = BlueFs::mount(joined(&main, &db), options(3, Some(fast(FAST))), None).unwrap();
    let begin = || fs.with(|machine| Ok(machine.begin_move(Move::IntoFast)?.unwrap())).unwrap();
    let end = |plan| fs.with(|machine| machine.move_done(plan)).unwrap();
    let plan = begin();
    let mut writer = fs.open_append("db/a").unwrap();
    writer.append(b"more").unwrap();
    writer.sync().unwrap();
    drop(writer);
    assert_eq!(end(plan), None, "its last block was written again");
    let plan = begin();
    let free = fs.stats().fast_free_bytes;
    fs.with(|machine| machine.unlink("db/a")).unwrap();
    assert_eq!(end(plan), None, "it is gone");
    fs.sync_metadata().unwrap();
    assert!(fs.stats().fast_free_bytes > free);
    assert_eq!(fs.with(|machine| Ok(machine.begin_move(Move::IntoFast)?.is_none())), Ok(true));
    clean(&*joined(&main, &db), &fs.stats());
}

type State = BTreeMap<String, Rc<Vec<u8>>>;

/// What a run knows, whatever happens to the process.
#[derive(Default)]
struct Known {
    /// Every state that the file system went through, from the one that is durable for sure.
    states: Vec<State>,
    moved: u64,
    spilled: u64,
    read_while_moving: u64,
}

struct Disks {
    main: SimDisk,
    db: SimDisk,
}

impl Disks {
    fn open(&self, core: &Core) -> Rc<dyn BlockDevice> {
        let member = |disk: &SimDisk| Some(Rc::new(disk.open(core)) as Rc<dyn BlockDevice>);
        Rc::new(Joined::new(vec![member(&self.main), member(&self.db)], JoinedState::new()))
    }
}

async fn mount(core: &Core, disks: &Disks) -> LocalBlueFs {
    let options = options(core.random_u64(), Some(fast(FAST)));
    LocalBlueFs::mount(disks.open(core), options, None).await.unwrap()
}

/// What is there must be one of the states since the last durable one.
async fn compare(fs: &LocalBlueFs, known: &RefCell<Known>) {
    let mut found = State::new();
    for name in fs.with(|machine| machine.list("db")).unwrap() {
        let reader = fs.open(&format!("db/{name}")).unwrap();
        let len = usize::try_from(reader.size().unwrap()).unwrap();
        found.insert(name, Rc::new(reader.read_at(0, len).await.unwrap().to_vec()));
    }
    let mut known = known.borrow_mut();
    let which = known.states.iter().position(|state| *state == found);
    let names: Vec<_> = found.iter().map(|(name, bytes)| (name, bytes.len())).collect();
    let Some(which) = which else { panic!("{names:?} is none of {} states", known.states.len()) };
    known.states = vec![known.states.swap_remove(which)];
}

/// Writes and removes files, and reads them, while others move.
async fn change(core: Core, fs: LocalBlueFs, known: Rc<RefCell<Known>>) {
    let mut random = RandomStream::new(core.random_u64(), "changes");
    loop {
        let mut next = known.borrow().states.last().unwrap().clone();
        let names: Vec<String> = next.keys().cloned().collect();
        let size: usize = next.values().map(|bytes| bytes.len()).sum();
        if size > 800_000 || (!names.is_empty() && random.one_in(3)) {
            let name = &names[random.below(names.len() as u64) as usize];
            next.remove(name);
            known.borrow_mut().states.push(next);
            fs.with(|machine| machine.unlink(&format!("db/{name}"))).unwrap();
            fs.sync_metadata().await.unwrap();
        } else {
            let number = random.below(1 << 48);
            let name = format!("{number:016x}");
            next.insert(name.clone(), Rc::default());
            known.borrow_mut().states.push(next.clone());
            let mut writer = fs.create(&format!("db/{name}")).unwrap();
            let bytes = content(number, random.between(1, 100_000) as usize);
            writer.append(&bytes).await.unwrap();
            next.insert(name, Rc::new(bytes));
            known.borrow_mut().states.push(next);
            // What moved is not free while a slow read of it runs.
            while let Err(error) = writer.sync().await {
                assert!(matches!(error, FsError::NoSpace { .. }), "{error}");
                core.sleep(Duration::from_millis(1)).await;
            }
        }
        let mut known = known.borrow_mut();
        let last = known.states.pop().unwrap();
        known.states = vec![last];
        known.spilled = known.spilled.max(fs.stats().spilled_bytes);
    }
}

async fn move_now_and_then(core: Core, fs: LocalBlueFs, known: Rc<RefCell<Known>>, moving: Rc<Cell<bool>>) {
    loop {
        core.sleep(Duration::from_micros(core.random_u64() % 500)).await;
        moving.set(true);
        let moved = fs.move_files(Move::IntoFast, 128 << 10).await.unwrap();
        moving.set(false);
        known.borrow_mut().moved += moved;
    }
}

/// Keeps files open over their moves.
async fn read_on(core: Core, fs: LocalBlueFs, known: Rc<RefCell<Known>>, moving: Rc<Cell<bool>>) {
    let mut random = RandomStream::new(core.random_u64(), "reads");
    loop {
        core.sleep(Duration::from_micros(50)).await;
        let (path, bytes) = {
            let known = known.borrow();
            let state = known.states.first().unwrap();
            let files: Vec<_> = state.iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
            if files.is_empty() {
                continue;
            }
            let (name, bytes) = files[random.below(files.len() as u64) as usize];
            (format!("db/{name}"), Rc::clone(bytes))
        };
        let Ok(reader) = fs.open(&path) else { continue };
        for _ in 0..3 {
            let at = random.below(bytes.len() as u64) as usize;
            let found = reader.read_at(at as u64, 60_000).await.unwrap();
            assert!(found[..] == bytes[at..(at + 60_000).min(bytes.len())], "{path} from {at}");
            known.borrow_mut().read_while_moving += u64::from(moving.get());
        }
    }
}

fn run(seed: u64) -> Known {
    let disk = |name, size| {
        let mut config = SimDiskConfig::new(name, size);
        // Reads outlast moves.
        config.faults.slow_read_ppm = 5_000;
        config.faults.slow = (Duration::from_millis(2), Duration::from_millis(20));
        SimDisk::new(config, seed)
    };
    let disks = Rc::new(Disks { main: disk("main", MAIN), db: disk("db", FAST) });
    let mut random = RandomStream::new(seed, "two spaces");
    let known = Rc::new(RefCell::new(Known { states: vec![State::new()], ..Known::default() }));
    let sim = Sim::new(seed, Config::default());
    let (first, known_to) = (Rc::clone(&disks), Rc::clone(&known));
    sim.run(0, move |core| async move {
        // So little that what is let go of is used again at once.
        let space = vec![Extent::new(2 * UNIT, TIGHT)];
        let options = FormatOptions { space, ..format_options(Some(fast(FAST))) };
        LocalBlueFs::format(&*first.open(&core), &options).await.unwrap();
        let fs = mount(&core, &first).await;
        fs.with(|machine| machine.create_dir("db")).unwrap();
        fs.sync_metadata().await.unwrap();
        compare(&fs, &known_to).await;
    });
    for _ in 0..4 {
        let (core, moving) = (sim.core(0), Rc::new(Cell::new(false)));
        let (disks_of, known_to, moves) = (Rc::clone(&disks), Rc::clone(&known), Rc::clone(&moving));
        let in_move = Rc::clone(&moving);
        let life = core.clone();
        core.spawn(Group::Client, "life", async move {
            let fs = mount(&life, &disks_of).await;
            compare(&fs, &known_to).await;
            let loaded = LocalBlueFs::load(&*disks_of.open(&life), COPIES).await.unwrap();
            assert_eq!(loaded.check(COPIES), []);
            let change = change(life.clone(), fs.clone(), Rc::clone(&known_to));
            let moves = move_now_and_then(life.clone(), fs.clone(), Rc::clone(&known_to), Rc::clone(&moves));
            let reads = read_on(life.clone(), fs, known_to, moving);
            life.spawn(Group::Client, "changes", change);
            life.spawn(Group::Client, "moves", moves);
            life.spawn(Group::Client, "reads", reads);
        });
        sim.run_for(Duration::from_micros(random.between(1_000, 60_000)));
        // Most crashes are in the middle of a move.
        if !random.one_in(4) {
            for _ in 0..2000 {
                if in_move.get() {
                    break;
                }
                sim.run_for(Duration::from_micros(50));
            }
            sim.run_for(Duration::from_micros(random.below(8_000)));
        }
        sim.kill_silently(0);
        if random.one_in(4) {
            disks.main.end_process();
            disks.db.end_process();
        } else {
            disks.main.crash();
            disks.db.crash();
        }
    }
    let (disks_of, known_to) = (Rc::clone(&disks), Rc::clone(&known));
    sim.run(0, move |core| async move {
        let fs = mount(&core, &disks_of).await;
        compare(&fs, &known_to).await;
        while fs.move_files(Move::IntoFast, 1 << 20).await.unwrap() > 0 {}
        compare(&fs, &known_to).await;
    });
    for disk in [&disks.main, &disks.db] {
        let counters = disk.counters();
        assert_eq!((counters.racing_writes, counters.racing_reads), (0, 0), "seed {seed}: I/Os overlapped");
    }
    known.take()
}

#[test]
fn files_survive_power_loss_of_both_devices_while_they_move() {
    let (mut moved, mut spilled, mut reads) = (0, 0, 0);
    for seed in 0..40 {
        let known = run(seed);
        moved += known.moved;
        spilled = spilled.max(known.spilled);
        reads += known.read_while_moving;
    }
    assert!(moved > 5 << 20, "only {moved} bytes moved");
    assert!(spilled > 300_000, "at most {spilled} bytes spilled");
    assert!(reads > 100, "{reads} reads while files moved");
}
