//! One entry per decoder of what the daemon keeps or is told, for fuzzers and for replaying their corpora.
//!
//! Each entry takes any bytes and panics when an invariant breaks: a decoder panics; encoding what was decoded and
//! decoding that again does not give the same; what is remembered of the maps is told to peers with gaps. What is
//! refused is fine. Requests are in `pg`, messages in `wire`.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use store::{CollectionId, MemStore, Op, Transaction};
use uuid::Uuid;
use wire::types::Epoch;

use crate::maps::Maps;
use crate::scrub;
use crate::superblock::{self, Identity, Remembered};
use crate::tell;

/// Name of an entry, and the function that takes the bytes of one test case.
pub type Target = (&'static str, fn(&[u8]));

/// All entries.
pub const fn targets() -> &'static [Target] {
    TARGETS
}

static TARGETS: &[Target] = &[
    ("osd_identity", identity),
    ("osd_scrub", scrubbed),
    ("osd_superblock", remembered),
    ("osd_tell", tell::fuzz_arguments),
];

const OWN: Identity = Identity { fsid: Uuid::from_u128(5), whoami: 1, osd_uuid: Uuid::from_u128(7) };

/// Whose store it is.
fn identity(input: &[u8]) {
    if let Ok(found) = Identity::decode(Bytes::copy_from_slice(input)) {
        assert_eq!(Identity::decode(found.encode()).ok(), Some(found));
    }
}

/// What is known of a group's scrubs.
fn scrubbed(input: &[u8]) {
    if let Ok(known) = scrub::Known::decode(Bytes::copy_from_slice(input)) {
        assert_eq!(scrub::Known::decode(known.encode()).ok(), Some(known));
    }
}

/// The meta collection: u8 number of increments, each with its epoch (u32) and length (u8); then the full map.
fn remembered(input: &[u8]) {
    let Some((count, mut rest)) = input.split_first() else {
        return;
    };
    let mut entries = BTreeMap::new();
    for _ in 0..*count {
        let Some((head, after)) = rest.split_first_chunk::<5>() else {
            break;
        };
        let (value, after) = after.split_at(usize::from(head[4]).min(after.len()));
        entries.insert(Bytes::copy_from_slice(&head[..4]), Bytes::copy_from_slice(value));
        rest = after;
    }
    let store = MemStore::new(1 << 30);
    if let Err(error) = now(superblock::open(&store, OWN)) {
        panic!("an empty store is taken: {error}");
    }
    let (collection, object) = (CollectionId::META, superblock::object("osdmap"));
    let full = Bytes::copy_from_slice(rest);
    let ops = vec![
        Op::Write { collection, object: object.clone(), offset: 0, data: vec![full.clone()] },
        Op::OmapSet { collection, object, entries },
    ];
    if let Err(error) = store.apply(&Transaction { ops }) {
        panic!("{error}");
    }
    let Ok(Remembered { map, full: found, increments }) = now(superblock::open(&store, OWN)) else {
        return;
    };
    assert_eq!(found, full);
    let newest = map.epoch;
    let maps = Maps::new(map, found, increments);
    for have in [0, 1, newest.0 / 2, newest.0.saturating_sub(1), newest.0, u32::MAX] {
        let Some(message) = maps.message_since(Epoch(have)) else {
            continue;
        };
        let mut at = have;
        for epoch in message.incrementals.keys() {
            assert_eq!(epoch.0, at + 1, "no gap");
            at = epoch.0;
        }
        assert!(at == newest.0 || message.full.contains_key(&newest));
    }
}

/// Futures on the memory store are ready after a turn or two.
fn now<T>(future: impl Future<Output = T>) -> T {
    const TURNS_MAX: usize = 16;
    let mut future = std::pin::pin!(future);
    for _ in 0..TURNS_MAX {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
    }
    panic!("the memory store never waits");
}

/// Sound test cases for the entry of this name; none for some.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    let epoch = Epoch(3);
    let map = wire::osdmap::OsdMap { epoch, ..wire::osdmap::OsdMap::default() };
    let full = wire::codec::encode_to_bytes(&map);
    match name {
        "osd_identity" => vec![OWN.encode().to_vec()],
        "osd_scrub" => scrub::samples().iter().map(|known| known.encode().to_vec()).collect(),
        "osd_superblock" => {
            vec![[&[2][..], &[0, 0, 0, 2, 1, 9], &[0, 0, 0, 3, 1, 9], &full].concat()]
        }
        "osd_tell" => [
            r#"{"prefix":"bench","count":1,"size":"4096"}"#,
            r#"{"prefix":"config set","var":"x","val":["a","b"]}"#,
        ]
        .map(|text| text.as_bytes().to_vec())
        .into(),
        _ => Vec::new(),
    }
}
