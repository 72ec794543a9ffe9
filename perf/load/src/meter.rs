//! [`Meter`]: what the calling thread, its process, and other processes spend.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use perf_event::events::Hardware;
use perf_event::{Builder, Counter};
use rt::Core;
use rt::uring::UringCore;
use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};

/// What somebody spent: since it began, or between two moments. What nobody counted is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spent {
    /// Time on CPUs.
    pub cpu: Option<Duration>,
    /// Instructions that its CPUs finished.
    pub instructions: Option<u64>,
    /// Calls into the kernel through its ring.
    pub enters: Option<u64>,
}

impl Spent {
    /// What was spent since then.
    pub fn since(&self, before: &Self) -> Self {
        let of = |now: Option<u64>, before: Option<u64>| Some(now?.saturating_sub(before?));
        Self {
            cpu: self.cpu.zip(before.cpu).map(|(now, before)| now.saturating_sub(before)),
            instructions: of(self.instructions, before.instructions),
            enters: of(self.enters, before.enters),
        }
    }
}

/// Somebody who spends, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Party {
    /// Who, as `OSD core`.
    pub name: String,
    /// What.
    pub spent: Spent,
}

impl Party {
    /// Somebody and what he spent.
    pub fn new(name: impl Into<String>, spent: Spent) -> Self {
        Self { name: name.into(), spent }
    }
}

/// Counts for the thread that made it.
pub struct Meter {
    instructions: Option<Instructions>,
}

impl Meter {
    /// Of the calling thread.
    pub fn of_this_thread() -> Self {
        Self { instructions: Instructions::of(None) }
    }

    /// What the thread spent so far; its ring is that of `core`.
    pub fn read(&mut self, core: &Core) -> Spent {
        let ring = core.world().downcast_ref::<UringCore>();
        Spent {
            cpu: Some(thread_cpu()),
            instructions: self.instructions.as_mut().and_then(Instructions::read),
            enters: ring.map(|world| world.ring().entered()),
        }
    }

    /// What instructions are counted, or why none are.
    pub fn about_instructions() -> String {
        match Instructions::of(None) {
            Some(Instructions { with_kernel: true, .. }) => {
                "counted in user mode and in the kernel".to_owned()
            }
            Some(_) => "counted in user mode only, as kernel.perf_event_paranoid is above 1".to_owned(),
            None => match counter(None, false) {
                Err(error) => format!("not counted on this machine: {}", why_not_counted(&error)),
                Ok(_) => "not counted on this machine".to_owned(),
            },
        }
    }
}

/// CPU of the calling thread so far.
pub fn thread_cpu() -> Duration {
    duration(ClockId::ThreadCPUTime)
}

/// CPU of all threads of the process so far.
pub fn process_cpu() -> Duration {
    duration(ClockId::ProcessCPUTime)
}

