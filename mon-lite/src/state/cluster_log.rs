//! The cluster log: the newest entries of what the monitor, daemons and `ceph log` reported.
//!
//! Invariant: bounded in entries and bytes per entry; versions only grow. Cluster view; pure.

use std::collections::VecDeque;
use std::sync::Arc;

use wire::codec::{DecodeResult, Reader, Wire, Writer, encode_to_bytes};
use wire::msg::{LogEntry, LogPriority};

use crate::limits::{
    CLUSTER_LOG_ADDRS_MAX, CLUSTER_LOG_BYTES_MAX, CLUSTER_LOG_ENTRIES_MAX, CLUSTER_LOG_NAME_BYTES_MAX,
    CLUSTER_LOG_TEXT_BYTES_MAX,
};

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
    /// Of the entries, encoded.
    bytes: usize,
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

    pub(super) fn add(&mut self, entry: LogEntry) {
        self.version += 1;
        self.push(Arc::new(entry));
        while self.entries.len() > CLUSTER_LOG_ENTRIES_MAX || self.bytes > CLUSTER_LOG_BYTES_MAX {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= encode_to_bytes(&*oldest).len();
        }
    }

    fn push(&mut self, entry: Arc<LogEntry>) {
        self.bytes += encode_to_bytes(&*entry).len();
        self.entries.push_back(entry);
    }
}

/// The entry with everything cut to its bound. To be done before an entry is decided on, since others made it.
pub fn bounded(mut entry: LogEntry) -> LogEntry {
    cut(&mut entry.text, CLUSTER_LOG_TEXT_BYTES_MAX);
    cut(&mut entry.channel, CLUSTER_LOG_NAME_BYTES_MAX);
    cut(&mut entry.name.id, CLUSTER_LOG_NAME_BYTES_MAX);
    entry.addrs.0.truncate(CLUSTER_LOG_ADDRS_MAX);
    entry
}

fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end));
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
        if version == u64::MAX {
            return Err(r.error("a number of entries that can grow", version.to_string()));
        }
        let entries: Vec<LogEntry> = r.list()?;
        if u64::try_from(entries.len()).unwrap_or(u64::MAX) > version {
            return Err(r.error(format!("at most {version} entries"), entries.len().to_string()));
        }
        let mut log = Self { version, ..Self::default() };
        entries.into_iter().for_each(|entry| log.push(Arc::new(entry)));
        Ok(log)
    }
}
