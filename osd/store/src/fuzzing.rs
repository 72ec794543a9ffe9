//! One entry per format that the engine keeps on a device, for fuzzers and for replaying their corpora.
//!
//! Each entry takes any bytes and panics when an invariant breaks: a decoder panics or gives more than its input holds;
//! encoding what was decoded and decoding that again does not give the same; damage of a journal or a log gives
//! something that was never written. What is refused is fine.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::OnceLock;

use allocator::Extent;
use allocator::limits::PAGE_BYTES;
use bytes::Bytes;
use uuid::Uuid;

use crate::checksum::{Checksum, ChecksumKind, Checksums};
use crate::codec::DecodeResult;
use crate::compression::{Algorithm, Compressibility};
use crate::devices::{Part, Parts};
use crate::engine::pg_log::{self, LogChange, PgLog, Window};
use crate::engine::{apply, checkpoint, free_list};
use crate::export::{self, ExportHeader};
use crate::fault::Fault;
use crate::journal::format::{self, HEADER_BYTES, Header};
use crate::journal::item::Item;
use crate::journal::ring::Ring;
use crate::journal::scan::{Start, scan};
use crate::keys::{self, ObjectKey};
use crate::label;
use crate::onode::Onode;
use crate::shard::{Blob, Packed, Shard};
use crate::share::Share;
use crate::superblock::Superblock;
use crate::transaction::Transaction;
use crate::types::{CollectionId, LogVersion};

/// Name of an entry, and the function that takes the bytes of one test case.
pub type Target = (&'static str, fn(&[u8]));

/// All entries.
pub const fn targets() -> &'static [Target] {
    TARGETS
}

static TARGETS: &[Target] = &[
    ("store_transaction", transaction),
    ("store_export", export::fuzzing::export),
    ("store_label", label::fuzzing::label),
    ("store_segment_table", label::fuzzing::segment_table),
    ("store_superblock", superblock),
    ("store_onode", onode),
    ("store_shard", shard),
    ("store_share", share),
    ("store_keys", object_keys),
    ("store_checkpoint", checkpoint_record),
    ("store_collection", collection),
    ("store_bitmap_page", bitmap_page),
    ("store_journal_group", journal_group),
    ("store_journal_scan", journal_scan),
    ("store_journal_damage", journal_damage),
    ("store_pg_log", placement_log),
    ("store_pg_log_damage", placement_log_damage),
];

const BLOCK: u64 = 512;
const RING_BYTES: usize = 16 * 512;
/// Pieces of damage in one test case: all together stay below what crc32c detects for certain.
const DAMAGES_MAX: usize = 3;

pub(crate) fn fixed_point<T: Debug + PartialEq>(
    input: Bytes,
    decode: impl Fn(Bytes) -> DecodeResult<T>,
    encode: impl Fn(&T) -> Bytes,
) -> Option<T> {
    let length = input.len();
    let value = decode(input).ok()?;
    let encoded = encode(&value);
    assert!(encoded.len() <= length, "{length} bytes became {}: {value:?}", encoded.len());
    match decode(encoded) {
        Ok(again) => assert_eq!(again, value),
        Err(error) => panic!("{value:?} was encoded to something that is refused: {error}"),
    }
    Some(value)
}

/// A superblock, as it is and with a checksum that fits, so that its fields are looked at.
fn superblock(input: &[u8]) {
    let written = sample_superblock().encode().len();
    let mut sealed = input.to_vec();
    let sealed_len = input.len().max(written);
    sealed.resize(sealed_len, 0);
    let (content, checksum) = sealed.split_at_mut(sealed_len - 4);
    checksum.copy_from_slice(&crc32c::crc32c(content).to_le_bytes());
    for bytes in [Bytes::copy_from_slice(input), Bytes::from(sealed)] {
        let encode = |superblock: &Superblock| Bytes::from(superblock.encode());
        let Some(found) = fixed_point(bytes, Superblock::decode, encode) else {
            continue;
        };
        // What mounting does next.
        let [first, second] = Superblock::places(found.window, found.block.into());
        assert!(first < second && found.formatted <= found.window, "two copies fit the window");
        let next = Superblock {
            generation: found.generation + 1,
            epoch: found.epoch + 1,
            epoch_start: found.epoch_start + 1,
            ..found
        };
        let fits = |region| next.parts.has_place(region, next.window);
        assert!(fits(next.journal) && fits(next.pg_log) && next.kv.end() <= next.window);
        assert!(next.fast().is_none_or(fits));
    }
}

