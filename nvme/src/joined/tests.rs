//! Joined devices against the suites, at their near and far addresses, with members that lose their caches apart.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use rt::sim::{Config, Sim};
use rt::{Core, LocalBoxFuture};

use super::*;
use crate::blocking::BlockingDevice;
use crate::crash::Fate;
use crate::memory::MemoryDevice;
use crate::sim::{SimDisk, SimDiskConfig};
use crate::suite;

const SIZE: u64 = 32 << 20;

/// A member as the joined device shows it.
struct Far<D> {
    joined: D,
    slot: usize,
    geometry: Geometry,
}

impl<D> Far<D> {
    fn new(joined: D, slot: usize, geometry: &Geometry) -> Self {
        Self { joined, slot, geometry: Geometry { size: SIZE, ..geometry.clone() } }
    }

    /// Offsets beyond the joined device's addresses stay beyond.
    fn address(&self, offset: u64) -> u64 {
        offset.checked_add(member_base(self.slot)).unwrap_or(u64::MAX)
    }
}

impl BlockDevice for Far<Joined> {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }
    fn name(&self) -> &str {
        self.joined.name()
    }
    fn read(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.joined.read(self.address(offset), buf)
    }
    fn write(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.joined.write(self.address(offset), buf)
    }
    fn flush(&self) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.joined.flush()
    }
    fn discard(&self, offset: u64, len: u64) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.joined.discard(self.address(offset), len)
    }
}

impl BlockingDevice for Far<BlockingJoined> {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }
    fn name(&self) -> &str {
        BlockingDevice::name(&self.joined)
    }
    fn read_at(&self, offset: u64, memory: &mut [u8]) -> DeviceResult<()> {
        self.joined.read_at(self.address(offset), memory)
    }
    fn write_at(&self, offset: u64, memory: &[u8]) -> DeviceResult<()> {
        self.joined.write_at(self.address(offset), memory)
    }
    fn flush(&self) -> DeviceResult<()> {
        BlockingDevice::flush(&self.joined)
    }
    fn discard(&self, offset: u64, len: u64) -> DeviceResult<()> {
        BlockingDevice::discard(&self.joined, self.address(offset), len)
    }
}

/// Members with blocks of two sizes.
fn memories() -> [MemoryDevice; 3] {
    [512, 4096, 512].map(|block_size| {
        let geometry = Geometry { block_size, ..MemoryDevice::default_geometry(SIZE) };
        MemoryDevice::with_geometry("memory", geometry)
    })
}

#[test]
fn every_member_conforms_and_keeps_to_itself() {
    for slot in 0..3 {
        let members = memories();
        let all = members.clone();
        Sim::new(1, Config::default()).run(0, move |core| async move {
            let list = all.map(|one| Some(Rc::new(one) as Rc<dyn BlockDevice>)).to_vec();
            let joined = Joined::new(list, JoinedState::new());
            let geometry = joined.geometry().clone();
            assert_eq!((geometry.size, geometry.block_size), (SIZE, 4096));
            suite::conforms(&core, Rc::new(Far::new(joined, slot, &geometry))).await;
        });
        for (other, member) in members.iter().enumerate() {
            assert_eq!(member.bytes_written() > 0, other == slot, "member {other} when {slot} was written");
        }
        let list = members.map(|one| Some(Arc::new(one) as Arc<dyn BlockingDevice>)).to_vec();
        let joined = BlockingJoined::new(list, JoinedState::new());
        let geometry = BlockingDevice::geometry(&joined).clone();
        let device: Arc<dyn BlockingDevice> = Arc::new(Far::new(joined, slot, &geometry));
        suite::blocking_conforms(&device, crate::testing::on_threads);
    }
}

#[test]
fn a_slot_without_a_device_has_no_bytes() {
    Sim::new(1, Config::default()).run(0, |_| async {
        let [main, _, wal] = memories().map(|one| Some(Rc::new(one) as Rc<dyn BlockDevice>));
        let joined = Joined::new(vec![main, None, wal], JoinedState::new());
        for (address, fits) in [
            (0, true),
            (member_base(1), false),
            (member_base(2), true),
            (member_base(2) + SIZE - 4096, true),
            (member_base(2) + SIZE, false),
            (3 << MEMBER_SHIFT, false),
            (u64::MAX - 4095, false),
        ] {
            let read = joined.read(address, DmaBuf::zeroed(4096)).await;
            assert_eq!(read.is_ok(), fits, "{address:#x}: {read:?}");
            if let Err(error) = read {
                assert!(matches!(error, DeviceError::Range { offset, .. } if offset == address), "{error}");
            }
        }
    });
}

