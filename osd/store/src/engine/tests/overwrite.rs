//! The way of usual overwrites leaves on the device what the general way leaves there, to the byte.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::join_all;
use rt::Core;
use rt::sim::{Config, Sim};

use super::defragment::{content, counter, is_clean, open};
use super::history::ObjectDump;
use super::world::World;
use crate::engine::Options;
use crate::object_store::ObjectStore;
use crate::suite::{collection, half_noise, object, pattern};
use crate::types::{ChunkBounds, Hints, Keep, LogVersion};
use crate::{
    AccessHints, BlockSums, ChecksumKind, Compressibility, Compression, CompressionMode, ObjectId, Op,
    StoreError, Transaction,
};

const BLOCK: u64 = 4096;
const DEVICE_BYTES: u64 = 16 << 20;
const STEPS: u64 = 600;
const OBJECTS: u64 = 6;
const OBJECT_BLOCKS: u64 = 40;

/// A number that is as good as random.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Mostly writes of whole blocks, as a placement group makes them; now and then what makes others unusual.
fn transaction(draw: &mut Draw, step: u64) -> Transaction {
    let collection = collection();
    let number = draw.below(OBJECTS);
    let name = |number: u64| object(&format!("image-{number}"), u32::try_from(number).expect("small"));
    // A clone has the hash of its object.
    let clone = ObjectId { snap: 1, ..name(number) };
    let object = name(number);
    let blocks = [1, 1, 1, 2, 5, 9][draw.below(6) as usize];
    let offset = draw.below(OBJECT_BLOCKS) * BLOCK;
    let bytes = usize::try_from(blocks * BLOCK).expect("small");
    let len = draw.below(3 * BLOCK);
    let mut ops = match draw.below(40) {
        0 => vec![Op::Remove { collection, object: object.clone() }],
        1 => vec![Op::Truncate { collection, object: object.clone(), size: offset + len }],
        2 => vec![Op::Zero { collection, object: object.clone(), offset: offset + 100, len }],
        3 => vec![Op::Clone { collection, object: object.clone(), target: clone }],
        4 => {
            let hints = Hints { is_streamed: draw.below(2) == 0, compression: Compressibility::default() };
            vec![Op::SetHints { collection, object: object.clone(), hints }]
        }
        5 => {
            vec![Op::Write { collection, object: object.clone(), offset: 0, data: vec![pattern(step, 300)] }]
        }
        6..9 => {
            let data = vec![pattern(step, usize::try_from(len).expect("small"))];
            vec![Op::Write { collection, object: object.clone(), offset: offset + draw.below(BLOCK), data }]
        }
        _ => {
            let noise = draw.below(2) == 0;
            let data = if noise { pattern(step, bytes) } else { half_noise(step, bytes) };
            vec![Op::Write { collection, object: object.clone(), offset, data: vec![data] }]
        }
    };
    if draw.below(8) > 0 {
        let attrs = BTreeMap::from([(Bytes::from_static(b"_"), pattern(step, 60))]);
        ops.push(Op::SetAttrs { collection, object, attrs });
    }
    if draw.below(8) > 0 {
        // Now and then one that does not follow.
        let version = LogVersion { epoch: 1, version: if draw.below(50) == 0 { 1 } else { step + 1 } };
        ops.push(Op::LogAppend { collection, version, entry: pattern(step, 150) });
    }
    Transaction { ops }
}

/// What somebody who received the data of the write knows of it.
fn sums_of(transaction: &Transaction) -> BlockSums {
    let mut writes = transaction.ops.iter().filter_map(|op| match op {
        Op::Write { data, .. } => Some(data),
        _ => None,
    });
    let Some([data]) = writes.next().map(Vec::as_slice) else { return BlockSums::new() };
    data.chunks(usize::try_from(BLOCK).expect("small")).map(crc32c::crc32c).collect()
}

/// What is left of a run.
struct Left {
    content: BTreeMap<ObjectId, ObjectDump>,
    results: Vec<Result<(), StoreError>>,
    device: Vec<u8>,
    short: u64,
}

