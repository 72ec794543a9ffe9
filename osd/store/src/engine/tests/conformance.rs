//! The engine passes the seam's suite on a simulated disk and on memory.

use std::rc::Rc;

use bluefs::kv::KvStore;
use nvme::{BlockDevice, MemoryDevice};
use rt::sim::{Config, Sim};
use rt::{Core, LocalBoxFuture};
use uuid::Uuid;

use super::kv::TestKv;
use super::world::World;
use crate::checksum::ChecksumKind;
use crate::compression::{Algorithm, Compression, CompressionMode};
use crate::engine::{CachePolicy, Engine, FormatOptions, Options};
use crate::object_store::ObjectStore;
use crate::suite::{self, Host};
use crate::types::ChunkBounds;

struct SimHost {
    core: Core,
    seed: u64,
    options: Options,
    world: Option<World>,
}

impl Host for SimHost {
    fn fresh(&mut self) -> LocalBoxFuture<'_, Rc<dyn ObjectStore>> {
        Box::pin(async move {
            self.seed += 1;
            let block_size = if self.seed.is_multiple_of(2) { 512 } else { 4096 };
            let mut world = World::new(self.seed, 64 << 20, block_size, 512 << 10);
            world.options = self.options.clone();
            world.format(&self.core).await;
            let store = world.mount(&self.core).await.expect("mount");
            self.world = Some(world);
            Rc::new(store) as Rc<dyn ObjectStore>
        })
    }

    fn reopen(&mut self, store: Rc<dyn ObjectStore>) -> LocalBoxFuture<'_, Rc<dyn ObjectStore>> {
        Box::pin(async move {
            store.close().await.expect("close");
            let world = self.world.as_ref().expect("fresh comes first");
            Rc::new(world.mount(&self.core).await.expect("mount")) as Rc<dyn ObjectStore>
        })
    }
}

fn conforms(seed: u64, options: Options) {
    let sim = Sim::new(seed, Config::default());
    sim.run(0, |core| async move {
        suite::run(&mut SimHost { core, seed, options, world: None }).await;
    });
}

#[test]
fn with_defaults() {
    conforms(1, Options::default());
}

#[test]
fn without_deferral() {
    conforms(2, Options { deferred_partial_max: 0, ..Options::default() });
}

#[test]
fn as_on_a_device_that_seeks() {
    conforms(
        3,
        Options { deferred_whole_max: 64 << 10, deferred_batch_bytes: 8 << 10, ..Options::default() },
    );
}

#[test]
fn with_what_is_kept_in_memory() {
    // Without checksums nothing but the cache itself keeps old blocks from being shown.
    let checksum = ChecksumKind::None;
    for (seed, data_cache_bytes_max) in [(31, 20 << 10), (32, 200 << 10), (33, 64 << 20), (34, 60 << 10)] {
        let cache_policy = if seed % 2 == 0 { CachePolicy::Lru } else { CachePolicy::TwoQueues };
        let cache_written = seed > 32;
        let options = Options {
            checksum,
            data_cache_bytes_max,
            cache_policy,
            cache_written,
            cache_bytes_max: data_cache_bytes_max / 10,
            ..Options::default()
        };
        conforms(seed, options);
    }
}

#[test]
fn with_tiny_caches_and_overlay() {
    let options = Options {
        cache_bytes_max: 1,
        data_cache_bytes_max: 1,
        overlay_bytes_max: 16 << 10,
        groups_in_flight: 4,
        ..Options::default()
    };
    conforms(4, options);
}

#[test]
fn with_discard_and_large_writes_first() {
    conforms(5, Options { discard: true, large_write_bytes: 0, ..Options::default() });
}

#[test]
fn with_small_objects_among_the_keys() {
    for (seed, inline_bytes_max) in [(21, 4096), (22, 4096), (23, 700)] {
        conforms(seed, Options { inline_bytes_max, ..Options::default() });
    }
}

#[test]
fn with_several_blocks_under_one_checksum() {
    for (seed, checksum) in (51..).zip(ChecksumKind::ALL) {
        // Whatever is said of an object.
        let checksum_chunk = ChunkBounds { min: Some(4096 << (seed % 5)), max: None };
        let data_cache_bytes_max = if seed % 2 == 0 { 200 << 10 } else { 0 };
        let deferred_whole_max = if seed % 3 == 0 { 64 << 10 } else { 0 };
        let shard_span = if seed < 54 { 64 << 10 } else { 256 << 10 };
        conforms(
            seed,
            Options {
                checksum,
                checksum_chunk,
                data_cache_bytes_max,
                deferred_whole_max,
                shard_span,
                ..Options::default()
            },
        );
    }
}

#[test]
fn with_compression() {
    for (seed, algorithm) in (7..).zip(Algorithm::ALL) {
        let mode = if seed % 2 == 0 { CompressionMode::Force } else { CompressionMode::Aggressive };
        // Of another size than shards have, so that blobs are cut there too.
        let compression = Compression { mode, algorithm, blob_bytes_max: 48 << 10, ..Compression::default() };
        conforms(seed, Options { compression, ..Options::default() });
    }
}

struct MemoryHost {
    core: Core,
    device: Option<Rc<dyn BlockDevice>>,
    kv: Option<Rc<dyn KvStore>>,
}

impl Host for MemoryHost {
    fn fresh(&mut self) -> LocalBoxFuture<'_, Rc<dyn ObjectStore>> {
        Box::pin(async move {
            let device: Rc<dyn BlockDevice> = Rc::new(MemoryDevice::new(64 << 20));
            let format = FormatOptions::for_window(Uuid::from_u128(9), 64 << 20);
            Engine::format(&*device, &format).await.expect("format");
            let kv = TestKv::new();
            self.device = Some(Rc::clone(&device));
            self.kv = Some(kv.open(&self.core));
            let kv = kv.open(&self.core);
            let store = Engine::mount(self.core.clone(), device, kv.clone(), Options::default()).await;
            self.kv = Some(kv);
            Rc::new(store.expect("mount")) as Rc<dyn ObjectStore>
        })
    }

    fn reopen(&mut self, store: Rc<dyn ObjectStore>) -> LocalBoxFuture<'_, Rc<dyn ObjectStore>> {
        Box::pin(async move {
            store.close().await.expect("close");
            let (device, kv) = (self.device.clone().expect("fresh"), self.kv.clone().expect("fresh"));
            let store = Engine::mount(self.core.clone(), device, kv, Options::default()).await;
            Rc::new(store.expect("mount")) as Rc<dyn ObjectStore>
        })
    }
}

#[test]
fn on_memory() {
    let sim = Sim::new(6, Config::default());
    sim.run(0, |core| async move {
        suite::run(&mut MemoryHost { core, device: None, kv: None }).await;
    });
}