fn transaction(input: &[u8]) {
    fixed_point(Bytes::copy_from_slice(input), Transaction::decode, Transaction::encode);
}

/// The value of one object's onode, as it is and with the checksum of its key, where that is in most of them.
fn onode(input: &[u8]) {
    let object = sample_object();
    let key = keys::onode(&object);
    let mut sealed = input.to_vec();
    if let Some(checksum) = sealed.get_mut(1..5) {
        checksum.copy_from_slice(&crc32c::crc32c(&key).to_le_bytes());
    }
    for value in [input, &sealed] {
        let decode = |value| Onode::decode(value, &key, &object);
        let found = fixed_point(Bytes::copy_from_slice(value), decode, |onode: &Onode| onode.encode(&key));
        let Some(onode) = found else { continue };
        assert!(onode.encode(&key).len() <= onode.encoded_bytes_max());
        onode.statistics();
        onode.memory_bytes();
    }
}

/// Bytes of a block of shards.
const SHARD_BLOCK: u64 = 4096;

/// A shard: its number, then the value.
fn shard(input: &[u8]) {
    const SPAN: u32 = 128 << 10;
    let Some((number, value)) = input.split_first() else {
        return;
    };
    let number = u32::from(*number % 4);
    let decode = |bytes| Shard::decode(bytes, number, SPAN, SHARD_BLOCK);
    let Some(mut shard) =
        fixed_point(Bytes::copy_from_slice(value), decode, |shard: &Shard| shard.encode(SHARD_BLOCK))
    else {
        return;
    };
    assert!(shard.encode(SHARD_BLOCK).len() <= shard.encoded_bytes_max());
    let (allocated, stored) = (shard.allocated(SHARD_BLOCK), shard.stored());
    assert_eq!(shard.extents(SHARD_BLOCK).map(|extent| extent.len).sum::<u64>(), allocated);
    let start = u64::from(number) * u64::from(SPAN);
    let mapped = (0..u64::from(SPAN) / SHARD_BLOCK)
        .filter_map(|block| shard.place(start + block * SHARD_BLOCK, SHARD_BLOCK))
        .map(|place| assert!(shard.owns(place.address, place.birth, SHARD_BLOCK)))
        .count();
    assert_eq!(mapped == 0, shard.pieces.is_empty());
    // Every block is used, so nothing is freed; and joining changes nothing that reads see.
    assert_eq!(shard.trim(SHARD_BLOCK), []);
    shard.join();
    assert_eq!((shard.allocated(SHARD_BLOCK), shard.stored()), (allocated, stored));
    assert_eq!(shard.validate(number, SPAN, SHARD_BLOCK), Ok(()));
    // Without one of its pieces it gives back what only that one used, and still holds together.
    let one = shard.pieces.at(input.len() % shard.pieces.len().max(1)).map(|(at, _)| at);
    if let Some(at) = one {
        shard.pieces.remove(at);
        for (blob, chunk, stays) in shard.cut_chunks(SHARD_BLOCK) {
            let own: Vec<_> = stays.into_iter().map(|index| (index, chunk.checksum)).collect();
            let found = shard.blobs.position(blob).and_then(|at| shard.blobs.at_mut(at));
            found.into_iter().for_each(|(_, blob)| blob.checksums.split(chunk.first, &own));
        }
        let freed: u64 = shard.trim(SHARD_BLOCK).iter().map(|extent| extent.len).sum();
        assert_eq!(shard.allocated(SHARD_BLOCK) + freed, allocated);
        assert_eq!(shard.validate(number, SPAN, SHARD_BLOCK), Ok(()));
    }
}

