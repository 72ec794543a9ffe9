//! The command `spirula`: starts and inspects clusters. Nothing here is on the data path.

mod backend;
mod bench;
mod cli;
mod cluster_dir;
mod cores;
mod daemons;
mod exporter;
mod fsck;
mod memory;
mod mkfs;
mod mon_port;
mod progress;
mod size;
mod slice_device;
mod stop;
mod store_tool;
mod up;

use std::process::ExitCode;

use clap::Parser;
use rt::Heap;

/// Requests take and give back many small pieces of memory, on the core that they live on.
#[global_allocator]
static ALLOCATOR: Heap = Heap;

fn main() -> ExitCode {
    let command = cli::Cli::parse();
    env_logger::Builder::new()
        .filter_level(command.verbosity())
        .filter_module("rt::exec::stall", command.noise_verbosity())
        .filter_module("rocksdb", command.noise_verbosity())
        .parse_env("SPIRULA_LOG")
        .format_target(true)
        .init();
    let result = match command.action {
        cli::Action::Up(options) => up::run(&options),
        cli::Action::Mkfs(options) => mkfs::run(&options),
        cli::Action::Mon(options) => daemons::run_mon(&options),
        cli::Action::Osd(options) => daemons::run_osd(&options),
        cli::Action::Fsck(options) => fsck::run(&options),
        cli::Action::Store(options) => store_tool::run(&options),
        cli::Action::Bench(options) => bench::run(&options),
        cli::Action::Exporter(options) => exporter::run(&options),
        cli::Action::Version(options) => cli::print_version(&options),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("spirula: {error:#}");
            ExitCode::FAILURE
        }
    }
}
