//! Ctrl-C and SIGTERM as a report. A second one ends the process at once.

use std::sync::mpsc;
use std::thread;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cores::Report;

/// Exit status after a second signal: 128 + SIGINT, as a shell has it.
const INTERRUPTED: i32 = 130;

/// Reports the first SIGINT or SIGTERM.
pub fn on_signal(reports: mpsc::Sender<Report>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen for signals")?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut seen = false;
            for _ in signals.forever() {
                if seen {
                    std::process::exit(INTERRUPTED);
                }
                seen = true;
                // The receiver is gone only when the process is ending anyway.
                let _ = reports.send(Report::Signal);
            }
        })
        .context("cannot start the thread that listens for signals")?;
    Ok(())
}
