//! Options of `spirula bench`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use load::setup::Kv;
use load::{DEPTH_MAX, Distribution, Job, Length, Spacing};

use crate::cli::Media;
use crate::size::parse_size;

/// Options of `bench`.
#[derive(Args)]
#[command(
    override_usage = "spirula bench cluster --pool POOL [OPTIONS]\n       \
                      spirula bench device --path PATH [OPTIONS]\n       \
                      spirula bench engine [--path PATH] [OPTIONS]\n       \
                      spirula bench osd [--path PATH] [OPTIONS]\n       \
                      spirula bench allocator [OPTIONS]",
    after_help = "Examples:\n  \
                  spirula bench device --path /dev/nvme0n1 --mix 100 --depth 64 --html device.html\n  \
                  spirula bench device --backend memory --size 1G --rate 100000 --seconds 5\n  \
                  spirula bench cluster --mon 127.0.0.1:3300 --pool demo --mix 70 --verify\n\n\
                  Exit status: 0 measured; 1 could not measure, or --verify found something wrong; 2 bad options."
)]
pub struct BenchOptions {
    /// On what.
    #[command(subcommand)]
    pub action: BenchAction,
}

/// What a load is put on.
#[derive(Subcommand)]
pub enum BenchAction {
    /// The allocators alone, on a device that is nearly full and in pieces: time, words and pieces for each allocation.
    Allocator(AllocatorOptions),
    /// Objects of a running cluster, through our own client.
    Cluster(ClusterOptions),
    /// A raw device or file through one of the backends of the store.
    Device(DeviceOptions),
    /// The engine alone, as placement groups use it, on a device or in memory.
    Engine(EngineOptions),
    /// One OSD and a monitor over loopback, on a core of their own, through our own client.
    Osd(OsdOptions),
}

/// Options that all loads have, much as fio's.
#[derive(Args, Clone)]
#[command(next_help_heading = "Job")]
pub struct JobOptions {
    /// Bytes of an operation, as 4K, 4M.
    #[arg(long, default_value = "4K", value_parser = parse_size)]
    pub block_size: u64,
    /// Operations in flight, from 1 to 1024: always so many, or with --rate at most. Default: 32, with --rate 1024.
    #[arg(long, value_parser = depth)]
    pub depth: Option<usize>,
    /// Operations that are to start per second, whether or not earlier ones have ended (an open loop): latency counts from when
    /// each was to start, so a target that stalls cannot hide what waited. Default: the end of one starts the next.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub rate: Option<f64>,
    /// How the starts of --rate are spaced: 'exponential', as from many clients who know nothing of each other, or 'fixed'.
    #[arg(long, value_enum, default_value_t = SpacingOption::Exponential, requires = "rate")]
    pub spacing: SpacingOption,
    /// Percent of operations that read; the others write.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub mix: u8,
    /// Which blocks: uniform, sequential, or zipf:THETA, as zipf:1.1, where few blocks are used often.
    #[arg(long, value_name = "KIND", default_value = "uniform")]
    pub distribution: Distribution,
    /// Seconds to measure.
    #[arg(long, default_value = "10", value_parser = positive)]
    pub seconds: f64,
    /// Operations to measure, instead of --seconds.
    #[arg(long, conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..))]
    pub operations: Option<u64>,
    /// Seconds of the same load before that.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = not_negative)]
    pub warm_up: f64,
    /// Whether every block is written once before that, in order. 'auto': where reads would find nothing, or something is written
    /// anyway.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Fill::Auto)]
    pub fill: Fill,
    /// Random overwrites before that, as a multiple of all blocks: 2 ages a device by twice its size.
    #[arg(long, value_name = "TIMES", default_value = "0", value_parser = not_negative)]
    pub age: f64,
    /// Compare what is read with what was written, and read all that was written at the end: tells lost, torn, misplaced and
    /// damaged writes, with their places. It costs CPU of this process.
    #[arg(long)]
    pub verify: bool,
    /// Of all that is drawn: the same seed gives the same operations.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl JobOptions {
    /// The job; `fill` is what 'auto' means.
    pub fn job(&self, fill: bool) -> Job {
        Job {
            block_size: self.block_size,
            depth: self.depth.unwrap_or(if self.rate.is_some() { DEPTH_MAX } else { 32 }),
            rate: self.rate,
            spacing: match self.spacing {
                SpacingOption::Exponential => Spacing::Exponential,
                SpacingOption::Fixed => Spacing::Fixed,
            },
            mix: self.mix,
            distribution: self.distribution,
            length: self.operations.map_or(Length::Seconds(self.seconds), Length::Operations),
            warm_up: self.warm_up,
            fill: match self.fill {
                Fill::Auto => fill,
                Fill::Always => true,
                Fill::Never => false,
            },
            age: self.age,
            verify: self.verify,
            seed: self.seed,
        }
    }
}

