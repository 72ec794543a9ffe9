//! A simulated disk and key-value store that outlive the processes that open a store on them.

use std::rc::Rc;

use bluefs::kv::KvStore;
use nvme::{BlockDevice, SimDisk, SimDiskConfig};
use rt::Core;
use uuid::Uuid;

use super::kv::TestKv;
use crate::engine::{Engine, FormatOptions, OpenResult, Options};

/// What is left when a process ends.
pub struct World {
    pub disk: SimDisk,
    pub kv: TestKv,
    pub options: Options,
    pub format: FormatOptions,
}

impl World {
    /// A blank disk of `size` bytes.
    pub fn new(seed: u64, size: u64, block_size: u32, journal_bytes: u64) -> Self {
        let mut config = SimDiskConfig::new("disk", size);
        config.geometry.block_size = block_size;
        let format = FormatOptions {
            store: Uuid::from_u128(u128::from(seed) + 1),
            journal_bytes,
            pg_log_bytes: 256 << 10,
            kv_bytes: 0,
        };
        let options = Options { reserve_bytes: 64 << 10, ..Options::default() };
        Self { disk: SimDisk::new(config, seed), kv: TestKv::new(), options, format }
    }

    pub fn device(&self, core: &Core) -> Rc<dyn BlockDevice> {
        Rc::new(self.disk.open(core))
    }

    pub async fn format(&self, core: &Core) {
        Engine::format(&*self.device(core), &self.format).await.expect("format");
    }

    pub async fn mount(&self, core: &Core) -> OpenResult<Engine> {
        let kv: Rc<dyn KvStore> = self.kv.open(core);
        Engine::mount(core.clone(), self.device(core), kv, self.options.clone()).await
    }
}
