//! The sweep itself: takes a recording, cuts it at every write and flush, checks what each kind of power loss leaves,
//! and goes on from a sample, into recoveries that are recorded and cut in turn.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nvme::recording::{Choice, Moment};
use nvme::{Image, MemoryDevice, Recording};
use rt::sim::RandomStream;

use crate::check::{Expectation, Found, check};
use crate::life::{Totals, live};
use crate::plan::Plan;
use crate::stack::{Below, Setup, in_world};
use crate::views::Views;
use crate::workload::aftermath;

/// Cuts at the beginning of a recovery of which every image is looked at.
const MOUNT_CUTS: usize = 16;

/// How much of everything there is a sweep looks at.
#[derive(Clone, Debug)]
pub struct Thoroughness {
    /// One in so many cuts.
    pub cut_one_in: u64,
    /// Random subsets of each cut, beside none, all, each one missing and each one torn.
    pub random: u64,
    /// Of the images of a cut, so many are looked at, drawn by a seed.
    pub images_max: usize,
    /// After one in so many images the store goes on, is closed, and opened again; 0 for never.
    pub go_on_one_in: u64,
    /// After one in so many images the recovery is recorded and cut; 0 for never.
    pub nest_one_in: u64,
    /// At one in so many cuts the process dies and the device does not; the mount that follows is recorded and cut; 0
    /// for never.
    pub kill_one_in: u64,
    /// Of those, one in so many is cut beyond the mount; 0 for never.
    pub whole_one_in: u64,
    /// How those recordings are cut.
    pub nested: Option<Box<Thoroughness>>,
    /// Ends after so many failures.
    pub failures_max: usize,
    /// Threads.
    pub threads: usize,
}

impl Thoroughness {
    /// Everything: every cut, every image that the issue asks for, and recoveries cut at every write with a few images
    /// each, twice over.
    pub fn full(threads: usize) -> Self {
        let deepest = Self {
            cut_one_in: 3,
            random: 2,
            images_max: 1,
            go_on_one_in: 0,
            nest_one_in: 0,
            kill_one_in: 0,
            whole_one_in: 0,
            nested: None,
            failures_max: 10,
            threads: 1,
        };
        let nested = Self {
            cut_one_in: 1,
            random: 4,
            images_max: 3,
            nest_one_in: 400,
            kill_one_in: 100,
            whole_one_in: 4,
            nested: Some(Box::new(deepest.clone())),
            ..deepest
        };
        Self {
            random: 32,
            images_max: usize::MAX,
            go_on_one_in: 16,
            nest_one_in: 200,
            kill_one_in: 1,
            whole_one_in: 6,
            nested: Some(Box::new(nested.clone())),
            threads,
            ..nested
        }
    }
}

/// What a sweep did; may be looked at while it runs.
#[derive(Debug, Default)]
pub struct Counts {
    /// Cuts of the recording.
    pub cuts: AtomicU64,
    /// Images checked.
    pub images: AtomicU64,
    /// Images of devices that said they were not formatted, before they were.
    pub not_formatted: AtomicU64,
    /// Images from which the store went on, was closed and opened again.
    pub went_on: AtomicU64,
    /// Recoveries that were recorded, after power loss and after the death of the process.
    pub recoveries: AtomicU64,
    /// Cuts of those.
    pub nested_cuts: AtomicU64,
    /// Images of those.
    pub nested_images: AtomicU64,
    /// Failures.
    pub failures: Mutex<Vec<Failure>>,
}

/// An image that is not what it must be.
#[derive(Clone)]
pub struct Failure {
    /// Where it was cut, from outside in.
    pub path: String,
    /// What is wrong.
    pub reason: String,
    /// The device.
    pub device: MemoryDevice,
}

impl std::fmt::Debug for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

