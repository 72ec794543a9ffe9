//! One check of the contract each. Lives on the core of the device.

use rt::Core;
use rt::sim::RandomStream;

use super::{SIZE_MIN, pattern};
use crate::buffer::DmaBuf;
use crate::device::{BlockDevice, DeviceError, DeviceResult};
use crate::image::Image;

fn ok<T>(what: &str, result: DeviceResult<T>) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error}"))
}

async fn write(device: &dyn BlockDevice, offset: u64, len: usize, version: u64) {
    let buf = ok("write", device.write(offset, pattern::buffer(len, offset, version)).await);
    assert_eq!(buf.len(), len, "a write gives its buffer back");
    pattern::check(&buf, offset, version, "the buffer given back by a write");
}

async fn expect(device: &dyn BlockDevice, offset: u64, len: usize, version: u64, what: &str) {
    let buf = ok("read", device.read(offset, DmaBuf::zeroed(len)).await);
    assert_eq!(buf.len(), len, "a read fills the whole buffer");
    pattern::check(&buf, offset, version, what);
}

fn block_of(device: &dyn BlockDevice) -> usize {
    device.geometry().block_size as usize
}

/// I/Os beyond the end, off the blocks or of odd length fail as the caller's mistake and change nothing.
pub(super) async fn bounds(device: &dyn BlockDevice) {
    let (block, size) = (block_of(device), device.geometry().size);
    let last = size - block as u64;
    write(device, 0, block, 1).await;
    write(device, last, block, 1).await;
    let refused = |what: &str, offset: u64, result: DeviceResult<()>| {
        assert!(
            matches!(result, Err(DeviceError::Range { .. })),
            "{what} at {offset:#x} gave {result:?}, not Range"
        );
    };
    let wrong = [
        (size, block),
        (last, 2 * block),
        (u64::MAX - block as u64 + 1, block),
        (1, block),
        (256, block),
        (0, 1),
        (0, block + 256),
    ];
    for (offset, len) in wrong {
        refused("read", offset, device.read(offset, DmaBuf::zeroed(len)).await.map(drop));
        refused("write", offset, device.write(offset, DmaBuf::zeroed(len)).await.map(drop));
        refused("discard", offset, device.discard(offset, len as u64).await);
    }
    refused("discard of nothing", 0, device.discard(0, 0).await);
    expect(device, 0, block, 1, "the first block after refused I/Os").await;
    expect(device, last, block, 1, "the last block after refused I/Os").await;
}

/// Every length and place of a few blocks comes back, and its neighbours stay.
pub(super) async fn bytes_come_back(device: &dyn BlockDevice) {
    let block = block_of(device);
    write(device, 0, 16 * block, 2).await;
    for blocks in 1..5 {
        let (offset, len) = ((blocks * block) as u64, blocks * block);
        write(device, offset, len, 3).await;
        expect(device, offset, len, 3, "what was written").await;
        expect(device, offset - block as u64, block, 2, "the block before").await;
        expect(device, offset + len as u64, block, 2, "the block after").await;
        write(device, 0, 16 * block, 2).await;
    }
    ok("flush", device.flush().await);
    expect(device, 0, 16 * block, 2, "after a flush").await;
}

/// I/Os longer than the device takes as one are split, and put together again.
pub(super) async fn big_io(device: &dyn BlockDevice) {
    let block = block_of(device);
    let whole = 2 * device.geometry().io_max as usize + block;
    let len = whole.min(SIZE_MIN as usize - 2 * block);
    write(device, 0, block, 4).await;
    write(device, (block + len) as u64, block, 4).await;
    write(device, block as u64, len, 5).await;
    expect(device, block as u64, len, 5, "a big write").await;
    expect(device, 0, block, 4, "the block before a big write").await;
    expect(device, (block + len) as u64, block, 4, "the block after a big write").await;
}

/// Many I/Os in flight neither mix their bytes nor get lost.
pub(super) async fn many_at_once(device: &dyn BlockDevice) {
    const IN_FLIGHT: u64 = 256;
    let block = block_of(device);
    let at = |index: u64| index * 2 * block as u64;
    let writes: Vec<_> = (0..IN_FLIGHT)
        .map(|index| device.write(at(index), pattern::buffer(block, at(index), 6 + index)))
        .collect();
    for done in writes {
        ok("one of many writes", done.await);
    }
    let flushes: Vec<_> = (0..4).map(|_| device.flush()).collect();
    let reads: Vec<_> =
        (0..IN_FLIGHT).rev().map(|index| (index, device.read(at(index), DmaBuf::zeroed(block)))).collect();
    for (index, done) in reads {
        pattern::check(&ok("one of many reads", done.await), at(index), 6 + index, "one of many reads");
    }
    for done in flushes {
        ok("one of many flushes", done.await);
    }
}