fn share(input: &[u8]) {
    if let Some(share) = fixed_point(Bytes::copy_from_slice(input), Share::decode, Share::encode) {
        assert!(share.encode().len() <= share.encoded_bytes_max());
        let used = (0..=share.uses.len() as u64).filter(|number| share.has(*number)).count();
        assert_eq!(share.blocks(), used as u64);
    }
}

/// A key of any kind: what it names has this key.
fn object_keys(input: &[u8]) {
    let key = Bytes::copy_from_slice(input);
    match keys::parse_object(&key) {
        Ok(ObjectKey::Onode(object)) => assert_eq!(keys::onode(&object), key),
        Ok(ObjectKey::Shard(onode, number)) => {
            assert_eq!(keys::shard(&onode, number), key);
            assert!(matches!(keys::parse_object(&onode), Ok(ObjectKey::Onode(_))), "{onode:?}");
        }
        Err(_) => {}
    }
    if let Ok(id) = keys::parse_collection(&key) {
        assert_eq!(keys::collection(id), key);
    }
    if let Ok(pool) = keys::parse_statistics(&key) {
        assert_eq!(keys::statistics(pool), key);
    }
    let (first_reap, after_reaps) = keys::all_reaps();
    if let (true, Ok(id)) = ((first_reap..after_reaps).contains(&key), keys::parse_reap(&key)) {
        assert_eq!(keys::reap(id), key);
    }
    if let (Ok(user), Ok(id)) = (keys::omap_user_key(&key), keys::omap_id(&key)) {
        assert!(user.len() < key.len());
        let again = keys::omap_entry(id, &user);
        assert_eq!(keys::omap_user_key(&again), Ok(user));
    }
    if let Ok((birth, address)) = keys::parse_share(&key) {
        assert_eq!(keys::share(birth, address), key);
    }
    if let Ok(page) = keys::parse_bitmap_page(&key) {
        assert_eq!(keys::parse_bitmap_page(&keys::bitmap_page(1, page)), Ok(page));
    }
    assert!(keys::after(&key) > key);
    assert!(keys::after_prefix(input).is_none_or(|end| end > key));
}

fn checkpoint_record(input: &[u8]) {
    let decode = checkpoint::CheckpointRecord::decode;
    fixed_point(Bytes::copy_from_slice(input), decode, checkpoint::CheckpointRecord::encode);
}

fn collection(input: &[u8]) {
    if let Ok((bits, meta)) = apply::decode_collection(Bytes::copy_from_slice(input)) {
        assert!(bits <= 32 && meta.len() < input.len());
    }
}

/// A bitmap page: position of the checkpoint, bits. A chunk: bits. And any one flipped bit of what is stored.
fn bitmap_page(input: &[u8]) {
    drop(free_list::decode_page(Bytes::copy_from_slice(input)));
    drop(free_list::decode_chunk(Bytes::copy_from_slice(input)));
    let Some((position, bits)) = input.split_first_chunk::<8>() else {
        return;
    };
    let mut page = Box::new([0; PAGE_BYTES]);
    page.iter_mut().zip(bits).for_each(|(to, from)| *to = *from);
    let stored = free_list::encode_page(u64::from_le_bytes(*position), &page[..]);
    let damaged = one_bit_flipped(&stored, position);
    assert!(free_list::decode_page(damaged).is_err(), "a byte of a page is not covered");
    assert_eq!(free_list::decode_page(stored), Ok(page));
    if let Some(chunk) = bits.first_chunk() {
        let stored = free_list::encode_chunk(chunk);
        let damaged = one_bit_flipped(&stored, position);
        assert!(free_list::decode_chunk(damaged).is_err(), "a byte of a chunk is not covered");
        assert_eq!(free_list::decode_chunk(stored), Ok(*chunk));
    }
}

