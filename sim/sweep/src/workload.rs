//! The fixed workload: every kind of write, several times around the journal and the log of the placement groups, with
//! checkpoints, pauses and a clean close in the middle; and what a store does after a cut, to see that it lives.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::FutureExt;
use store::suite::{half_noise, pattern};
use store::{CollectionId, Compressibility, Hints, LogVersion, ObjectId, ObjectStore, Op};

use crate::plan::{Builder, Plan, Step, Track};

/// Most of the data.
const MAIN: CollectionId = CollectionId { pool: 7, seed: 0x2a };
/// Beside it, in the same pool.
const BESIDE: CollectionId = CollectionId { pool: 7, seed: 0x2b };
/// Comes and goes, in a pool of its own.
const FLEETING: CollectionId = CollectionId { pool: 9, seed: 0 };
/// Its other half, at times.
const HALF: CollectionId = CollectionId { pool: 9, seed: 1 };
const BITS: u8 = 8;
/// An object that is written once and stays.
const BALLAST: u32 = 50;
/// Its bytes.
const BALLAST_BYTES: usize = 130_000;

fn name(id: CollectionId, place: u32) -> ObjectId {
    ObjectId {
        pool: id.pool,
        hash: (place << 8) | id.seed,
        namespace: Bytes::from_static(if place.is_multiple_of(3) { b"space" } else { b"" }),
        key: Bytes::new(),
        name: Bytes::from(format!("object-{place}")),
        snap: ObjectId::HEAD,
    }
}

/// Writes a plan's lines shorter.
struct Script {
    builder: Builder,
    salt: u64,
    version: u64,
    /// What the oracle refuses is left out instead of being a mistake.
    lenient: bool,
}

impl Script {
    fn new(builder: Builder, salt: u64, version: u64, lenient: bool) -> Self {
        Self { builder, salt: salt << 24, version, lenient }
    }

    fn data(&mut self, len: usize) -> Bytes {
        self.salt += 1;
        pattern(self.salt, len)
    }

    fn write(&mut self, id: CollectionId, place: u32, offset: u64, len: usize) -> Op {
        let data = self.data(len);
        // In two chunks, as a message may bring it.
        let data = vec![data.slice(..len / 3), data.slice(len / 3..)];
        Op::Write { collection: id, object: name(id, place), offset, data }
    }

    /// As the image of a block device is written: whole blocks in one chunk, and an attribute.
    fn image_write(&mut self, place: u32, block: u64, blocks: usize) {
        let data = vec![self.data(blocks * 4096)];
        let write = Op::Write { collection: MAIN, object: name(MAIN, place), offset: block * 4096, data };
        let ops = vec![write, self.attr(MAIN, place, 0, 60)];
        self.logged(ops);
    }

    /// As [`Self::write`], of what compresses.
    fn write_text(&mut self, id: CollectionId, place: u32, offset: u64, len: usize) -> Op {
        self.salt += 1;
        let data = vec![half_noise(self.salt, len)];
        Op::Write { collection: id, object: name(id, place), offset, data }
    }

    fn size(&mut self, id: CollectionId, place: u32) -> u64 {
        let stat = self.builder.oracle(id).stat(id, &name(id, place)).now_or_never();
        stat.and_then(Result::ok).map_or(0, |stat| stat.size)
    }

    fn append(&mut self, id: CollectionId, place: u32, len: usize) -> Op {
        let offset = self.size(id, place);
        self.write(id, place, offset, len)
    }

    fn attr(&mut self, id: CollectionId, place: u32, attr: u32, len: usize) -> Op {
        let attrs = BTreeMap::from([(Bytes::from(format!("attr{attr}")), self.data(len))]);
        Op::SetAttrs { collection: id, object: name(id, place), attrs }
    }

    fn omap(&mut self, id: CollectionId, place: u32, keys: std::ops::Range<u32>, len: usize) -> Op {
        let entries = keys.map(|key| (Bytes::from(format!("key-{key:03}")), self.data(len))).collect();
        Op::OmapSet { collection: id, object: name(id, place), entries }
    }

