//! The suite finds what it is there to find: devices with one fault each, none of which passes.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use rt::LocalBoxFuture;
use rt::sim::{Config, Sim};

use super::{SIZE_MIN, conforms, durability, poisoned};
use crate::buffer::DmaBuf;
use crate::crash::Fate;
use crate::device::{BlockDevice, DeviceResult, Geometry};
use crate::memory::MemoryDevice;
use crate::sim::{SimDisk, SimDiskConfig};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    SubmitsWhenPolled,
    ForgetsDroppedWrites,
    AcceptsTheOddOffset,
    WritesTheNextBlockToo,
    SplitsWrongly,
    GivesAnotherBufferBack,
    DiscardsTooMuch,
    FailsReadsAfterDiscard,
    MixesUpConcurrentReads,
    FlushesNothing,
}

/// Memory with a fault.
struct Faulty {
    inner: Rc<dyn BlockDevice>,
    fault: Fault,
    discarded: RefCell<bool>,
    last_read: RefCell<u64>,
}

impl Faulty {
    fn new(inner: Rc<dyn BlockDevice>, fault: Fault) -> Self {
        Self { inner, fault, discarded: RefCell::new(false), last_read: RefCell::new(0) }
    }

    fn block(&self) -> u64 {
        self.inner.geometry().block_size.into()
    }
}

impl BlockDevice for Faulty {
    fn geometry(&self) -> &Geometry {
        self.inner.geometry()
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn read(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        match self.fault {
            Fault::FailsReadsAfterDiscard if self.discarded.replace(false) => self.inner.read(u64::MAX, buf),
            Fault::MixesUpConcurrentReads if buf.len() as u64 == self.block() => {
                let last = self.last_read.replace(offset);
                let wrong = if offset + 2 * self.block() == last { last } else { offset };
                self.inner.read(wrong, buf)
            }
            _ => self.inner.read(offset, buf),
        }
    }

    fn write(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        let (inner, block) = (self.inner.clone(), self.block());
        match self.fault {
            Fault::SubmitsWhenPolled | Fault::ForgetsDroppedWrites => {
                Box::pin(async move { inner.write(offset, buf).await })
            }
            Fault::AcceptsTheOddOffset => self.inner.write(offset - offset % block, buf),
            Fault::WritesTheNextBlockToo => {
                let mut longer = DmaBuf::zeroed(buf.len() + block as usize);
                longer[..buf.len()].copy_from_slice(&buf);
                let both = self.inner.write(offset, longer);
                let right = self.inner.write(offset, buf);
                Box::pin(async move {
                    drop(both.await);
                    right.await
                })
            }
            Fault::SplitsWrongly if buf.len() > self.geometry().io_max as usize => {
                let cut = self.geometry().io_max as usize;
                let part = self.inner.write(offset, DmaBuf::from_slice_padded(&buf[..cut], block as usize));
                Box::pin(async move { part.await.map(|_| buf) })
            }
            Fault::GivesAnotherBufferBack => {
                let done = self.inner.write(offset, buf);
                Box::pin(async move { done.await.map(|buf| DmaBuf::zeroed(buf.len())) })
            }
            _ => self.inner.write(offset, buf),
        }
    }

    fn flush(&self) -> LocalBoxFuture<'static, DeviceResult<()>> {
        match self.fault {
            Fault::FlushesNothing => Box::pin(std::future::ready(Ok(()))),
            _ => self.inner.flush(),
        }
    }

    fn discard(&self, offset: u64, len: u64) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.discarded.replace(self.fault == Fault::FailsReadsAfterDiscard);
        match self.fault {
            Fault::DiscardsTooMuch => self.inner.discard(offset, len + self.block()),
            _ => self.inner.discard(offset, len),
        }
    }
}

/// Whether a check panics. The message of the panic goes to the test's captured output.
fn fails(body: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(body)).is_err()
}

#[test]
fn no_faulty_device_conforms() {
    for fault in [
        Fault::SubmitsWhenPolled,
        Fault::ForgetsDroppedWrites,
        Fault::AcceptsTheOddOffset,
        Fault::WritesTheNextBlockToo,
        Fault::SplitsWrongly,
        Fault::GivesAnotherBufferBack,
        Fault::DiscardsTooMuch,
        Fault::FailsReadsAfterDiscard,
        Fault::MixesUpConcurrentReads,
    ] {
        let found = fails(|| {
            Sim::new(1, Config::default()).run(0, |core| async move {
                let device = Faulty::new(Rc::new(MemoryDevice::new(2 * SIZE_MIN)), fault);
                conforms(&core, Rc::new(device)).await;
            });
        });
        assert!(found, "{fault:?} conforms");
    }
}

#[test]
fn a_flush_that_does_nothing_is_found() {
    let found = (0..2).filter(|&seed| {
        fails(|| {
            let disk = SimDisk::new(SimDiskConfig::new("d", 1 << 20), seed);
            let before = disk.clone();
            let expectation = Sim::new(seed, Config::default()).run(0, |core| async move {
                let device = Faulty::new(Rc::new(before.open(&core)), Fault::FlushesNothing);
                durability::before(&device, seed, 8).await
            });
            disk.crash_with(|_| Fate::Lost);
            let check = async move |core| expectation.check(&disk.open(&core)).await;
            Sim::new(seed, Config::default()).run(0, check);
        })
    });
    assert_eq!(found.count(), 2);
}

#[test]
fn a_device_that_is_not_poisoned_is_found() {
    assert!(fails(|| {
        Sim::new(1, Config::default()).run(0, |_| async { poisoned(&MemoryDevice::new(1 << 20)).await });
    }));
}
