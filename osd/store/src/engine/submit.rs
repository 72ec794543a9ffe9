//! The life of a transaction: its turn, loading, staging, reading what is overwritten in part, admission, data to new
//! space, and the one moment in which it takes effect.
//!
//! Invariant: from the choice of its number to the record in the queue nothing is awaited, so records take effect, are
//! numbered and join groups in one order, and nobody sees half of one.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

use allocator::{HybridAllocator, Reservation};
use rt::sync::{OneReceiver, OneSender, oneshot};
use rt::{Group, Nanos};

use super::admit::Admitted;
use super::blocks::Blocks;
use super::counters::Count;
use super::cuts::Cut;
use super::known_sums::KnownSums;
use super::load::Unread;
use super::needs::Bases;
use super::overwrite::Overwrite;
use super::packing::Squeezed;
use super::plan::Plan;
use super::sequencer::Turn;
use super::state::{Inner, Purpose};
use super::writer::Waiter;
use crate::check;
use crate::checksum::Checksum;
use crate::object_store::{BlockSums, Outcome, StoreError, StoreResult, Submitted};
use crate::shard::Place;
use crate::transaction::Transaction;
use crate::types::{AccessHints, ObjectId};

/// What a plan waits for before it takes effect.
struct Prepared {
    /// Blocks of which a part stays, and checksums of those that stay of chunks, by object of the plan.
    kept: Vec<Blocks>,
    squeezed: Vec<Squeezed>,
    admitted: Admitted,
    reservation: Reservation<HybridAllocator>,
}

impl Inner {
    /// See the seam.
    pub fn submit(
        self: &Rc<Self>,
        transaction: Transaction,
        hints: AccessHints,
        sums: BlockSums,
    ) -> Submitted {
        let pass = match self.accept(&transaction) {
            Ok(pass) => pass,
            Err(error) => {
                let (readable, durable) = (Outcome::Known(Err(error.clone())), Outcome::Known(Err(error)));
                return Submitted { readable, durable };
            }
        };
        let (tell, durable) = oneshot();
        let durable = self.outcome(durable);
        let mut waiter = Some(Waiter { tell, at: self.core.now(), pass: Some(pass) });
        if self.overwrite_at_once(&transaction, hints, &sums, &mut waiter) {
            self.counters.transactions.add(1);
            return Submitted { readable: Outcome::Known(Ok(())), durable };
        }
        let (tell, readable) = oneshot();
        let readable = self.outcome(readable);
        // The place in line is taken here, not when the task first runs.
        let turn = self.sequencer.enter(transaction.collections());
        self.executing.set(self.executing.get() + 1);
        let this = Rc::clone(self);
        self.spawn(Group::Client, "transaction", async move {
            this.run(transaction, (hints, sums), turn, tell, waiter).await;
        });
        Submitted { readable, durable }
    }

    fn outcome(self: &Rc<Self>, receiver: OneReceiver<StoreResult<()>>) -> Outcome {
        let this = Rc::clone(self);
        Outcome::Later(Box::pin(async move { answer(&this, receiver).await }))
    }

    fn accept(&self, transaction: &Transaction) -> StoreResult<rt::sync::Pass> {
        self.check_open()?;
        if self.purpose != Purpose::Serve {
            return Err(StoreError::Invalid("the store is open for reading only".into()));
        }
        check::check_transaction(transaction, self.options.object_bytes_max)?;
        self.gate.enter().ok_or_else(|| StoreError::Down("closed".into()))
    }