    fn log(&mut self, id: CollectionId, len: usize) -> Op {
        self.version += 1;
        let version = LogVersion { epoch: 1, version: self.version };
        Op::LogAppend { collection: id, version, entry: self.data(len) }
    }

    /// With an entry of the placement group's log, as every write of a client has.
    fn logged(&mut self, mut ops: Vec<Op>) {
        let Some(id) = ops.first().map(Op::collection) else { return };
        let entry = self.log(id, 60 + (self.salt % 90) as usize);
        ops.push(entry);
        let accepted = self.builder.submit(ops);
        assert!(self.lenient || accepted.is_ok(), "the workload means something: {accepted:?}");
    }

    fn step(&mut self, step: Step) {
        self.builder.step(step);
    }
}

fn key(number: u32) -> Bytes {
    Bytes::from(format!("key-{number:03}"))
}

/// The workload in so many rounds.
pub fn workload(rounds: u32) -> Plan {
    let mut script = in_rounds(rounds);
    script.step(Step::Wait(0));
    script.builder.build()
}

/// The same, and a few changes after a checkpoint: a journal that holds something, but less than what would have a checkpoint made.
pub fn workload_with_journal(rounds: u32) -> Plan {
    let mut script = in_rounds(rounds);
    script.step(Step::Wait(0));
    script.step(Step::Checkpoint);
    script.builder.depth(1);
    for at in 0..3 {
        let ops = vec![script.write(MAIN, 2, 1000 + 4096 * at, 300)];
        script.logged(ops);
        script.step(Step::Wait(0));
    }
    script.builder.build()
}

fn in_rounds(rounds: u32) -> Script {
    let mut script = Script::new(Builder::new(), 1, 0, false);
    script.builder.together(vec![FLEETING, HALF]);
    for id in [MAIN, BESIDE] {
        let accepted = script.builder.submit(vec![Op::CreateCollection { collection: id, bits: BITS }]);
        assert_eq!(accepted, Ok(()), "it is not there yet");
    }
    // Takes room, so that what is freed is soon used again.
    let ops = vec![script.write(BESIDE, BALLAST, 0, BALLAST_BYTES)];
    script.logged(ops);
    for round in 0..rounds {
        script.builder.depth([5, 1, 10][round as usize % 3]);
        data(&mut script, round);
        script.step(Step::Idle);
        image(&mut script, round);
        metadata(&mut script, round);
        if round % 2 == 0 {
            script.step(Step::Checkpoint);
        }
        fleeting(&mut script);
        keys_come_and_go(&mut script);
        reuse(&mut script, round);
        clones(&mut script, round);
        compressed(&mut script, round);
        streamed(&mut script, round);
        small(&mut script, round);
        torn(&mut script);
        compound(&mut script);
        if round + 1 < rounds {
            script.step(Step::Reopen);
        }
    }
    script
}

/// New space, parts of blocks, ends of objects, holes.
fn data(script: &mut Script, round: u32) {
    let id = MAIN;
    // New allocation, aligned and not; more than a group waits for.
    let ops = vec![script.write(id, 1, 0, 16 << 10)];
    script.logged(ops);
    let ops = vec![script.write(id, 2, 100 + u64::from(round) * 7, 5000)];
    script.logged(ops);
    let ops = vec![script.write(id, 3, 0, 40_000)];
    script.logged(ops);
    let ops = vec![script.write(BESIDE, 1, 4096, 9000)];
    script.logged(ops);
    // Deferred, within a block and across two; the same block twice.
    let ops = vec![script.write(id, 1, 1000, 300)];
    script.logged(ops);
    let ops = vec![script.write(id, 1, 4000, 200)];
    script.logged(ops);
    let ops = vec![script.write(id, 1, 1100, 50), script.write(id, 3, 20_001, 700)];
    script.logged(ops);
    // Whole blocks over old ones, and with rags at both ends.
    let ops = vec![script.write(id, 1, 8192, 4096)];
    script.logged(ops);
    let ops = vec![script.write(id, 3, 3000, 10_000)];
    script.logged(ops);
    // Appended.
    for len in [3000, 10] {
        let ops = vec![script.append(id, 2, len)];
        script.logged(ops);
    }
    let ops = vec![script.append(BESIDE, 1, 70)];
    script.logged(ops);
    // Shorter, longer, with holes.
    let truncate = |size| Op::Truncate { collection: id, object: name(id, 3), size };
    let zero = |place, offset, len| Op::Zero { collection: id, object: name(id, place), offset, len };
    script.logged(vec![truncate(18_001)]);
    script.logged(vec![truncate(50_000)]);
    script.logged(vec![zero(1, 3000, 6000)]);
    script.logged(vec![zero(3, 8192, 8192)]);
    let ops = vec![script.write(id, 3, 9000, 100)];
    script.logged(ops);
}

