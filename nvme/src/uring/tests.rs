//! The io_uring backend on a file, and on a block device where a test run names one.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use rt::uring::Config;
use rt::{Core, CoreId};

use super::{Polling, UringDevice};
use crate::blocking::BlockingDevice;
use crate::buffer::DmaBuf;
use crate::device::{BlockDevice, DeviceError};
use crate::file::{DeviceFile, OpenError, Space, create, open};
use crate::suite;
use crate::testing::options;

fn on_core<T: 'static, F: Future<Output = T> + 'static>(body: impl FnOnce(Core) -> F) -> T {
    rt::uring::run(CoreId(0), &Config::default(), body).unwrap()
}

/// Runs `body` on a new file of `len` bytes.
fn on_file<T: 'static, F: Future<Output = T> + 'static>(
    len: u64,
    body: impl FnOnce(Core, UringDevice) -> F + 'static,
) -> T {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device");
    create(&path, len, Space::Sparse).unwrap();
    let file = open(&path, &options()).unwrap();
    on_core(|core| async move {
        let device = UringDevice::attach(&core, file, Polling::WherePossible).unwrap();
        body(core, device).await
    })
}

fn filled(len: usize, byte: u8) -> DmaBuf {
    let mut buf = DmaBuf::zeroed(len);
    buf.fill(byte);
    buf
}

/// Block devices whose content may go, named by whoever runs the tests: `scripts/qemu` does.
fn scratch_devices() -> Vec<PathBuf> {
    std::env::var_os("TEST_NVME_DEVICES")
        .map_or_else(Vec::new, |paths| std::env::split_paths(&paths).collect())
}

#[test]
fn a_file_conforms() {
    on_file(32 << 20, |core, device| async move { suite::conforms(&core, Rc::new(device)).await });
}

#[test]
fn scratch_devices_conform() {
    for path in scratch_devices() {
        let file = open(&path, &options()).unwrap();
        assert!(file.is_block_device());
        for polling in [Polling::WherePossible, Polling::Never] {
            let file = file.clone();
            on_core(|core| async move {
                let device = UringDevice::attach(&core, file, polling).unwrap();
                println!(
                    "{}: polled {}, listed as pollable {}, {:?}",
                    device.name(),
                    device.is_polled(),
                    device.device().may_poll(),
                    device.geometry()
                );
                let polls = polling == Polling::WherePossible && device.device().may_poll();
                assert_eq!(device.is_polled(), polls, "a device listed as pollable can be polled");
                suite::conforms(&core, Rc::new(device)).await;
            });
        }
        let blocking: Arc<dyn BlockingDevice> = Arc::new(file.blocking());
        suite::blocking_conforms(&blocking, crate::testing::on_threads);
        drop((file, blocking));
        restarts(&path);
    }
}

#[test]
fn a_file_keeps_what_was_flushed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device");
    create(&path, 1 << 20, Space::Reserved).unwrap();
    restarts(&path);
}

/// The durability suite over the end of a core with I/Os in flight; of power loss it says nothing.
fn restarts(path: &Path) {
    for seed in 0..3 {
        let on_device = |core: &Core| {
            let file = open(path, &options()).unwrap();
            UringDevice::attach(core, file, Polling::WherePossible).unwrap()
        };
        let expectation = on_core(|core| {
            let device = on_device(&core);
            async move { suite::durability::before(&device, seed, 8).await }
        });
        on_core(|core| {
            let device = on_device(&core);
            async move { expectation.check(&device).await }
        });
    }
}

#[test]
fn a_core_without_a_ring_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device");
    create(&path, 1 << 20, Space::Sparse).unwrap();
    let file = open(&path, &options()).unwrap();
    let core = rt::sim::Sim::new(1, rt::sim::Config::default()).core(0);
    let refused = UringDevice::attach(&core, file, Polling::Never).err();
    assert!(matches!(refused, Some(OpenError::NoRing { .. })), "{refused:?}");
}

#[test]
fn a_failed_flush_poisons_the_handles_of_all_cores() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device");
    create(&path, 1 << 20, Space::Sparse).unwrap();
    let file: Arc<DeviceFile> = open(&path, &options()).unwrap();
    let attached = file.clone();
    on_core(|core| async move {
        let device = UringDevice::attach(&core, attached.clone(), Polling::Never).unwrap();
        device.flush().await.unwrap();
        let error = attached.poisoned_by(&io::Error::from_raw_os_error(libc::EIO));
        assert!(matches!(error, DeviceError::Poisoned { .. }));
        suite::poisoned(&device).await;
    });
    on_core(|core| async move {
        suite::poisoned(&UringDevice::attach(&core, file, Polling::Never).unwrap()).await;
    });
}

#[test]
fn a_file_that_shrinks_is_an_error_and_not_a_hang() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device");
    create(&path, 1 << 20, Space::Sparse).unwrap();
    let file = open(&path, &options()).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
    on_core(|core| async move {
        let device = UringDevice::attach(&core, file, Polling::Never).unwrap();
        device.read(0, DmaBuf::zeroed(4096)).await.unwrap();
        let error = device.read(0, DmaBuf::zeroed(8192)).await.unwrap_err().to_string();
        assert!(error.contains("read of 4096 bytes at 0x1000") && error.contains("shorter"), "{error}");
    });
}

#[test]
fn what_finds_the_ring_full_waits_its_turn() {
    on_file(1 << 20, |_, device| async move {
        let ring = device.lane.ring.clone();
        let fill = || -> Vec<_> {
            let free = rt::limits::RING_OPS_MAX - ring.in_flight() - 2;
            #[expect(unsafe_code, reason = "an entry is submitted")]
            // SAFETY: the entry names nothing.
            (0..free).map(|_| unsafe { ring.submit((), |()| io_uring::opcode::Nop::new().build()) }).collect()
        };
        let others = fill();
        let writes: Vec<_> = (0..64).map(|at| device.write(at * 4096, filled(4096, at as u8 + 1))).collect();
        drop(others);
        for done in writes {
            done.await.unwrap();
        }
        let others = fill();
        let reads: Vec<_> = (0..64).map(|at| device.read(at * 4096, DmaBuf::zeroed(4096))).collect();
        let flush = device.flush();
        drop(others);
        for (at, done) in (1..).zip(reads) {
            let buf = done.await.unwrap();
            assert_eq!((buf[0], buf[4095]), (at, at));
        }
        flush.await.unwrap();
    });
}

#[test]
fn flushes_asked_for_together_share_one() {
    on_file(1 << 20, |_, device| async move {
        let before = device.lane.ring.in_flight();
        let flushes: Vec<_> = (0..100).map(|_| device.flush()).collect();
        assert_eq!(device.lane.ring.in_flight(), before + 1);
        for done in flushes {
            done.await.unwrap();
        }
    });
}
