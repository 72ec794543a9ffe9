//! The log on its device: superblock, records, and whole images that were damaged.

use std::rc::Rc;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use nvme::{BlockDevice, DmaBuf, MemoryDevice};
use uuid::Uuid;

use crate::limits::LOG_DEVICE_BYTES_MIN;
use crate::log::{Committed, DiskLog, FormatOptions, LogIdentity, ReplicatedLog};

pub(super) use crate::log::fuzzing::{record, superblock};

const BLOCK: u64 = 4096;
/// Entries that were written: some before a snapshot, the rest after it.
const ENTRIES: u64 = 24;
const SNAPSHOT_AFTER: u64 = 6;
/// Pieces of damage in one test case. All that is damaged at once stays below what crc32c detects for certain.
const DAMAGES_MAX: usize = 3;

/// A log whose blocks were damaged: what it gives was written, in order, without a gap; or it is refused.
pub(super) fn damage(input: &[u8]) {
    let device = written().snapshot();
    for piece in input.chunks(6).take(DAMAGES_MAX) {
        damage_once(&device, piece);
    }
    let device: Rc<dyn BlockDevice> = Rc::new(device);
    let Ok(mut log) = now(DiskLog::open(device, &identity())) else {
        return;
    };
    let mut next = 1;
    while log.unread() > 0 {
        match now(log.next_committed()) {
            Ok(Committed::Snapshot { through, state }) => {
                assert_eq!((through.0, state), (SNAPSHOT_AFTER, snapshot()));
                next = through.0 + 1;
            }
            Ok(Committed::Entry { index, payload: got }) => {
                assert_eq!((index.0, got), (next, payload(next)));
                next += 1;
            }
            Err(error) => panic!("an entry that was read is given: {error}"),
        }
    }
    assert!(next > SNAPSHOT_AFTER, "a snapshot that was durable is lost without a word");
}

/// Damages one block: what, which block (u16), where in it (u16), how.
fn damage_once(device: &MemoryDevice, piece: &[u8]) {
    let byte = |at: usize| piece.get(at).copied().unwrap_or_default();
    let number = |at: usize| u64::from(byte(at)) | u64::from(byte(at + 1)) << 8;
    let blocks = LOG_DEVICE_BYTES_MIN / BLOCK;
    let block = number(1) % blocks;
    let at = usize::from(u16::from_le_bytes([byte(3), byte(4)])) % 4096;
    let mut bytes = read(device, block * BLOCK);
    match byte(0) % 4 {
        0 => bytes[at] ^= 1 << (byte(5) & 7),
        1 => bytes.fill(0),
        2 => bytes[at..].fill(0),
        // An old block in the place of a newer one.
        _ => bytes = read(device, u64::from(byte(5)) % blocks * BLOCK),
    }
    must(now(device.write(block * BLOCK, bytes)));
}

fn read(device: &MemoryDevice, offset: u64) -> DmaBuf {
    must(now(device.read(offset, DmaBuf::zeroed(4096))))
}

/// A device with a log on it.
fn written() -> &'static MemoryDevice {
    static WRITTEN: OnceLock<MemoryDevice> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let device = MemoryDevice::new(LOG_DEVICE_BYTES_MIN);
        let shared: Rc<dyn BlockDevice> = Rc::new(device.clone());
        must(now(DiskLog::format(
            &shared,
            FormatOptions { identity: identity(), salt: 99, overwrite: false },
        )));
        let mut log = must(now(DiskLog::open(shared, &identity())));
        for number in 1..=ENTRIES {
            let index = must(now(log.propose(payload(number))));
            must(now(log.next_committed()));
            if number == SNAPSHOT_AFTER {
                must(now(log.truncate(index, snapshot())));
            }
        }
        device
    })
}

fn identity() -> LogIdentity {
    LogIdentity { fsid: Uuid::from_u128(7), name: "a".into() }
}

/// Some are longer than a block.
fn payload(number: u64) -> Bytes {
    let length = usize::try_from(number % 5).unwrap_or(0) * 2500;
    Bytes::from(vec![number.to_le_bytes()[0]; length + 10])
}

fn snapshot() -> Bytes {
    Bytes::from(vec![0x5a; 10_000])
}

fn must<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("a sound device in memory fails: {error}"),
    }
}

/// Futures on a device in memory are ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a device in memory never waits"),
    }
}