/// So many at a time on their way.
async fn work(core: &Core, world: &World, seed: u64, at_a_time: u64) -> Left {
    let store = open(core, world).await;
    let (mut draw, mut results, mut on_their_way) = (Draw(seed), Vec::new(), Vec::new());
    for step in 0..STEPS {
        let keep = [Keep::Usual, Keep::Usual, Keep::Long, Keep::Not][draw.below(4) as usize];
        let hints = AccessHints { keep, ..AccessHints::default() };
        let transaction = transaction(&mut draw, step);
        let sums = if draw.below(2) == 0 { BlockSums::new() } else { sums_of(&transaction) };
        on_their_way.push(store.submit_with(transaction, hints, sums));
        if step % at_a_time == 0 || step % 150 == 149 {
            results.extend(join_all(on_their_way.drain(..).map(|submitted| submitted.durable)).await);
        }
        if step % 150 == 149 {
            store.checkpoint().await.expect("checkpoint");
        }
    }
    results.extend(join_all(on_their_way.drain(..).map(|submitted| submitted.durable)).await);
    is_clean(&store).await;
    let (content, short) = (content(&store).await, counter(&store, "overwrites_short"));
    store.close().await.expect("close");
    let mut device = vec![0; usize::try_from(DEVICE_BYTES).expect("small")];
    world.disk.image().read(0, &mut device);
    Left { content, results, device, short }
}

fn run(seed: u64, options: Options, at_a_time: u64) -> Left {
    Sim::new(seed, Config::default()).run(0, |core| async move {
        let mut world = World::new(seed, DEVICE_BYTES, 4096, 4 << 20);
        let reserve_bytes = world.options.reserve_bytes;
        world.options = Options { reserve_bytes, ..options };
        work(&core, &world, seed, at_a_time).await
    })
}

#[test]
fn both_ways_leave_the_same_on_the_device() {
    let usual = Options { data_cache_bytes_max: 0, ..Options::default() };
    let packed = Compression { mode: CompressionMode::Force, ..Compression::default() };
    let chunks = ChunkBounds { min: Some(4 * BLOCK), max: None };
    let variants = [
        usual.clone(),
        Options { inline_bytes_max: 512, shard_span: 32 << 10, ..usual.clone() },
        Options { data_cache_bytes_max: 1 << 20, checksum: ChecksumKind::Xxhash64, ..usual.clone() },
        Options { cache_bytes_max: 8 << 10, checksum: ChecksumKind::None, ..usual.clone() },
        Options { compression: packed, ..usual.clone() },
        Options { checksum_chunk: chunks, ..usual.clone() },
        Options { deferred_whole_max: 64 << 10, ..usual },
    ];
    for (seed, options) in (1..).zip(variants) {
        let short = run(seed, options.clone(), 1);
        let general = run(seed, Options { short_overwrites: false, ..options.clone() }, 1);
        assert_eq!(general.short, 0);
        let is_general = options.deferred_whole_max > 0 || options.checksum_chunk.min.is_some();
        let least = if is_general { 0 } else { STEPS / 10 };
        assert!(short.short >= least && (short.short > 0) != is_general, "{} did: {options:?}", short.short);
        assert_eq!(short.results, general.results);
        assert_eq!(short.content, general.content);
        // What a small cache lets go of depends on what vectors have room for, and reading it again takes time.
        if options.cache_bytes_max < 1 << 20 {
            continue;
        }
        let differs = short.device.iter().zip(&general.device).position(|(one, other)| one != other);
        assert_eq!(differs, None, "where the devices differ, with {options:?}");
    }
}

/// Several on their way at once: some at once, some in line behind others, some with checksums that came with the data.
#[test]
fn both_ways_leave_the_same_content_whatever_is_on_its_way() {
    let usual = Options { data_cache_bytes_max: 0, ..Options::default() };
    for seed in 20..24 {
        let short = run(seed, usual.clone(), 7);
        let general = run(seed, Options { short_overwrites: false, ..usual.clone() }, 7);
        assert!(general.short == 0 && short.short > STEPS / 10, "{} did", short.short);
        assert_eq!(short.results, general.results);
        assert_eq!(short.content, general.content);
    }
}

