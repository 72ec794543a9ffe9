//! The one task that changes the state: takes decisions in turn, makes them durable, applies them, answers.
//!
//! Invariant: decisions in one entry see each other's effects; nobody is answered before the entry is durable and
//! applied.

use std::rc::Rc;
use std::time::Duration;

use rt::sync::{Either, OneSender, QueueReceiver, select, timeout};
use wire::codec::{Wire, encode_to_bytes};
use wire::types::Epoch;

use super::MonError;
use super::shared::{Proposal, Shared};
use crate::limits::{ENTRY_BYTES_TARGET, LOG_ENTRY_BYTES_MAX, PROPOSALS_PER_ENTRY_MAX};
use crate::log::{Committed, DiskLog, ReplicatedLog};
use crate::state::{Effects, Entry};
use crate::view::View;

/// After this long without a decision the log is sealed.
const IDLE: Duration = Duration::from_secs(1);

pub async fn run(shared: Rc<Shared>, mut log: DiskLog, mut proposals: QueueReceiver<Proposal>) {
    let Some(pass) = shared.gate.enter() else { return };
    loop {
        let next = select(pass.closing(), timeout(&shared.core, IDLE, proposals.recv())).await;
        let result = match next {
            Either::Right(Ok(Some(first))) => commit(&shared, &mut log, first, &mut proposals).await,
            Either::Right(Err(_)) => log.seal().await.map_err(MonError::from),
            Either::Right(Ok(None)) | Either::Left(()) => break,
        };
        if let Err(error) = result {
            shared.fail(error);
            shared.set_stopped();
            return;
        }
    }
    if let Err(error) = log.seal().await {
        shared.fail(error.into());
    }
    shared.set_stopped();
}

/// Commits `first` and what else waits, as one entry.
async fn commit(
    shared: &Shared,
    log: &mut DiskLog,
    first: Proposal,
    proposals: &mut QueueReceiver<Proposal>,
) -> Result<(), MonError> {
    let (entry, waiting) = decide(shared, first, proposals)?;
    if !entry.changes.is_empty() {
        let payload = encode_to_bytes(&entry);
        let index = log.propose(payload).await?;
        let effects = apply_through(shared, log, index).await?;
        shared.publish(effects);
    }
    let epoch = shared.state.borrow().osd_maps.epoch();
    for done in waiting {
        // Whoever went away needs no answer.
        let _: Result<(), Epoch> = done.send(epoch);
    }
    if log.snapshot_due() {
        let state = encode_to_bytes(&*shared.state.borrow());
        log.truncate(log.committed_index(), state).await?;
    }
    Ok(())
}

/// Runs decisions on a copy of the state, each on what the ones before it leave.
fn decide(
    shared: &Shared,
    first: Proposal,
    proposals: &mut QueueReceiver<Proposal>,
) -> Result<(Entry, Vec<OneSender<Epoch>>), MonError> {
    let mut draft = shared.state.borrow().clone();
    let mut entry = Entry { time: shared.now(), changes: Vec::new() };
    let (mut waiting, mut bytes) = (Vec::new(), 0);
    let mut next = Some(first);
    while let Some(Proposal { decide, done }) = next {
        let changes = {
            let live = shared.live.borrow();
            decide(&View { state: &draft, live: &live, now: entry.time })
        };
        let one = Entry { time: entry.time, changes };
        let size = encoded_bytes(&one);
        // Commands and messages are bounded well below this, so that a decision always fits.
        assert!(size <= LOG_ENTRY_BYTES_MAX - ENTRY_BYTES_TARGET, "a decision of {size} bytes");
        draft.apply(&one)?;
        bytes += size;
        entry.changes.extend(one.changes);
        waiting.push(done);
        let full = bytes >= ENTRY_BYTES_TARGET || waiting.len() >= PROPOSALS_PER_ENTRY_MAX;
        next = if full { None } else { proposals.try_recv() };
    }
    Ok((entry, waiting))
}

fn encoded_bytes(entry: &Entry) -> usize {
    let mut writer = wire::codec::Writer::new();
    entry.encode(&mut writer);
    writer.len()
}

/// Applies what the log says, up to `index`.
async fn apply_through(
    shared: &Shared,
    log: &mut DiskLog,
    index: crate::log::LogIndex,
) -> Result<Effects, MonError> {
    let mut effects = Effects::default();
    loop {
        let at = match log.next_committed().await? {
            Committed::Entry { index, payload } => {
                effects |= shared.state.borrow_mut().apply_bytes(payload)?;
                index
            }
            Committed::Snapshot { through, state } => {
                let state = wire::codec::decode_exact("snapshot of the monitor", state);
                *shared.state.borrow_mut() = state.map_err(crate::state::StateError::Decode)?;
                effects |= Effects::ALL;
                through
            }
        };
        if at >= index {
            return Ok(effects);
        }
    }
}