fn one_bit_flipped(stored: &Bytes, place: &[u8; 8]) -> Bytes {
    let mut damaged = stored.to_vec();
    let at = usize::from(u16::from_le_bytes([place[0], place[2]])) % damaged.len();
    damaged[at] ^= 1 << (place[1] & 7);
    Bytes::from(damaged)
}

/// Header and body of a group, and the same written again with a checksum that fits.
fn journal_group(input: &[u8]) {
    let Ok((header, _)) = Header::decode(Bytes::copy_from_slice(input)) else {
        return;
    };
    let body = Bytes::copy_from_slice(input.get(HEADER_BYTES..).unwrap_or_default());
    let Ok(body_bytes) = u32::try_from(body.len()) else {
        return;
    };
    let header = Header { body: body_bytes, ..header };
    let (group, checksum) = header.seal_group(&body);
    assert_eq!(Header::decode(Bytes::from(group.clone())), Ok((header, checksum)));
    assert_eq!(Header::checksum(&group, &body), checksum);
    let Ok(records) = format::decode_records(&header, body.clone()) else {
        return;
    };
    let mut again = Vec::new();
    for record in &records {
        let encoded = format::encode_record(record);
        assert!(encoded.len() <= record.iter().map(Item::encoded_bytes_max).sum());
        format::push_record(&mut again, &encoded);
    }
    // There is more than one way to tell of the same change, as older versions did.
    assert_eq!(format::decode_records(&header, Bytes::from(again)), Ok(records));
}

/// A ring of groups made of the input, each with a body of its own: u8 fields to change, u16 length, body. All of
/// them have checksums that fit, so that the rules of the chain are what is tested.
fn journal_scan(mut input: &[u8]) {
    let start = journal_start();
    let mut ring = vec![0; RING_BYTES];
    let mut next = start;
    let mut written = Vec::new();
    while let [tweak, low, high, rest @ ..] = input {
        let length = usize::from(u16::from_le_bytes([*low, *high])) % 2048;
        let (body, rest) = rest.split_at(length.min(rest.len()));
        input = rest;
        let header = header_of(&next, next.group - 1, body, u32::from(*tweak >> 4 & 1));
        let header = match tweak & 15 {
            1 => Header { epoch: header.epoch + 1, ..header },
            2 => Header { epoch: header.epoch - 1, ..header },
            3 => Header { group: header.group + 1, ..header },
            4 => Header { previous: header.previous ^ 1, ..header },
            5 => Header { position: header.position + 1, ..header },
            6 => Header { first_record: header.first_record + 1, ..header },
            7 => Header { store: header.store ^ 1, ..header },
            8 => Header { durable_through: u64::MAX, ..header },
            9 => Header { body: u32::MAX, ..header },
            10 => Header { records: u32::MAX, ..header },
            11 => Header { seal: true, ..header },
            _ => header,
        };
        let end = put(&mut ring, &mut next, &header, body);
        if end - start.position > RING_BYTES as u64 {
            break;
        }
        written.push(header);
    }
    let Ok(groups) = scan(&Ring::new(Bytes::from(ring)), &start, Fault::default()) else {
        return;
    };
    let mut expected = start;
    for group in &groups {
        let header = &group.header;
        let joins = (header.group, header.position, header.epoch, header.previous, header.first_record)
            == (expected.group, expected.position, expected.epoch, expected.previous, expected.record);
        assert!(joins && group.records.len() == header.records as usize, "{header:?} joins {expected:?}");
        expected.group += 1;
        expected.position = group.end;
        expected.previous = group.checksum;
        expected.record += u64::from(header.records);
    }
    assert!(groups.iter().zip(&written).all(|(group, written)| group.header == *written));
}

