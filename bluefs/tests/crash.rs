//! Crash sweep: a fixed workload of every kind of change, cut at every device write and flush, with each unsettled
//! write missing, torn and reordered. After each cut the file system mounts, fsck finds nothing, and its state is
//! one the workload went through, not older than the last that was reported durable.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use allocator::Extent;
use bluefs::fs::{BlueFs, FileWriter, FormatOptions, MountOptions};
use nvme::recording::{Choice, Moment};
use nvme::{MemoryDevice, Recording, RecordingBlockingDevice};
use uuid::Uuid;

const COPIES: [u64; 2] = [0, 4096];
const UNIT: u64 = 4096;
const SIZE: u64 = 2 << 20;
const STAGED: u64 = 1 << 32;

type State = BTreeMap<String, Vec<u8>>;

fn options(nonce: u64) -> MountOptions {
    MountOptions { superblocks: COPIES, nonce, low_water: 0, lend: 1 << 20, fast: None }
}

fn base(block_size: u32, atomic: u32) -> MemoryDevice {
    base_with(block_size, atomic, UNIT.max(4 * u64::from(block_size)))
}

fn base_with(block_size: u32, atomic: u32, log_bytes_min: u64) -> MemoryDevice {
    let geometry = nvme::Geometry {
        block_size,
        atomic_write_unit: atomic,
        volatile_cache: true,
        ..MemoryDevice::default_geometry(SIZE)
    };
    let device = MemoryDevice::with_geometry("base", geometry);
    let format = FormatOptions {
        alloc_unit: UNIT as u32,
        log_bytes_min,
        ..FormatOptions::new(Uuid::from_u128(7), COPIES, vec![Extent::new(8192, 1 << 20)], 1)
    };
    BlueFs::format(&device, &format).unwrap();
    device
}

/// A workload that knows its state after each staged change.
struct Run {
    fs: BlueFs,
    recording: Recording,
    states: Vec<State>,
    writers: BTreeMap<String, (FileWriter, Vec<u8>)>,
}

impl Run {
    fn staged(&mut self, change: impl FnOnce(&mut State)) {
        let mut next = self.states.last().unwrap().clone();
        change(&mut next);
        self.states.push(next);
        self.recording.mark(STAGED | (self.states.len() as u64 - 1));
    }

    fn durable(&self) {
        self.recording.mark(self.states.len() as u64 - 1);
    }

    fn create(&mut self, name: &str) {
        let path = format!("db/{name}");
        // The mark comes first: the change may reach the device as soon as the call begins.
        self.staged(|state| {
            state.insert(name.to_owned(), Vec::new());
        });
        let writer = self.fs.create(&path).unwrap();
        self.writers.insert(name.to_owned(), (writer, Vec::new()));
    }

    fn append(&mut self, name: &str, bytes: &[u8]) {
        let (writer, content) = self.writers.get_mut(name).unwrap();
        writer.append(bytes).unwrap();
        content.extend(bytes);
    }

    fn flush(&mut self, name: &str) {
        self.writers.get_mut(name).unwrap().0.flush().unwrap();
    }

    fn sync(&mut self, name: &str) {
        let content = self.writers[name].1.clone();
        self.staged(|state| {
            state.insert(name.to_owned(), content);
        });
        self.writers.get_mut(name).unwrap().0.sync().unwrap();
        self.durable();
    }

    fn truncate(&mut self, name: &str, size: usize) {
        let synced = self.states.last().unwrap()[name].len();
        self.staged(|state| state.get_mut(name).unwrap().truncate(size));
        let (writer, content) = self.writers.get_mut(name).unwrap();
        writer.truncate(size as u64).unwrap();
        content.truncate(size);
        if size < synced {
            self.durable();
        }
    }

    fn close(&mut self, name: &str) {
        self.writers.remove(name);
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.staged(|state| {
            let content = state.remove(from).unwrap();
            state.insert(to.to_owned(), content);
        });
        self.fs.with(|machine| machine.rename(&format!("db/{from}"), &format!("db/{to}"))).unwrap();
    }

    fn unlink(&mut self, name: &str) {
        self.staged(|state| {
            state.remove(name);
        });
        self.fs.with(|machine| machine.unlink(&format!("db/{name}"))).unwrap();
    }

    fn sync_metadata(&mut self) {
        self.fs.sync_metadata().unwrap();
        self.durable();
    }
}

