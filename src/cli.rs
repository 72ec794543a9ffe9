//! Command line of `spirula`, as data.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::json;
use store::FreeList;

use crate::bench::options::BenchOptions;
use crate::size::parse_size;
use crate::store_tool::StoreOptions;

/// An object storage cluster that stock Ceph clients talk to.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Examples:\n  spirula up --dir /tmp/demo --osds 2 --size 8G\n  \
                  rados -c /tmp/demo/ceph.conf mkpool demo\n  spirula fsck --dir /tmp/demo --deep"
)]
pub struct Cli {
    /// Says more on standard error; twice says a lot. SPIRULA_LOG=module=level is finer.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

impl Cli {
    /// Log level asked for.
    pub fn verbosity(&self) -> log::LevelFilter {
        match self.verbose {
            0 => log::LevelFilter::Warn,
            1 => log::LevelFilter::Info,
            _ => log::LevelFilter::Debug,
        }
    }
}

impl Cli {
    /// Log level of what is noise unless somebody looks for it: the stall watchdog, as on a busy machine every stall of
    /// the machine looks like one of ours, and RocksDB, whose failures come as errors of calls too.
    pub fn noise_verbosity(&self) -> log::LevelFilter {
        if self.verbose == 0 { log::LevelFilter::Off } else { log::LevelFilter::Warn }
    }
}

/// The subcommands.
#[derive(Subcommand)]
pub enum Action {
    /// Start a whole cluster in this process, making what does not exist yet.
    #[command(after_help = "Examples:\n  spirula up\n  spirula up --dir /srv/demo --osds 4 --size 32G\n  \
                            spirula up --dir /srv/fast --device /dev/nvme0n1 --device /dev/nvme1n1 --osds 4 --memory-target 8G")]
    Up(UpOptions),
    /// Make the monitor's and OSDs' stores of a cluster without starting it.
    #[command(after_help = "Examples:\n  spirula mkfs --dir /srv/demo --osds 4 --size 32G\n  \
                            spirula mkfs --dir /srv/fast --device /dev/nvme0n1 --force\n  \
                            spirula mkfs --dir /srv/large --device /dev/nvme0n1 --free-list merge\n  \
                            spirula mkfs --dir /srv/big --device /dev/sda --device /dev/sdb --db-device /dev/nvme0n1")]
    Mkfs(UpOptions),
    /// Run only the monitor of a cluster made by `mkfs` or `up`.
    Mon(MonOptions),
    /// Run only one OSD of a cluster made by `mkfs` or `up`; its monitor must be running.
    Osd(OsdOptions),
    /// Check the stores of a cluster that is not running.
    Fsck(FsckOptions),
    /// Look into the stores of a cluster that is not running: space, objects, logs.
    Store(StoreOptions),
    /// Put a load on a raw device or a running cluster, and report rate, latency and what was spent.
    Bench(BenchOptions),
    /// Serve a running cluster's counters to Prometheus.
    Exporter(ExporterOptions),
    /// Print the version.
    Version(VersionOptions),
}

/// Options of `up` and `mkfs`.
#[derive(Args, Clone)]
pub struct UpOptions {
    /// Folder of the cluster: configuration, the monitor's store, and the OSDs' files or links to devices.
    #[arg(long, default_value = "spirula-data")]
    pub dir: PathBuf,
    /// Number of OSDs. Default: one for each device, or 1. With devices it must be a multiple of their number: an
    /// OSD is one slice of a device, driven by one core.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub osds: Option<u32>,
    /// Size of each OSD's file when no device is given, as 512M, 8G, 1T.
    #[arg(long, default_value = "8G", value_parser = parse_size)]
    pub size: u64,
    /// Block device or file to use instead of a file in the folder; may be given several times.
    #[arg(long)]
    pub device: Vec<PathBuf>,
    /// Fast block device or file for the keys of all OSDs, and for their journals if there is no --wal-device. Given as often
    /// as --device: one for the OSDs of each. OSDs that share one run in one process.
    #[arg(long)]
    pub db_device: Vec<PathBuf>,
    /// Fast block device or file for the journals of all OSDs. As with --db-device there may be one for each device.
    #[arg(long)]
    pub wal_device: Vec<PathBuf>,
    /// What the devices are made of; it decides how small overwrites are written. Default: what the kernel says, and
    /// for most virtual disks that is 'rotating'. It is kept.
    #[arg(long, value_enum)]
    pub media: Option<Media>,
    /// How OSDs keep what is free in their key-value stores: 'pages', written as a whole when something in them changed, or
    /// 'merge', which writes only what changed: for large devices with small random writes. Default: pages. It is kept.
    #[arg(long, value_name = "KIND", value_parser = parse_free_list)]
    pub free_list: Option<FreeList>,
    /// Format devices even if they hold somebody's data. That data is lost.
    #[arg(long)]
    pub force: bool,
    /// Port of the monitor; default: 3300 if it is free when the cluster is made, else as for 0. 0: any that is free and
    /// that the kernel does not give to outgoing connections (net.ipv4.ip_local_port_range). It is kept, as clients
    /// know it.
    #[arg(long)]
    pub mon_port: Option<u16>,
    /// Number of cores (threads) that drive the OSDs. Default: the machine's, but not more than OSDs.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub cores: Option<u16>,
    /// Memory that all OSDs of this process may take together, as 2G. Caches adapt to it. Default: half of the machine's, or of
    /// what the process's control group may take, but not more than 4G for each OSD. 'ceph config set osd osd_memory_target'
    /// changes it for each while they run.
    #[arg(long, value_parser = parse_size)]
    pub memory_target: Option<u64>,
}

fn parse_free_list(text: &str) -> Result<FreeList, String> {
    let named = FreeList::ALL.into_iter().find(|kind| kind.name() == text);
    named.ok_or_else(|| "it is 'pages' or 'merge'".to_owned())
}

/// What a device is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Media {
    /// Rotating: small overwrites go through the journal, and to their place in order of position.
    Hdd,
    /// Flash: overwrites of whole blocks go to new blocks, once.
    Ssd,
}