/// A sound journal that is damaged: what is accepted is a prefix of what was written, and at least what a later group
/// proves to have been durable, or the mount is refused.
fn journal_damage(input: &[u8]) {
    static WRITTEN: OnceLock<(Vec<u8>, Vec<Header>)> = OnceLock::new();
    let start = journal_start();
    let (ring, headers) = WRITTEN.get_or_init(|| {
        let (mut ring, mut next, mut headers) = (vec![0; RING_BYTES], start, Vec::new());
        for (number, payload) in [10, 1000, 700, 2000, 500, 900].into_iter().enumerate() {
            let item = Item::Put(Bytes::from_static(b"k"), Bytes::from(vec![7; payload]));
            let mut body = Vec::new();
            format::push_record(&mut body, &format::encode_record(&[item]));
            // Each says that all but the one before it were durable.
            let header = header_of(&next, start.group + (number as u64).saturating_sub(2), &body, 1);
            put(&mut ring, &mut next, &header, &body);
            headers.push(header);
        }
        (ring, headers)
    });
    let damaged = Ring::new(Bytes::from(damage(ring, input)));
    if let Ok(groups) = scan(&damaged, &start, Fault::default()) {
        assert!(groups.len() <= headers.len());
        assert!(groups.iter().zip(headers).all(|(group, header)| group.header == *header));
        assert!(groups.iter().all(|group| group.records.iter().map(Vec::len).sum::<usize>() == 1));
    }
}

/// Flips a bit, zeroes the rest of a block, or copies a block: kind, block, place in it (u16), more.
fn damage(sound: &[u8], input: &[u8]) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    let block = BLOCK as usize;
    let blocks = bytes.len() / block;
    for piece in input.chunks_exact(5).take(DAMAGES_MAX) {
        let start = usize::from(piece[1]) % blocks * block;
        let at = start + usize::from(u16::from_le_bytes([piece[2], piece[3]])) % block;
        match piece[0] % 4 {
            0 => bytes[at] ^= 1 << (piece[4] & 7),
            1 => bytes[start..start + block].fill(0),
            2 => bytes[at..start + block].fill(0),
            _ => {
                let from = usize::from(piece[4]) % blocks * block;
                bytes[start..start + block].copy_from_slice(&sound[from..from + block]);
            }
        }
    }
    bytes
}

fn journal_start() -> Start {
    Start {
        store: Uuid::from_u128(5),
        position: 3 * RING_BYTES as u64 + 2 * BLOCK,
        group: 40,
        previous: 9,
        record: 100,
        epoch: 2,
        epoch_start: 40,
        block: BLOCK,
    }
}

fn header_of(next: &Start, durable_through: u64, body: &[u8], records: u32) -> Header {
    Header {
        seal: false,
        epoch: next.epoch,
        group: next.group,
        durable_through,
        position: next.position,
        first_record: next.record,
        records,
        body: u32::try_from(body.len()).unwrap_or(u32::MAX),
        previous: next.previous,
        store: format::store_tag(next.store),
    }
}

/// Writes a group into the ring; gives the position after it.
fn put(ring: &mut [u8], next: &mut Start, header: &Header, body: &[u8]) -> u64 {
    let (mut group, checksum) = header.seal_group(body);
    let size = ring.len() as u64;
    group.resize(group.len().next_multiple_of(BLOCK as usize), 0);
    for (byte, at) in group.iter().zip(next.position..) {
        ring[(at % size) as usize] = *byte;
    }
    next.position += group.len() as u64;
    next.group += 1;
    next.record += u64::from(header.records);
    next.previous = checksum;
    next.position
}

