//! The two backends under one roof: a core of either on a thread of its own, and what it spent on so many operations.

use std::cell::Cell;
use std::time::Duration;

use rt::{Core, CoreId, glommio_world, uring};

const SERVER_CPU: usize = 0;

#[derive(Clone, Copy, PartialEq, Eq)]
/// A real backend of the runtime.
pub enum Backend {
    Uring,
    Glommio,
}

/// Both, in the order of a round.
pub const BACKENDS: [Backend; 2] = [Backend::Uring, Backend::Glommio];

impl Backend {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Glommio => "glommio",
        }
    }
}

/// One measurement of one backend.
#[derive(Clone, Copy)]
pub struct Sample {
    pub cpu: Duration,
    pub time: Duration,
    pub ops: u64,
}

/// Runs a core of this backend on a thread of its own.
pub fn start<T: Send + 'static, F: Future<Output = T> + 'static>(
    backend: Backend,
    main: impl FnOnce(Core) -> F + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::spawn(move || match backend {
        Backend::Uring => {
            let config = uring::Config { cpus: vec![SERVER_CPU], ..uring::Config::default() };
            uring::run(CoreId(0), &config, main).unwrap()
        }
        Backend::Glommio => {
            let config = glommio_world::Config { cpu: Some(SERVER_CPU), ..glommio_world::Config::default() };
            glommio_world::run(CoreId(0), &config, main).unwrap()
        }
    })
}

/// Operations over `time`, or longer if there were none, and the CPU of the process for them without what `spare` says
/// of the calling thread's.
pub async fn measure(
    core: &Core,
    time: Duration,
    count: &Cell<u64>,
    spare: impl Fn(Duration) -> Duration,
) -> Sample {
    let clocks = || (cpu_time(libc::CLOCK_PROCESS_CPUTIME_ID), cpu_time(libc::CLOCK_THREAD_CPUTIME_ID));
    core.sleep(time / 4).await;
    let (start, (process, thread), before) = (core.now(), clocks(), count.get());
    core.sleep(time).await;
    while count.get() == before {
        core.sleep(Duration::from_millis(10)).await;
    }
    let after = clocks();
    // The clock of the process may lag a little behind those of its threads.
    let cpu = after.0.saturating_sub(process).saturating_sub(spare(after.1.saturating_sub(thread)));
    Sample { cpu, time: Duration::from_nanos(core.now().0 - start.0), ops: count.get() - before }
}

/// CPU time of the calling thread, or of the whole process.
fn cpu_time(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is valid.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