    async fn run(
        self: Rc<Self>,
        transaction: Transaction,
        (hints, sums): (AccessHints, BlockSums),
        mut turn: Turn,
        readable: OneSender<StoreResult<()>>,
        mut waiter: Option<Waiter>,
    ) {
        let mut at = self.core.now();
        // Not in its turn, where those behind it would wait for its wait and then for theirs.
        if self.memory_short.get() {
            self.wait_for_memory().await;
        }
        turn.come().await;
        self.count_stage(&self.counters.stage_turn_ns, &mut at);
        let result = self.execute(&transaction, (hints, &sums), &mut waiter, &mut at).await;
        drop(turn);
        self.executing.set(self.executing.get() - 1);
        match &result {
            Ok(()) => self.counters.transactions.add(1),
            Err(_) => self.counters.transactions_refused.add(1),
        }
        // Whoever dropped a future does not want to know.
        drop(readable.send(result.clone()));
        // It is in the queue if the transaction took effect.
        if let (Some(waiter), Err(error)) = (waiter, result) {
            drop(waiter.tell.send(Err(error)));
        }
    }

    /// Does everything up to the moment in which the transaction takes effect.
    pub(super) async fn execute(
        self: &Rc<Self>,
        transaction: &Transaction,
        (hints, sums): (AccessHints, &[u32]),
        waiter: &mut Option<Waiter>,
        at: &mut Nanos,
    ) -> StoreResult<()> {
        self.check_up()?;
        if let Some(usual) = Overwrite::of(transaction, sums)
            && let ControlFlow::Break(done) = self.overwrite(usual, hints, waiter, at).await
        {
            return done;
        }
        let mut moves_leftovers = true;
        let mut waited = Duration::ZERO;
        loop {
            self.check_up()?;
            let bases = self.bases(transaction).await?;
            let mut plan = self.plan(&bases, transaction, moves_leftovers)?;
            plan.keep = hints.keep;
            plan.known = KnownSums::new(transaction, sums);
            self.count_stage(&self.counters.stage_load_ns, at);
            let prepared = self.prepare(&plan, &mut waited, at).await;
            if prepared.is_ok() && !self.is_newest(&bases, &plan) {
                continue;
            }
            let ready = prepared.and_then(|Prepared { kept, squeezed, admitted, reservation }| {
                Ok((admitted, self.assemble_blocks(&plan, &kept, squeezed, reservation)?))
            });
            let (admitted, (assembled, buffers)) = match ready {
                // What would only move stays where it is then.
                Err(error) if plan.moves => {
                    log::debug!("what would only move stays where it is: {error}");
                    moves_leftovers = false;
                    continue;
                }
                ready => ready.inspect_err(|error| self.unreadable(error))?,
            };
            let data_done = self.write_data(buffers);
            if plan.fresh_bytes > self.options.large_write_bytes {
                // The record of a large write follows its data, so that nobody else's group waits for it.
                while !data_done.get() {
                    self.check_up()?;
                    self.progress.notified().await;
                }
                if !self.is_newest(&bases, &plan) {
                    continue;
                }
            }
            self.check_up()?;
            if let Some(moved) = assembled.moved {
                self.count_moved(moved);
            }
            let reserved = admitted.spend();
            waiter.iter_mut().for_each(|waiter| waiter.at = *at);
            self.take_effect(plan, assembled, data_done, reserved, waiter.take());
            self.gather();
            return Ok(());
        }
    }

    /// Everything that a plan has to wait for. `waited` is how long admission was waited for in vain.
    async fn prepare(
        self: &Rc<Self>,
        plan: &Plan,
        waited: &mut Duration,
        at: &mut Nanos,
    ) -> StoreResult<Prepared> {
        let kept = self.read_kept(plan).await;
        self.count_stage(&self.counters.stage_read_ns, at);
        let kept = kept?;
        let squeezed = self.squeeze(plan, &kept).await;
        self.count_stage(&self.counters.stage_compress_ns, at);
        let since = self.core.now();
        let admitted = self.admit(plan.demand(), *waited).await;
        if admitted.is_err() {
            *waited += Duration::from_nanos(self.core.now().0.saturating_sub(since.0));
        }
        let reserved = match admitted {
            Ok(admitted) => self.reserve_space(plan).await.map(|reservation| (admitted, reservation)),
            Err(error) => Err(error),
        };
        self.count_stage(&self.counters.stage_admit_ns, at);
        let (admitted, reservation) = reserved?;
        Ok(Prepared { kept, squeezed, admitted, reservation })
    }