/// Checksums that come with the data are those that are stored: wrong ones are found by the next read.
#[test]
fn checksums_that_came_with_the_data_are_stored() {
    Sim::new(1, Config::default()).run(0, |core| async move {
        let mut world = World::new(1, DEVICE_BYTES, 4096, 4 << 20);
        world.options.inline_bytes_max = 0;
        let store = open(&core, &world).await;
        let write = |offset: u64| {
            let data = vec![pattern(offset, 8192)];
            let op = Op::Write { collection: collection(), object: object("one", 1), offset, data };
            Transaction { ops: vec![op] }
        };
        store.submit(write(0)).durable.await.expect("write");
        let submit = async |sums: BlockSums| {
            let before = counter(&store, "blocks_summed_before");
            let submitted = store.submit_with(write(0), AccessHints::default(), sums);
            submitted.durable.await.expect("write");
            let read = store.read(collection(), &object("one", 1), 0, 8192).await;
            (counter(&store, "blocks_summed_before") - before, read.is_ok())
        };
        let right = sums_of(&write(0));
        assert_eq!(submit(right.clone()).await, (2, true));
        assert_eq!(submit(right[..1].into()).await, (0, true), "not of all blocks");
        assert_eq!(submit(BlockSums::from_slice(&[right[0], !right[1]])).await, (2, false));
        assert_eq!(submit(BlockSums::new()).await, (0, true));
        store.close().await.expect("close");
    });
}

/// What is read says the checksum of each whole block that was verified by one, and of nothing else.
#[test]
fn whole_blocks_come_with_their_checksums() {
    let wanted = |checksum: ChecksumKind, compression: Compression| {
        Sim::new(1, Config::default()).run(0, move |core| async move {
            let mut world = World::new(1, DEVICE_BYTES, 4096, 4 << 20);
            world.options.inline_bytes_max = 0;
            (world.options.checksum, world.options.compression) = (checksum, compression);
            let store = open(&core, &world).await;
            let write = |offset: u64, data: Bytes| {
                let op = Op::Write {
                    collection: collection(),
                    object: object("one", 1),
                    offset,
                    data: vec![data],
                };
                Transaction { ops: vec![op] }
            };
            // Two blocks, a hole, and the beginning of one.
            for transaction in [write(0, vec![1; 8192].into()), write(3 * BLOCK, vec![2; 100].into())] {
                store.submit(transaction).durable.await.expect("write");
            }
            let read = async |offset: u64, len: u64| {
                let name = object("one", 1);
                let read = store.read_summed(collection(), &name, offset, len, AccessHints::default()).await;
                let read = read.expect("read");
                let plain = store.read(collection(), &name, offset, len).await.expect("read");
                assert_eq!(
                    plain.concat(),
                    read.iter().flat_map(|(bytes, _)| bytes.to_vec()).collect::<Vec<u8>>()
                );
                for (bytes, sum) in &read {
                    assert!(sum.is_none_or(|sum| sum == crc32c::crc32c(bytes)), "of {} bytes", bytes.len());
                }
                read.iter().map(|(_, sum)| sum.is_some()).collect::<Vec<bool>>()
            };
            let all = [read(0, 4 * BLOCK).await, read(100, BLOCK).await, read(BLOCK, BLOCK).await];
            store.close().await.expect("close");
            all
        })
    };
    let plain = Compression::default();
    let found = wanted(ChecksumKind::Crc32c, plain.clone());
    assert_eq!(found, [vec![true, true, false, false], vec![false, false], vec![true]]);
    let is_none = |found: [Vec<bool>; 3]| found.into_iter().flatten().all(|is_known| !is_known);
    assert!(is_none(wanted(ChecksumKind::Crc32c16, plain.clone())));
    assert!(is_none(wanted(ChecksumKind::None, plain)));
    let packed = Compression { mode: CompressionMode::Force, ..Compression::default() };
    assert!(is_none(wanted(ChecksumKind::Crc32c, packed)));
}
