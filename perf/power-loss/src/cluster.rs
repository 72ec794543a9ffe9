//! The cluster under test as a process: `spirula up` on one device, stopped in order or by kill -9, and started again.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, ensure};

/// Where its monitor listens.
pub const MONITOR: (&str, u16) = ("127.0.0.1", 3300);

/// How to start it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The command `spirula`.
    pub program: PathBuf,
    /// Folder of the cluster.
    pub dir: PathBuf,
    /// Its device.
    pub device: PathBuf,
    /// Slices of the device.
    pub osds: u32,
}

/// It runs.
pub struct Cluster {
    options: Options,
    process: Child,
    /// Kept open, as it goes on writing.
    output: BufReader<ChildStdout>,
}

impl Cluster {
    /// Starts it and waits until clients can connect.
    pub fn start(options: Options) -> anyhow::Result<Self> {
        let (process, output) = spawn(&options)?;
        Ok(Self { options, process, output })
    }

    /// Stops it in order.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.signal(libc::SIGTERM)?;
        let status = self.process.wait()?;
        ensure!(status.success(), "the cluster ended with {status}");
        Ok(())
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(libc::SIGKILL)?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts it again after it ended.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        (self.process, self.output) = spawn(&self.options)?;
        Ok(())
    }

    #[expect(unsafe_code, reason = "the library has no call for signals")]
    fn signal(&mut self, signal: libc::c_int) -> anyhow::Result<()> {
        ensure!(self.process.try_wait()?.is_none(), "the cluster ended by itself");
        let id = libc::pid_t::try_from(self.process.id())?;
        // SAFETY: the process is ours and was not waited for, so the id is its.
        let result = unsafe { libc::kill(id, signal) };
        ensure!(result == 0, "cannot signal the cluster: {}", std::io::Error::last_os_error());
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // It may have ended already; either way nothing of it is left.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(options: &Options) -> anyhow::Result<(Child, BufReader<ChildStdout>)> {
    let mut process = Command::new(&options.program)
        .arg("up")
        .args(["--dir".as_ref(), options.dir.as_os_str()])
        .args(["--device".as_ref(), options.device.as_os_str()])
        .args(["--osds", &options.osds.to_string()])
        .args(["--mon-port", &MONITOR.1.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", options.program.display()))?;
    let mut output = BufReader::new(process.stdout.take().context("its output is a pipe")?);
    let mut line = String::new();
    while !line.starts_with("ready") {
        line.clear();
        if output.read_line(&mut line)? == 0 {
            let status = process.wait()?;
            anyhow::bail!("the cluster did not get ready: {status}");
        }
    }
    Ok((process, output))
}
