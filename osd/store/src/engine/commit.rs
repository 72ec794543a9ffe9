//! The commit path: does what the journal's writer chooses, and passes on what became durable. Nothing here waits for
//! anything but the device, and no task is between a completion and the acknowledgement it allows.

use std::rc::Rc;

use futures_util::future::join_all;
use nvme::{DeviceResult, DmaBuf};
use rt::{Group, LocalBoxFuture};

use super::state::Inner;
use super::writer::{Action, CHECKPOINT_BLOCKS, Waiter};
use crate::check::length;
use crate::fault::Planted;

/// Turns that a group leaves to transactions on their way. Those on one collection take effect one after the other, each in a
/// turn of its own.
const GATHERING_TURNS: u32 = 8;

/// Waits for all of these writes; the first failure, if one failed.
pub(super) async fn all_written(
    mut writes: Vec<LocalBoxFuture<'static, DeviceResult<DmaBuf>>>,
) -> DeviceResult<()> {
    match writes.pop() {
        // Nearly always, and without what waiting for several allocates.
        Some(only) if writes.is_empty() => only.await.map(drop),
        last => {
            join_all(writes.into_iter().chain(last)).await.into_iter().try_for_each(|done| done.map(drop))
        }
    }
}

impl Inner {
    /// Does everything there is to do now. Called after each event that may allow something. A group is left to
    /// [`Self::build_when_wanted`] while transactions are on their way to it, or may be.
    pub fn pump(self: &Rc<Self>) {
        let gathers = self.executing.get() > 0 || self.gathering.get();
        let builds = !gathers || self.background.is_closing();
        self.act(builds);
        if !builds && self.journal.borrow().wants_group() {
            self.group_wanted.notify_one();
        }
    }

    /// A record was queued: a group is wanted, of those that come with it.
    pub fn gather(&self) {
        self.gathering.set(true);
        self.group_wanted.notify_one();
    }

    /// Builds groups, once transactions joined that only need the core to get there: those that a group answered go on
    /// together, as do requests that came together, and the first of them would have a group of its own. It waits for nothing but
    /// its turns in the clients' share, for one if nothing more comes, and for none if a group is full.
    pub async fn build_when_wanted(self: Rc<Self>) {
        let Some(pass) = self.background.enter() else { return };
        while !self.background.is_closing() && self.check_up().is_ok() {
            rt::sync::select(self.group_wanted.notified(), pass.closing()).await;
            for _ in 0..GATHERING_TURNS {
                let before = self.journal.borrow().last_record();
                if self.journal.borrow().fills_group() {
                    break;
                }
                self.core.yield_now().await;
                if self.executing.get() == 0 && self.journal.borrow().last_record() == before {
                    break;
                }
            }
            self.gathering.set(false);
            self.act(true);
        }
        drop(pass);
    }

    fn act(self: &Rc<Self>, builds: bool) {
        while self.check_up().is_ok() {
            let action = self.journal.borrow_mut().select(builds);
            match action {
                Action::Write { group, records, pieces } => self.write_group(group, records, pieces),
                Action::Flush(through) => self.flush_groups(through),
                Action::Idle => break,
            }
        }
        if self.journal.borrow().wants_seal() {
            self.seal_wanted.notify_one();
        }
    }

    fn write_group(self: &Rc<Self>, group: u64, records: u32, pieces: Vec<(u64, DmaBuf)>) {
        let region = self.journal_region();
        let bytes: u64 = pieces.iter().map(|(_, piece)| length(piece)).sum();
        self.counters.groups.add(1);
        self.counters.groups_bare.add(u64::from(records == 0));
        self.counters.journal_bytes_written.add(bytes);
        if pieces.len() > 1 || pieces.first().is_some_and(|(place, _)| *place == 0) {
            self.counters.journal_wraps.add(1);
        }
        let writes: Vec<_> =
            pieces.into_iter().map(|(place, piece)| self.device.write(region.start + place, piece)).collect();
        let (this, since) = (Rc::clone(self), self.core.now());
        self.spawn(Group::Commit, "journal write", async move {
            match all_written(writes).await {
                Ok(()) => {
                    this.counters.group_write_ns.add(this.core.now().0.saturating_sub(since.0));
                    let early = this.journal.borrow_mut().written(group);
                    this.tell_durable(early);
                    this.pump();
                }
                Err(error) => this.fail(format!("the journal cannot be written: {error}")),
            }
        });
    }

    fn flush_groups(self: &Rc<Self>, through: u64) {
        let needed = self.device.geometry().volatile_cache && !self.options.fault.is(Planted::FlushSkipped);
        if !needed {
            self.groups_durable(through);
            return;
        }
        self.counters.flushes.add(1);
        let flush = self.device.flush();
        let (this, since) = (Rc::clone(self), self.core.now());
        self.spawn(Group::Commit, "journal flush", async move {
            match flush.await {
                Ok(()) => {
                    this.counters.flush_ns.add(this.core.now().0.saturating_sub(since.0));
                    this.groups_durable(through);
                    this.pump();
                }
                Err(error) => this.fail(format!("the device cannot be flushed: {error}")),
            }
        });
    }

    fn groups_durable(self: &Rc<Self>, through: u64) {
        let waiters = self.journal.borrow_mut().flushed(through);
        self.tell_durable(waiters);
        self.overwriting_allowed();
        self.progress.notify_all();
    }

