//! [`Plan`]: what a life of a store does, step by step, and what each collection shows after each of its
//! transactions. Made before the life begins, with the memory store as oracle; the same in every run.

use std::collections::BTreeMap;

use futures_util::FutureExt;
use store::{CollectionId, MemStore, Op, StoreResult, Transaction, suite};

use crate::dump::{Dump, dump};

/// The transactions of one collection, or of the halves it has at times, and the states they lead through.
#[derive(Clone, Debug)]
pub struct Track {
    /// The collections.
    pub ids: Vec<CollectionId>,
    /// What made it what it is at first.
    pub before: Vec<Transaction>,
    /// In the order of their submission.
    pub transactions: Vec<Transaction>,
    /// What each collection shows before the first, after the first, and so on.
    pub states: Vec<State>,
}

/// What the collections of a track show; none where one does not exist.
pub type State = Vec<Option<Dump>>;

/// One step of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Submits that transaction of that track.
    Submit {
        /// Number of the track.
        track: usize,
        /// Number of its transaction.
        transaction: usize,
    },
    /// Waits until at most so many transactions are not durable.
    Wait(usize),
    /// Long enough for the tail to be sealed.
    Idle,
    /// Long enough for what is done in the background now and then.
    Rest,
    /// A checkpoint now.
    Checkpoint,
    /// Closes the store and opens it again.
    Reopen,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The device is formatted first.
    pub formats: bool,
    /// The collections, each with everything that is ever submitted to it.
    pub tracks: Vec<Track>,
    /// For each track, the transactions that are known to be durable once the store is mounted.
    pub durable_at_mount: Vec<usize>,
    /// In order.
    pub steps: Vec<Step>,
}

/// Makes a plan.
pub struct Builder {
    plan: Plan,
    oracles: Vec<MemStore>,
    depth: usize,
}

const ORACLE_BYTES: u64 = 1 << 40;

fn oracle(transactions: &[Transaction]) -> MemStore {
    let store = MemStore::new(ORACLE_BYTES);
    for transaction in transactions {
        let applied = store.apply(transaction);
        assert!(applied.is_ok(), "it was accepted before: {applied:?}");
    }
    store
}

fn state(store: &MemStore, ids: &[CollectionId]) -> State {
    let dumped = |id: &CollectionId| match dump(store, *id).now_or_never() {
        Some(Ok(dump)) => dump,
        other => panic!("memory answers at once: {other:?}"),
    };
    ids.iter().map(dumped).collect()
}

impl Builder {
    /// For a blank device, which is formatted first.
    pub fn new() -> Self {
        let plan = Plan { formats: true, tracks: vec![], durable_at_mount: vec![], steps: vec![] };
        Self { plan, oracles: vec![], depth: 1 }
    }

    /// For a device on which each collection of `tracks` is in one of the states from number `low` to number `high`:
    /// the store goes on from `high`, and shows nothing older once it was mounted.
    pub fn going_on(tracks: &[Track], low: &[usize], high: &[usize]) -> Self {
        let mut builder = Self::new();
        builder.plan.formats = false;
        for (track, (low, high)) in tracks.iter().zip(low.iter().zip(high)) {
            let mut before = track.before.clone();
            before.extend_from_slice(&track.transactions[..*low]);
            let transactions = track.transactions[*low..*high].to_vec();
            let states = track.states[*low..=*high].to_vec();
            let all: Vec<_> = before.iter().chain(&transactions).cloned().collect();
            builder.oracles.push(oracle(&all));
            builder.plan.durable_at_mount.push(transactions.len());
            builder.plan.tracks.push(Track { ids: track.ids.clone(), before, transactions, states });
        }
        builder
    }

    /// So many transactions may be on their way from now on.
    pub fn depth(&mut self, depth: usize) {
        self.depth = depth;
    }

    /// Begins a track of several collections, among which transactions are submitted in an order that the store keeps.
    pub fn together(&mut self, ids: Vec<CollectionId>) {
        self.oracles.push(oracle(&[]));
        let states = vec![vec![None; ids.len()]];
        self.plan.tracks.push(Track { ids, before: vec![], transactions: vec![], states });
        self.plan.durable_at_mount.push(0);
    }

    /// Submits a transaction of one track, if the oracle accepts it.
    pub fn submit(&mut self, ops: Vec<Op>) -> StoreResult<()> {
        let transaction = Transaction { ops };
        let Some(id) = transaction.ops.first().map(Op::collection) else { return Ok(()) };
        let track = self.track(id);
        let tracks = &mut self.plan.tracks;
        let ids = &tracks[track].ids;
        assert!(transaction.collections().all(|id| ids.contains(&id)), "one track to a transaction");
        self.oracles[track].apply(&transaction)?;
        let shown = state(&self.oracles[track], ids);
        tracks[track].transactions.push(transaction);
        tracks[track].states.push(shown);
        let number = tracks[track].transactions.len() - 1;
        self.plan.steps.push(Step::Submit { track, transaction: number });
        self.plan.steps.push(Step::Wait(self.depth - 1));
        Ok(())
    }

    /// A step that submits nothing.
    pub fn step(&mut self, step: Step) {
        self.plan.steps.push(step);
    }

    /// What a collection's oracle holds now.
    pub fn oracle(&mut self, id: CollectionId) -> &MemStore {
        let track = self.track(id);
        &self.oracles[track]
    }

    /// The plan.
    pub fn build(self) -> Plan {
        self.plan
    }

    fn track(&mut self, id: CollectionId) -> usize {
        let known = self.plan.tracks.iter().position(|track| track.ids.contains(&id));
        known.unwrap_or_else(|| {
            self.together(vec![id]);
            self.plan.tracks.len() - 1
        })
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Plan {
    /// Transactions submitted by the steps, by the kind of their ops: to see that none is missing.
    pub fn kinds(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for track in &self.tracks {
            for op in track.transactions.iter().flat_map(|transaction| &transaction.ops) {
                *kinds.entry(suite::kind(op)).or_default() += 1;
            }
        }
        kinds
    }
}
