//! Recordings against what the contract allows.

use std::rc::Rc;
use std::sync::Arc;

use rt::sim::{Config, Sim};

use super::{Choice, Recording, RecordingBlockingDevice, RecordingDevice};
use crate::blocking::BlockingDevice;
use crate::buffer::DmaBuf;
use crate::device::{BlockDevice, Geometry};
use crate::image::Image;
use crate::memory::MemoryDevice;
use crate::sim::{SimDisk, SimDiskConfig};
use crate::suite;

fn geometry(size: u64) -> Geometry {
    Geometry { volatile_cache: true, atomic_write_unit: 512, ..MemoryDevice::default_geometry(size) }
}

fn blocking() -> (Recording, RecordingBlockingDevice) {
    let recording = Recording::new(geometry(1 << 20), Image::new());
    let inner = MemoryDevice::with_geometry("m", geometry(1 << 20));
    (recording.clone(), RecordingBlockingDevice::new(recording, Arc::new(inner)))
}

fn filled(byte: u8) -> DmaBuf {
    let mut buf = DmaBuf::zeroed(4096);
    buf.fill(byte);
    buf
}

fn byte_at(device: &MemoryDevice, offset: u64) -> u8 {
    let mut byte = [0];
    device.image().read(offset, &mut byte);
    byte[0]
}

#[test]
fn conforms() {
    Sim::new(1, Config::default()).run(0, |core| async move {
        let inner = Rc::new(MemoryDevice::with_geometry("m", geometry(32 << 20)));
        let recording = Recording::new(geometry(32 << 20), Image::new());
        suite::conforms(&core, Rc::new(RecordingDevice::new(recording, inner))).await;
    });
    let inner = Arc::new(MemoryDevice::with_geometry("m", geometry(32 << 20)));
    let recording = Recording::new(geometry(32 << 20), Image::new());
    let device: Arc<dyn BlockingDevice> = Arc::new(RecordingBlockingDevice::new(recording, inner));
    suite::blocking_conforms(&device, crate::testing::on_threads);
}

#[test]
fn cuts_see_what_was_durable_and_what_was_not() {
    let (recording, device) = blocking();
    device.write_at(0, &filled(1)).unwrap();
    device.flush().unwrap();
    recording.mark(77);
    device.write_at(0, &filled(2)).unwrap();
    device.write_at(4096, &filled(3)).unwrap();
    let cuts = recording.cuts();
    let unsettled: Vec<usize> = cuts.iter().map(|&cut| recording.at(cut).unsettled().len()).collect();
    assert_eq!(unsettled, [0, 1, 0, 1, 2]);
    let marks: Vec<usize> = cuts.iter().map(|&cut| recording.at(cut).marks().len()).collect();
    assert_eq!(marks, [0, 0, 1, 1, 1]);
    let end = *cuts.last().unwrap();
    let found = |choice| {
        let image = recording.image(end, &choice);
        (byte_at(&image, 0), byte_at(&image, 4096))
    };
    assert_eq!(found(Choice::None), (1, 0));
    assert_eq!(found(Choice::All), (2, 3));
    assert_eq!(found(Choice::Missing(0)), (1, 3));
    assert_eq!(found(Choice::Missing(1)), (2, 0));
    let torn = recording.image(end, &Choice::Torn(1));
    let sectors: std::collections::BTreeSet<u8> = (0..8).map(|at| byte_at(&torn, 4096 + at * 512)).collect();
    assert_eq!(sectors.into_iter().collect::<Vec<_>>(), [0, 3]);
    assert_eq!(recording.at(end).choices(32).len(), 2 + 2 + 2 + 32);
    // Looking back is as good as looking ahead.
    assert_eq!(recording.at(cuts[1]).unsettled().len(), 1);
}

#[test]
fn every_image_of_a_cut_is_one_the_contract_allows() {
    for seed in 0..6 {
        let mut config = SimDiskConfig::new("d", 1 << 20);
        config.geometry.volatile_cache = seed % 3 != 2;
        let recording = Recording::new(config.geometry.clone(), Image::new());
        let disk = SimDisk::new(config, seed);
        let log = recording.clone();
        let expectation = Sim::new(seed, Config::default()).run(0, |core| async move {
            let device = RecordingDevice::new(log, Rc::new(disk.open(&core)));
            suite::durability::before(&device, seed, 6).await
        });
        // The expectation is of the end.
        let end = *recording.cuts().last().unwrap();
        let moment = recording.at(end);
        assert!(moment.unsettled().len() > 4);
        let images: Vec<_> = moment.choices(32).iter().map(|choice| moment.image(choice)).collect();
        Sim::new(seed, Config::default()).run(0, |_| async move {
            for image in images {
                expectation.check(&image).await;
            }
        });
    }
}

#[test]
fn a_dropped_future_leaves_its_write_unsettled() {
    let recording = Recording::new(geometry(1 << 20), Image::new());
    let log = recording.clone();
    Sim::new(1, Config::default()).run(0, |_| async move {
        let inner = MemoryDevice::with_geometry("m", geometry(1 << 20));
        let device = RecordingDevice::new(log, Rc::new(inner));
        drop(device.write(0, filled(1)));
        device.write(4096, filled(1)).await.unwrap();
        device.flush().await.unwrap();
    });
    let moment = recording.at(*recording.cuts().last().unwrap());
    assert_eq!(moment.unsettled().iter().map(|write| write.offset).collect::<Vec<_>>(), [0]);
}

#[test]
fn what_a_killed_process_wrote_is_not_durable_for_the_next() {
    let (recording, device) = blocking();
    device.write_at(0, &filled(1)).unwrap();
    device.flush().unwrap();
    device.write_at(0, &filled(2)).unwrap();
    let moment = recording.at(*recording.cuts().last().unwrap());
    let next = moment.survived();
    let inner = moment.image(&Choice::All);
    assert_eq!(byte_at(&inner, 0), 2);
    let begin = *next.cuts().last().unwrap();
    assert_eq!(next.at(begin).unsettled().len(), 1);
    let device = RecordingBlockingDevice::new(next.clone(), Arc::new(inner));
    device.write_at(4096, &filled(3)).unwrap();
    let lost = next.image(*next.cuts().last().unwrap(), &Choice::Missing(0));
    assert_eq!((byte_at(&lost, 0), byte_at(&lost, 4096)), (1, 3));
    device.flush().unwrap();
    let kept = next.image(*next.cuts().last().unwrap(), &Choice::None);
    assert_eq!((byte_at(&kept, 0), byte_at(&kept, 4096)), (2, 3));
}

#[test]
fn a_flush_of_one_window_settles_no_other() {
    let recording = Recording::new(geometry(1 << 20), Image::new());
    let inner = Arc::new(MemoryDevice::with_geometry("m", geometry(1 << 20)));
    let window = |start: u64, end: u64| {
        RecordingBlockingDevice::of_window(recording.clone(), inner.clone(), start..end)
    };
    let (first, second) = (window(0, 8192), window(8192, 1 << 20));
    first.write_at(4096, &filled(1)).unwrap();
    second.write_at(8192, &filled(2)).unwrap();
    first.flush().unwrap();
    let found = |end| {
        let image = recording.image(end, &Choice::None);
        (byte_at(&image, 4096), byte_at(&image, 8192))
    };
    let end = |recording: &Recording| *recording.cuts().last().unwrap();
    assert_eq!(found(end(&recording)), (1, 0));
    second.flush().unwrap();
    assert_eq!(found(end(&recording)), (1, 2));
}