fn content(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + seed * 17 + (at >> 8)) as u8 | 1).collect()
}

fn workload(run: &mut Run) {
    run.sync_metadata();
    for round in 0..16_usize {
        let sst = format!("{round}.sst");
        run.create(&sst);
        run.append(&sst, &content(round, 9000 + round * 3000));
        run.sync(&sst);
        run.close(&sst);
        if round == 0 {
            run.create("manifest");
        }
        for edit in 0..5 {
            run.append("manifest", &content(edit + round, 70 + edit * 300));
            if edit == 3 {
                run.flush("manifest");
            }
            run.sync("manifest");
        }
        run.create("current.tmp");
        run.append("current.tmp", sst.as_bytes());
        run.sync("current.tmp");
        run.close("current.tmp");
        run.rename("current.tmp", "current");
        run.sync_metadata();
        if round >= 2 {
            run.unlink(&format!("{}.sst", round - 2));
        }
        if round == 3 {
            run.truncate("manifest", 3000);
            run.append("manifest", &content(99, 2500));
            run.sync("manifest");
            take_all(run);
            run.fs.add_space(&[Extent::new((1 << 20) + 8192, 64 << 10)]).unwrap();
        }
        if round == 4 {
            run.sync_metadata();
            assert!(!run.fs.give_back(64 << 10, 8192, 0, &[Extent::new(0, u64::MAX)]).unwrap().is_empty());
        }
    }
    many_names(run);
    run.create("manifest2");
    run.append("manifest2", &content(5, 600_000));
    run.sync("manifest2");
    run.unlink("manifest2");
    run.close("manifest2");
    run.sync_metadata();
    for name in ["14.sst", "15.sst"] {
        run.unlink(name);
    }
    run.sync_metadata();
    reuse(run);
}

/// A file takes every unit that is free, also what another was cut by.
fn take_all(run: &mut Run) {
    let room = run.fs.with(|machine| Ok(machine.room())).unwrap();
    run.create("all");
    run.append("all", &content(7, room as usize));
    run.sync("all");
    run.close("all");
    run.unlink("all");
    run.sync_metadata();
}

/// Groups of many records span blocks, so that they can tear.
fn many_names(run: &mut Run) {
    for round in 0..3 {
        for index in 0..30 {
            let name = format!("{round}-{index}-{}", "long".repeat(12));
            run.create(&name);
            run.close(&name);
        }
        run.sync_metadata();
        for index in 0..30 {
            run.unlink(&format!("{round}-{index}-{}", "long".repeat(12)));
        }
    }
    run.sync_metadata();
}

/// Space is so short that what was just let go is wanted at once; it must not be had before that is durable.
fn reuse(run: &mut Run) {
    for round in 0..8 {
        let (old, new) = (format!("old{round}"), format!("new{round}"));
        run.create(&old);
        run.append(&old, &content(round, 250_000));
        run.sync(&old);
        if round % 2 == 0 {
            // Open until after its name is gone.
            run.unlink(&old);
            run.close(&old);
        } else {
            run.close(&old);
            run.unlink(&old);
        }
        run.create(&new);
        run.append(&new, &content(round + 100, 380_000));
        run.flush(&new);
        run.append(&new, &content(round + 200, 5000));
        run.sync(&new);
        run.close(&new);
        run.unlink(&new);
        run.sync_metadata();
    }
}

fn state_of(fs: &BlueFs) -> State {
    let mut state = State::new();
    for name in fs.with(|machine| machine.list("db")).unwrap() {
        let reader = fs.open(&format!("db/{name}")).unwrap();
        let mut bytes = vec![0; reader.size().unwrap() as usize];
        assert_eq!(reader.read_at(0, &mut bytes).unwrap(), bytes.len());
        state.insert(name, bytes);
    }
    state
}

fn recover(device: &MemoryDevice, nonce: u64) -> State {
    let fs = BlueFs::mount(Arc::new(device.clone()), options(nonce), None).unwrap_or_else(|error| {
        panic!("{}: {error}", device.name());
    });
    let state = state_of(&fs);
    let stats = fs.stats();
    drop(fs);
    let loaded = BlueFs::load(device, COPIES).unwrap();
    assert_eq!(loaded.check(COPIES), [], "{}", device.name());
    let used: u64 = loaded.tree.files.values().map(|inode| inode.allocated).sum();
    assert_eq!(stats.free_bytes + used + loaded.superblock.log_bytes(), stats.space_bytes, "nothing leaks");
    state
}