/// A ring and a window of it: tail and head in blocks, then the ring's bytes.
fn placement_log(input: &[u8]) {
    let [tail, head, bytes @ ..] = input else {
        return;
    };
    let mut ring = bytes.to_vec();
    ring.resize(ring.len().next_multiple_of(BLOCK as usize), 0);
    let window = Window { tail: u64::from(*tail) * BLOCK, head: u64::from(*head) * BLOCK };
    if let Ok(changes) = pg_log::read(&Ring::new(Bytes::from(ring)), window, BLOCK) {
        let carried: usize = changes
            .iter()
            .map(|change| match change {
                LogChange::Entry(_, _, entry) => entry.len() + 29,
                LogChange::Drop(_) => 13,
            })
            .sum();
        assert!(carried <= bytes.len(), "{carried} bytes out of {}", bytes.len());
    }
}

/// A sound log that is damaged: everything in the window was durable, so it reads whole or is refused.
fn placement_log_damage(input: &[u8]) {
    static WRITTEN: OnceLock<(Vec<u8>, Window, Vec<LogChange>)> = OnceLock::new();
    let (ring, window, changes) = WRITTEN.get_or_init(|| {
        let mut log = PgLog::new(Extent::new(0, RING_BYTES as u64), BLOCK, Window { tail: 0, head: 0 });
        let (mut ring, mut window, mut all) = (vec![0; RING_BYTES], Window { tail: 0, head: 0 }, Vec::new());
        for round in 0..4u8 {
            let id = CollectionId { pool: 1, seed: 0 };
            let version = LogVersion { epoch: 1, version: u64::from(round) };
            let changes = [LogChange::Entry(id, version, Bytes::from(vec![round; 300])), LogChange::Drop(id)];
            let (chunk, after) = log.chunk(&changes, &BTreeMap::new());
            if let Some((position, bytes)) = chunk {
                let at = position as usize % RING_BYTES;
                ring[at..at + bytes.len()].copy_from_slice(&bytes);
            }
            log.advance(after);
            window = after;
            all.extend(changes);
        }
        (ring, window, all)
    });
    let damaged = Ring::new(Bytes::from(damage(ring, input)));
    if let Ok(found) = pg_log::read(&damaged, *window, BLOCK) {
        assert_eq!(&found, changes);
    }
}

fn sample_superblock() -> Superblock {
    Superblock {
        generation: 3,
        features: crate::superblock::Features::default(),
        store: Uuid::from_u128(77),
        window: 1 << 30,
        formatted: 1 << 30,
        block: 4096,
        journal_block: 512,
        epoch: 9,
        epoch_start: 1000,
        key_id: 0,
        parts: Parts::default(),
        journal: Extent::new(4096, 1 << 20),
        pg_log: Extent::new(2 << 20, 1 << 20),
        kv: Extent::new(4 << 20, 8 << 20),
    }
}

/// One op of each kind.
fn sample_transaction(object: crate::ObjectId) -> Transaction {
    use crate::transaction::Op;

    let collection = CollectionId { pool: 1, seed: 3 };
    let text = Bytes::from_static;
    let pair = || BTreeMap::from([(text(b"k"), text(b"v"))]);
    let ops = vec![
        Op::CreateCollection { collection, bits: 2 },
        Op::SetCollectionMeta { collection, value: text(b"m") },
        Op::Touch { collection, object: object.clone() },
        Op::SetHints { collection, object: object.clone(), hints: Compressibility::Compressible.into() },
        Op::Write { collection, object: object.clone(), offset: 5, data: vec![text(b"ab"), text(b"c")] },
        Op::Zero { collection, object: object.clone(), offset: 1, len: 2 },
        Op::Truncate { collection, object: object.clone(), size: 9 },
        Op::Defragment { collection, object: object.clone(), offset: 3, len: 4 },
        Op::SetAttrs { collection, object: object.clone(), attrs: pair() },
        Op::RemoveAttr { collection, object: object.clone(), name: text(b"k") },
        Op::OmapSet { collection, object: object.clone(), entries: pair() },
        Op::OmapRemove { collection, object: object.clone(), keys: vec![text(b"k")] },
        Op::OmapRemoveRange { collection, object: object.clone(), first: text(b"a"), end: text(b"b") },
        Op::OmapSetHeader { collection, object: object.clone(), header: text(b"h") },
        Op::OmapClear { collection, object: object.clone() },
        Op::Clone {
            collection,
            target: crate::ObjectId { snap: 4, ..object.clone() },
            object: object.clone(),
        },
        Op::CloneRange {
            collection,
            object: object.clone(),
            offset: 2,
            len: 7,
            target: crate::ObjectId { snap: 5, ..object.clone() },
            target_offset: 3,
        },
        Op::Remove { collection, object },
        Op::LogAppend { collection, version: LogVersion { epoch: 1, version: 2 }, entry: text(b"e") },
        Op::SplitCollection { collection, bits: 3, target: CollectionId { seed: 7, ..collection } },
        Op::MergeCollection {
            collection: CollectionId { seed: 7, ..collection },
            bits: 2,
            target: collection,
        },
        Op::RemoveCollection { collection },
    ];
    Transaction { ops }
}

