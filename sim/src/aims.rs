//! Crashes aimed at moments that chance seldom hits: something is being written, or has just happened that may happen only
//! when something else is durable. What it must wait for is often held back, so that a mistake has time to show.

use std::time::Duration;

use crate::cluster::{Cluster, Node};
use crate::disks::Place;
use crate::faults::AIM_STEPS_MAX;
use crate::run::Run;

/// How often a moment is looked for before the crash strikes all the same.
const LOOKS_MAX: u64 = 4_000;
const STEPS_PER_LOOK: u64 = 3;
/// Writes held back take so much longer, milliseconds: enough for a client to connect again and ask again.
const HELD_MS: (u64, u64) = (5, 500);

/// What an aimed crash waits for.
#[derive(Clone, Copy)]
enum Moment {
    /// A counter of the store moves: space changes hands, or a block is overwritten.
    Counter(&'static str),
    /// A client is told that a change is done.
    Acknowledged,
    /// A client is shown a change that nobody acknowledged.
    Ahead,
    /// The log of the key-value store's file system says that it has more space, or less.
    LoanLogged,
    /// That file system writes a file while its log does not say yet what it let go of.
    FileWritten,
}

/// What takes longer meanwhile.
#[derive(Clone, Copy)]
enum Held {
    Nothing,
    Journal,
    /// The log of the key-value store's file system.
    FsLog,
}

/// Moments of a store, and what they must have waited for.
const EVENTS: [(Moment, Held); 8] = [
    (Moment::Counter("deferred_blocks"), Held::Nothing),
    (Moment::Counter("deferred_blocks"), Held::Journal),
    (Moment::Counter("released_bytes"), Held::Nothing),
    (Moment::Counter("lent_bytes"), Held::Nothing),
    (Moment::LoanLogged, Held::Journal),
    (Moment::LoanLogged, Held::Journal),
    (Moment::Counter("returned_bytes"), Held::FsLog),
    (Moment::FileWritten, Held::FsLog),
];

impl Run<'_> {
    pub(crate) fn crash_in_checkpoint(&mut self, osd: usize) {
        let cluster = self.cluster.clone();
        let begun = || {
            let store = cluster.nodes[osd].store.borrow();
            store.as_ref().is_some_and(|store| store.is_checkpointing())
        };
        self.steps(AIM_STEPS_MAX, |_| begun());
        let steps = self.few_steps();
        self.steps(steps, |_| !begun());
        self.shared.counts.borrow_mut().crashes_in_checkpoint += u64::from(begun());
        self.crash_now(osd);
        self.start_again(osd);
    }

    /// Power loss while a write to some region is not durable: what chance seldom hits where writes are few.
    pub(crate) fn crash_at_write(&mut self, osd: usize) {
        let regions = &self.cluster.nodes[osd].regions;
        let data = regions.data();
        // Those in front are written while a store is opened, those of which there are two first.
        let mut places = regions.superblocks().to_vec();
        let copies = places.len();
        places.extend(regions.headers());
        let opening = places.len();
        places.extend(regions.kv());
        places.extend([
            regions.place(regions.superblock.pg_log),
            regions.journal(),
            Place::main(data.start..data.end()),
        ]);
        let index = self.any(places.len());
        let place = places[index].clone();
        if index < opening || self.dice.one_in(4) {
            // What a process that was killed leaves in the disk's cache is read by the next one, and lost after all.
            let power = self.dice.one_in(2);
            self.crash_by(osd, power);
            self.start_again(osd);
        }
        self.strike_at_write(osd, &place);
        // The copy that was not written then is the only good one.
        while index < copies && self.dice.one_in(2) && !self.failed() {
            let other = index ^ self.any(2);
            self.strike_at_write(osd, &places[other]);
        }
    }

    fn strike_at_write(&mut self, osd: usize, place: &Place) {
        let cluster = self.cluster.clone();
        let unsettled = || cluster.nodes[osd].parts.disks.is_unsettled(place);
        self.steps(AIM_STEPS_MAX, |_| unsettled());
        let most = 1 << self.dice.between(0, 6);
        let steps = self.dice.below(most);
        self.steps(steps, |_| !unsettled());
        self.shared.counts.borrow_mut().crashes_at_write += u64::from(unsettled());
        self.crash_by(osd, true);
        self.start_again(osd);
    }

    /// Power loss right after a store did something that it may only do when something else is durable.
    pub(crate) fn crash_at_event(&mut self, osd: usize) {
        let (moment, held) = EVENTS[self.any(EVENTS.len())];
        self.hold(osd, held);
        self.strike_after(osd, moment, 1);
    }

    /// Power loss right after a client was told something, with the journal held back. Clients may ask twice for the
    /// same: then they are told by what is remembered of the first time.
    pub(crate) fn crash_at_answer(&mut self, osd: usize) {
        self.hold(osd, Held::Journal);
        let cluster = self.cluster.clone();
        let journal = cluster.nodes[osd].regions.journal();
        self.steps(AIM_STEPS_MAX, |_| cluster.nodes[osd].parts.disks.is_unsettled(&journal));
        let moment = if self.dice.one_in(2) { Moment::Ahead } else { Moment::Acknowledged };
        if matches!(moment, Moment::Acknowledged) {
            let steps = self.few_steps();
            self.steps(steps, |_| false);
            for client in 0..self.clients.len() {
                self.sim.reset_connections(Cluster::client_host(client), Cluster::osd_host(osd));
                self.shared.counts.borrow_mut().resets += 1;
            }
        }
        let times = self.dice.between(1, 3);
        self.strike_after(osd, moment, times);
    }

