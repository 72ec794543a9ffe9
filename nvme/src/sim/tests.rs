//! The simulated disk against the suite, and each of its faults.

use std::rc::Rc;
use std::time::Duration;

use rt::Core;
use rt::sim::{Config, Sim};

use super::{Completion, Faults, SimDisk, SimDiskConfig};
use crate::buffer::DmaBuf;
use crate::crash::Fate;
use crate::device::{BlockDevice, DeviceError};
use crate::suite;

fn sim(seed: u64) -> Sim {
    Sim::new(seed, Config::default())
}

fn filled(len: usize, byte: u8) -> DmaBuf {
    let mut buf = DmaBuf::zeroed(len);
    buf.fill(byte);
    buf
}

fn byte_at(disk: &SimDisk, offset: u64) -> u8 {
    let mut byte = [0];
    disk.image().read(offset, &mut byte);
    byte[0]
}

/// Runs `body` on a disk of 1 MiB.
fn on_disk<T: 'static, F: Future<Output = T> + 'static>(
    disk: &SimDisk,
    body: impl FnOnce(Core, Rc<dyn BlockDevice>) -> F,
) -> T {
    sim(1).run(0, |core| {
        let device = Rc::new(disk.open(&core));
        body(core, device)
    })
}

fn disk() -> SimDisk {
    SimDisk::new(SimDiskConfig::new("d", 1 << 20), 1)
}

#[test]
fn conforms() {
    for (seed, completion) in [(1, Completion::AnyOrder), (2, Completion::InOrder)] {
        let mut config = SimDiskConfig::new("d", 32 << 20);
        config.completion = completion;
        config.faults =
            Faults { slow_ppm: 10_000, slow: (Duration::ZERO, Duration::from_secs(1)), ..Faults::default() };
        let disk = SimDisk::new(config, seed);
        sim(seed).run(0, |core| async move { suite::conforms(&core, Rc::new(disk.open(&core))).await });
    }
}

#[test]
fn keeps_what_was_flushed_through_crashes() {
    for seed in 0..200 {
        let mut config = SimDiskConfig::new("d", 1 << 20);
        config.geometry.volatile_cache = seed % 4 != 3;
        config.geometry.atomic_write_unit = if seed % 2 == 0 { 512 } else { 4096 };
        let disk = SimDisk::new(config, seed);
        for _ in 0..3 {
            let sim = sim(seed);
            let before = disk.clone();
            let expectation = sim
                .run(0, |core| async move { suite::durability::before(&before.open(&core), seed, 8).await });
            if seed % 5 == 0 {
                disk.end_process();
            }
            sim.kill(0);
            disk.crash();
            let after = disk.clone();
            sim.run(0, |core| async move { expectation.check(&after.open(&core)).await });
        }
    }
}

/// The suite's durability check is worth something: without the flushes it fails.
#[test]
fn loses_what_was_not_flushed() {
    let lost = (0..20).filter(|&seed| {
        let disk = SimDisk::new(SimDiskConfig::new("d", 1 << 20), seed);
        on_disk(&disk, |_, device| async move {
            device.write(0, filled(4096, 7)).await.unwrap();
        });
        disk.crash();
        byte_at(&disk, 0) == 0
    });
    let lost = lost.count();
    assert!((3..18).contains(&lost), "{lost} of 20 lost");
}

#[test]
fn a_flush_covers_only_what_completed_before_it() {
    let disk = disk();
    on_disk(&disk, |_, device| async move {
        device.write(0, filled(4096, 1)).await.unwrap();
        let flush = device.flush();
        let late = device.write(4096, filled(4096, 2)).await;
        late.unwrap();
        flush.await.unwrap();
    });
    assert_eq!(disk.unsettled().len(), 1);
    disk.crash_with(|write| {
        assert_eq!((write.offset, write.completed), (4096, true));
        Fate::Lost
    });
    assert_eq!((byte_at(&disk, 0), byte_at(&disk, 4096)), (1, 0));
}

#[test]
fn tears_at_the_atomic_unit() {
    let disk = disk();
    on_disk(&disk, |_, device| async move {
        device.write(0, filled(4096, 1)).await.unwrap();
        device.flush().await.unwrap();
        device.write(0, filled(4096, 2)).await.unwrap();
    });
    disk.crash_with(|write| {
        assert_eq!(write.units(512).count(), 8);
        Fate::Torn(vec![true, false, false, true])
    });
    assert_eq!([0, 512, 1536, 2048, 4095].map(|at| byte_at(&disk, at)), [2, 1, 2, 1, 1]);
}

