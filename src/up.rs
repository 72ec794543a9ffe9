//! `spirula up`: a whole cluster in this process.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use anyhow::Context;

use crate::cli::UpOptions;
use crate::cluster_dir::{ClusterDir, Plan, check_matches, describe};
use crate::cores::Cores;
use crate::daemons::{self, DeviceFiles, Memory, Work};
use crate::memory;
use crate::mkfs;
use crate::stop;

/// Runs the command.
pub fn run(options: &UpOptions) -> anyhow::Result<ExitCode> {
    let dir = ClusterDir::take(&options.dir)?;
    let plan = match dir.plan()? {
        Some(plan) => {
            check_matches(&plan, options, &dir)?;
            plan
        }
        None => mkfs::make(&dir, options)?,
    };
    dir.write_ceph_conf(&plan)?;
    let mut cores = Cores::new();
    stop::on_signal(cores.reporter())?;
    let started = start(&mut cores, &dir, &plan, options).and_then(|()| cores.wait_ready());
    let result = match started {
        Ok(true) => say_ready(&dir, &plan).and_then(|()| cores.wait_signal()),
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    let stopped = cores.stop();
    result.and(stopped).map(|()| ExitCode::SUCCESS)
}

/// Spreads the OSDs over cores; the monitor shares the first.
fn start(cores: &mut Cores, dir: &ClusterDir, plan: &Plan, options: &UpOptions) -> anyhow::Result<()> {
    let machine =
        thread::available_parallelism().map_or(1, |cpus| u16::try_from(cpus.get()).unwrap_or(u16::MAX));
    let osds = u16::try_from(plan.osds()).context("too many OSDs")?;
    let count = options.cores.unwrap_or(machine).min(osds).max(1);
    let target = memory::per_osd(options.memory_target, plan.osds().into())?;
    let memory = Memory { target, osds: plan.osds().into() };
    let mut work: BTreeMap<u16, Work> = BTreeMap::new();
    for osd in 0..plan.osds() {
        let core = u16::try_from(osd % u32::from(count)).context("too many cores")?;
        let work = work.entry(core).or_insert_with(|| Work { memory, ..Work::default() });
        work.osds.push(osd);
    }
    work.entry(0).or_default().mon = true;
    let mut files = DeviceFiles::default();
    for (_, work) in work {
        daemons::start_core(cores, dir, plan, work, &mut files)?;
    }
    Ok(())
}

fn say_ready(dir: &ClusterDir, plan: &Plan) -> anyhow::Result<()> {
    let conf = dir.ceph_conf();
    let conf = conf.display();
    let mut out = io::stdout().lock();
    writeln!(out, "ready: {}, monitor at {}; ctrl-C stops it", describe(plan), plan.mon_address())?;
    writeln!(out, "  ceph -c {conf} -s")?;
    writeln!(out, "  ceph -c {conf} osd pool create demo 16")?;
    writeln!(out, "  rados -c {conf} -p demo bench 10 write -b 4096")?;
    out.flush().context("cannot write to standard output")
}