    fn tell_durable(&self, waiters: Vec<Waiter>) {
        let now = self.core.now();
        for Waiter { tell, at, pass } in waiters {
            self.counters.stage_durable_ns.add(now.0.saturating_sub(at.0));
            // A caller that dropped its future is not told; its transaction is durable all the same.
            drop(tell.send(Ok(())));
            drop(pass);
        }
    }

    /// The journal may allow more overwriting than before: free what can be, write deferred blocks when they are
    /// many.
    pub fn overwriting_allowed(self: &Rc<Self>) {
        let record = self.journal.borrow().overwritable();
        self.space.allow(record, self.traffic.mark());
        self.release_ready();
        let due = self.deferred.bytes() >= self.options.deferred_batch_bytes;
        if due && self.deferred.any_up_to(self.in_place_up_to()) {
            let this = Rc::clone(self);
            self.spawn(Group::Commit, "deferred writes", async move { this.write_deferred().await });
        }
    }

    /// Gives freed space back that nobody reads or writes any more.
    pub fn release_ready(self: &Rc<Self>) {
        let unread =
            |mark| self.traffic.ended_before(mark) || self.options.fault.is(Planted::ReleasedUnderRead);
        let settled =
            |extent| !self.deferred.overlaps(extent) || self.options.fault.is(Planted::ReleasedUnderDeferred);
        let free = |mark, extent| unread(mark) && settled(extent);
        let extents = self.space.take_ready(free);
        if extents.is_empty() {
            return;
        }
        if !(self.options.discard && self.device.geometry().discard) {
            for extent in extents {
                self.counters.released_bytes.add(extent.len);
                self.space.give_back(extent);
            }
            self.progress.notify_all();
            return;
        }
        let discards: Vec<_> =
            extents.iter().map(|extent| self.device.discard(extent.start, extent.len)).collect();
        self.space.discarding(&extents);
        let this = Rc::clone(self);
        self.spawn(Group::Background, "discard", async move {
            // Advice: that the device did not take it changes nothing.
            let refused = join_all(discards).await.iter().filter(|r| r.is_err()).count();
            if refused > 0 {
                log::debug!("{refused} discards were refused");
            }
            for extent in extents {
                this.counters.released_bytes.add(extent.len);
                this.space.discarded(extent);
            }
            this.progress.notify_all();
        });
    }

    /// Waits until `record` is durable.
    pub async fn wait_durable(&self, record: u64) -> crate::StoreResult<()> {
        while self.journal.borrow().durable_record() < record {
            self.check_up()?;
            self.progress.notified().await;
        }
        self.check_up()
    }

    /// Waits until everything up to `record` may be overwritten, with a bare group if need be.
    pub async fn wait_overwritable(self: &Rc<Self>, record: u64, keep_blocks: u64) -> crate::StoreResult<()> {
        while self.journal.borrow().overwritable() < record {
            self.check_up()?;
            self.journal.borrow_mut().want_bare(keep_blocks);
            self.pump();
            if !self.journal.borrow().has_room_for_bare(keep_blocks) {
                self.checkpoint_wanted.notify_one();
            }
            if self.journal.borrow().overwritable() >= record {
                break;
            }
            self.progress.notified().await;
        }
        self.check_up()
    }

    /// Waits until what was freed so far is free, but for what is being read or discarded.
    pub async fn settle_frees(self: &Rc<Self>) -> crate::StoreResult<()> {
        // The store does not close under what is written here.
        let Some(_pass) = self.gate.enter() else { return Err(crate::StoreError::Down("closed".into())) };
        self.check_open()?;
        let record = self.journal.borrow().last_record();
        self.wait_overwritable(record, CHECKPOINT_BLOCKS).await?;
        self.write_deferred().await;
        self.release_ready();
        Ok(())
    }

    /// Spawns a task of this store and counts it.
    pub fn spawn(&self, group: Group, name: &'static str, task: impl Future<Output = ()> + 'static) {
        self.counters.tasks.add(1);
        drop(self.core.spawn(group, name, task));
    }

    /// Seals the tail when the slice goes idle. Runs until the store closes.
    pub async fn seal_when_idle(self: Rc<Self>) {
        let Some(pass) = self.background.enter() else { return };
        while !self.background.is_closing() && self.check_up().is_ok() {
            if !self.journal.borrow().wants_seal() {
                rt::sync::select(self.seal_wanted.notified(), pass.closing()).await;
                continue;
            }
            let before = self.journal.borrow().last_record();
            rt::sync::select(self.core.sleep(self.options.seal_after), pass.closing()).await;
            let idle = {
                let journal = self.journal.borrow();
                journal.wants_seal() && journal.last_record() == before
            };
            // The reserve is not spent on it: a checkpoint may need it, and makes room.
            let room = self.journal.borrow().has_room_for_bare(CHECKPOINT_BLOCKS);
            if idle && room {
                self.journal.borrow_mut().want_bare(CHECKPOINT_BLOCKS);
                self.pump();
            }
            if idle && !room {
                self.checkpoint_wanted.notify_one();
            }
            if self.journal.borrow().wants_seal() {
                rt::sync::select(self.progress.notified(), pass.closing()).await;
            }
        }
        drop(pass);
    }
}
