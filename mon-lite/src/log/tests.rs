//! The log against a simulated disk: every cut of a workload, torn writes, corruption, and what must be refused.

use std::rc::Rc;

use bytes::Bytes;
use nvme::sim::{SimDisk, SimDiskConfig};
use nvme::{BlockDevice, Fate, MemoryDevice};
use rt::Core;
use rt::sim::{Config, Sim};
use uuid::Uuid;

use super::superblock::{SUPERBLOCK_BYTES, Superblock};
use super::{Committed, DiskLog, FormatOptions, LogError, LogIdentity, LogIndex, ReplicatedLog};
use crate::limits::{LOG_DEVICE_BYTES_MIN, LOG_ENTRY_BYTES_MAX, LOG_SLOTS_START};

const HOST: u16 = 0;

fn identity() -> LogIdentity {
    LogIdentity { fsid: Uuid::from_u128(7), name: "a".into() }
}

fn options(salt: u64) -> FormatOptions {
    FormatOptions { identity: identity(), salt, overwrite: false }
}

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(SimDiskConfig::new("mon", LOG_DEVICE_BYTES_MIN), seed)
}

fn device(disk: &SimDisk, core: &Core) -> Rc<dyn BlockDevice> {
    Rc::new(disk.open(core))
}

/// Payload of entry `number`: some are longer than a block, one is as long as can be.
fn payload(number: u64) -> Bytes {
    let len = match number % 7 {
        0 => 9000,
        5 if number == 5 => LOG_ENTRY_BYTES_MAX,
        rest => 100 * rest as usize,
    };
    Bytes::from(vec![number as u8; len])
}

/// A state machine that remembers how many entries it saw, and checks that they are the right ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counter(u64);

impl Counter {
    fn take(&mut self, committed: Committed) {
        match committed {
            Committed::Snapshot { through, state } => {
                self.0 = u64::from_le_bytes(state[..8].try_into().unwrap());
                assert_eq!(through, LogIndex(self.0));
            }
            Committed::Entry { index, payload: bytes } => {
                self.0 += 1;
                assert_eq!(index, LogIndex(self.0));
                assert_eq!(bytes, payload(self.0));
            }
        }
    }

    /// Longer than a block, so that a snapshot can tear.
    fn snapshot(&self) -> Bytes {
        let mut bytes = vec![0x5a; 20_000];
        bytes[..8].copy_from_slice(&self.0.to_le_bytes());
        bytes.into()
    }
}

async fn replay(log: &mut DiskLog) -> Counter {
    let mut counter = Counter::default();
    while log.unread() > 0 {
        counter.take(log.next_committed().await.unwrap());
    }
    assert_eq!(LogIndex(counter.0), log.committed_index());
    counter
}

/// Appends entries, with a snapshot in between, until the power goes; tells what was acknowledged.
async fn work(disk: SimDisk, core: Core, acknowledged: Rc<std::cell::Cell<u64>>) {
    let Ok(mut log) = DiskLog::open(device(&disk, &core), &identity()).await else { return };
    let mut counter = replay(&mut log).await;
    for step in 0..12_u64 {
        let Ok(index) = log.propose(payload(counter.0 + 1)).await else { return };
        acknowledged.set(index.0);
        counter.take(log.next_committed().await.unwrap());
        if step % 5 == 4 && log.truncate(index, counter.snapshot()).await.is_err() {
            return;
        }
        if step == 8 && log.seal().await.is_err() {
            return;
        }
    }
}

fn formatted(sim: &Sim, seed: u64) -> SimDisk {
    let disk = disk(seed);
    let made = disk.clone();
    sim.run(HOST, |core| async move { DiskLog::format(&device(&made, &core), options(seed)).await.unwrap() });
    disk
}

/// Cuts the power after `steps` steps of the simulator; `None` when the workload was done before.
fn cut_once(seed: u64, steps: usize, fate: Option<Fate>) -> Option<()> {
    let sim = Sim::new(seed, Config::default());
    let disk = formatted(&sim, seed);
    let acknowledged = Rc::new(std::cell::Cell::new(0));
    let mut floor = 0;
    let mut cut = false;
    // Two lives: what the first left torn must not confuse the second, nor the check after it.
    for life in 0..2_usize {
        let core = sim.core(HOST);
        let task = work(disk.clone(), core.clone(), acknowledged.clone());
        drop(core.spawn(rt::Group::Client, "work", task));
        let limit = steps / (life + 1);
        cut |= (0..limit).take_while(|_| sim.step()).count() == limit;
        sim.kill(HOST);
        match &fate {
            Some(fate) => disk.crash_with(|_| fate.clone()),
            None => disk.crash(),
        }
        let check = disk.clone();
        let found = sim.run(HOST, |core| async move {
            let mut log = DiskLog::open(device(&check, &core), &identity()).await.unwrap();
            replay(&mut log).await.0
        });
        sim.kill(HOST);
        disk.crash();
        assert!(found >= acknowledged.get(), "acknowledged {} but found {found}", acknowledged.get());
        assert!(found <= acknowledged.get().max(floor) + 1, "found {found}, more than was ever written");
        floor = found;
        acknowledged.set(found);
    }
    cut.then_some(())
}

