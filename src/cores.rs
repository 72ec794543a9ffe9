//! The process's cores: a thread each, told to stop together, and what becomes of them as one stream of reports.
//!
//! A core that cannot start or fails makes the whole process stop; nothing limps on.

use std::future::Future;
use std::sync::mpsc;

use anyhow::{Context, bail};
use rt::mailbox::{Receiver, Sender, mailbox};
use rt::uring::{Config, CoreThread, spawn_core};
use rt::{Core, CoreId};

/// What a core tells the main thread.
pub enum Report {
    /// Everything on the core runs.
    Ready,
    /// It could not start, or failed later; the text says why.
    Failed(String),
    /// A signal asks the process to stop.
    Signal,
}

/// Told to a core once.
pub struct Stop;

/// The running cores.
pub struct Cores {
    threads: Vec<(Sender<Stop>, CoreThread<()>)>,
    reports: mpsc::Receiver<Report>,
    send: mpsc::Sender<Report>,
}

/// What a core's main future gets.
pub struct Orders {
    /// Where it reports.
    pub reports: mpsc::Sender<Report>,
    /// When to stop.
    pub stop: Receiver<Stop>,
}

impl Cores {
    /// No cores yet.
    pub fn new() -> Self {
        let (send, reports) = mpsc::channel();
        Self { threads: Vec::new(), reports, send }
    }

    /// Where signals are reported.
    pub fn reporter(&self) -> mpsc::Sender<Report> {
        self.send.clone()
    }

    /// Starts a core that runs `main`.
    pub fn start<F: Future<Output = ()> + 'static>(
        &mut self,
        config: Config,
        main: impl FnOnce(Core, Orders) -> F + Send + 'static,
    ) -> anyhow::Result<()> {
        let id = CoreId(u16::try_from(self.threads.len()).context("too many cores")?);
        let (send, stop) = mailbox(1);
        let orders = Orders { reports: self.send.clone(), stop };
        let thread = spawn_core(id, config, move |core| main(core, orders)).with_context(|| {
            format!("cannot start core {}: io_uring may be switched off on this machine", id.0)
        })?;
        self.threads.push((send, thread));
        Ok(())
    }

    /// Waits until every core is ready. False if a signal came first.
    pub fn wait_ready(&self) -> anyhow::Result<bool> {
        for _ in &self.threads {
            match self.next()? {
                Report::Ready => {}
                Report::Failed(why) => bail!("{why}"),
                Report::Signal => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Waits until a signal asks to stop; an error if a core failed.
    pub fn wait_signal(&self) -> anyhow::Result<()> {
        loop {
            match self.next()? {
                Report::Ready => {}
                Report::Failed(why) => bail!("{why}"),
                Report::Signal => return Ok(()),
            }
        }
    }

    /// Tells every core to stop and waits for them; the first failure on the way is the result.
    pub fn stop(self) -> anyhow::Result<()> {
        for (send, _) in &self.threads {
            // A core that has ended needs no telling.
            let _ = send.try_send(Stop);
        }
        for (_, thread) in self.threads {
            thread.join().context("a core ended with an error")?;
        }
        while let Ok(report) = self.reports.try_recv() {
            if let Report::Failed(why) = report {
                bail!("{why}");
            }
        }
        Ok(())
    }

    fn next(&self) -> anyhow::Result<Report> {
        self.reports.recv().context("all cores ended")
    }
}
