//! What goes wrong in the first phase, and when: between any two steps, and aimed at moments that chance seldom hits.

use std::time::Duration;

use rt::Nanos;
use rt::sim::Sim;

use crate::cluster::{Cluster, MON_HOST};
use crate::node_store::Stage;
use crate::run::Run;

/// What a killed client sent is answered or gone by then.
const CLIENT_FENCE: Duration = Duration::from_secs(20);
/// Steps after which an aimed crash strikes, aim or not.
const AIM_STEPS_MAX: u64 = 30_000;
/// Counters of the store that move when space changes hands or a block is overwritten.
const EVENTS: [&str; 5] =
    ["deferred_blocks", "deferred_blocks", "released_bytes", "lent_bytes", "lent_bytes"];
/// How often a counter is looked at before the crash strikes all the same.
const EVENT_LOOKS_MAX: u64 = 4_000;
const STEPS_PER_LOOK: u64 = 3;
/// Bytes of a superblock of the key-value store's file system.
const BLUEFS_BLOCK: u64 = 4096;
/// A store that was told to fail has done so by then, or the disk is well again.
const FAILURE_LIMIT: Duration = Duration::from_secs(2);

impl Run<'_> {
    /// One fault.
    pub fn fault(&mut self) {
        self.damage();
        let osd = self.any(self.cluster.nodes.len());
        let client = self.any(self.clients.len());
        match self.dice.below(32) {
            0..=7 => self.crash(osd),
            8..=10 => self.crash_in_checkpoint(osd),
            11 | 12 => self.crash_in_replay(osd),
            13 | 14 => self.stop(osd),
            15 => self.fail_disk(osd),
            16 => {
                self.cluster.crash_mon(self.sim);
                self.shared.counts.borrow_mut().mon_crashes += 1;
                self.cluster.start_mon(self.sim);
            }
            17 => self.kill_client(client),
            18..=20 => {
                self.sim.reset_connections(Cluster::client_host(client), Cluster::osd_host(osd));
                self.shared.counts.borrow_mut().resets += 1;
            }
            21 => {
                self.sim.reset_connections(Cluster::osd_host(osd), MON_HOST);
                self.shared.counts.borrow_mut().resets += 1;
            }
            22..=25 => self.crash_at_write(osd),
            26..=29 => self.crash_at_event(osd),
            _ => {
                self.sim.cut(Cluster::client_host(client), Cluster::osd_host(osd));
                self.sim.at(Nanos(self.sim.now().0 + self.dice.below(3_000_000_000)), Sim::heal);
            }
        }
    }

    /// A number below `count`.
    pub fn any(&mut self, count: usize) -> usize {
        usize::try_from(self.dice.below(count as u64)).unwrap_or(0)
    }

    /// Wherever it is.
    fn crash(&mut self, osd: usize) {
        self.crash_now(osd);
        self.start_again(osd);
        // Often it did not get far.
        if self.dice.one_in(4) {
            let steps = self.few_steps();
            self.steps(steps, |_| false);
            self.crash(osd);
        }
    }

    fn crash_in_checkpoint(&mut self, osd: usize) {
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

    fn crash_in_replay(&mut self, osd: usize) {
        self.crash_now(osd);
        // Again and again, mostly.
        while !self.failed() {
            self.start_again(osd);
            let replaying = |run: &Self| run.cluster.nodes[osd].stage() == Stage::Replay;
            self.steps(AIM_STEPS_MAX, replaying);
            let steps = self.few_steps();
            self.steps(steps, |run| !replaying(run));
            if !replaying(self) {
                return;
            }
            self.crash_now(osd);
        }
    }

    /// Power loss while a write to some region is not durable: what chance seldom hits where writes are few.
    fn crash_at_write(&mut self, osd: usize) {
        let node = &self.cluster.nodes[osd];
        let (window, superblock) = (node.regions.window, &node.regions.superblock);
        let (block, kv, data) = (u64::from(superblock.block), superblock.kv, node.regions.data());
        let at = |start: u64, len: u64| window.start + start..window.start + start + len;
        // Those in front are written while a store is opened.
        let places = [
            at(0, block),
            at(window.len - block, block),
            at(kv.start, BLUEFS_BLOCK),
            at(kv.end() - BLUEFS_BLOCK, BLUEFS_BLOCK),
            at(kv.start, kv.len),
            at(superblock.pg_log.start, superblock.pg_log.len),
            at(superblock.journal.start, superblock.journal.len),
            data.start..data.end(),
        ];
        let index = self.any(places.len());
        let place = places[index].clone();
        if index < 4 || self.dice.one_in(4) {
            // What a process that was killed leaves in the disk's cache is read by the next one, and lost after all.
            let power = self.dice.one_in(2);
            self.crash_by(osd, power);
            self.start_again(osd);
        }
        let cluster = self.cluster.clone();
        let unsettled = || cluster.nodes[osd].parts.disk.is_unsettled(&place);
        self.steps(AIM_STEPS_MAX, |_| unsettled());
        let most = 1 << self.dice.between(0, 6);
        let steps = self.dice.below(most);
        self.steps(steps, |_| !unsettled());
        self.shared.counts.borrow_mut().crashes_at_write += u64::from(unsettled());
        self.crash_by(osd, true);
        self.start_again(osd);
    }

    /// Power loss right after a store did something that it may only do when something else is durable.
    fn crash_at_event(&mut self, osd: usize) {
        let name = EVENTS[self.any(EVENTS.len())];
        let cluster = self.cluster.clone();
        let before = cluster.nodes[osd].counter(name);
        for _ in 0..EVENT_LOOKS_MAX {
            self.steps(STEPS_PER_LOOK, |_| false);
            if self.failed() || cluster.nodes[osd].counter(name) != before {
                break;
            }
        }
        let most = 1 << self.dice.between(0, 6);
        let steps = self.dice.below(most);
        self.steps(steps, |_| false);
        self.shared.counts.borrow_mut().crashes_at_event +=
            u64::from(cluster.nodes[osd].counter(name) != before);
        self.crash_by(osd, true);
        self.start_again(osd);
    }

    /// A stop in good order, which a crash cuts short now and then.
    fn stop(&mut self, osd: usize) {
        self.cluster.stop_osd(self.sim, osd);
        let closing = |run: &Self| run.cluster.nodes[osd].stage() == Stage::Close;
        let cut_short = self.dice.one_in(2);
        let steps = if cut_short { self.few_steps() } else { AIM_STEPS_MAX };
        self.steps(steps, |run| !closing(run));
        if self.cluster.nodes[osd].stage() == Stage::Down {
            self.shared.counts.borrow_mut().clean_stops += 1;
        }
        self.crash_now(osd);
        self.start_again(osd);
    }

    /// A flush or some writes fail. The store may go down; then, or after a while, a new life begins.
    fn fail_disk(&mut self, osd: usize) {
        let node = &self.cluster.nodes[osd];
        node.may_fail.set(true);
        let disk = &node.parts.disk;
        if self.dice.one_in(2) {
            disk.fail_next_flush();
        } else {
            let block = u64::from(self.scenario.block_bytes);
            let start = self.dice.below(self.scenario.disk_bytes / block) * block;
            let len = self.dice.between(1, self.scenario.disk_bytes / block / 4) * block;
            disk.fail_writes(start..(start + len).min(self.scenario.disk_bytes));
        }
        self.shared.counts.borrow_mut().disk_failures += 1;
        let wait = self.dice.below(crate::run::nanos(FAILURE_LIMIT));
        self.sim.run_until(Nanos(self.sim.now().0 + wait));
        let node = &self.cluster.nodes[osd];
        node.parts.disk.allow_writes();
        self.crash_now(osd);
        self.start_again(osd);
    }

    /// Steps until `enough`, at most so many.
    fn steps(&mut self, most: u64, enough: impl Fn(&Self) -> bool) {
        for _ in 0..most {
            if enough(self) || self.failed() || !self.sim.step() {
                return;
            }
        }
    }

    /// One, some, or some hundred.
    fn few_steps(&mut self) -> u64 {
        let most = 1 << self.dice.between(0, 11);
        self.dice.between(1, most)
    }

    /// Crashes an OSD and checks what is on its disk.
    fn crash_now(&mut self, osd: usize) {
        let power = !self.dice.one_in(4);
        self.crash_by(osd, power);
    }

    fn crash_by(&mut self, osd: usize, power: bool) {
        if self.failed() {
            return;
        }
        let stage = self.cluster.crash_osd(self.sim, osd, power);
        let replayed = self.check(osd);
        let mut counts = self.shared.counts.borrow_mut();
        counts.crashes += 1;
        match stage {
            Stage::Replay => counts.crashes_in_replay += u64::from(replayed > 0),
            Stage::Open => counts.crashes_in_open += 1,
            Stage::Close => counts.crashes_in_close += 1,
            _ => {}
        }
    }

    fn start_again(&mut self, osd: usize) {
        if self.failed() {
            return;
        }
        self.sim.run_for(Duration::from_micros(self.dice.below(50_000)));
        self.cluster.start_osd(self.sim, osd);
    }

    fn kill_client(&mut self, client: usize) {
        let host = Cluster::client_host(client);
        if self.clients[client].done.get() || !self.sim.is_alive(host) {
            return;
        }
        self.sim.kill(host);
        // What is on its way may still take effect; the next life starts when that is over.
        self.sim.heal();
        self.sim.run_for(CLIENT_FENCE);
        self.clients[client].oracle.borrow_mut().client_died();
        let mut counts = self.shared.counts.borrow_mut();
        counts.client_kills += 1;
        counts.unknown = counts.changes - counts.acknowledged;
        drop(counts);
        self.start_client(client);
    }

    /// Ends every fault that lasts.
    pub fn revive(&mut self) {
        for osd in 0..self.cluster.nodes.len() {
            let node = &self.cluster.nodes[osd];
            node.parts.disk.allow_writes();
            if node.may_fail.get() || node.stage() == Stage::Down {
                self.crash_now(osd);
                self.start_again(osd);
            }
        }
    }
}