/// Blocks over blocks: in the middle of what is there, at its ends, across several of it, behind a hole, and in a shard of its own.
fn image(script: &mut Script, round: u32) {
    let place = 14;
    let ops = vec![script.write(MAIN, place, 0, 6 * 4096)];
    script.logged(ops);
    for (block, blocks) in [(2, 1), (0, 1), (5, 2), (2, 1), (9, 1), (1, 4), (17, 1)] {
        script.image_write(place, block, blocks);
    }
    if round % 2 == 1 {
        script.step(Step::Checkpoint);
    }
    // Where a deferred write is on its way, and where the space has just been had.
    let ops = vec![script.write(MAIN, place, 3 * 4096 + 100, 300)];
    script.logged(ops);
    for block in [3, 2, 3] {
        script.image_write(place, block, 1);
    }
    script.logged(vec![clone(name(MAIN, place), snap(MAIN, place, 1))]);
    script.image_write(place, 4, 1);
    script.logged(vec![Op::Remove { collection: MAIN, object: snap(MAIN, place, 1) }]);
    script.image_write(place, 4, 1);
    if round.is_multiple_of(2) {
        script.logged(vec![Op::Remove { collection: MAIN, object: name(MAIN, place) }]);
    }
}

/// Attributes, omaps, the collection's own.
fn metadata(script: &mut Script, round: u32) {
    let id = if round.is_multiple_of(2) { MAIN } else { BESIDE };
    let object = name(id, 4);
    script.logged(vec![Op::Touch { collection: id, object: object.clone() }]);
    for attr in 0..3 {
        let ops = vec![script.attr(id, 4, attr, 30 + attr as usize * 400)];
        script.logged(ops);
    }
    script.logged(vec![Op::RemoveAttr {
        collection: id,
        object: object.clone(),
        name: Bytes::from("attr1"),
    }]);
    let ops = vec![script.omap(id, 4, 0..40, 60)];
    script.logged(ops);
    let header = script.data(40);
    script.logged(vec![Op::OmapSetHeader { collection: id, object: object.clone(), header }]);
    let keys = vec![key(3), key(30), key(99)];
    script.logged(vec![Op::OmapRemove { collection: id, object: object.clone(), keys }]);
    let (first, end) = (key(10), key(20));
    script.logged(vec![Op::OmapRemoveRange { collection: id, object: object.clone(), first, end }]);
    let ops = vec![script.omap(id, 4, 15..18, 200)];
    script.logged(ops);
    script.logged(vec![Op::OmapClear { collection: id, object: object.clone() }]);
    let ops = vec![script.omap(id, 4, 30..50, 150 + round as usize)];
    script.logged(ops);
    let value = script.data(300);
    script.logged(vec![Op::SetCollectionMeta { collection: id, value }]);
}