impl Media {
    /// Its name, which is also that of the CRUSH device class.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hdd => "hdd",
            Self::Ssd => "ssd",
        }
    }

    /// The one of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Hdd, Self::Ssd].into_iter().find(|media| media.name() == name)
    }
}

/// Options of `mon`.
#[derive(Args)]
#[command(after_help = "Example:\n  spirula mon --dir /srv/demo")]
pub struct MonOptions {
    /// Folder of the cluster.
    #[arg(long, default_value = "spirula-data")]
    pub dir: PathBuf,
}

/// Options of `osd`.
#[derive(Args)]
#[command(after_help = "Examples:\n  spirula osd --dir /srv/demo --id 0\n  \
                        spirula osd --dir /srv/demo --id 0 --memory-target 2G")]
pub struct OsdOptions {
    /// Folder of the cluster.
    #[arg(long, default_value = "spirula-data")]
    pub dir: PathBuf,
    /// Which OSD.
    #[arg(long)]
    pub id: u32,
    /// Memory that it may take, as 2G. Caches adapt to it. Default: half of the machine's, or of what the process's control
    /// group may take, but not more than 4G. 'ceph config set osd.N osd_memory_target' changes it while it runs.
    #[arg(long, value_parser = parse_size)]
    pub memory_target: Option<u64>,
}

/// Options of `fsck`.
#[derive(Args)]
#[command(
    after_help = "Exit status: 0 clean, or everything was repaired; 1 could not check; 2 something is wrong; 3 something is \
                  wrong after the repair, too.\n\nWhat a repair can do about a finding is told with it: 'repair' loses nothing; \
                  'discard' gives up what cannot be read or be right, and needs --discard; for 'none' the data has to be \
                  written again.\n\nExamples:\n  \
                  spirula fsck --dir /srv/demo\n  spirula fsck --dir /srv/demo --id 1 --deep --json\n  \
                  spirula fsck --dir /srv/demo --repair\n  spirula fsck --dir /srv/demo --id 1 --repair --discard"
)]
pub struct FsckOptions {
    /// Folder of the cluster.
    #[arg(long, default_value = "spirula-data")]
    pub dir: PathBuf,
    /// Only this OSD. Default: all.
    #[arg(long)]
    pub id: Option<u32>,
    /// Also verify every byte against its checksum.
    #[arg(long)]
    pub deep: bool,
    /// Repair what is wrong, as far as that loses nothing. A store that is clean is not touched.
    #[arg(long)]
    pub repair: bool,
    /// With --repair: give up objects and ranges that cannot be read, and all but one owner of what is claimed twice. Each is
    /// told by name.
    #[arg(long, requires = "repair")]
    pub discard: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `exporter`.
#[derive(Args, Clone)]
#[command(after_help = "Example:\n  spirula exporter --mon 127.0.0.1:3300 --listen 127.0.0.1:9926\n  \
                        curl http://127.0.0.1:9926/metrics")]
pub struct ExporterOptions {
    /// Address of the monitor.
    #[arg(long, default_value = "127.0.0.1:3300")]
    pub mon: SocketAddr,
    /// Address to serve HTTP at; port 0 is any that is free.
    #[arg(long, default_value = "127.0.0.1:9926")]
    pub listen: SocketAddr,
}

/// Options of `version`.
#[derive(Args)]
#[command(after_help = "Example:\n  spirula version --json")]
pub struct VersionOptions {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `spirula version`.
pub fn print_version(options: &VersionOptions) -> anyhow::Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    if options.json {
        println!("{}", json!({ "name": "spirula", "version": version }));
    } else {
        println!("spirula {version}");
    }
    Ok(ExitCode::SUCCESS)
}