#[test]
fn overlapping_writes_survive_in_any_order() {
    let survivors: std::collections::BTreeSet<u8> = (0..40)
        .map(|seed| {
            let disk = SimDisk::new(SimDiskConfig::new("d", 1 << 20), seed);
            on_disk(&disk, |_, device| async move {
                for byte in 1..=3 {
                    device.write(0, filled(4096, byte)).await.unwrap();
                }
            });
            disk.crash_with(|_| Fate::Kept);
            byte_at(&disk, 0)
        })
        .collect();
    assert_eq!(survivors.len(), 3);
}

#[test]
fn a_killed_process_leaves_the_cache() {
    let disk = disk();
    on_disk(&disk, |_, device| async move { drop(device.write(0, filled(4096, 1)).await.unwrap()) });
    disk.end_process();
    assert_eq!(byte_at(&disk, 0), 1);
    disk.crash_with(|_| Fate::Lost);
    assert_eq!(byte_at(&disk, 0), 0);
}

#[test]
fn handles_of_an_earlier_life_are_gone() {
    let disk = disk();
    let again = disk.clone();
    on_disk(&disk, |_, device| async move {
        let in_flight = device.write(0, filled(4096, 1));
        again.crash_with(|_| Fate::Lost);
        assert!(matches!(in_flight.await, Err(DeviceError::Gone { .. })));
        assert!(matches!(device.flush().await, Err(DeviceError::Gone { .. })));
    });
    assert_eq!(byte_at(&disk, 0), 0);
}

#[test]
fn bad_blocks_fail_alone_until_overwritten_durably() {
    let disk = disk();
    disk.break_blocks(4096..4097);
    let again = disk.clone();
    on_disk(&disk, |_, device| async move {
        let error = device.read(0, DmaBuf::zeroed(8192)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "read of 8192 bytes at 0x0 on d: unrecovered read error at 0x1000 (simulated)"
        );
        device.read(0, DmaBuf::zeroed(4096)).await.unwrap();
        device.write(4096, filled(4096, 3)).await.unwrap();
        device.read(4096, DmaBuf::zeroed(4096)).await.unwrap();
    });
    again.crash_with(|_| Fate::Lost);
    on_disk(&disk, |_, device| async move {
        device.read(4096, DmaBuf::zeroed(4096)).await.unwrap_err();
        device.write(4096, filled(4096, 3)).await.unwrap();
        device.flush().await.unwrap();
    });
    again.crash();
    on_disk(&disk, |_, device| async move { device.read(4096, DmaBuf::zeroed(4096)).await.map(drop) })
        .unwrap();
}

#[test]
fn a_failed_flush_poisons_every_handle_until_the_next_life() {
    let disk = disk();
    disk.fail_next_flush();
    let again = disk.clone();
    on_disk(&disk, |core, device| async move {
        let other = again.open(&core);
        assert!(matches!(device.flush().await, Err(DeviceError::Poisoned { .. })));
        suite::poisoned(&*device).await;
        suite::poisoned(&other).await;
    });
    disk.end_process();
    on_disk(&disk, |_, device| async move { device.flush().await }).unwrap();
}

#[test]
fn faults_by_chance_strike_and_heal() {
    let mut config = SimDiskConfig::new("d", 1 << 20);
    config.faults = Faults { read_error_ppm: 200_000, write_error_ppm: 200_000, ..Faults::default() };
    let disk = SimDisk::new(config, 3);
    let again = disk.clone();
    on_disk(&disk, |_, device| async move {
        let (mut reads, mut writes) = (0, 0);
        for block in 0..256 {
            writes += u32::from(device.write(block * 4096, filled(4096, 1)).await.is_err());
            reads += u32::from(device.read(block * 4096, DmaBuf::zeroed(4096)).await.is_err());
        }
        assert!((20..90).contains(&reads) && (20..90).contains(&writes), "{reads} {writes}");
        again.set_faults(Faults::default());
        for block in 0..256 {
            device.write(block * 4096, filled(4096, 2)).await.unwrap();
        }
        for block in 0..256 {
            device.read(block * 4096, DmaBuf::zeroed(4096)).await.unwrap();
        }
    });
}