/// A window of one chunk, then the ring.
fn sample_pg_log() -> Vec<u8> {
    let log = PgLog::new(Extent::new(0, RING_BYTES as u64), BLOCK, Window { tail: 0, head: 0 });
    let id = CollectionId { pool: 1, seed: 0 };
    let version = LogVersion { epoch: 1, version: 1 };
    let changes = [LogChange::Entry(id, version, Bytes::from_static(b"entry")), LogChange::Drop(id)];
    let (chunk, after) = log.chunk(&changes, &BTreeMap::new());
    let bytes = chunk.map(|(_, bytes)| bytes.to_vec()).unwrap_or_default();
    [&[0, u8::try_from(after.head / BLOCK).unwrap_or(0)][..], &bytes].concat()
}

fn sample_object() -> crate::ObjectId {
    crate::ObjectId {
        pool: 1,
        hash: 7,
        namespace: Bytes::from_static(b"n"),
        key: Bytes::new(),
        name: Bytes::from_static(b"na\0me"),
        snap: crate::ObjectId::HEAD,
    }
}

/// Sound test cases for the entry of this name; none for some.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    let object = sample_object();
    let mut onode = Onode::new(object.clone(), 128 << 10);
    onode.shards = [0, 2, 900].into_iter().collect();
    onode.attrs = [(Bytes::from_static(b"a"), Bytes::from_static(b"1"))].into_iter().collect();
    let blocks = [&[1][..], &[2], &[3], &[4]];
    let blob =
        |kind, share| Blob { birth: 5, checksums: Checksums::of_blocks(kind, blocks), share, packed: None };
    let piece = |len, blob_offset| crate::shard::Piece { len, blob: 40 * 4096, blob_offset };
    let shard = |kind, share| Shard {
        blobs: [(40 * 4096, blob(kind, share))].into(),
        pieces: [(0, piece(5000, 0)), (5010, piece(9000, 5010)), (15_000, piece(30, 15_000))].into(),
        ..Shard::default()
    };
    let mut body = Vec::new();
    let put = |key| Item::Put(Bytes::from_static(key), Bytes::from_static(b"v"));
    let items = [put(b"k"), put(b"key"), Item::NextOmapId(4)];
    format::push_record(&mut body, &format::encode_record(&items));
    match name {
        "store_label" | "store_segment_table" => label::fuzzing::seeds(name),
        "store_superblock" => {
            let part = |id, len| Some(Part { id: Uuid::from_u128(id), len });
            let mut joined = sample_superblock();
            joined.set_parts(Parts { db: part(1, 1 << 30), wal: part(2, 1 << 29) });
            vec![sample_superblock().encode(), joined.encode()]
        }
        "store_transaction" => vec![sample_transaction(object).encode().to_vec()],
        "store_export" => {
            let group = CollectionId { pool: 3, seed: 1 };
            let header =
                ExportHeader { fsid: Uuid::from_u128(7), group, bits: 2, object: Some(object.clone()) };
            export::fuzzing::seeds(header, sample_transaction(object))
        }
        "store_pg_log" => vec![sample_pg_log()],
        "store_onode" => {
            let shares = Onode { allocated: 8192, shared: 4096, ..onode.clone() };
            let packed = Onode { stored: 900, compressed: 4096, compressed_original: 800, ..shares.clone() };
            let hinted = Onode { hints: Compressibility::Incompressible.into(), ..onode.clone() };
            let key = keys::onode(&object);
            let values = [onode, shares, packed, hinted].map(|onode| onode.encode(&key).to_vec());
            values.into_iter().chain([crate::onode::VALUE_OF_VERSION_3.to_vec()]).collect()
        }
        "store_shard" => {
            let kinds = ChecksumKind::ALL.into_iter();
            let both = kinds.flat_map(|kind| [shard(kind, None), shard(kind, Some(38 * 4096))]);
            let plain: Vec<Shard> = both.collect();
            let packed = plain.iter().zip(Algorithm::ALL.into_iter().cycle()).map(|(shard, algorithm)| {
                let mut shard = shard.clone();
                let packed = Packed { algorithm, raw_blocks: 9, bytes: 4 * 4096 - 7 };
                shard.blobs.values_mut().for_each(|blob| blob.packed = Some(packed));
                shard
            });
            let all = plain.iter().cloned().chain(packed);
            let chunked = plain.iter().filter_map(|shard| {
                let mut shard = shard.clone();
                let (_, blob) = shard.blobs.at_mut(0)?;
                let kind = blob.checksums.kind();
                let mut checksums = Checksums::new(kind);
                for blocks in [2, 1] {
                    checksums.push(Checksum::of(kind, &[9]), blocks);
                }
                checksums.push(Checksum::unknown(kind), 1);
                blob.checksums = checksums;
                (kind != ChecksumKind::None).then_some(shard)
            });
            let all = all.chain(chunked);
            let inline = [(10, Bytes::from_static(b"some")), (4000, Bytes::from_static(b"bytes"))].into();
            let inline = Shard { inline, ..Shard::default() };
            let values = all.chain([inline]).map(|shard| shard.encode(SHARD_BLOCK));
            let values = values.chain([Bytes::from_static(&crate::shard::VALUE_OF_VERSION_1)]);
            values.map(|value| [&[0][..], &value].concat()).collect()
        }
        "store_share" => {
            let share = Share { pool: 3, since: 900, uses: smallvec::smallvec![2, 0, 1, 300] };
            vec![share.encode().to_vec()]
        }
        "store_keys" => {
            let onode = keys::onode(&object);
            let all = [
                keys::shard(&onode, 3),
                onode,
                keys::collection(CollectionId { pool: 1, seed: 3 }),
                keys::statistics(1),
                keys::reap(5),
                keys::share(900, 40 * 4096),
                keys::omap_entry(7, b"key"),
                keys::omap_header(7),
                keys::bitmap_page(0, 9),
                keys::bitmap_chunk(9),
            ];
            all.iter().map(|key| key.to_vec()).collect()
        }
        "store_collection" => vec![vec![1, 4, 2, 0, 0, 0, 9, 9]],
        "store_checkpoint" => {
            let mut record = vec![1; 70];
            record.splice(61.., [1, 0, 0, 0]);
            record.extend([9; 16]);
            vec![record]
        }
        "store_journal_group" => {
            let (group, _) = header_of(&journal_start(), 39, &body, 1).seal_group(&body);
            vec![group]
        }
        "store_journal_scan" => {
            let length = u8::try_from(body.len()).unwrap_or(u8::MAX);
            vec![[&[16, length, 0], &body[..]].concat().repeat(5)]
        }
        _ => Vec::new(),
    }
}