/// `plant` may make the file system make a mistake.
fn sweep(block_size: u32, atomic: u32, plant: impl Fn(&BlueFs)) {
    let device = base(block_size, atomic);
    let fs = BlueFs::mount(Arc::new(device.clone()), options(2), None).unwrap();
    fs.with(|machine| machine.create_dir("db")).unwrap();
    fs.sync_metadata().unwrap();
    drop(fs);
    let recording = Recording::new(device.geometry().clone(), device.image());
    let recorded = Arc::new(RecordingBlockingDevice::new(recording.clone(), Arc::new(device)));
    recording.mark(0);
    recording.mark(STAGED);
    let fs = BlueFs::mount(recorded, options(3), None).unwrap();
    plant(&fs);
    let mut run =
        Run { fs, recording: recording.clone(), states: vec![State::new()], writers: BTreeMap::new() };
    workload(&mut run);
    let compactions = run.fs.stats().compactions;
    assert!(compactions >= 3, "{compactions} compactions");

    let mut cuts = 0;
    let (mut nested, mut killed) = (0, 0);
    for cut in recording.cuts() {
        let moment = recording.at(cut);
        let durable =
            moment.marks().iter().filter(|mark| **mark < STAGED).max().copied().unwrap_or(0) as usize;
        let staged = moment.marks().iter().max().copied().unwrap_or(STAGED) - STAGED;
        let possible = &run.states[durable..=staged as usize];
        for (index, choice) in moment.choices(4).iter().enumerate() {
            let image = moment.image(choice);
            let before = image.snapshot();
            let found = recover(&image, 1000 + cut as u64);
            assert!(
                possible.contains(&found),
                "{}: a state that never was: {:?}",
                image.name(),
                summary(&found)
            );
            cuts += 1;
            if (cut * 7 + index) % 37 == 0 {
                nested += crash_during_mount(&before, &found);
            }
        }
        killed += crash_after_kill(&moment, possible);
    }
    assert!(cuts > 1000 && nested > 100, "{cuts} cuts, {nested} cuts during mounts");
    assert!(killed > 1000, "{killed} cuts after the process was killed");
}

/// The process is killed and the device is not: what completed is read, but not yet durable, and power is cut in the
/// mount that comes next.
fn crash_after_kill(moment: &Moment, possible: &[State]) -> usize {
    let device = moment.image(&Choice::All);
    let recording = moment.survived();
    let begin = recording.cuts().pop().unwrap();
    let recorded = RecordingBlockingDevice::new(recording.clone(), Arc::new(device.clone()));
    drop(BlueFs::mount(Arc::new(recorded), options(55), None).unwrap());
    let mut cuts = 0;
    for cut in recording.cuts().into_iter().filter(|cut| *cut >= begin) {
        let later = recording.at(cut);
        for choice in later.choices(2) {
            let image = later.image(&choice);
            let found = recover(&image, 56);
            assert!(
                possible.contains(&found),
                "killed at {}, then {}: a state that never was: {:?}",
                moment.cut(),
                image.name(),
                summary(&found)
            );
            cuts += 1;
        }
    }
    cuts
}

/// Cuts the mount itself: it must not change what is found, however often it is interrupted.
fn crash_during_mount(device: &MemoryDevice, expected: &State) -> usize {
    let recording = Recording::new(device.geometry().clone(), device.image());
    let recorded = RecordingBlockingDevice::new(recording.clone(), Arc::new(device.clone()));
    drop(BlueFs::mount(Arc::new(recorded), options(77), None).unwrap());
    let mut cuts = 0;
    for cut in recording.cuts() {
        let moment = recording.at(cut);
        for choice in moment.choices(3) {
            assert_eq!(&recover(&moment.image(&choice), 78), expected);
            cuts += 1;
        }
    }
    cuts
}

fn summary(state: &State) -> Vec<(&String, usize)> {
    state.iter().map(|(name, bytes)| (name, bytes.len())).collect()
}

#[test]
fn every_cut_of_small_blocks() {
    sweep(512, 512, |_| {});
}

#[test]
fn every_cut_of_4k_blocks_that_tear() {
    sweep(4096, 512, |_| {});
}

/// The sweep has teeth.
#[cfg(feature = "planted")]
mod planted {
    use bluefs::fs::Planted;

    use super::*;