#[test]
fn a_failed_write_does_not_come_back_later() {
    for seed in 0..50 {
        let disk = SimDisk::new(SimDiskConfig::new("d", 1 << 20), seed);
        disk.fail_writes(0..1);
        let again = disk.clone();
        on_disk(&disk, |_, device| async move {
            device.write(0, filled(4096, 1)).await.unwrap_err();
            again.allow_writes();
            device.write(0, filled(4096, 2)).await.unwrap();
            device.flush().await.unwrap();
        });
        disk.crash();
        assert_eq!([0, 512, 4095].map(|at| byte_at(&disk, at)), [2; 3]);
    }
}

#[test]
fn a_thin_disk_fills_up_and_a_discard_makes_room() {
    let mut config = SimDiskConfig::new("d", 1 << 20);
    config.capacity = Some(64 << 10);
    let disk = SimDisk::new(config, 1);
    on_disk(&disk, |_, device| async move {
        device.write(0, filled(64 << 10, 1)).await.unwrap();
        let error = device.write(64 << 10, filled(4096, 1)).await.unwrap_err();
        assert!(error.to_string().contains("no space left"), "{error}");
        device.write(0, filled(4096, 2)).await.unwrap();
        while device.write(64 << 10, filled(4096, 1)).await.is_err() {
            device.discard(8192, 4096).await.unwrap();
        }
    });
}

#[test]
fn a_stuck_io_holds_up_nothing_else() {
    let mut config = SimDiskConfig::new("d", 1 << 20);
    config.faults.stuck_ppm = 1_000_000;
    let disk = SimDisk::new(config, 1);
    let again = disk.clone();
    on_disk(&disk, |core, device| async move {
        let stuck = device.write(0, filled(4096, 1));
        again.set_faults(Faults::default());
        device.write(4096, filled(4096, 2)).await.unwrap();
        device.flush().await.unwrap();
        core.sleep(Duration::from_secs(3600)).await;
        assert_eq!(again.unsettled().len(), 1);
        drop(stuck);
    });
    disk.crash_with(|_| Fate::Kept);
    assert_eq!((byte_at(&disk, 0), byte_at(&disk, 4096)), (1, 2));
}

#[test]
fn unplugged_is_gone() {
    let disk = disk();
    let again = disk.clone();
    on_disk(&disk, |_, device| async move {
        again.unplug();
        assert!(matches!(device.read(0, DmaBuf::zeroed(4096)).await, Err(DeviceError::Gone { .. })));
        again.plug_in();
        device.read(0, DmaBuf::zeroed(4096)).await.unwrap();
    });
}

#[test]
fn counts_by_region_and_sees_races() {
    let disk = disk();
    disk.count_region("journal", 0..8192);
    on_disk(&disk, |_, device| async move {
        device.write(0, filled(8192, 1)).await.unwrap();
        device.write(8192, filled(4096, 1)).await.unwrap();
        let first = device.write(16384, filled(8192, 1));
        let second = device.write(20480, filled(4096, 1));
        let third = device.read(16384, DmaBuf::zeroed(4096));
        first.await.unwrap();
        second.await.unwrap();
        third.await.unwrap();
        device.flush().await.unwrap();
    });
    let all = disk.counters();
    assert_eq!((all.writes, all.bytes_written, all.reads, all.flushes), (4, 24576, 1, 1));
    assert_eq!((all.racing_writes, all.racing_reads), (1, 1));
    let journal = &disk.regions()[0].counters;
    assert_eq!((journal.writes, journal.bytes_written, journal.reads), (1, 8192, 0));
}

#[test]
fn one_seed_gives_one_history() {
    let run = |seed, byte| {
        let mut config = SimDiskConfig::new("d", 1 << 20);
        config.faults.write_error_ppm = 100_000;
        let disk = SimDisk::new(config, seed);
        on_disk(&disk, |_, device| async move {
            for block in 0..64 {
                drop(device.write(block * 4096, filled(4096, byte)).await);
            }
        });
        disk.crash();
        disk.hash()
    };
    assert_eq!(run(1, 1), run(1, 1));
    assert_ne!(run(1, 1), run(2, 1));
    assert_ne!(run(1, 1), run(1, 2));
}

#[test]
fn held_writes_are_late_until_the_next_life() {
    let disk = disk();
    let time = Duration::from_millis(50);
    let took = |disk: &SimDisk, offset| {
        on_disk(disk, move |core, device| async move {
            let begun = core.now();
            device.write(offset, filled(4096, 1)).await.expect("written");
            Duration::from_nanos(core.now().0 - begun.0)
        })
    };
    disk.hold_writes(vec![4096..8192], time);
    assert!(took(&disk, 0) < time && took(&disk, 4096) >= time && took(&disk, 8192) < time);
    disk.end_process();
    assert!(took(&disk, 4096) < time);
}