/// A collection that is made, used, split, merged and removed.
fn fleeting(script: &mut Script) {
    let id = FLEETING;
    script.logged(vec![Op::CreateCollection { collection: id, bits: 0 }]);
    let ops = vec![script.write(id, 1, 0, 6000), script.omap(id, 1, 0..5, 30)];
    script.logged(ops);
    let data = vec![script.data(9000)];
    script.logged(vec![Op::Write { collection: id, object: name(HALF, 2), offset: 0, data }]);
    let value = script.data(20);
    script.logged(vec![Op::SetCollectionMeta { collection: id, value: value.clone() }]);
    let ops = vec![
        Op::SplitCollection { collection: id, bits: 1, target: HALF },
        Op::SetCollectionMeta { collection: HALF, value },
        script.write(HALF, 2, 1000, 300),
        script.log(HALF, 30),
    ];
    script.logged(ops);
    let ops = vec![script.write(HALF, 3, 0, 5000)];
    script.logged(ops);
    // From here on it is the other half's turn.
    script.step(Step::Wait(0));
    let ops = vec![script.write(id, 1, 5500, 100)];
    script.logged(ops);
    let value = script.data(20);
    script.logged(vec![
        Op::SetCollectionMeta { collection: id, value },
        Op::MergeCollection { collection: HALF, bits: 0, target: id },
    ]);
    let data = vec![script.data(200)];
    script.logged(vec![Op::Write { collection: id, object: name(HALF, 3), offset: 4000, data }]);
    for object in [name(id, 1), name(HALF, 2), name(HALF, 3)] {
        script.logged(vec![Op::Remove { collection: id, object }]);
    }
    let accepted = script.builder.submit(vec![Op::RemoveCollection { collection: id }]);
    assert_eq!(accepted, Ok(()), "it is empty");
}

/// Objects with deferred payload go, and others come to where they were.
fn reuse(script: &mut Script, round: u32) {
    let id = MAIN;
    for place in 10..13 {
        let ops = vec![script.write(id, place, 0, 8192)];
        script.logged(ops);
        let ops = vec![script.write(id, place, 500, 600)];
        script.logged(ops);
    }
    for place in 10..13 {
        script.logged(vec![Op::Remove { collection: id, object: name(id, place) }]);
    }
    // Sealed, so that the space may be used again.
    script.step(Step::Idle);
    for place in 20..23 {
        let ops = vec![script.write(id, place + (round % 2) * 10, 0, 8192 + 100)];
        script.logged(ops);
    }
    // The same once more, with so much written in between, and all within one checkpoint, that its place is had again.
    script.step(Step::Checkpoint);
    for ops in [vec![script.write(id, 15, 0, 8192)], vec![script.write(id, 15, 4200, 300)]] {
        script.logged(ops);
    }
    script.logged(vec![Op::Remove { collection: id, object: name(id, 15) }]);
    for place in [16, 17, 16, 17] {
        script.step(Step::Idle);
        let ops = vec![script.write(id, place, 0, 40_000)];
        script.logged(ops);
        script.logged(vec![Op::Remove { collection: id, object: name(id, place) }]);
    }
    // Gone and back in one transaction, and in two.
    let ops = vec![Op::Remove { collection: id, object: name(id, 1) }, script.write(id, 1, 50, 4500)];
    script.logged(ops);
    script.logged(vec![Op::Remove { collection: id, object: name(id, 2) }]);
    let ops = vec![script.write(id, 2, 0, 4096)];
    script.logged(ops);
    // The same block many times while earlier ones are on their way.
    for _ in 0..5 {
        let ops = vec![script.write(id, 2, 0, 4096)];
        script.logged(ops);
    }
    for place in 20..23 {
        // Only the round before left these.
        let object = name(id, place + ((round + 1) % 2) * 10);
        let known = script.builder.oracle(id).stat(id, &object).now_or_never().is_some_and(|s| s.is_ok());
        if known {
            script.logged(vec![Op::Remove { collection: id, object }]);
        }
    }
}

fn snap(id: CollectionId, place: u32, snap: u64) -> ObjectId {
    ObjectId { snap, ..name(id, place) }
}

fn clone(object: ObjectId, target: ObjectId) -> Op {
    Op::Clone { collection: MAIN, object, target }
}

fn clone_range(object: ObjectId, offset: u64, len: u64, target: ObjectId, target_offset: u64) -> Op {
    Op::CloneRange { collection: MAIN, object, offset, len, target, target_offset }
}