    fn is_found(planted: Planted) {
        let swept = std::panic::catch_unwind(|| {
            sweep(4096, 512, |fs| fs.with(|machine| Ok(machine.plant(planted))).unwrap());
        });
        assert!(swept.is_err(), "{planted:?} was not found");
    }

    #[test]
    fn freed_before_logged() {
        is_found(Planted::FreedBeforeLogged);
    }

    #[test]
    fn log_replaced_at_once() {
        is_found(Planted::LogReplacedAtOnce);
    }

    #[test]
    fn cut_space_kept() {
        is_found(Planted::CutSpaceKept);
    }
}

const THREADS: u64 = 4;
const ROUNDS: u64 = 12;

fn grown(thread: u64, round: u64) -> usize {
    (1..=round).map(|round| 500 + (thread * 911 + round * 1777) as usize % 6000).sum()
}

/// What a thread appends and syncs, beside the others: their records share groups and compactions.
fn append_and_sync(fs: &BlueFs, recording: &Recording, thread: u64, rewritten: Option<&AtomicU64>) {
    let path = format!("db/{thread}");
    let all = content(thread as usize, grown(thread, ROUNDS));
    let mut writer = fs.create(&path).unwrap();
    let mut written = 0;
    for round in 1..=ROUNDS {
        let upto = grown(thread, round);
        writer.append(&all[written..upto]).unwrap();
        written = upto;
        writer.sync().unwrap();
        recording.mark(thread << 32 | round);
        let (name, renamed) = (format!("db/{thread}-{round}.tmp"), format!("db/{thread}-{round}"));
        drop(fs.create(&name).unwrap());
        fs.with(|machine| machine.rename(&name, &renamed)).unwrap();
        if round % 3 == 0 {
            fs.sync_metadata().unwrap();
            recording.mark(thread << 32 | 1 << 16 | round);
        }
        // Whoever finds the log half full, beside the others.
        if let Some(rewritten) = rewritten
            && fs.rewrite_log().unwrap()
        {
            rewritten.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[test]
fn every_cut_of_threads_that_commit_together() {
    cut_threads(false);
}

#[test]
fn every_cut_of_threads_that_commit_while_the_log_is_rewritten() {
    cut_threads(true);
}

fn cut_threads(rewrites: bool) {
    // With a log that takes a while to fill, so that there is time to rewrite it.
    let device = base_with(512, 512, if rewrites { 4 * UNIT } else { UNIT });
    let fs = BlueFs::mount(Arc::new(device.clone()), options(2), None).unwrap();
    fs.with(|machine| machine.create_dir("db")).unwrap();
    fs.sync_metadata().unwrap();
    drop(fs);
    let recording = Recording::new(device.geometry().clone(), device.image());
    let recorded = Arc::new(RecordingBlockingDevice::new(recording.clone(), Arc::new(device)));
    let fs = BlueFs::mount(recorded, options(3), None).unwrap();
    let rewritten = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (fs, recording, rewritten) = (fs.clone(), recording.clone(), &rewritten);
            scope.spawn(move || append_and_sync(&fs, &recording, thread, rewrites.then_some(rewritten)));
        }
    });
    assert!(rewrites || fs.stats().compactions > 3, "{:?}", fs.stats());
    assert_eq!(rewritten.into_inner() > 0, rewrites);
    drop(fs);
    for cut in recording.cuts() {
        let moment = recording.at(cut);
        for choice in moment.choices(3) {
            let image = moment.image(&choice);
            let found = recover(&image, 5000 + cut as u64);
            for thread in 0..THREADS {
                let marks = moment.marks().iter().filter(|mark| **mark >> 32 == thread);
                let (names, sizes): (Vec<u64>, Vec<u64>) =
                    marks.map(|mark| mark & 0xffff_ffff).partition(|mark| mark >> 16 == 1);
                let synced = sizes.iter().max().copied().unwrap_or(0);
                let all = content(thread as usize, grown(thread, ROUNDS));
                let bytes = found.get(&thread.to_string()).cloned().unwrap_or_default();
                assert!(bytes.len() >= grown(thread, synced), "{}: {synced} syncs", image.name());
                assert!(all.starts_with(&bytes), "{}: bytes that were never written", image.name());
                for round in 1..=names.iter().max().map_or(0, |mark| mark & 0xffff) {
                    assert!(found.contains_key(&format!("{thread}-{round}")), "{}: {round}", image.name());
                }
            }
        }
    }
}
