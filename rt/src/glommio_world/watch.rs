//! Gets a core going again that glommio put to sleep though it has work.
//!
//! Glommio's loop parks when it ran no task in a turn. It also ran none when the time slice was over before the first
//! task: on a busy machine the thread loses its CPU between the two. It then sleeps with tasks ready, for ever if
//! nothing else happens. A signal gets it out. So a task beats at a steady rate, and a thread that misses the beat
//! sends a signal whose handler does nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Time between two beats.
pub(super) const BEAT: Duration = Duration::from_millis(10);

/// Without a beat for this long, the core is interrupted.
const PATIENCE: Duration = Duration::from_millis(100);

const _: () = assert!(PATIENCE.as_nanos() > 4 * BEAT.as_nanos());

/// Watches one core as long as it lives.
pub(super) struct Watch {
    beats: Arc<AtomicU64>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches the calling thread.
    pub fn start() -> io::Result<Self> {
        install_handler()?;
        let beats = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = channel::<()>();
        #[expect(unsafe_code, reason = "there is no safe call for this")]
        // SAFETY: no memory is involved.
        let core = unsafe { libc::pthread_self() };
        let heard = beats.clone();
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
            let mut last = heard.load(Ordering::Relaxed);
            while stopped.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let now = heard.load(Ordering::Relaxed);
                if now == last {
                    #[expect(unsafe_code, reason = "there is no safe call for this")]
                    // SAFETY: the core's thread outlives this one, which it joins.
                    let result = unsafe { libc::pthread_kill(core, signal()) };
                    debug_assert_eq!(result, 0);
                }
                last = now;
            }
        })?;
        Ok(Self { beats, stop: Some(stop), thread: Some(thread) })
    }

    /// What the core calls at each beat.
    pub fn beats(&self) -> impl Fn() + use<> {
        let beats = self.beats.clone();
        move || {
            beats.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It cannot panic.
            let _ = thread.join();
        }
    }
}

fn signal() -> libc::c_int {
    libc::SIGRTMIN() + 7
}

/// Without a handler the signal would end the process, and with `SA_RESTART` it would interrupt nothing.
#[expect(unsafe_code, reason = "there is no safe call for this")]
fn install_handler() -> io::Result<()> {
    extern "C" fn nothing(_signal: libc::c_int) {}
    // SAFETY: an all-zero action is a valid one to fill in; the handler does nothing, so it is safe at any moment.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(signal(), &action, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
