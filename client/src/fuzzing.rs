//! One entry per kind of answer that is decoded here, and the machines against peers that send anything, for fuzzers and
//! for replaying their corpora.
//!
//! Each entry takes any bytes and panics when an invariant breaks: a result holds more than its input; a request is
//! answered twice; something is sent on a link that is not there; maps go back. What is refused is fine.

mod maps;
mod monitor;
mod objecter;
mod results;

use bytes::Bytes;
use wire::msgr2::{Data, Message, MessageHeader};

/// Name of an entry, and the function that takes the bytes of one test case.
pub type Target = (&'static str, fn(&[u8]));

/// All entries.
pub const fn targets() -> &'static [Target] {
    TARGETS
}

static TARGETS: &[Target] = &[
    ("client_results", results::all),
    ("client_maps", maps::follow),
    ("client_objecter", objecter::history),
    ("client_monitor", monitor::history),
];

/// Sound test cases for the entry of this name; none for some.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    match name {
        "client_results" => results::seeds(),
        "client_maps" => maps::seeds(),
        "client_objecter" => objecter::seeds(),
        "client_monitor" => monitor::seeds(),
        _ => Vec::new(),
    }
}

/// The bytes of a test case as choices; zeroes after its end.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// At most 255 bytes, with their length before them.
    fn bytes(&mut self) -> Bytes {
        let length = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Bytes::copy_from_slice(bytes)
    }
}

/// A message as a peer may send it.
fn message(kind: u16, version: u16, tid: u64, front: Bytes, data: Bytes) -> Message {
    let header = MessageHeader { tid, kind, priority: 1, version, compat_version: 1, data_offset: 0 };
    Message { header, front, middle: Bytes::new(), data: Data::from(data) }
}