#[test]
fn every_cut_keeps_what_was_acknowledged() {
    let mut cuts = 0;
    for steps in (1..).step_by(3) {
        if cut_once(1, steps, None).is_none() {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 40, "the sweep covers the workload, not {cuts} cuts of it");
    for steps in (1..200).step_by(7) {
        for fate in
            [Fate::Kept, Fate::Lost, Fate::Torn(vec![true]), Fate::Torn(vec![false, true, true, false, true])]
        {
            cut_once(2, steps, Some(fate));
        }
    }
    for seed in 3..40 {
        cut_once(seed, 10 + (seed as usize * 13) % 160, None);
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_written() {
    let sim = Sim::new(5, Config::default());
    let disk = formatted(&sim, 5);
    let acknowledged = Rc::new(std::cell::Cell::new(0));
    let core = sim.core(HOST);
    drop(core.spawn(rt::Group::Client, "work", work(disk.clone(), core.clone(), acknowledged.clone())));
    assert!((0..60).all(|_| sim.step()));
    sim.kill(HOST);
    disk.end_process();
    // Opening seals what it found; a power loss right after must not take it away again.
    let check = disk.clone();
    let found = sim.run(HOST, |core| async move {
        let log = DiskLog::open(device(&check, &core), &identity()).await.unwrap();
        log.committed_index().0
    });
    sim.kill(HOST);
    disk.crash_with(|_| Fate::Lost);
    let again = sim.run(HOST, |core| async move {
        let log = DiskLog::open(device(&disk, &core), &identity()).await.unwrap();
        log.committed_index().0
    });
    assert!(found >= acknowledged.get() && acknowledged.get() > 0);
    assert_eq!(found, again);
}

/// A log of `entries` on a memory device, written in its first epoch.
async fn log_of(entries: u64) -> MemoryDevice {
    let memory = MemoryDevice::new(LOG_DEVICE_BYTES_MIN);
    let device: Rc<dyn BlockDevice> = Rc::new(memory.clone());
    DiskLog::format(&device, options(1)).await.unwrap();
    let mut log = DiskLog::open(device, &identity()).await.unwrap();
    for number in 1..=entries {
        log.propose(payload(number)).await.unwrap();
    }
    memory
}

async fn flip(memory: &MemoryDevice, offset: u64) {
    let block = offset - offset % 4096;
    let mut buf = memory.read(block, nvme::DmaBuf::zeroed(4096)).await.unwrap();
    buf[(offset - block) as usize] ^= 1;
    memory.write(block, buf).await.unwrap();
}

async fn open(memory: &MemoryDevice) -> Result<DiskLog, LogError> {
    DiskLog::open(Rc::new(memory.clone()), &identity()).await
}

fn run<F: Future<Output = ()> + 'static>(test: impl FnOnce(Core) -> F) {
    Sim::new(1, Config::default()).run(HOST, test);
}

#[test]
fn damage_is_told_apart_from_a_torn_tail() {
    run(|_| async {
        // In the middle: the records after it prove that it was whole.
        let memory = log_of(4).await;
        flip(&memory, LOG_SLOTS_START + 4096 + 60).await;
        let error = open(&memory).await.err().unwrap();
        assert!(
            matches!(&error, LogError::Corrupt { what, .. } if what.contains("entry 3 is whole")),
            "{error}"
        );

        // At the end, unsealed: as if the write had torn.
        let memory = log_of(4).await;
        flip(&memory, LOG_SLOTS_START + 3 * 4096 + 60).await;
        assert_eq!(open(&memory).await.unwrap().committed_index(), LogIndex(3));

        // At the end, sealed by an opening.
        let memory = log_of(4).await;
        open(&memory).await.unwrap();
        flip(&memory, LOG_SLOTS_START + 3 * 4096 + 60).await;
        let error = open(&memory).await.err().unwrap();
        assert!(
            matches!(&error, LogError::Corrupt { what, .. } if what.contains("reached entry 4")),
            "{error}"
        );
    });
}

#[test]
fn a_record_of_an_earlier_epoch_never_joins() {
    run(|_| async {
        let (earlier, memory) = (log_of(2).await, log_of(0).await);
        // A second opening writes the first record again, the same to the last byte; what follows it on the device
        // is the second record of the first opening.
        open(&memory).await.unwrap().propose(payload(1)).await.unwrap();
        let second = earlier.read(LOG_SLOTS_START + 4096, nvme::DmaBuf::zeroed(4096)).await.unwrap();
        memory.write(LOG_SLOTS_START + 4096, second).await.unwrap();
        assert_eq!(replay(&mut open(&memory).await.unwrap()).await, Counter(1));
    });
}

#[test]
fn a_damaged_snapshot_is_refused_and_one_superblock_is_enough() {
    run(|_| async {
        let memory = log_of(2).await;
        let mut log = open(&memory).await.unwrap();
        let counter = replay(&mut log).await;
        log.truncate(LogIndex(2), counter.snapshot()).await.unwrap();
        log.propose(payload(3)).await.unwrap();
        drop(log);
        for copy in 0..2 {
            let damaged = memory.snapshot();
            flip(&damaged, Superblock::copy_offset(copy) + 20).await;
            assert_eq!(replay(&mut open(&damaged).await.unwrap()).await, Counter(3), "copy {copy}");
            flip(&damaged, Superblock::copy_offset(1 - copy) + 20).await;
            assert_eq!(
                open(&damaged).await.unwrap().committed_index(),
                LogIndex(3),
                "opening repaired copy {copy}"
            );
        }
        let slot = (LOG_DEVICE_BYTES_MIN - LOG_SLOTS_START) / 2;
        flip(&memory, LOG_SLOTS_START + slot - slot % 4096 + 100).await;
        assert!(matches!(open(&memory).await.err().unwrap(), LogError::Corrupt { .. }));
    });
}

#[test]
fn foreign_devices_are_refused_with_a_reason() {
    run(|_| async {
        let memory = MemoryDevice::new(LOG_DEVICE_BYTES_MIN);
        assert!(matches!(open(&memory).await.err().unwrap(), LogError::NotFormatted { .. }));
        let device: Rc<dyn BlockDevice> = Rc::new(log_of(1).await);
        let again = DiskLog::format(&device, options(2)).await.unwrap_err();
        assert!(again.to_string().contains("a log of monitor a of cluster"), "{again}");
        let other = LogIdentity { name: "b".into(), ..identity() };
        let error = DiskLog::open(device.clone(), &other).await.err().unwrap();
        assert_eq!(error.to_string(), "the monitor log on memory belongs to monitor a, not b");
        let overwrite = FormatOptions { overwrite: true, ..options(3) };
        DiskLog::format(&device, overwrite).await.unwrap();
        // The salt keeps the records of the earlier life out.
        assert_eq!(DiskLog::open(device, &identity()).await.unwrap().committed_index(), LogIndex(0));
        let small: Rc<dyn BlockDevice> = Rc::new(MemoryDevice::new(1 << 20));
        let error = DiskLog::format(&small, options(4)).await.unwrap_err();
        assert!(matches!(error, LogError::Geometry { .. }), "{error}");
    });
}

#[test]
fn a_full_log_says_so_and_a_snapshot_makes_room() {
    run(|_| async {
        let memory = log_of(0).await;
        let mut log = open(&memory).await.unwrap();
        let big = Bytes::from(vec![1; LOG_ENTRY_BYTES_MAX]);
        let too_large = log.propose(Bytes::from(vec![1; LOG_ENTRY_BYTES_MAX + 1])).await.unwrap_err();
        assert!(matches!(too_large, LogError::TooLarge { .. }));
        assert!(!log.snapshot_due());
        let mut index = log.propose(big.clone()).await.unwrap();
        assert!(log.snapshot_due());
        let error = loop {
            match log.propose(big.clone()).await {
                Ok(next) => index = next,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, LogError::Full { .. }) && index == LogIndex(7), "{error} after {index:?}");
        while log.unread() > 0 {
            log.next_committed().await.unwrap();
        }
        log.truncate(index, Bytes::from_static(&[1; 8])).await.unwrap();
        assert!(!log.snapshot_due());
        log.propose(big).await.unwrap();
    });
}

#[test]
fn a_failed_write_breaks_the_log_for_good() {
    let sim = Sim::new(1, Config::default());
    let disk = formatted(&sim, 1);
    sim.run(HOST, |core| async move {
        let mut log = DiskLog::open(device(&disk, &core), &identity()).await.unwrap();
        disk.fail_writes(LOG_SLOTS_START..LOG_DEVICE_BYTES_MIN);
        let first = log.propose(payload(1)).await.unwrap_err();
        disk.allow_writes();
        assert_eq!(log.propose(payload(1)).await.unwrap_err(), first);
        assert_eq!(log.seal().await.unwrap_err(), first);
    });
}

#[test]
fn superblocks_round_trip_and_reject_every_flipped_bit() {
    let superblock = Superblock {
        align: 4096,
        identity: identity(),
        compat: 1,
        ro_compat: 2,
        incompat: 3,
        device_bytes: LOG_DEVICE_BYTES_MIN,
        sequence: 5,
        epoch: 6,
        generation: 7,
        snapshot_len: 8,
        snapshot_through: LogIndex(9),
        snapshot_crc: 10,
        sealed_through: LogIndex(11),
        key_id: 12,
        salt: 13,
    };
    let encoded = superblock.encode();
    assert_eq!(Superblock::decode(&encoded), Ok(superblock));
    for bit in 0..SUPERBLOCK_BYTES * 8 {
        let mut damaged = encoded;
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Superblock::decode(&damaged).is_err(), "bit {bit}");
    }
    assert!(Superblock::decode(&encoded[..100]).is_err());
}