    /// Connections break right after the store refused something: what clients are told of that is lost, and they ask again.
    pub(crate) fn reset_at_refusal(&mut self, osd: usize) {
        if !self.scenario.tight {
            return;
        }
        let mut came = self.watch(osd, Moment::Counter("transactions_refused"));
        let mut looks = LOOKS_MAX;
        while looks > 0 && !came() && !self.failed() {
            looks -= 1;
            self.steps(STEPS_PER_LOOK, |_| false);
        }
        if looks == 0 {
            return;
        }
        for client in 0..self.clients.len() {
            self.sim.reset_connections(Cluster::client_host(client), Cluster::osd_host(osd));
        }
        let mut counts = self.shared.counts.borrow_mut();
        counts.resets += self.clients.len() as u64;
        counts.resets_at_refusal += 1;
    }

    fn hold(&mut self, osd: usize, held: Held) {
        let node = &self.cluster.nodes[osd];
        let places: Vec<Place> = match held {
            Held::Nothing => return,
            Held::Journal => vec![node.regions.journal()],
            Held::FsLog => {
                let log = node.with_fs(|machine| machine.superblock().log.clone()).unwrap_or_default();
                log.into_iter().map(|extent| node.regions.place(extent)).collect()
            }
        };
        let time = Duration::from_millis(self.dice.between(HELD_MS.0, HELD_MS.1));
        self.cluster.nodes[osd].parts.disks.hold_writes(&places, time);
    }

    /// Power loss soon after the moment came so many times.
    fn strike_after(&mut self, osd: usize, moment: Moment, times: u64) {
        let mut came = self.watch(osd, moment);
        let mut left = times;
        let mut looks = LOOKS_MAX;
        while left > 0 && looks > 0 && !self.failed() {
            looks -= 1;
            self.steps(STEPS_PER_LOOK, |_| false);
            left -= u64::from(came());
        }
        let most = 1 << self.dice.between(0, 6);
        let steps = self.dice.below(most);
        self.steps(steps, |_| false);
        self.shared.counts.borrow_mut().crashes_at_event += u64::from(left == 0);
        self.crash_by(osd, true);
        self.start_again(osd);
    }

    /// Tells whether the moment came since it was last asked.
    fn watch(&self, osd: usize, moment: Moment) -> Box<dyn FnMut() -> bool> {
        let (cluster, shared) = (self.cluster.clone(), self.shared.clone());
        match moment {
            Moment::Counter(name) => moves(move || cluster.nodes[osd].counter(name)),
            Moment::Acknowledged => moves(move || shared.told(osd).acknowledged),
            Moment::Ahead => moves(move || shared.told(osd).ahead),
            Moment::LoanLogged => logs_a_loan(move || {
                cluster.nodes[osd].with_fs(|machine| {
                    (machine.tree().space_bytes(), machine.staged_ticket(), machine.durable_ticket())
                })
            }),
            Moment::FileWritten => writes_before_it_logs(move || {
                cluster.nodes[osd].with_fs(|machine| {
                    (machine.staged_ticket() > machine.durable_ticket(), machine.stats().written_files)
                })
            }),
        }
    }

    /// The blocks of which there are two copies and that power loss may garble now, since they are being written.
    pub(crate) fn vulnerable(node: &Node) -> Vec<Place> {
        let copies = node.regions.superblocks().into_iter();
        copies.filter(|copy| node.parts.disks.is_unsettled(copy)).collect()
    }
}

fn moves(number: impl Fn() -> u64 + 'static) -> Box<dyn FnMut() -> bool> {
    let mut last = number();
    Box::new(move || std::mem::replace(&mut last, number()) != last)
}

/// `look` gives the space, and the tickets that are staged and durable.
fn logs_a_loan(look: impl Fn() -> Option<(u64, u64, u64)> + 'static) -> Box<dyn FnMut() -> bool> {
    let (mut before, mut staged_at) = (None, None);
    Box::new(move || {
        let Some((space, staged, durable)) = look() else { return false };
        if space != *before.get_or_insert(space) {
            staged_at.get_or_insert(staged);
        }
        let came = staged_at.is_some_and(|at| at <= durable);
        if came {
            (before, staged_at) = (Some(space), None);
        }
        came
    })
}

/// `look` gives whether something is to be logged, and the bytes written to files.
fn writes_before_it_logs(look: impl Fn() -> Option<(bool, u64)> + 'static) -> Box<dyn FnMut() -> bool> {
    let mut unlogged_since = None;
    Box::new(move || {
        let Some((true, written)) = look() else {
            unlogged_since = None;
            return false;
        };
        written != *unlogged_since.get_or_insert(written)
    })
}