    /// Whether nothing that the plan was made with changed since.
    fn is_newest(&self, bases: &Bases, plan: &Plan) -> bool {
        bases.are_newest() && plan.collections_seen.is_none_or(|seen| seen == self.collections_version.get())
    }

    /// Counts the time since `at`, which becomes now, as a stage's.
    pub(super) fn count_stage(&self, stage: &Count, at: &mut Nanos) {
        let now = self.core.now();
        stage.add(now.0.saturating_sub(at.0));
        *at = now;
    }

    /// Reads the blocks of which a part stays, and takes checksums of what stays of chunks.
    async fn read_kept(self: &Rc<Self>, plan: &Plan) -> StoreResult<Vec<Blocks>> {
        // Of each object by itself: clones have blobs at the same address, and want other blocks of them.
        let mut kept = Vec::with_capacity(plan.objects.len());
        for object in &plan.objects {
            let needed = object.reads(self.block);
            let mut blocks = Blocks::default();
            if !needed.is_empty() {
                self.come_to_modify(&needed.places).await;
                blocks = self.read_blocks(&object.object, &needed, AccessHints::default()).await?;
            }
            let mut cuts = object.cut_off().peekable();
            if cuts.peek().is_some() {
                for cut in cuts {
                    self.sum_cut(&object.object, cut, &mut blocks).await?;
                }
                blocks.keep_only(&needed.places);
            }
            kept.push(blocks);
        }
        Ok(kept)
    }

    /// Takes a checksum of each block that stays of a chunk; the blocks go again, as a transaction may cut many chunks. Of one
    /// that does not match, or cannot be read, nothing verifies the blocks but those in memory, which were when they came.
    async fn sum_cut(self: &Rc<Self>, object: &ObjectId, cut: &Cut, blocks: &mut Blocks) -> StoreResult<()> {
        let mut read = BTreeMap::new();
        // They are there if a part of another block of the chunk stays.
        if cut.kept.iter().any(|place| blocks.stored_block(place).is_none()) {
            self.come_to_modify(&cut.kept).await;
            read = match self.read_verified(object, &cut.kept, AccessHints::default()).await {
                Ok(read) => read,
                Err(Unread::Failed(error)) => return Err(error),
                Err(Unread::Damaged(error) | Unread::Unreadable(error)) => {
                    self.unreadable(&error);
                    let in_memory = |place: &Place| {
                        Some((place.address, self.kept_block(place, AccessHints::default())?))
                    };
                    cut.kept.iter().filter_map(in_memory).collect()
                }
            };
        }
        for place in &cut.kept {
            let (kind, found) = (place.checksum.kind(), read.get(&place.address));
            let found = found.or_else(|| blocks.stored_block(place));
            let checksum = found.map_or_else(|| Checksum::unknown(kind), |block| Checksum::of(kind, block));
            blocks.note_sum(place, checksum);
        }
        drop(read);
        self.core.yield_now().await;
        Ok(())
    }

    /// Counts blocks that are read to be modified, and waits until none of them is on its way to the device.
    async fn come_to_modify(&self, places: &[Place]) {
        self.counters.blocks_read_to_modify.add(u64::try_from(places.len()).unwrap_or(0));
        while let Some(writing) = self.blocked_by_write(places) {
            writing.wait().await;
        }
    }
}

pub(super) async fn answer(inner: &Inner, receiver: OneReceiver<StoreResult<()>>) -> StoreResult<()> {
    match receiver.await {
        Ok(result) => result,
        Err(_) => {
            let reason = inner.down.borrow().clone().unwrap_or_else(|| "the store was dropped".into());
            Err(StoreError::Down(reason))
        }
    }
}
