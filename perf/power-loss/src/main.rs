//! `power-loss`: shows that nothing acknowledged is lost when power goes, with the real command, io_uring and RocksDB on
//! a device whose writes and flushes the kernel logs (the device mapper's target log-writes). `scripts/power-loss` runs
//! both halves: the load in a virtual machine, the check of every point of the log outside it.

mod check;
mod cluster;
mod group_log;
mod history;
mod load;
mod log;
mod log_writes;
mod loop_device;
mod mark;
mod replay;
mod script;
mod slices;
mod survey;
mod verdict;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Cuts a cluster's power at every flush and at random moments, and checks what is left.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    /// Which half.
    #[command(subcommand)]
    half: Half,
}

#[derive(Subcommand)]
enum Half {
    /// Puts load on a cluster on a logging device; as root, where dm-log-writes is loaded.
    Load(load::Options),
    /// Checks every point of a log. Exit status 2 if something is wrong.
    Check(verdict::Options),
}

fn main() -> ExitCode {
    env_logger::Builder::new()
        .filter_level(::log::LevelFilter::Error)
        .filter_module("rt::exec::stall", ::log::LevelFilter::Off)
        .filter_module("rocksdb", ::log::LevelFilter::Off)
        .parse_env("SPIRULA_LOG")
        .init();
    let result = match Cli::parse().half {
        Half::Load(options) => load::run(&options).map(|()| ExitCode::SUCCESS),
        Half::Check(options) => {
            verdict::run(&options).map(|right| if right { ExitCode::SUCCESS } else { ExitCode::from(2) })
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("power-loss: {error:#}");
        ExitCode::FAILURE
    })
}