impl Counts {
    fn add(&self, count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn fail(&self, path: &str, reason: String, device: &MemoryDevice) {
        let failure = Failure { path: path.to_owned(), reason, device: device.snapshot() };
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
    }

    /// How many failures there are.
    pub fn failed(&self) -> usize {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The newest of them.
    pub fn last_failure(&self) -> String {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.last().map_or_else(String::new, |failure| format!("{failure:?}"))
    }

    /// One line.
    pub fn line(&self) -> String {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        format!(
            "{} cuts, {} images ({} not formatted yet), {} went on, {} recoveries cut {} times into {} images, \
             {} failures",
            get(&self.cuts),
            get(&self.images),
            get(&self.not_formatted),
            get(&self.went_on),
            get(&self.recoveries),
            get(&self.nested_cuts),
            get(&self.nested_images),
            self.failed()
        )
    }
}

/// Records a life on a device.
pub fn record(
    setup: &Arc<Setup>,
    plan: &Arc<Plan>,
    device: &MemoryDevice,
    tape: &Recording,
    seed: u64,
) -> Result<Totals, String> {
    let (setup, plan) = (Arc::clone(setup), Arc::clone(plan));
    let (device, tape) = (device.clone(), tape.clone());
    guarded(|| {
        in_world(setup.below, seed, |core| async move {
            let views = Rc::new(Views::recorded(&core, &setup.devices, &device, &tape, setup.late_max));
            live(core, setup, views, plan, Some(tape)).await
        })
    })
}

/// Records `plan` from a blank device on, and cuts that. An error if the life itself went wrong.
pub fn sweep_workload(
    setup: &Arc<Setup>,
    plan: &Arc<Plan>,
    how: &Thoroughness,
    counts: &Counts,
) -> Result<(Totals, Recording), String> {
    let device = MemoryDevice::with_geometry("recorded", setup.devices.all());
    let tape = Recording::new(setup.devices.all(), Image::new());
    let totals = record(setup, plan, &device, &tape, 1)?;
    sweep(setup, plan, &tape, how, counts);
    Ok((totals, tape))
}

/// Cuts a recording of `plan`.
pub fn sweep(setup: &Arc<Setup>, plan: &Arc<Plan>, tape: &Recording, how: &Thoroughness, counts: &Counts) {
    let sweeper = Sweeper { setup, plan, tape, how, counts, path: "", depth: 0 };
    let cuts = Mutex::new(sweeper.cuts().into_iter());
    let next = || {
        let mut cuts = cuts.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked for in rising order, under the lock: that is cheapest.
        cuts.next().map(|cut| tape.at(cut))
    };
    std::thread::scope(|scope| {
        for _ in 0..how.threads.max(1) {
            scope.spawn(|| {
                while counts.failed() < how.failures_max
                    && let Some(moment) = next()
                {
                    sweeper.cut(&moment, how.images_max);
                }
            });
        }
    });
}

/// A panic is a failure like any other.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

struct Sweeper<'a> {
    setup: &'a Arc<Setup>,
    plan: &'a Arc<Plan>,
    tape: &'a Recording,
    how: &'a Thoroughness,
    counts: &'a Counts,
    path: &'a str,
    depth: u32,
}

/// Where a recovery begins.
struct Start<'a> {
    path: &'a str,
    device: &'a MemoryDevice,
    /// Of each track, the state that was promised, and the one that is there.
    low: &'a [usize],
    high: &'a [usize],
}