/// A write goes ahead though nobody polls its future.
pub(super) async fn submitted_when_called(core: &Core, device: &dyn BlockDevice) {
    let block = block_of(device);
    write(device, 0, block, 7).await;
    let done = device.write(0, pattern::buffer(block, 0, 8));
    appears(core, device, 8, "a write whose future was not polled").await;
    ok("write", done.await);
    expect(device, 0, block, 8, "after all").await;
}

/// A dropped future neither undoes its I/O nor takes its buffer away from under the device.
pub(super) async fn dropped_futures(core: &Core, device: &dyn BlockDevice) {
    let block = block_of(device);
    write(device, 0, block, 9).await;
    drop(device.read(0, DmaBuf::zeroed(64 * block)));
    drop(device.write(0, pattern::buffer(block, 0, 10)));
    drop(device.flush());
    // Memory that the device might still own must not come back into use: these would show it.
    let others: Vec<DmaBuf> = (0..64).map(|version| pattern::buffer(block, 1 << 40, version)).collect();
    appears(core, device, 10, "a write whose future was dropped").await;
    for (version, buf) in others.iter().enumerate() {
        pattern::check(buf, 1 << 40, version as u64, "a buffer that no I/O was given");
    }
    for _ in 0..32 {
        let mut polled = device.write(0, pattern::buffer(block, 0, 10));
        // Dropped after the first poll, too.
        std::future::poll_fn(|cx| {
            let _ = polled.as_mut().poll(cx);
            std::task::Poll::Ready(())
        })
        .await;
    }
    expect(device, 0, block, 10, "after writes of the same bytes dropped half way").await;
}

/// Reads block 0 until it holds `version`; bounded, since a device may take its time but not for ever.
async fn appears(core: &Core, device: &dyn BlockDevice, version: u64, what: &str) {
    let block = block_of(device);
    let wanted = pattern::buffer(block, 0, version);
    for _ in 0..20_000 {
        if ok("read", device.read(0, DmaBuf::zeroed(block)).await)[..] == wanted[..] {
            return;
        }
        core.yield_now().await;
    }
    panic!("{what} never appeared");
}

/// A discard leaves its neighbours alone, and what is written after it comes back.
pub(super) async fn discard(device: &dyn BlockDevice) {
    let block = block_of(device);
    write(device, 0, 64 * block, 11).await;
    ok("discard", device.discard(block as u64, 30 * block as u64).await);
    expect(device, 0, block, 11, "the block before a discard").await;
    expect(device, 31 * block as u64, block, 11, "the block after a discard").await;
    ok("read of discarded blocks", device.read(block as u64, DmaBuf::zeroed(30 * block)).await);
    write(device, 2 * block as u64, block, 12).await;
    expect(device, 2 * block as u64, block, 12, "a block written after its discard").await;
}

/// Rounds of random I/Os which do not overlap within a round, against an image in memory.
pub(super) async fn model(device: &dyn BlockDevice, seed: u64) {
    const ROUNDS: u64 = 12;
    const AREA_BLOCKS: u64 = 512;
    let block = block_of(device) as u64;
    let mut random = RandomStream::new(seed, "suite model");
    let mut image = Image::new();
    write(device, 0, (AREA_BLOCKS * block) as usize, 13).await;
    image.write(0, &pattern::buffer((AREA_BLOCKS * block) as usize, 0, 13));
    for round in 0..ROUNDS {
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        let mut at = random.below(8);
        while at < AREA_BLOCKS {
            let blocks = random.between(1, 32).min(AREA_BLOCKS - at);
            let (offset, len) = (at * block, (blocks * block) as usize);
            if random.one_in(2) {
                reads.push((offset, device.read(offset, DmaBuf::zeroed(len))));
            } else {
                let buf = pattern::buffer(len, offset, 100 + round);
                image.write(offset, &buf);
                writes.push(device.write(offset, buf));
            }
            at += blocks + random.below(16);
        }
        if random.one_in(3) {
            ok("flush among others", device.flush().await);
        }
        for done in writes {
            ok("write", done.await);
        }
        for (offset, done) in reads {
            let found = ok("read", done.await);
            let mut expected = vec![0; found.len()];
            image.read(offset, &mut expected);
            assert!(found[..] == expected[..], "seed {seed}, round {round}: other bytes at {offset:#x}");
        }
    }
    let found = ok("read", device.read(0, DmaBuf::zeroed((AREA_BLOCKS * block) as usize)).await);
    let mut expected = vec![0; found.len()];
    image.read(0, &mut expected);
    assert!(found[..] == expected[..], "seed {seed}: other bytes at the end");
}