fn disks(seed: u64) -> [SimDisk; 3] {
    ["main", "db", "wal"].map(|name| SimDisk::new(SimDiskConfig::new(name, SIZE), seed))
}

fn open(core: &Core, disks: &[SimDisk; 3]) -> Joined {
    let members = disks.iter().map(|disk| Some(Rc::new(disk.open(core)) as Rc<dyn BlockDevice>)).collect();
    Joined::new(members, JoinedState::new())
}

#[test]
fn what_was_flushed_outlives_the_caches_of_all_members() {
    for seed in 0..30 {
        let disks = disks(seed);
        let (all, found) = (disks.clone(), Rc::new(RefCell::new(Vec::new())));
        let kept = Rc::clone(&found);
        Sim::new(seed, Config::default()).run(0, move |core| async move {
            for slot in 0..3 {
                let joined = open(&core, &all);
                let geometry = joined.geometry().clone();
                let far = Far::new(joined, slot, &geometry);
                kept.borrow_mut().push(suite::durability::before(&far, seed + slot as u64, 12).await);
            }
        });
        disks.iter().for_each(SimDisk::crash);
        Sim::new(seed + 1000, Config::default()).run(0, move |core| async move {
            for (slot, expectation) in found.take().into_iter().enumerate() {
                let joined = open(&core, &disks);
                let geometry = joined.geometry().clone();
                expectation.check(&Far::new(joined, slot, &geometry)).await;
            }
        });
    }
}

fn block(byte: u8) -> DmaBuf {
    DmaBuf::from_slice_padded(&[byte; 4096], 4096)
}

#[test]
fn only_members_with_new_writes_are_flushed() {
    let disks = disks(1);
    let all = disks.clone();
    let flushes = move || all.each_ref().map(|disk| disk.counters().flushes);
    Sim::new(1, Config::default()).run(0, move |core| async move {
        let joined = open(&core, &disks);
        joined.flush().await.expect("what an earlier process left");
        assert_eq!(flushes(), [1, 1, 1]);
        joined.flush().await.expect("nothing to do");
        assert_eq!(flushes(), [1, 1, 1]);
        joined.write(member_base(2), block(1)).await.expect("writes");
        // Both cover the write: the second does not count on the first, which has not ended.
        let (first, second) = (joined.flush(), joined.flush());
        second.await.expect("flushes");
        first.await.expect("flushes");
        assert_eq!(flushes(), [1, 1, 3]);
        drop(joined.write(member_base(1), block(2)));
        joined.flush().await.expect("flushes");
        joined.flush().await.expect("nobody knows when the dropped write completed");
        assert_eq!(flushes(), [1, 3, 3]);
    });
}

#[test]
fn a_flush_covers_writes_through_another_handle() {
    let disks = disks(3);
    let all = disks.clone();
    Sim::new(3, Config::default()).run(0, move |core| async move {
        let state = JoinedState::new();
        let handle = || {
            let members =
                all.iter().map(|disk| Some(Rc::new(disk.open(&core)) as Rc<dyn BlockDevice>)).collect();
            Joined::new(members, Arc::clone(&state))
        };
        let (one, other) = (handle(), handle());
        other.flush().await.expect("flushes");
        one.write(member_base(1), block(7)).await.expect("writes");
        other.flush().await.expect("flushes");
    });
    disks[1].crash_with(|_| Fate::Lost);
    let mut back = [0; 1];
    disks[1].image().read(0, &mut back);
    assert_eq!(back, [7]);
}

#[test]
fn a_failed_flush_of_one_member_poisons_all() {
    let disks = disks(2);
    Sim::new(2, Config::default()).run(0, move |core| async move {
        let state = JoinedState::new();
        let handle = || {
            let members =
                disks.iter().map(|disk| Some(Rc::new(disk.open(&core)) as Rc<dyn BlockDevice>)).collect();
            Joined::new(members, Arc::clone(&state))
        };
        let (one, other) = (handle(), handle());
        one.write(member_base(1), block(1)).await.expect("writes");
        disks[1].fail_next_flush();
        assert!(matches!(one.flush().await, Err(DeviceError::Poisoned { .. })));
        suite::poisoned(&one).await;
        suite::poisoned(&other).await;
    });
}
