//! Recent writes by request id, so that one sent again after a reconnect is answered, not executed.
//!
//! Invariant: holds the newest [`DUPLICATES_MIN`] writes of its group (all, if there were fewer).

use std::collections::{BTreeMap, VecDeque};

use wire::types::{EVersion, RequestId};

use crate::limits::DUPLICATES_MIN;
use crate::log_entry::{LogEntry, OpReturn};

/// How a write was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its version in the group.
    pub version: EVersion,
    /// Version told to the client.
    pub user_version: u64,
    /// Result told to the client.
    pub result: i32,
    /// Per-op results, only if the request asked for them.
    pub returns: Vec<OpReturn>,
}

/// The index.
#[derive(Debug, Default)]
pub struct Duplicates {
    by_request: BTreeMap<RequestId, Recorded>,
    oldest_first: VecDeque<RequestId>,
}

impl Duplicates {
    /// How `reqid` was answered, if it is remembered.
    pub fn get(&self, reqid: &RequestId) -> Option<&Recorded> {
        self.by_request.get(reqid)
    }

    /// Remembers a write; forgets the oldest if there are too many.
    pub fn insert(&mut self, entry: &LogEntry) {
        let recorded = Recorded {
            version: entry.version,
            user_version: entry.user_version,
            result: entry.result,
            returns: entry.returns.clone(),
        };
        if self.by_request.insert(entry.reqid, recorded).is_none() {
            self.oldest_first.push_back(entry.reqid);
        }
        while self.oldest_first.len() > DUPLICATES_MIN {
            if let Some(oldest) = self.oldest_first.pop_front() {
                self.by_request.remove(&oldest);
            }
        }
    }

    /// Forgets a write that the store refused. It is among the newest, so the search from the end is short.
    pub fn remove(&mut self, reqid: &RequestId) {
        self.by_request.remove(reqid);
        if let Some(at) = self.oldest_first.iter().rposition(|one| one == reqid) {
            self.oldest_first.remove(at);
        }
    }

    /// Writes remembered.
    pub fn len(&self) -> usize {
        self.by_request.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.by_request.is_empty()
    }
}