/// Space that objects share: changed, rolled back, left to the last of them, with payload on its way.
fn clones(script: &mut Script, round: u32) {
    let (id, head) = (MAIN, name(MAIN, 7));
    let ops = vec![script.write(id, 7, 0, 20_000), script.attr(id, 7, 0, 30), script.omap(id, 7, 0..4, 40)];
    script.logged(ops);
    let ops = vec![script.write(id, 7, 9000, 300)];
    script.logged(ops);
    script.logged(vec![clone(head.clone(), snap(id, 7, 1))]);
    let ops = vec![script.write(id, 7, 4000, 5000)];
    script.logged(ops);
    // As a client's first write after a snapshot.
    let ops = vec![clone(head.clone(), snap(id, 7, 2)), script.write(id, 7, 13_000, 200)];
    script.logged(ops);
    script.logged(vec![Op::Remove { collection: id, object: snap(id, 7, 1) }]);
    if round % 2 == 1 {
        script.step(Step::Checkpoint);
    }
    let ops = vec![script.write(id, 7, 17_000, 100)];
    script.logged(ops);
    script.logged(vec![clone(head.clone(), snap(id, 7, 3))]);
    script.logged(vec![Op::Remove { collection: id, object: head.clone() }]);
    script.step(Step::Idle);
    // Rolled back to what was there before.
    script.logged(vec![clone(snap(id, 7, 2), head.clone())]);
    // As the rollback of a part: shared blocks, and two of which the target keeps something.
    script.logged(vec![clone_range(snap(id, 7, 3), 3000, 12_000, head.clone(), 3000)]);
    let ops = vec![
        clone_range(head.clone(), 8192, 4096, snap(id, 7, 3), 8192),
        clone_range(head.clone(), 100, 5000, snap(id, 7, 4), 4096),
        script.write(id, 7, 8200, 40),
    ];
    script.logged(ops);
    script.logged(vec![Op::Remove { collection: id, object: snap(id, 7, 4) }]);
    script.logged(vec![Op::Remove { collection: id, object: snap(id, 7, 2) }]);
    let ops =
        vec![script.write(id, 7, 6000, 90), Op::Truncate { collection: id, object: head, size: 15_000 }];
    script.logged(ops);
    if round.is_multiple_of(2) {
        script.logged(vec![Op::Remove { collection: id, object: snap(id, 7, 3) }]);
    }
}

/// Blobs that are read and freed as a whole: parts of them go, and what is left moves out, or is a clone's too.
fn compressed(script: &mut Script, round: u32) {
    let id = MAIN;
    let object = name(id, 8);
    let hint =
        |hint: Compressibility| Op::SetHints { collection: id, object: name(id, 8), hints: hint.into() };
    let ops = vec![hint(Compressibility::Compressible), script.write_text(id, 8, 0, 40_000)];
    script.logged(ops);
    let ops = vec![script.write(id, 8, 5000, 300)];
    script.logged(ops);
    let ops = vec![script.write_text(id, 8, 16 << 10, 16 << 10)];
    script.logged(ops);
    if round % 2 == 1 {
        script.step(Step::Checkpoint);
    }
    script.logged(vec![Op::Clone { collection: id, object: object.clone(), target: snap(id, 8, 1) }]);
    let ops = vec![script.write(id, 8, 17_000, 14_000)];
    script.logged(ops);
    script.logged(vec![Op::Remove { collection: id, object: snap(id, 8, 1) }]);
    script.logged(vec![Op::Truncate { collection: id, object: object.clone(), size: 6000 }]);
    script.logged(vec![hint(Compressibility::Incompressible)]);
    let ops = vec![script.write_text(id, 8, 0, 12_000)];
    script.logged(ops);
    if round.is_multiple_of(2) {
        script.logged(vec![Op::Remove { collection: id, object }]);
    } else {
        script.logged(vec![hint(Compressibility::Compressible)]);
    }
}

