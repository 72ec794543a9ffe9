//! The log is rewritten while commits go on: what that costs them, and what a crash leaves at every point of it.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use allocator::Extent;
use bluefs::fs::{BlueFs, Commit, FormatOptions, Io, LocalBlueFs, Machine, MountOptions};
use nvme::{
    BlockDevice, BlockingDevice, MemoryDevice, Recording, RecordingBlockingDevice, SimDisk, SimDiskConfig,
};
use rt::Group;
use rt::sim::{Config, Sim};
use uuid::Uuid;

const COPIES: [u64; 2] = [0, 4096];
const UNIT: u64 = 4096;
const SIZE: u64 = 8 << 20;

fn options(nonce: u64) -> MountOptions {
    MountOptions { superblocks: COPIES, nonce, low_water: 0, lend: 1 << 20, fast: None }
}

fn format_options(log_bytes_min: u64) -> FormatOptions {
    let space = vec![Extent::new(2 * UNIT, SIZE - 2 * UNIT)];
    let usual = FormatOptions::new(Uuid::from_u128(7), COPIES, space, 1);
    FormatOptions { alloc_unit: UNIT as u32, log_bytes_min, ..usual }
}

/// Commits one after the other on a device with fixed latencies, with or without somebody who rewrites the log; gives the
/// longest of those that met no rewriting and of those that did, and how many these were.
fn latencies(rewrites: bool) -> (Duration, Duration, u64) {
    let mut config = SimDiskConfig::new("disk", SIZE);
    config.latency.write = (Duration::from_micros(100), Duration::from_micros(100));
    config.latency.flush = (Duration::from_micros(300), Duration::from_micros(300));
    config.latency.per_mib = Duration::from_millis(20);
    let disk = SimDisk::new(config, 1);
    Sim::new(1, Config::default()).run(0, move |core| async move {
        let device: Rc<dyn BlockDevice> = Rc::new(disk.open(&core));
        LocalBlueFs::format(&*device, &format_options(256 << 10)).await.unwrap();
        let fs = LocalBlueFs::mount(device, options(2), None).await.unwrap();
        fs.with(|machine| machine.create_dir("db")).unwrap();
        fs.sync_metadata().await.unwrap();
        let is_rewriting = Rc::new(Cell::new(false));
        if rewrites {
            let (fs, rewriting) = (fs.clone(), Rc::clone(&is_rewriting));
            core.spawn(Group::Commit, "rewriting", async move {
                while fs.bell().next().await {
                    rewriting.set(true);
                    fs.rewrite_log().await.unwrap();
                    rewriting.set(false);
                }
            });
        }
        let (mut alone, mut beside, mut count) = (Duration::ZERO, Duration::ZERO, 0);
        for number in 0..400 {
            let (since, before) = (core.now(), (fs.stats().compactions, is_rewriting.get()));
            drop(fs.create(&format!("db/{}", number % 7)).unwrap());
            fs.sync_metadata().await.unwrap();
            let took = Duration::from_nanos(core.now().0 - since.0);
            if before == (fs.stats().compactions, false) && !is_rewriting.get() {
                alone = alone.max(took);
            } else {
                beside = beside.max(took);
                count += 1;
            }
        }
        assert!(fs.stats().compactions > 5, "{:?}", fs.stats());
        (alone, beside, count)
    })
}

#[test]
fn no_commit_waits_for_the_rewriting_of_the_log() {
    let (alone, beside, count) = latencies(true);
    assert!(count > 50, "{count} commits beside a rewriting");
    assert!(beside <= 2 * alone, "{beside:?} beside a rewriting, {alone:?} otherwise");
    let (alone, beside, _) = latencies(false);
    assert!(beside > 8 * alone, "{beside:?} with a new log, {alone:?} otherwise: what is saved");
}

/// Runs the machine by hand: each I/O and each stage of a rewriting is a step between which others may commit.
struct Driver {
    device: Arc<dyn BlockingDevice>,
    machine: Machine,
}

impl Driver {
    fn io(&self, io: Io) {
        match io {
            Io::Write(writes) => {
                writes.iter().for_each(|(offset, bytes)| self.device.write_at(*offset, bytes).unwrap());
            }
            Io::Flush => self.device.flush().unwrap(),
        }
    }

