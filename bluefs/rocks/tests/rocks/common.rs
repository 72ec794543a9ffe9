//! What the tests of this crate share.

use std::sync::Arc;

use allocator::Extent;
use bluefs::fs::{BlueFs, FormatOptions, MountOptions};
use bluefs::kv::KvStore;
use bluefs_rocks::{RocksKv, RocksOptions};
use nvme::{BlockingDevice, Geometry, MemoryDevice};
use rt::Core;
use rt::sim::{Config, Sim};
use uuid::Uuid;

pub const COPIES: [u64; 2] = [0, 4096];
pub const SIZE: u64 = 64 << 20;

/// Runs a test on a core. The simulated world runs foreign work on the core's own thread, which RocksDB does not
/// mind; its background threads are real.
pub fn on_core<F: Future<Output = ()> + 'static>(test: impl FnOnce(Core) -> F + 'static) {
    Sim::new(1, Config::default()).run(0, test);
}

pub fn mount_options() -> MountOptions {
    // Two runs of a test need not be alike, two mounts must not be.
    static MOUNTS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let nonce = MOUNTS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    MountOptions { superblocks: COPIES, nonce, low_water: 1 << 20, lend: 1 << 20, fast: None }
}

pub fn rocks_options() -> RocksOptions {
    RocksOptions::for_space(8 << 20)
}

/// A formatted device in memory whose cache is volatile, so that flushes count.
pub fn formatted(space: u64) -> MemoryDevice {
    let geometry =
        Geometry { volatile_cache: true, atomic_write_unit: 512, ..MemoryDevice::default_geometry(SIZE) };
    let device = MemoryDevice::with_geometry("memory", geometry);
    let format = FormatOptions {
        alloc_unit: 4096,
        log_bytes_min: 64 << 10,
        ..FormatOptions::new(Uuid::from_u128(1), COPIES, vec![Extent::new(1 << 20, space)], 1)
    };
    BlueFs::format(&device, &format).unwrap();
    device
}

pub async fn open(core: &Core, device: Arc<dyn BlockingDevice>) -> RocksKv {
    let opened = RocksKv::mount(core.clone(), device, mount_options(), None, rocks_options()).await;
    let store = opened.unwrap_or_else(|error| panic!("{error}"));
    store.begin_compacting();
    store
}