/// Several blocks under one checksum, of which parts are overwritten, cut off, cloned, and left to a clone.
fn streamed(script: &mut Script, round: u32) {
    const LEN: u32 = 7 * 4096;
    let id = MAIN;
    let object = name(id, 18);
    let hints = Hints { is_streamed: true, ..Hints::default() };
    let hint = Op::SetHints { collection: id, object: object.clone(), hints };
    let ops = vec![hint, script.write(id, 18, 0, LEN as usize)];
    script.logged(ops);
    let ops = vec![script.append(id, 18, 5000)];
    script.logged(ops);
    let ops = vec![script.write(id, 18, 9000, 300)];
    script.logged(ops);
    if round % 2 == 1 {
        script.step(Step::Checkpoint);
    }
    let ops = vec![script.write(id, 18, 0, LEN as usize)];
    script.logged(ops);
    script.logged(vec![clone(object.clone(), snap(id, 18, 1))]);
    let ops = vec![
        script.write(id, 18, 4096, 8192),
        clone_range(snap(id, 18, 1), 0, LEN.into(), snap(id, 18, 2), 0),
    ];
    script.logged(ops);
    let ops = vec![
        Op::Truncate { collection: id, object: snap(id, 18, 1), size: 10_000 },
        clone_range(snap(id, 18, 2), 8192, 8192, object.clone(), 8192),
    ];
    script.logged(ops);
    script.logged(vec![Op::Remove { collection: id, object: snap(id, 18, 1) }]);
    script.logged(vec![Op::Zero { collection: id, object: snap(id, 18, 2), offset: 12_000, len: 5000 }]);
    script.logged(vec![Op::Remove { collection: id, object: snap(id, 18, 2) }]);
    script.logged(vec![Op::Truncate { collection: id, object: object.clone(), size: 18_000 }]);
    if round.is_multiple_of(2) {
        script.logged(vec![Op::Remove { collection: id, object }]);
    }
}

/// Objects that are written in turns, so that each is in pieces, and moved together; with a change, and on the way to their end.
fn torn(script: &mut Script) {
    let id = MAIN;
    for block in 0..4 {
        for place in [16, 17] {
            let ops = vec![script.write(id, place, block * 4096, 4096)];
            script.logged(ops);
        }
    }
    let defragment =
        |place| Op::Defragment { collection: id, object: name(id, place), offset: 0, len: 1 << 20 };
    script.logged(vec![defragment(16)]);
    let ops = vec![script.write(id, 17, 5000, 300), defragment(17), script.write(id, 16, 0, 4096)];
    script.logged(ops);
    script.logged(vec![Op::Remove { collection: id, object: name(id, 17) }, defragment(16)]);
    script.logged(vec![Op::Remove { collection: id, object: name(id, 16) }]);
}

/// What is kept among the keys where there is so little of it: written over, grown out of there, cloned, and back.
fn small(script: &mut Script, round: u32) {
    let id = MAIN;
    let object = name(id, 9);
    let ops = vec![script.write(id, 9, 0, 600)];
    script.logged(ops);
    let ops = vec![script.write(id, 9, 100, 50), script.append(id, 9, 30)];
    script.logged(ops);
    script.logged(vec![Op::Clone { collection: id, object: object.clone(), target: snap(id, 9, 1) }]);
    if round % 2 == 1 {
        script.step(Step::Checkpoint);
    }
    let ops = vec![script.append(id, 9, 200)];
    script.logged(ops);
    script.logged(vec![Op::Truncate { collection: id, object: object.clone(), size: 200 }]);
    script.logged(vec![Op::Clone { collection: id, object: snap(id, 9, 1), target: object.clone() }]);
    let ops =
        vec![Op::Truncate { collection: id, object: object.clone(), size: 0 }, script.write(id, 9, 10, 400)];
    script.logged(ops);
    script.logged(vec![Op::Zero { collection: id, object: object.clone(), offset: 50, len: 60 }]);
    // Longer without more at its beginning.
    script.logged(vec![Op::Truncate { collection: id, object: object.clone(), size: 100_000 }]);
    let ops = vec![script.write(id, 9, 150_000, 5000)];
    script.logged(ops);
    script.logged(vec![Op::Truncate { collection: id, object: object.clone(), size: 300 }]);
    script.logged(vec![Op::Remove { collection: id, object: snap(id, 9, 1) }]);
    if round.is_multiple_of(2) {
        script.logged(vec![Op::Remove { collection: id, object }]);
    }
}