    fn commit(&mut self, mut commit: Commit) {
        while let Some(io) = commit.next_io() {
            self.io(io);
        }
        self.machine.commit_done(commit);
    }
}

/// Names are created and removed between any two steps, each with a commit; `every` says how many between two.
fn cut_by_hand(every: usize) -> usize {
    let mut geometry = MemoryDevice::default_geometry(SIZE);
    (geometry.volatile_cache, geometry.atomic_write_unit) = (true, 512);
    let memory = MemoryDevice::with_geometry("base", geometry);
    BlueFs::format(&memory, &format_options(64 << 10)).unwrap();
    let recording = Recording::new(memory.geometry().clone(), memory.image());
    let recorded = RecordingBlockingDevice::new(recording.clone(), Arc::new(memory));
    let device: Arc<dyn BlockingDevice> = Arc::new(recorded);
    let machine = BlueFs::load(&*device, COPIES).unwrap().into_machine(options(2)).unwrap();
    let mut driver = Driver { device, machine };
    let first = driver.machine.begin_compaction().unwrap().unwrap();
    driver.commit(first);
    driver.machine.create_dir("db").unwrap();
    let states = RefCell::new(vec![BTreeSet::new()]);
    let change = |driver: &mut Driver| {
        let number = states.borrow().len();
        let mut next: BTreeSet<String> = states.borrow().last().unwrap().clone();
        let name = format!("{number:04}-{}", "x".repeat(number % 90));
        next.insert(name.clone());
        let ino = driver.machine.create(&format!("db/{name}")).unwrap();
        driver.machine.close_write(ino);
        if number % 3 == 0
            && let Some(old) = next.pop_first()
        {
            driver.machine.unlink(&format!("db/{old}")).unwrap();
        }
        states.borrow_mut().push(next);
        recording.mark(1 << 32 | number as u64);
        if let Some(commit) = driver.machine.begin_commit().unwrap() {
            driver.commit(commit);
            recording.mark(number as u64);
        }
    };
    recording.mark(1 << 32);
    change(&mut driver);
    let mut rewritten = 0;
    while rewritten < 3 {
        change(&mut driver);
        let Some(snapshot) = driver.machine.begin_rewrite().unwrap() else { continue };
        for io in snapshot {
            (0..every).for_each(|_| change(&mut driver));
            driver.io(io);
        }
        (0..every).for_each(|_| change(&mut driver));
        let both = driver.machine.begin_both().unwrap().unwrap();
        both.into_iter().for_each(|both| driver.commit(both));
        for io in driver.machine.switch_ios() {
            (0..every).for_each(|_| change(&mut driver));
            driver.io(io);
        }
        (0..every).for_each(|_| change(&mut driver));
        assert!(driver.machine.end_rewrite().unwrap());
        rewritten += 1;
        change(&mut driver);
    }
    let durable_last = driver.machine.durable_ticket() == driver.machine.staged_ticket();
    assert!(durable_last, "what did not fit the old log is in the new one");
    let states = states.into_inner();
    let mut cuts = 0;
    for cut in recording.cuts() {
        let moment = recording.at(cut);
        let durable = moment.marks().iter().filter(|mark| **mark < 1 << 32).max().copied();
        let staged = moment.marks().iter().max().copied().unwrap_or(0) & 0xffff_ffff;
        for choice in moment.choices(3) {
            let image = moment.image(&choice);
            let fs = BlueFs::mount(Arc::new(image.clone()), options(1000 + cut as u64), None).unwrap();
            let found = fs.with(|machine| machine.list("db")).unwrap_or_default().into_iter().collect();
            let (from, to) = (durable.unwrap_or(0) as usize, staged as usize);
            let possible = &states[from..=to.max(from)];
            assert!(possible.contains(&found), "{}: a state that never was", image.name());
            drop(fs);
            assert_eq!(BlueFs::load(&image, COPIES).unwrap().check(COPIES), []);
            cuts += 1;
        }
    }
    cuts
}

#[test]
fn every_cut_between_the_steps_of_a_rewriting() {
    // None, one, some, and more than the old log has room for.
    for every in [0, 1, 3, 12] {
        let cuts = cut_by_hand(every);
        assert!(cuts > 100, "{cuts} cuts");
    }
}