fn duration(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A counter of instructions.
struct Instructions {
    counter: Counter,
    with_kernel: bool,
}

impl Instructions {
    /// Of a thread, the calling one if none is named; with what the kernel does for it if that may be known.
    fn of(thread: Option<i32>) -> Option<Self> {
        [true, false].into_iter().find_map(|with_kernel| {
            let counter = counter(thread, with_kernel).ok()?;
            Some(Self { counter, with_kernel })
        })
    }

    fn read(&mut self) -> Option<u64> {
        self.counter.read().ok()
    }
}

fn counter(thread: Option<i32>, with_kernel: bool) -> io::Result<Counter> {
    let mut builder = Builder::new(Hardware::INSTRUCTIONS);
    if let Some(thread) = thread {
        builder.observe_pid(thread);
    }
    let mut counter = builder.exclude_kernel(!with_kernel).build()?;
    counter.enable()?;
    Ok(counter)
}

fn why_not_counted(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "its processor shows no counters, as in many virtual machines".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "they may not be read; set kernel.perf_event_paranoid to 2 or less".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Another process of this machine, by what `/proc` tells.
pub struct ServerProcess {
    id: u32,
    /// Of the threads that it had at first; later ones are not counted, so neither is the whole unless there are none.
    instructions: Vec<(i32, Instructions)>,
}

impl ServerProcess {
    /// The one of this number; an error says that there is none.
    pub fn new(id: u32) -> io::Result<Self> {
        let mut process = Self { id, instructions: Vec::new() };
        process.cpu()?;
        let threads = process.threads()?;
        let counted: Option<Vec<_>> =
            threads.into_iter().map(|thread| Some((thread, Instructions::of(Some(thread))?))).collect();
        process.instructions = counted.unwrap_or_default();
        Ok(process)
    }

    /// What it spent so far.
    pub fn spent(&mut self) -> io::Result<Spent> {
        Ok(Spent { cpu: Some(self.cpu()?), instructions: self.count()?, enters: None })
    }

    /// Bytes that it had written to devices so far. Another user's are not told.
    pub fn device_bytes(&self) -> io::Result<u64> {
        let text = fs::read_to_string(self.path("io"))?;
        let value = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        value.and_then(|value| value.trim().parse().ok()).ok_or_else(|| self.unknown("write_bytes", &text))
    }

    /// All threads, also those that ended.
    fn cpu(&self) -> io::Result<Duration> {
        let text = fs::read_to_string(self.path("stat"))?;
        // The name, in brackets, may hold anything. After it the state is field 3, user time 14, system time 15.
        let fields = text.rsplit_once(") ").map(|(_, rest)| rest.split_ascii_whitespace());
        let ticks: Option<u64> = fields.and_then(|fields| {
            let times: Option<Vec<u64>> = fields.skip(11).take(2).map(|field| field.parse().ok()).collect();
            times.filter(|times| times.len() == 2).map(|times| times.iter().sum())
        });
        let ticks = ticks.ok_or_else(|| self.unknown("utime and stime", &text))?;
        Ok(Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64))
    }

    fn count(&mut self) -> io::Result<Option<u64>> {
        let threads = self.threads()?;
        let all_known =
            threads.iter().all(|thread| self.instructions.iter().any(|(known, _)| known == thread));
        if self.instructions.is_empty() || !all_known {
            return Ok(None);
        }
        Ok(self.instructions.iter_mut().map(|(_, counter)| counter.read()).sum())
    }

    fn threads(&self) -> io::Result<Vec<i32>> {
        let mut threads = Vec::new();
        for entry in fs::read_dir(self.path("task"))? {
            threads.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
        }
        Ok(threads)
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.id))
    }

    fn unknown(&self, what: &str, text: &str) -> io::Error {
        io::Error::other(format!("no {what} of process {} in '{}'", self.id, text.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_about_as_the_clocks_do() {
        let mut this = ServerProcess::new(std::process::id()).unwrap();
        let before = this.spent().unwrap();
        let begin = process_cpu();
        let mut sum = 0_u64;
        while process_cpu() - begin < Duration::from_millis(200) {
            sum = sum.wrapping_mul(3).wrapping_add(1);
        }
        let spent = this.spent().unwrap().since(&before);
        assert!(spent.cpu.unwrap() >= Duration::from_millis(150), "{spent:?} {sum}");
        this.device_bytes().unwrap();
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        // Above the largest number that Linux gives.
        assert_eq!(
            ServerProcess::new(u32::MAX).err().map(|error| error.kind()),
            Some(io::ErrorKind::NotFound)
        );
    }

    #[test]
    fn what_was_not_counted_once_is_not_known() {
        let now = Spent { cpu: Some(Duration::from_secs(3)), instructions: Some(10), enters: None };
        let before = Spent { cpu: Some(Duration::from_secs(1)), instructions: None, enters: Some(1) };
        let since = Spent { cpu: Some(Duration::from_secs(2)), instructions: None, enters: None };
        assert_eq!(now.since(&before), since);
        assert!(Meter::about_instructions().contains("counted"));
    }
}
