//! [`Snapshot`]: reading the store as it was.

use std::rc::Rc;

use bytes::Bytes;

use crate::kv::sim::memtable::{Memtable, Resolving};
use crate::kv::sim::run::Run;
use crate::kv::{KvResult, KvView, ScanLimit, ScanPage};

/// What a [`KvView`] of this store holds.
pub(super) struct Snapshot {
    pub(super) at: u64,
    pub(super) memtables: Vec<Rc<Memtable>>,
    pub(super) runs: Rc<Vec<Rc<Run>>>,
}

impl Snapshot {
    pub(super) async fn value(&self, key: &Bytes) -> KvResult<Option<Bytes>> {
        let mut resolving = Resolving::default();
        for memtable in &self.memtables {
            if !resolving.is_done() {
                memtable.resolve(key, self.at, &mut resolving);
            }
        }
        for run in self.runs.iter() {
            if !resolving.is_done() {
                run.resolve(key, self.at, &mut resolving).await?;
            }
        }
        Ok(resolving.value(key))
    }

    async fn next_key(&self, from: &Bytes) -> KvResult<Option<Bytes>> {
        let mut least = self.memtables.iter().filter_map(|memtable| memtable.next_key(from)).min();
        for run in self.runs.iter() {
            if let Some(key) = run.next_key(from).await?
                && least.as_ref().is_none_or(|least| key < *least)
            {
                least = Some(key);
            }
        }
        Ok(least)
    }

    pub(super) async fn scan(&self, start: Bytes, end: Bytes, limit: ScanLimit) -> KvResult<ScanPage> {
        let mut page = ScanPage::default();
        let mut bytes = 0;
        let mut from = start;
        while let Some(key) = self.next_key(&from).await?.filter(|key| end.is_empty() || *key < end) {
            if let Some(value) = self.value(&key).await? {
                if limit.is_reached(page.entries.len(), bytes) {
                    page.more = true;
                    break;
                }
                bytes += key.len() + value.len();
                page.entries.push((key.clone(), value));
            }
            from = [&key[..], &[0]].concat().into();
        }
        Ok(page)
    }
}

/// The snapshot of a view of this store; it may outlive the borrow.
pub(super) fn snapshot_of(view: &KvView) -> Snapshot {
    let Some(snapshot) = view.get::<Snapshot>() else { panic!("a view of another store") };
    Snapshot { at: snapshot.at, memtables: snapshot.memtables.clone(), runs: Rc::clone(&snapshot.runs) }
}
