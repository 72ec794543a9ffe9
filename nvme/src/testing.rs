//! What the tests of several modules share.

use std::rc::Rc;
use std::sync::Arc;

use rt::sim::{Config, Sim};

use crate::blocking::BlockingDevice;
use crate::file::OpenOptions;
use crate::memory::MemoryDevice;
use crate::partition::Partition;
use crate::suite;

/// The place for temporary files may be in memory, where older kernels have no direct I/O.
pub(crate) fn options() -> OpenOptions {
    OpenOptions { allow_buffered: true, ..OpenOptions::default() }
}

/// Runs every job on a thread of its own.
pub(crate) fn on_threads(jobs: Vec<Box<dyn FnOnce() + Send>>) {
    std::thread::scope(|scope| {
        for job in jobs {
            scope.spawn(job);
        }
    });
}

#[test]
fn memory_conforms() {
    Sim::new(1, Config::default()).run(0, |core| async move {
        suite::conforms(&core, Rc::new(MemoryDevice::new(32 << 20))).await;
        let mut geometry = MemoryDevice::default_geometry(32 << 20);
        geometry.block_size = 512;
        suite::conforms(&core, Rc::new(MemoryDevice::with_geometry("m", geometry))).await;
    });
    let device: Arc<dyn BlockingDevice> = Arc::new(MemoryDevice::new(32 << 20));
    suite::blocking_conforms(&device, on_threads);
}

#[test]
fn a_partition_conforms_and_keeps_to_itself() {
    Sim::new(1, Config::default()).run(0, |core| async move {
        let whole = MemoryDevice::new(48 << 20);
        let part = Partition::new(Rc::new(whole.clone()), "slice 1", 8 << 20, 32 << 20);
        let part = Rc::new(part.unwrap_or_else(|error| panic!("{error}")));
        suite::conforms(&core, part).await;
        let mut outside = vec![1; 8 << 20];
        for start in [0, 40 << 20] {
            whole.image().read(start, &mut outside);
            assert!(
                outside.iter().all(|&byte| byte == 0),
                "the bytes from {start:#x} are not the partition's"
            );
        }
        assert!(Partition::new(Rc::new(whole), "slice 2", 40 << 20, 16 << 20).is_err());
    });
}

#[test]
fn a_partition_in_several_runs_conforms() {
    Sim::new(1, Config::default()).run(0, |core| async move {
        let whole: Rc<dyn crate::BlockDevice> = Rc::new(MemoryDevice::new(64 << 20));
        // Ends of runs lie where the suite writes across them.
        let runs: Vec<(u64, u64)> = (0..400).map(|run| (run * 163_840, 81_920)).collect();
        let part = Partition::of_runs(whole, "slice 1", runs).unwrap_or_else(|error| panic!("{error}"));
        suite::conforms(&core, Rc::new(part)).await;
    });
    let whole: Arc<dyn BlockingDevice> = Arc::new(MemoryDevice::new(64 << 20));
    let runs: Vec<(u64, u64)> = (0..400).map(|run| (run * 163_840, 81_920)).collect();
    let part = crate::BlockingPartition::of_runs(whole, runs).unwrap_or_else(|error| panic!("{error}"));
    let part: Arc<dyn BlockingDevice> = Arc::new(part);
    suite::blocking_conforms(&part, on_threads);
}
