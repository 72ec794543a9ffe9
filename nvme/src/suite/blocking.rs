//! The conformance suite of the blocking view. Runs on foreign threads.

use std::sync::Arc;

use super::{SIZE_MIN, pattern};
use crate::blocking::BlockingDevice;
use crate::buffer::DmaBuf;
use crate::device::{DeviceError, DeviceResult};

/// Checks the contract of [`BlockingDevice`] from `threads.len()` threads at once. `spawn_all` runs the jobs, each on a
/// thread of its own, and returns when all are done: a backend's test passes `std::thread::scope`, since the library
/// itself starts no threads. Overwrites the first [`SIZE_MIN`] bytes.
pub fn blocking_conforms(
    device: &Arc<dyn BlockingDevice>,
    run_all: impl FnOnce(Vec<Box<dyn FnOnce() + Send>>),
) {
    crate::check::geometry(device.geometry());
    assert!(device.geometry().size >= SIZE_MIN, "the suite needs {SIZE_MIN} bytes");
    bounds(&**device);
    big(&**device);
    discard(&**device);
    let jobs = (0..4_u64).map(|thread| {
        let device = device.clone();
        Box::new(move || own_blocks(&*device, thread)) as Box<dyn FnOnce() + Send>
    });
    run_all(jobs.collect());
}

fn ok<T>(what: &str, result: DeviceResult<T>) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error}"))
}

fn write(device: &dyn BlockingDevice, offset: u64, len: usize, version: u64) {
    ok("write", device.write_at(offset, &pattern::buffer(len, offset, version)));
}

fn expect(device: &dyn BlockingDevice, offset: u64, len: usize, version: u64, what: &str) {
    let mut buf = DmaBuf::zeroed(len);
    ok("read", device.read_at(offset, &mut buf));
    pattern::check(&buf, offset, version, what);
}

fn bounds(device: &dyn BlockingDevice) {
    let (block, size) = (device.geometry().block_size as usize, device.geometry().size);
    write(device, 0, 2 * block, 1);
    let refused = |what: &str, result: DeviceResult<()>| {
        assert!(matches!(result, Err(DeviceError::Range { .. })), "{what} gave {result:?}, not Range");
    };
    for (offset, len) in [(size, block), (size - block as u64, 2 * block), (1, block), (0, block / 2), (0, 0)]
    {
        let mut buf = DmaBuf::zeroed(len.max(1));
        refused("read", device.read_at(offset, &mut buf[..len]));
        refused("write", device.write_at(offset, &buf[..len]));
        refused("discard", device.discard(offset, len as u64));
    }
    let mut odd = DmaBuf::zeroed(2 * block);
    refused("read into memory off its alignment", device.read_at(0, &mut odd[8..8 + block]));
    refused("write of memory off its alignment", device.write_at(0, &odd[8..8 + block]));
    expect(device, 0, 2 * block, 1, "after refused calls");
}

fn big(device: &dyn BlockingDevice) {
    let block = device.geometry().block_size as usize;
    let len = (2 * device.geometry().io_max as usize + block).min(SIZE_MIN as usize - block);
    write(device, block as u64, len, 2);
    expect(device, block as u64, len, 2, "a big write");
}

fn discard(device: &dyn BlockingDevice) {
    let block = device.geometry().block_size as usize;
    write(device, 0, 8 * block, 3);
    ok("discard", device.discard(block as u64, 4 * block as u64));
    expect(device, 0, block, 3, "the block before a discard");
    expect(device, 5 * block as u64, block, 3, "the block after a discard");
    write(device, block as u64, block, 4);
    expect(device, block as u64, block, 4, "a block written after its discard");
}

/// Threads write, flush and read blocks of their own side by side.
fn own_blocks(device: &dyn BlockingDevice, thread: u64) {
    let block = device.geometry().block_size as usize;
    for round in 0..16 {
        let offset = (thread + 4 * round) * block as u64;
        write(device, offset, block, 100 + round);
        if round % 4 == thread % 4 {
            ok("flush", device.flush());
        }
        expect(device, offset, block, 100 + round, "a block of this thread");
    }
    for round in 0..16 {
        let offset = (thread + 4 * round) * block as u64;
        expect(device, offset, block, 100 + round, "a block of this thread, later");
    }
}
