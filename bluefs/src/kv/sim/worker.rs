//! The one background task of a [`super::SimKv`]: persists memtables in order, compacts runs.

use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use bytes::Bytes;

use crate::changes::Changes;
use crate::fs::Bell;
use crate::kv::sim::Shared;
use crate::kv::sim::manifest::Manifest;
use crate::kv::sim::memtable::{Change, Memtable, RangeDelete, Resolving};
use crate::kv::sim::run::{Entry, Run, write_run};
use crate::kv::{Amount, ENTRY_BYTES, KvError, KvResult};

/// What to do next.
enum Action {
    Persist(Rc<Memtable>),
    Compact(Rc<Vec<Rc<Run>>>),
    Wait,
    End,
}

/// Runs until the store is closed, dropped or failed.
pub(super) async fn run(store: Weak<Shared>, changes: Rc<Changes>) {
    loop {
        let seen = changes.count();
        // Held only while working, so that dropping the last handle ends the store.
        let Some(shared) = store.upgrade() else { return };
        let result = match select(&shared) {
            Action::Persist(memtable) => persist(&shared, &memtable).await,
            Action::Compact(runs) => compact(&shared, &runs).await,
            Action::End => return,
            Action::Wait => {
                drop(shared);
                changes.since(seen).await;
                continue;
            }
        };
        let mut state = shared.state.borrow_mut();
        state.working = false;
        state.compact &= result.is_ok();
        match result {
            Ok(()) => {}
            Err(error @ KvError::Full(_)) => state.full = Some(error),
            Err(error) => state.failed = Some(error),
        }
        let wanted = state.headroom_wanted;
        drop(state);
        if let Some(wanted) = wanted {
            // It fails as whatever uses the file system next does.
            let _ = shared.keep(wanted);
        }
        shared.measure();
        if let Some(wanted) = wanted {
            shared.compact_if_scarce(wanted);
        }
        shared.changes.note();
    }
}

/// Writes the file system's log anew whenever that is half full, so that no commit has to; until the store is closed.
pub(super) async fn rewrite_logs(store: Weak<Shared>, bell: Bell) {
    while bell.next().await {
        let Some(shared) = store.upgrade().filter(|shared| !shared.state.borrow().closing) else { return };
        shared.rewriting.set(true);
        let rewritten = shared.fs.rewrite_log().await;
        shared.rewriting.set(false);
        shared.changes.note();
        if let Err(error) = rewritten {
            // Whoever uses the file system next is told.
            log::debug!("key-value store: {error}");
            return;
        }
    }
}

fn select(shared: &Shared) -> Action {
    let mut state = shared.state.borrow_mut();
    if state.closing || state.failed.is_some() {
        return Action::End;
    }
    let action = match state.waiting.back() {
        _ if state.full.is_some() => Action::Wait,
        // A run keeps only the newest of a key, so all of it must be what views may show.
        Some(oldest) if oldest.last() > state.visible => Action::Wait,
        Some(oldest) => Action::Persist(Rc::clone(oldest)),
        None if state.runs.len() > shared.options.runs_max || state.compact => {
            Action::Compact(Rc::clone(&state.runs))
        }
        None => Action::Wait,
    };
    state.working = !matches!(action, Action::Wait);
    action
}

/// Takes the next run number.
fn next_run(shared: &Shared) -> u64 {
    let mut state = shared.state.borrow_mut();
    state.next_run += 1;
    state.next_run - 1
}

async fn persist(shared: &Shared, memtable: &Memtable) -> KvResult<()> {
    let (entries, ranges) = memtable.condensed();
    let removed = removed(&shared.state.borrow().runs, &entries, &ranges);
    let number = next_run(shared);
    let run = Rc::new(write_run(&shared.fs, &shared.dir, number, &entries, &ranges).await?);
    let old = Rc::clone(&shared.state.borrow().runs);
    let runs: Vec<Rc<Run>> = std::iter::once(run).chain(old.iter().cloned()).collect();
    install(shared, runs).await?;
    let mut state = shared.state.borrow_mut();
    state.waiting.pop_back();
    state.memtables_persisted += 1;
    if let Some(removed) = removed {
        state.turns.removed(removed);
    }
    Ok(())
}

/// About what these changes remove of what is in these runs, values of single keys left out; none if they remove nothing.
fn removed(runs: &[Rc<Run>], entries: &[Entry], ranges: &[RangeDelete]) -> Option<Amount> {
    let single = entries.iter().filter(|(_, _, change)| matches!(change, Change::Delete));
    let singles: u64 = single.clone().map(|(key, _, _)| key.len() as u64 + ENTRY_BYTES).sum();
    let within = |range: &RangeDelete| runs.iter().map(|run| run.bytes_within(range)).sum::<u64>();
    let bytes = singles + ranges.iter().map(within).sum::<u64>();
    (single.count() + ranges.len() > 0).then_some(Amount { keys: 0, bytes })
}

/// Makes these the runs, on the device first.
async fn install(shared: &Shared, runs: Vec<Rc<Run>>) -> KvResult<()> {
    let manifest = {
        let state = shared.state.borrow();
        let numbers = runs.iter().map(|run| run.number).collect();
        // Above every number in any run, so that a later life's changes are newer.
        Manifest { runs: numbers, next_run: state.next_run, last_seq: state.inserted }
    };
    manifest.write(&shared.fs, &shared.dir).await?;
    shared.state.borrow_mut().runs = Rc::new(runs);
    Ok(())
}

async fn compact(shared: &Shared, runs: &[Rc<Run>]) -> KvResult<()> {
    {
        let mut state = shared.state.borrow_mut();
        state.turns.begin(shared.core.now());
        state.compact = false;
    }
    let mut keys: BTreeMap<Bytes, ()> = BTreeMap::new();
    for run in runs {
        let mut from = Bytes::new();
        while let Some(key) = run.next_key(&from).await? {
            from = [&key[..], &[0]].concat().into();
            keys.insert(key, ());
        }
    }
    // All runs go into one: nothing older is left, so deletions and operands end here.
    let mut entries: Vec<Entry> = Vec::new();
    for key in keys.into_keys() {
        let mut resolving = Resolving::default();
        for run in runs {
            if !resolving.is_done() {
                run.resolve(&key, u64::MAX, &mut resolving).await?;
            }
        }
        if let Some(value) = resolving.value(&key) {
            entries.push((key, 0, Change::Put(value)));
        }
    }
    let number = next_run(shared);
    let run = Rc::new(write_run(&shared.fs, &shared.dir, number, &entries, &[]).await?);
    install(shared, vec![run]).await?;
    for old in runs {
        old.removed_when_unused(&shared.fs, &shared.dir);
    }
    let mut state = shared.state.borrow_mut();
    state.turns.end(shared.core.now());
    state.compactions += 1;
    Ok(())
}
