//! What a seed stands for: the size of the cluster, its disks and network, the load, and how often what fails. Pure.

use std::time::Duration;

use rt::sim::{Config, Link, RandomStream};

/// Sizes and rates of one run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The seed.
    pub seed: u64,
    /// OSDs, each on a disk of its own.
    pub osds: u16,
    /// Clients.
    pub clients: u16,
    /// Requests that the clients send in all, at least.
    pub operations: u64,
    /// Crashes of OSDs, at least.
    pub crashes: u64,
    /// Bytes of an OSD's disk.
    pub disk_bytes: u64,
    /// Bytes of its journal.
    pub journal_bytes: u64,
    /// Bytes of the placement groups' log.
    pub pg_log_bytes: u64,
    /// Bytes of changes that are in no checkpoint yet.
    pub overlay_bytes_max: u64,
    /// Bytes of clean onodes and shards.
    pub cache_bytes_max: u64,
    /// A mistake that the engine is to make.
    #[cfg(feature = "planted")]
    pub fault: store::Fault,
    /// Names in use.
    pub objects: usize,
    /// Largest object, bytes.
    pub object_bytes_max: usize,
    /// Requests a client has in flight.
    pub depth: usize,
    /// Placement groups of the pool.
    pub pg_num: u32,
    /// Deferred writes as on a rotating disk.
    pub rotational: bool,
    /// Disks have a volatile cache.
    pub volatile_cache: bool,
    /// Time between two faults, least and most.
    pub fault_every: (Duration, Duration),
    /// The network.
    pub network: Config,
}

impl Scenario {
    /// The scenario of a seed, with at least so many requests and crashes.
    pub fn new(seed: u64, operations: u64, crashes: u64, trace: bool) -> Self {
        let mut dice = RandomStream::new(seed, "scenario");
        let disk_mib = dice.between(24, 64);
        let network = Config {
            link: Link {
                delay_min: Duration::from_micros(10),
                delay_max: Duration::from_micros(dice.between(50, 2_000)),
                slow_ppm: pick(&mut dice, &[0, 1_000, 20_000]),
                slow_max: Duration::from_millis(dice.between(5, 200)),
                reset_ppm: pick(&mut dice, &[0, 0, 200, 2_000]),
            },
            wall_clock_jump_every: Duration::from_secs(dice.below(3) * 5),
            trace,
            ..Config::default()
        };
        Self {
            seed,
            osds: small(dice.between(1, 3)),
            clients: small(dice.between(1, 2)),
            operations,
            crashes,
            disk_bytes: disk_mib << 20,
            journal_bytes: pick(&mut dice, &[32, 48, 64]) << 10,
            pg_log_bytes: pick(&mut dice, &[256, 512, 1024]) << 10,
            overlay_bytes_max: pick(&mut dice, &[64, 256, 1024]) << 10,
            cache_bytes_max: pick(&mut dice, &[16, 64, 1024]) << 10,
            #[cfg(feature = "planted")]
            fault: store::Fault::default(),
            objects: usize::from(small(dice.between(8, 48))),
            object_bytes_max: pick(&mut dice, &[64 << 10, 128 << 10, 256 << 10]),
            depth: usize::from(small(dice.between(1, 12))),
            pg_num: pick(&mut dice, &[1, 4, 7, 8]),
            rotational: dice.one_in(3),
            volatile_cache: !dice.one_in(8),
            fault_every: (Duration::from_millis(5), Duration::from_millis(dice.between(100, 1_500))),
            network,
        }
    }

    /// With a mistake planted in the engine, by its name.
    #[cfg(feature = "planted")]
    pub fn with_planted(mut self, name: Option<&str>) -> Self {
        let Some(name) = name else { return self };
        let known = store::Planted::ALL.into_iter().find(|planted| format!("{planted:?}") == name);
        let Some(planted) = known else { panic!("'{name}' is none of {:?}", store::Planted::ALL) };
        self.fault = store::Fault::planted(planted);
        self
    }
}

fn pick<T: Copy>(dice: &mut RandomStream, choices: &[T]) -> T {
    choices[usize::try_from(dice.below(choices.len() as u64)).unwrap_or(0)]
}

fn small(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}
