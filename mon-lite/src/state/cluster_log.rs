//! The cluster log: the newest entries of what the monitor, daemons and `ceph log` reported.
//!
//! Invariant: bounded in entries and bytes per entry; versions only grow. Cluster view; pure.

use std::collections::VecDeque;
use std::sync::Arc;

use wire::codec::{DecodeResult, Reader, Wire, Writer};
use wire::msg::{LogEntry, LogPriority};

use crate::limits::{CLUSTER_LOG_ENTRIES_MAX, CLUSTER_LOG_TEXT_BYTES_MAX};

//= ceph 16.2 cluster log: tags and names of the priorities
const PRIORITIES: [(LogPriority, &str, &str); 5] = [
    (LogPriority::DEBUG, "[DBG]", "debug"),
    (LogPriority::INFO, "[INF]", "info"),
    (LogPriority::SECURITY, "[SEC]", "sec"),
    (LogPriority::WARNING, "[WRN]", "warn"),
    (LogPriority::ERROR, "[ERR]", "error"),
];

/// The tag of a priority in a printed line.
pub fn tag(priority: LogPriority) -> &'static str {
    PRIORITIES.iter().find(|(other, ..)| *other == priority).map_or("[???]", |(_, tag, _)| tag)
}

/// The priority of a word in commands and subscriptions.
pub fn priority_named(word: &str) -> Option<LogPriority> {
    PRIORITIES.iter().find(|(_, _, name)| *name == word).map(|(priority, ..)| *priority)
}

/// The line that `ceph log last` prints.
pub fn line(entry: &LogEntry) -> String {
    let LogEntry { name, rank, stamp, seq, priority, text, channel, .. } = entry;
    let stamp = crate::render::timestamp(*stamp);
    format!("{stamp} {name} ({rank}) {seq} : {channel} {} {text}", tag(*priority))
}

/// The newest entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterLog {
    /// Shared by the drafts of the state that decisions are made on.
    entries: VecDeque<Arc<LogEntry>>,
    /// Number of entries ever added: the version of the newest.
    version: u64,
}

impl ClusterLog {
    /// Version of the newest entry, from 1; 0 if there never was one.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Entries with their versions, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &LogEntry)> {
        let first = self.version + 1 - u64::try_from(self.entries.len()).unwrap_or(u64::MAX);
        self.entries
            .iter()
            .enumerate()
            .map(move |(offset, entry)| (first + u64::try_from(offset).unwrap_or(u64::MAX), &**entry))
    }

    pub(super) fn add(&mut self, mut entry: LogEntry) {
        bound(&mut entry.text);
        self.version += 1;
        self.entries.push_back(Arc::new(entry));
        while self.entries.len() > CLUSTER_LOG_ENTRIES_MAX {
            self.entries.pop_front();
        }
    }
}

fn bound(text: &mut String) {
    if text.len() > CLUSTER_LOG_TEXT_BYTES_MAX {
        let end = (0..=CLUSTER_LOG_TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
}

impl Wire for ClusterLog {
    const BYTES_MIN: usize = 12;
    fn encode(&self, w: &mut Writer) {
        w.u64(self.version);
        w.count(self.entries.len());
        self.entries.iter().for_each(|entry| w.put(&**entry));
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        let version = r.u64()?;
        let entries: VecDeque<_> = r.list()?.into_iter().map(Arc::new).collect();
        if u64::try_from(entries.len()).unwrap_or(u64::MAX) > version {
            return Err(r.error(format!("at most {version} entries"), entries.len().to_string()));
        }
        Ok(Self { entries, version })
    }
}