/// What becomes of the result.
#[derive(Args, Clone)]
#[command(next_help_heading = "Output")]
pub struct OutputOptions {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Write a page with tables and plots, which needs no other file, to this one.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// How the starts of an open loop are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SpacingOption {
    /// At random.
    Exponential,
    /// At equal distances.
    Fixed,
}

/// Whether blocks are written before anything is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fill {
    /// Where the load needs it.
    Auto,
    /// Yes.
    Always,
    /// No.
    Never,
}

/// Options of `bench allocator`.
#[derive(Args, Clone)]
#[command(after_help = "Examples:\n  spirula bench allocator\n  \
                        spirula bench allocator --allocator hybrid --full 80,95 --turns 4 --html allocator.html\n  \
                        spirula bench allocator --free-dump free.json --json")]
pub struct AllocatorOptions {
    /// See there.
    #[command(flatten)]
    pub settings: ageing::Settings,
    /// See there.
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Options of `bench cluster`.
#[derive(Args, Clone)]
#[command(
    after_help = "Examples:\n  spirula bench cluster --mon 127.0.0.1:3300 --pool demo --seconds 10 --depth 32\n  \
                  spirula bench cluster --pool demo --mix 70 --objects 256 --object-size 4M --distribution zipf:1.1 --age 1\n  \
                  spirula bench cluster --pool demo --rate 5000 --server-pid $(pgrep -o spirula) --html cluster.html\n\n\
                  It writes objects named bench-N in the pool, and leaves them there but for --clean-up."
)]
pub struct ClusterOptions {
    /// Address of the monitor.
    #[arg(long, default_value = "127.0.0.1:3300")]
    pub mon: SocketAddr,
    /// Pool.
    #[arg(long)]
    pub pool: String,
    /// Objects in use.
    #[arg(long, default_value_t = 1024)]
    pub objects: u64,
    /// Bytes of an object. Default: those of a block, and then objects are written whole.
    #[arg(long, value_parser = parse_size)]
    pub object_size: Option<u64>,
    /// Remove the objects at the end.
    #[arg(long)]
    pub clean_up: bool,
    /// A process of the cluster, on this machine, of which CPU and device bytes are told; may be given several times.
    #[arg(long, value_name = "PID")]
    pub server_pid: Vec<u32>,
    /// See there.
    #[command(flatten)]
    pub job: JobOptions,
    /// See there.
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Options of `bench device`.
#[derive(Args, Clone)]
#[command(after_help = "Examples:\n  spirula bench device --path /dev/nvme0n1 --mix 100 --depth 64\n  \
                  spirula bench device --path /dev/nvme0n1 --backend polled --age 2 --warm-up 60 --seconds 300 --force\n  \
                  spirula bench device --path /srv/file --size 8G --mix 50 --flush-each 1 --verify\n  \
                  spirula bench device --backend memory --size 1G\n\n\
                  Only reads (--mix 100) leave the device as it is. What else runs on it: nothing, it is opened for this alone.")]
pub struct DeviceOptions {
    /// Block device or file. A file that does not exist is made with --size, and removed at the end.
    #[arg(long, required_unless_present_any = ["backend"])]
    pub path: Option<PathBuf>,
    /// How it is reached.
    #[arg(long, value_enum, default_value_t = Backend::Uring)]
    pub backend: Backend,
    /// Bytes that are used, from the beginning, as 8G. Default: all of the device; in memory 1G.
    #[arg(long, value_parser = parse_size)]
    pub size: Option<u64>,
    /// Flush the device after so many writes; the last of these waits for it. Default: never, so that a device with a volatile
    /// cache may lose what was written.
    #[arg(long, value_name = "WRITES", value_parser = clap::value_parser!(u64).range(1..))]
    pub flush_each: Option<u64>,
    /// Write even if the device holds somebody's data. That data is lost.
    #[arg(long)]
    pub force: bool,
    /// See there.
    #[command(flatten)]
    pub job: JobOptions,
    /// See there.
    #[command(flatten)]
    pub output: OutputOptions,
}

/// How a device is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// By the core's io_uring, woken by interrupts.
    Uring,
    /// By an io_uring of its own, whose completions are polled for. The device's driver must have queues for that.
    Polled,
    /// By system calls of as many threads as --depth says, as RocksDB does.
    Blocking,
    /// None: memory of this process, to see what the load itself takes.
    Memory,
}