impl Sweeper<'_> {
    fn cuts(&self) -> Vec<usize> {
        let mut random = RandomStream::new(0, &format!("cuts of {}", self.path));
        self.tape.cuts().into_iter().filter(|_| random.one_in(self.how.cut_one_in.max(1))).collect()
    }

    fn cut(&self, moment: &Moment, images_max: usize) {
        let counts = self.counts;
        counts.add(if self.depth == 0 { &counts.cuts } else { &counts.nested_cuts });
        let expect = Expectation::new(self.plan, moment.marks());
        let mut random = RandomStream::new(moment.cut() as u64, &format!("images of {}", self.path));
        let mut choices = moment.choices(self.how.random);
        while choices.len() > images_max {
            choices.swap_remove(random.below(choices.len() as u64) as usize);
        }
        for choice in choices {
            let path = format!("{}cut {} {choice:?}", self.path, moment.cut());
            self.image(moment, &choice, &path, &expect, &mut random);
        }
        let chosen = |random: &mut RandomStream, one_in| one_in > 0 && random.one_in(one_in);
        if expect.formatted && chosen(&mut random, self.how.kill_one_in) {
            self.kill(moment, &expect);
        }
    }

    fn image(
        &self,
        moment: &Moment,
        choice: &Choice,
        path: &str,
        expect: &Expectation,
        random: &mut RandomStream,
    ) {
        let counts = self.counts;
        counts.add(if self.depth == 0 { &counts.images } else { &counts.nested_images });
        let device = moment.image(choice);
        // RocksDB has threads: a store on it must be closed, or they go on while the next image is looked at.
        let close = self.setup.below == Below::RocksDb;
        let found = match self.check(&device.snapshot(), self.plan, expect.clone(), close, random.next_u64())
        {
            Ok(Found::States(found)) => found,
            Ok(Found::NotFormatted) => return counts.add(&counts.not_formatted),
            Err(reason) => return counts.fail(path, reason, &device),
        };
        let chosen = |random: &mut RandomStream, one_in| one_in > 0 && random.one_in(one_in);
        if chosen(random, self.how.go_on_one_in) {
            counts.add(&counts.went_on);
            if let Err(reason) = self.go_on(&device.snapshot(), &found, random) {
                counts.fail(&format!("{path} and on"), reason, &device);
            }
        }
        if chosen(random, self.how.nest_one_in) {
            let tape = Recording::new(device.geometry().clone(), device.image());
            let from = Start { path: &format!("{path} > "), device: &device, low: &found, high: &found };
            self.nest(&from, &tape, usize::MAX, random);
        }
    }

    /// The process dies, the device goes on; then power loss in the recovery from that.
    fn kill(&self, moment: &Moment, expect: &Expectation) {
        let path = format!("{}kill at {}", self.path, moment.cut());
        let mut random = RandomStream::new(moment.cut() as u64, &path);
        let device = moment.image(&Choice::All);
        let seed = random.next_u64();
        let found = match self.check(&device.snapshot(), self.plan, expect.clone(), true, seed) {
            Ok(Found::States(found)) => found,
            Ok(Found::NotFormatted) => return,
            Err(reason) => return self.counts.fail(&path, reason, &device),
        };
        let tape = moment.survived();
        let whole = self.how.whole_one_in > 0 && random.one_in(self.how.whole_one_in);
        let cuts_max = if whole { usize::MAX } else { MOUNT_CUTS };
        let from =
            Start { path: &format!("{path} > "), device: &device, low: &expect.at_least, high: &found };
        self.nest(&from, &tape, cuts_max, &mut random);
    }

    /// Records a recovery with some more transactions, and cuts that so many times.
    fn nest(&self, from: &Start<'_>, tape: &Recording, cuts_max: usize, random: &mut RandomStream) {
        let Some(how) = &self.how.nested else { return };
        self.counts.add(&self.counts.recoveries);
        let plan = Arc::new(aftermath(&self.plan.tracks, from.low, from.high, random.next_u64()));
        let begin = tape.cuts().pop().unwrap_or(0);
        if let Err(reason) = record(self.setup, &plan, &from.device.snapshot(), tape, random.next_u64()) {
            return self.counts.fail(&format!("{}recovery", from.path), reason, from.device);
        }
        let sweeper = Sweeper {
            setup: self.setup,
            plan: &plan,
            tape,
            how,
            counts: self.counts,
            path: from.path,
            depth: self.depth + 1,
        };
        let cuts = sweeper.cuts().into_iter().filter(|cut| *cut >= begin);
        for (number, cut) in cuts.enumerate().take(cuts_max) {
            if self.counts.failed() >= self.how.failures_max {
                return;
            }
            // Mounting is where recovery can go wrong; what follows is a life like any other.
            let images_max = if number < MOUNT_CUTS { usize::MAX } else { how.images_max };
            sweeper.cut(&tape.at(cut), images_max);
        }
    }

    fn check(
        &self,
        device: &MemoryDevice,
        plan: &Arc<Plan>,
        expect: Expectation,
        close: bool,
        seed: u64,
    ) -> Result<Found, String> {
        let (setup, plan) = (Arc::clone(self.setup), Arc::clone(plan));
        let views = Rc::new(Views::plain(&setup.devices, device));
        guarded(|| in_world(setup.below, seed, |core| check(core, setup, views, plan, expect, close)))
    }

    /// Writes on, closes, opens again: everything is there and nothing is left to replay.
    fn go_on(&self, device: &MemoryDevice, found: &[usize], random: &mut RandomStream) -> Result<(), String> {
        let plan = Arc::new(aftermath(&self.plan.tracks, found, found, random.next_u64()));
        let expect = Expectation::all(&plan);
        let (setup, shared) = (Arc::clone(self.setup), Arc::clone(&plan));
        let views = Rc::new(Views::plain(&setup.devices, device));
        guarded(|| in_world(setup.below, random.next_u64(), |core| live(core, setup, views, shared, None)))?;
        self.check(device, &plan, expect, true, random.next_u64()).map(|_| ())
    }
}