/// So many keys that a small device for them is full, and then few.
fn keys_come_and_go(script: &mut Script) {
    let (id, place) = (BESIDE, 13);
    for first in (0..32).step_by(4) {
        let ops = vec![script.omap(id, place, first..first + 4, 2000)];
        script.logged(ops);
    }
    script.step(Step::Checkpoint);
    script.step(Step::Rest);
    script.logged(vec![Op::OmapClear { collection: id, object: name(id, place) }]);
    for number in 0..3 {
        let ops = vec![script.omap(id, place, number..number + 1, 300)];
        script.logged(ops);
        script.step(Step::Checkpoint);
    }
    script.step(Step::Rest);
    script.logged(vec![Op::Remove { collection: id, object: name(id, place) }]);
}

/// All or nothing.
fn compound(script: &mut Script) {
    let id = MAIN;
    // What a client calls writing an object in full.
    let object = name(id, 5);
    let ops = vec![
        Op::Truncate { collection: id, object, size: 0 },
        script.write(id, 5, 0, 12_000),
        script.attr(id, 5, 0, 250),
    ];
    script.logged(ops);
    let ops = vec![
        script.write(id, 5, 2000, 5000),
        script.attr(id, 5, 1, 20),
        script.omap(id, 5, 0..12, 40),
        script.append(id, 3, 999),
        Op::Zero { collection: id, object: name(id, 2), offset: 100, len: 1000 },
        Op::OmapRemove { collection: id, object: name(id, 5), keys: vec![key(4)] },
        script.write(id, 6, 12_288, 4096),
        Op::Remove { collection: id, object: name(id, 6) },
    ];
    script.logged(ops);
    let (first, second) = (script.write(BESIDE, 2, 0, 100), script.attr(BESIDE, 2, 0, 9));
    script.logged(vec![first, second]);
}

/// What a store does that comes back with its collections between the states `low` and `high`, of which it shows
/// `high`: a little of everything.
pub fn aftermath(tracks: &[Track], low: &[usize], high: &[usize], salt: u64) -> Plan {
    let builder = Builder::going_on(tracks, low, high);
    // Above every version of the workload.
    let mut script = Script::new(builder, salt >> 24, 1 << 32 | (salt & 0xff_ffff) << 8, true);
    for id in [MAIN, BESIDE] {
        // Refused where it exists.
        drop(script.builder.submit(vec![Op::CreateCollection { collection: id, bits: BITS }]));
    }
    // Room, also where recovery follows recovery; and it is had at once.
    script.logged(vec![Op::Remove { collection: BESIDE, object: name(BESIDE, BALLAST) }]);
    script.step(Step::Idle);
    script.builder.depth(3);
    let id = MAIN;
    let ops = vec![script.write(id, 1, 1000, 300)];
    script.logged(ops);
    let ops = vec![script.write(id, 40, 0, 9000)];
    script.logged(ops);
    let ops = vec![script.write(id, 2, 4096, 8192), script.omap(id, 2, 0..6, 50)];
    script.logged(ops);
    let ops = vec![script.append(BESIDE, 1, 500), script.attr(BESIDE, 1, 0, 10)];
    script.logged(ops);
    script.step(Step::Idle);
    script.logged(vec![clone(name(id, 7), snap(id, 7, 4))]);
    let ops = vec![script.write(id, 7, 3000, 700)];
    script.logged(ops);
    script.logged(vec![Op::Remove { collection: id, object: name(id, 1) }]);
    let ops = vec![script.write(id, 41, 10, 5000)];
    script.logged(ops);
    script.image_write(40, 1, 1);
    script.image_write(14, 2, 2);
    let ops = vec![Op::Truncate { collection: id, object: name(id, 40), size: 4000 }];
    script.logged(ops);
    script.step(Step::Wait(0));
    script.builder.build()
}