impl Backend {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Polled => "polled",
            Self::Blocking => "blocking",
            Self::Memory => "memory",
        }
    }
}

/// What a store is made on, and of what, for `bench engine` and `bench osd`.
#[derive(Args, Clone)]
#[command(next_help_heading = "Store")]
pub struct StoreOptions {
    /// Block device or file to make the store on. A file that does not exist is made with --size, and removed at the end.
    /// Default: memory of this process.
    #[arg(long)]
    pub path: Option<PathBuf>,
    /// Bytes of the store, as 8G. Default: all of the device; in memory what the objects take and a GiB.
    #[arg(long, value_parser = parse_size)]
    pub size: Option<u64>,
    /// Write even if the device holds somebody's data. That data is lost.
    #[arg(long)]
    pub force: bool,
    /// What the device is made of. Default: what the kernel says, and for most virtual disks that is 'rotating'.
    #[arg(long, value_enum)]
    pub media: Option<Media>,
    /// Objects in use.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    pub objects: u64,
    /// Bytes of an object.
    #[arg(long, default_value = "4M", value_parser = parse_size)]
    pub object_size: u64,
    /// What keeps the keys.
    #[arg(long, value_enum, default_value_t = Kv::Rocksdb)]
    pub kv: Kv,
    /// Bytes of blocks that the store keeps in memory; 0, so that all reads come from the device. Default: as an OSD without a
    /// memory target.
    #[arg(long, value_name = "BYTES", value_parser = size_or_none)]
    pub data_cache: Option<u64>,
}

/// Options of `bench engine`.
#[derive(Args, Clone)]
#[command(after_help = "Examples:\n  spirula bench engine --mix 50 --depth 32 --html engine.html\n  \
                  spirula bench engine --path /dev/nvme0n1 --objects 65536 --age 1 --data-cache 0 --seconds 60 --force\n  \
                  spirula bench engine --mix 100 --distribution zipf:1.1 --data-cache 64M\n\n\
                  Each write has an object's info and an entry of a group's log beside its data, and is durable when it ends. The store \
                  is made anew, so what was on the device is lost.")]
pub struct EngineOptions {
    /// Placement groups.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub groups: u32,
    /// See there.
    #[command(flatten)]
    pub store: StoreOptions,
    /// See there.
    #[command(flatten)]
    pub job: JobOptions,
    /// See there.
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Options of `bench osd`.
#[derive(Args, Clone)]
#[command(after_help = "Examples:\n  spirula bench osd --mix 70 --depth 32 --html osd.html\n  \
                  spirula bench osd --path /dev/nvme0n1 --objects 65536 --rate 20000 --warm-up 10 --seconds 60 --force\n\n\
                  The OSD has a core of its own, the load another. The store is made anew, so what was on the device is lost.")]
pub struct OsdOptions {
    /// See there.
    #[command(flatten)]
    pub store: StoreOptions,
    /// See there.
    #[command(flatten)]
    pub job: JobOptions,
    /// See there.
    #[command(flatten)]
    pub output: OutputOptions,
}

fn size_or_none(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { parse_size(text) }
}

fn depth(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(depth @ 1..=DEPTH_MAX) => Ok(depth),
        _ => Err(format!("'{text}' is not a number from 1 to {DEPTH_MAX}")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    positive(text)
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err(format!("'{text}' is not a number above 0")),
    }
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number >= 0.0 && number.is_finite() => Ok(number),
        _ => Err(format!("'{text}' is not a number from 0 on")),
    }
}
