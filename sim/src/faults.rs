//! What goes wrong in the first phase, and when: between any two steps, and aimed at moments that chance seldom hits.

use std::time::Duration;

use nvme::SimDisk;
use rt::Nanos;
use rt::sim::Sim;

use crate::cluster::{Cluster, MON_HOST};
use crate::disks::Place;
use crate::fs_owners;
use crate::node_store::Stage;
use crate::run::Run;

/// What a killed client sent is answered or gone by then.
const CLIENT_FENCE: Duration = Duration::from_secs(20);
/// Steps after which an aimed crash strikes, aim or not.
pub const AIM_STEPS_MAX: u64 = 30_000;
/// Of a copy of a superblock, the bytes that are in use.
const GARBLED_WITHIN: u64 = 128;
/// A store that was told to fail has done so by then, or the disk is well again.
const FAILURE_LIMIT: Duration = Duration::from_secs(2);

impl Run<'_> {
    /// One fault.
    pub fn fault(&mut self) {
        self.damage();
        let osd = self.any(self.cluster.nodes.len());
        let client = self.any(self.clients.len());
        match self.dice.below(40) {
            0..=7 => self.crash(osd),
            8..=10 => self.crash_in_checkpoint(osd),
            11 | 12 => self.crash_in_replay(osd),
            13 | 14 => self.stop(osd),
            15 => self.fail_disk(osd),
            16 | 32 => self.crash_monitor(),
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
            33..=35 => self.crash_at_answer(osd),
            36 | 37 => self.reset_at_refusal(osd),
            38 | 39 => self.audit_loans(osd),
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
        let disks: Vec<_> = node.parts.disks.all().map(|(_, disk)| disk.clone()).collect();
        let disk = &disks[self.any(disks.len())];
        if self.dice.one_in(2) {
            disk.fail_next_flush();
        } else {
            let (size, block) = (disk.geometry().size, u64::from(disk.geometry().block_size));
            let start = self.dice.below(size / block) * block;
            let len = self.dice.between(1, size / block / 4) * block;
            disk.fail_writes(start..(start + len).min(size));
        }
        self.shared.counts.borrow_mut().disk_failures += 1;
        let wait = self.dice.below(crate::run::nanos(FAILURE_LIMIT));
        self.sim.run_until(Nanos(self.sim.now().0 + wait));
        let node = &self.cluster.nodes[osd];
        node.parts.disks.allow_writes();
        self.crash_now(osd);
        self.start_again(osd);
    }

    /// Steps until `enough`, at most so many.
    pub(crate) fn steps(&mut self, most: u64, enough: impl Fn(&Self) -> bool) {
        for _ in 0..most {
            if enough(self) || self.failed() || !self.sim.step() {
                return;
            }
        }
    }

    /// One, some, or some hundred.
    pub(crate) fn few_steps(&mut self) -> u64 {
        let most = 1 << self.dice.between(0, 11);
        self.dice.between(1, most)
    }

    /// Crashes an OSD and checks what is on its disk.
    pub(crate) fn crash_now(&mut self, osd: usize) {
        let power = !self.dice.one_in(4);
        self.crash_by(osd, power);
    }

    pub(crate) fn crash_by(&mut self, osd: usize, power: bool) {
        if self.failed() {
            return;
        }
        let cluster = self.cluster.clone();
        let node = &cluster.nodes[osd];
        if let Err(problem) = fs_owners::check(node) {
            self.shared.fail(format!("osd.{osd}, as it crashes: {problem}"));
        }
        let vulnerable = if power { Self::vulnerable(node) } else { Vec::new() };
        let stage = cluster.crash_osd(self.sim, osd, power);
        vulnerable.iter().for_each(|copy| self.garble(node.parts.disks.of(copy), copy));
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

    pub(crate) fn start_again(&mut self, osd: usize) {
        if self.failed() {
            return;
        }
        self.sim.run_for(Duration::from_micros(self.dice.below(50_000)));
        self.cluster.start_osd(self.sim, osd);
    }

    /// Power loss of the monitor, half of the time while it writes a superblock.
    fn crash_monitor(&mut self) {
        let cluster = self.cluster.clone();
        let copies = Cluster::mon_superblocks();
        let disk = &cluster.mon_disk;
        if self.dice.one_in(2) {
            let place = copies[self.any(copies.len())].clone();
            self.steps(AIM_STEPS_MAX, |_| disk.is_unsettled(&place));
            let most = 1 << self.dice.between(0, 4);
            let steps = self.dice.below(most);
            self.steps(steps, |_| !disk.is_unsettled(&place));
        }
        let vulnerable: Vec<_> = copies.into_iter().filter(|copy| disk.is_unsettled(copy)).collect();
        cluster.crash_mon(self.sim);
        vulnerable.into_iter().for_each(|copy| self.garble(disk, &Place::main(copy)));
        self.shared.counts.borrow_mut().mon_crashes += 1;
        cluster.start_mon(self.sim);
    }

    /// Power loss may have left a block that was being written unreadable or wrong. That is what its second copy is for.
    fn garble(&mut self, disk: &SimDisk, copy: &Place) {
        if self.dice.one_in(2) {
            return;
        }
        let copy = &copy.range;
        // Checks look at a copy of the disk of which every block can be read: what it holds must be wrong too. One of the
        // bytes is another each time, as two flips of the same bits undo each other.
        let count = self.shared.counts.borrow().copies_garbled;
        disk.corrupt(copy.start + count % GARBLED_WITHIN, u8::MAX);
        disk.corrupt(copy.start + self.dice.below(GARBLED_WITHIN), 1 << self.dice.below(8));
        if self.dice.one_in(2) {
            disk.break_blocks(copy.clone());
        }
        self.shared.counts.borrow_mut().copies_garbled += 1;
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
            node.parts.disks.allow_writes();
            if node.may_fail.get() || node.stage() == Stage::Down {
                self.crash_now(osd);
                self.start_again(osd);
            }
        }
    }
}
