//! Repairing a store that nobody uses: checks it, makes what the check says, and checks again, until there is nothing left that
//! it can put right. All of it happens in memory, over what the key-value store has; then one checkpoint makes it true.
//!
//! So a crash at any moment leaves either the store as it was, with its journal, or the repaired one. What is read stays
//! unless [`RepairOptions::discards`]: what has no owner is freed only if everything that may own something can be read.

use std::rc::Rc;

use allocator::{Allocator, BitmapAllocator, Extent};

use super::super::apply::Mode;
use super::super::free_list::Replacement;
use super::super::open::OpenError;
use super::super::state::Inner;
use super::Check;
use super::fixes::{Fixes, Loss, Repaired};
use crate::limits;
use crate::object_store::{FsckLevel, StoreError, StoreResult, Watch};

/// How often the store is checked at most. What depends on what else was repaired comes one round later: shards, then shares,
/// then omaps, then what pools use.
const ROUNDS_MAX: usize = 12;

/// What a repair may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairOptions {
    /// What cannot be read, or be right, is given up: objects without a readable onode, ranges without a readable shard, all
    /// but one of those who claim a block.
    pub discards: bool,
}

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// What was put right; bounded by `limits::FSCK_FINDINGS_MAX` for each round.
    pub repaired: Vec<Repaired>,
    /// What was given up: all of it.
    pub lost: Vec<Loss>,
}

/// A store that is mounted to be repaired.
pub struct Repairing {
    inner: Rc<Inner>,
}

impl Repairing {
    pub(in super::super) fn new(inner: Rc<Inner>) -> Self {
        Self { inner }
    }

    /// Repairs what can be repaired, and closes the store. `owned` is the space that the key-value store's file system has.
    /// After an error nothing has changed.
    pub async fn run(
        self,
        owned: &[Extent],
        options: RepairOptions,
        watch: Rc<dyn Watch>,
    ) -> StoreResult<RepairReport> {
        let repaired = self.inner.repair(owned, options, watch).await;
        if let Err(error) = &repaired {
            // What is half repaired in memory must not become durable.
            self.inner.fail(format!("it cannot be repaired: {error}"));
        }
        let closed = Rc::clone(&self.inner).close().await;
        let report = repaired?;
        closed.map(|()| report)
    }
}

impl Inner {
    async fn repair(
        self: &Rc<Self>,
        owned: &[Extent],
        options: RepairOptions,
        watch: Rc<dyn Watch>,
    ) -> StoreResult<RepairReport> {
        let mut report = RepairReport::default();
        for foreign in self.not_lent(owned) {
            let detail =
                format!("{foreign} belongs to the key-value store's file system, and was not lent to it");
            report.repaired.push(Repaired { kind: "loan", detail });
            self.space.lend(foreign);
        }
        let mut bytes = 0;
        for _ in 0..ROUNDS_MAX {
            let mut check = Check::new(self, Rc::clone(&watch), Some(Fixes::new(options.discards)));
            check.run(FsckLevel::Metadata).await?;
            if check.is_cut {
                return Err(StoreError::Invalid("it was ended before it was over".into()));
            }
            let fixes = check.fixes.take().unwrap_or_default();
            report.repaired.extend(fixes.repaired);
            report.lost.extend(fixes.lost);
            bytes += fixes.bytes;
            if bytes > limits::REPAIR_BYTES_MAX || report.lost.len() > limits::REPAIR_LOSSES_MAX {
                let reason = format!("too much for one repair: {bytes} bytes, {} losses", report.lost.len());
                return Err(StoreError::TooLarge(reason));
            }
            if fixes.items.is_empty() {
                self.settle_repair(check, &mut report).await?;
                return Ok(report);
            }
            let record = self.journal.borrow().last_record();
            let applied = self.apply(record, &fixes.items, Mode::Replay);
            applied.map_err(|error| StoreError::Io(format!("the repair contradicts itself: {error}")))?;
        }
        Err(StoreError::Io(format!("there is something to repair after {ROUNDS_MAX} rounds")))
    }

    /// The free list follows from what has an owner; then all of it becomes durable, unless there is nothing.
    async fn settle_repair(self: &Rc<Self>, check: Check, report: &mut RepairReport) -> StoreResult<()> {
        let problem = self.free_list_problem.borrow().clone();
        if let Some(problem) = problem.as_ref().filter(|_| check.has_unreadable) {
            return Err(StoreError::Io(format!(
                "the free list is damaged ({problem}), and objects that cannot be read may own space: without giving them \
                 up (--discard) nobody knows what is free"
            )));
        }
        let mut should = check.rebuilt.clone();
        if check.has_unreadable {
            keep_used(&mut should, &check.bitmap);
        }
        match problem {
            Some(problem) => report.repaired.push(Repaired { kind: "free-list", detail: problem }),
            None => {
                for (kind, a, b, what) in [
                    ("extent-not-allocated", &should, &check.bitmap, "is used and was marked free"),
                    ("extent-leak", &check.bitmap, &should, "was marked used by nobody"),
                ] {
                    let extents = check.only_in(a, b).await.into_iter();
                    report
                        .repaired
                        .extend(extents.map(|extent| Repaired { kind, detail: format!("{extent} {what}") }));
                }
            }
        }
        if report.repaired.is_empty() {
            return Ok(());
        }
        let stored = match check.stored_free_list().await {
            Ok((stored, _, of)) => Some((stored, of)),
            Err(OpenError::Kv(error)) => return Err(self.kv_failed(&error)),
            Err(_) => None,
        };
        drop(check);
        self.checkpoint_with(Some(Replacement { stored, should })).await
    }
}

/// Marks what is used in `other`.
fn keep_used(bitmap: &mut BitmapAllocator, other: &BitmapAllocator) {
    for index in 0..bitmap.pages() {
        let (Ok(mut page), Ok(of_other)) = (bitmap.page(index), other.page(index)) else {
            panic!("page {index} is in both bitmaps")
        };
        page.iter_mut().zip(of_other.iter()).for_each(|(free, of_other)| *free &= of_other);
        let loaded = bitmap.load_page(index, &page);
        assert!(loaded.is_ok(), "a page of the same bitmap: {loaded:?}");
    }
}
