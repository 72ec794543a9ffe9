//! Tests of shards.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::checksum::{Checksum, ChecksumKind, Chunk};

const B: u64 = 4096;

fn one(fill: u8) -> Checksum {
    Checksum::of(ChecksumKind::Crc32c, &[fill])
}

fn row<const N: usize>(blocks: [&[u8]; N]) -> Checksums {
    Checksums::of_blocks(ChecksumKind::Crc32c, blocks)
}

fn sample() -> Shard {
    Shard {
        blobs: Sorted::from([
            (40 * B, Blob { birth: 5, checksums: row([&[1], &[2], &[3], &[4]]), share: None, packed: None }),
            (80 * B, Blob { birth: 6, checksums: row([&[9]]), share: None, packed: None }),
        ]),
        pieces: Sorted::from([
            (0, Piece { len: 4 * 4096, blob: 40 * B, blob_offset: 0 }),
            (5 * B + 10, Piece { len: 90, blob: 80 * B, blob_offset: 10 }),
            (5 * B + 200, Piece { len: 5, blob: 80 * B, blob_offset: 200 }),
        ]),
        ..Shard::default()
    }
}

#[test]
fn round_trips_and_refuses_what_breaks_an_invariant() {
    let shard = sample();
    let value = shard.encode(B);
    assert!(value.len() <= shard.encoded_bytes_max());
    assert_eq!(Shard::decode(value.clone(), 0, 128 << 10, B), Ok(shard));
    assert!(Shard::decode(value.clone(), 1, 128 << 10, B).is_err(), "another shard's value");
    for len in 0..value.len() {
        assert!(Shard::decode(value.slice(..len), 0, 128 << 10, B).is_err());
    }
    for at in 0..value.len() {
        let mut damaged = value.to_vec();
        damaged[at] ^= 0x11;
        // Never panics; what it accepts obeys the invariants.
        if let Ok(found) = Shard::decode(Bytes::from(damaged), 0, 128 << 10, B) {
            assert_eq!(found.validate(0, 128 << 10, B), Ok(()));
        }
    }
}

#[test]
fn a_block_that_two_of_the_object_would_share_is_refused() {
    let mut shard = sample();
    assert_eq!(shard.validate(0, 128 << 10, B), Ok(()));
    // Who overwrites one of them would free what the other still has.
    shard.pieces.insert(6 * B, Piece { len: 4096, blob: 40 * B, blob_offset: 4096 });
    let refused = Err("a block of a blob is used for two of the object");
    assert_eq!(shard.validate(0, 128 << 10, B), refused);
    assert!(Shard::decode(shard.encode(B), 0, 128 << 10, B).is_err());
}

/// Two blocks under one checksum, one by itself, one whose checksum is unknown.
fn chunked() -> Shard {
    let mut checksums = Checksums::new(ChecksumKind::Crc32c);
    checksums.push(one(1), 2);
    checksums.push(one(2), 1);
    checksums.push(Checksum::unknown(ChecksumKind::Crc32c), 1);
    let mut shard = sample();
    let (_, blob) = shard.blobs.at_mut(0).expect("there are two");
    blob.checksums = checksums;
    shard
}

#[test]
fn several_blocks_may_be_under_one_checksum() {
    for share in [None, Some(38 * B)] {
        let mut shard = chunked();
        shard.blobs.at_mut(0).expect("there are two").1.share = share;
        assert_eq!(shard.validate(0, 128 << 10, B), Ok(()));
        let value = shard.encode(B);
        assert!(value.len() < sample().encode(B).len() && value.len() <= shard.encoded_bytes_max());
        assert_eq!(Shard::decode(value.clone(), 0, 128 << 10, B), Ok(shard.clone()));
        for len in 0..value.len() {
            assert!(Shard::decode(value.slice(..len), 0, 128 << 10, B).is_err());
        }
        for at in 0..value.len() {
            let mut damaged = value.to_vec();
            damaged[at] ^= 0x11;
            // Never panics; what it accepts obeys the invariants, and is what it would be written as.
            if let Ok(found) = Shard::decode(Bytes::from(damaged), 0, 128 << 10, B) {
                let again = Shard::decode(found.encode(B), 0, 128 << 10, B);
                assert_eq!((found.validate(0, 128 << 10, B), again), (Ok(()), Ok(found)));
            }
        }
        let place = shard.place(B, B).expect("mapped");
        assert_eq!((place.address, place.index, place.checksum), (41 * B, 1, one(1)));
        assert_eq!((place.chunk(B), place.chunk_logical()), (Extent::new(40 * B, 2 * B), 0));
        let all: Vec<_> = place.chunk_places(B).collect();
        assert_eq!(
            all.iter().map(|place| (place.address, place.logical)).collect::<Vec<_>>(),
            [(40 * B, 0), (41 * B, B)]
        );
        assert_eq!((all[1], all[0].index), (place, 0));
    }
}

#[test]
fn impossible_chunks_are_refused() {
    let with = |change: &dyn Fn(&mut Shard)| {
        let mut shard = chunked();
        change(&mut shard);
        Shard::decode(shard.encode(B), 0, 128 << 10, B)
    };
    assert!(with(&|_| {}).is_ok());
    // One that is longer than any may be.
    let mut long = Checksums::new(ChecksumKind::Crc32c);
    long.push(one(1), 17);
    let blob = Blob { birth: 5, checksums: long, share: None, packed: None };
    let shard = Shard {
        blobs: Sorted::from([(40 * B, blob)]),
        pieces: Sorted::from([(0, Piece { len: 17 * 4096, blob: 40 * B, blob_offset: 0 })]),
        ..Shard::default()
    };
    assert_eq!(shard.validate(0, 128 << 10, B), Err("too many blocks are under one checksum"));
    // One whose second block is elsewhere in the object.
    let apart = with(&|shard| {
        let piece = |blob_offset, len| Piece { len, blob: 40 * B, blob_offset };
        let rest = [(0, piece(0, 4096)), (2 * B, piece(8192, 8192)), (8 * B, piece(4096, 4096))];
        let last = shard.pieces.iter().skip(1).map(|(at, piece)| (*at, *piece)).collect::<Vec<_>>();
        shard.pieces = rest.into_iter().chain(last).collect();
    });
    assert!(apart.is_err(), "{apart:?}");
    // Single blocks that pretend to be chunks, more blocks than there are, and none to protect them.
    let value = chunked().encode(B).to_vec();
    let row = chunked().blobs.at(0).expect("there are two").1.checksums.clone();
    let at = value.windows(row.stored().len()).position(|bytes| bytes == row.stored()).expect("it is there");
    for wrong in [1, 3, 5, 255] {
        let mut value = value.clone();
        value[at] = wrong;
        assert!(Shard::decode(Bytes::from(value), 0, 128 << 10, B).is_err(), "{wrong}");
    }
}

#[test]
fn a_cut_chunk_is_split_first() {
    let mut shard = chunked();
    assert_eq!(shard.cut_chunks(B), []);
    assert_eq!(shard.punch(B, 2 * B), [(B, B)]);
    let chunk = Chunk { first: 0, blocks: 2, checksum: one(1) };
    assert_eq!(shard.cut_chunks(B), [(40 * B, chunk, vec![0])]);
    shard.blobs.at_mut(0).expect("there are two").1.checksums.split(0, &[(0, one(7))]);
    assert_eq!(shard.trim(B), [Extent::new(41 * B, B)]);
    assert_eq!(shard.validate(0, 128 << 10, B), Ok(()));
    assert_eq!(shard.place(0, B).map(|place| place.checksum), Some(one(7)));
    assert_eq!(shard.place(2 * B, B).map(|place| place.checksum), Some(one(2)));
}

#[test]
fn what_is_punched_out_is_a_hole_and_its_blocks_are_free() {
    // Of the blobs: blocks of pieces, and 10 to 100 and 200 to 205 of another block.
    let check = |from: u64, to: u64, lost: &[(u64, u64)], left: &[(u64, u64)], blocks: u64| {
        let mut shard = sample();
        assert_eq!(shard.punch(from, to), lost);
        shard.trim(B);
        assert_eq!(shard.ranges().collect::<Vec<_>>(), left);
        assert_eq!((shard.validate(0, 128 << 10, B), shard.allocated(B)), (Ok(()), blocks * B));
    };
    let (first, second) = ((5 * B + 10, 90), (5 * B + 200, 5));
    check(0, u64::MAX, &[(0, 4 * B), first, second], &[], 0);
    check(4 * B, 5 * B, &[], &[(0, 4 * B), first, second], 5);
    check(B, 2 * B, &[(B, B)], &[(0, B), (2 * B, 2 * B), first, second], 4);
    check(B + 1, 2 * B, &[(B + 1, B - 1)], &[(0, B + 1), (2 * B, 2 * B), first, second], 5);
    check(
        5 * B + 20,
        5 * B + 203,
        &[(5 * B + 20, 80), (second.0, 3)],
        &[(0, 4 * B), (first.0, 10), (5 * B + 203, 2)],
        5,
    );

    let inline = |parts: &[(u64, &'static [u8])]| Shard {
        inline: parts.iter().map(|(at, bytes)| (*at, Bytes::from_static(bytes))).collect(),
        ..Shard::default()
    };
    let mut shard = inline(&[(0, b"abcdef"), (100, b"xyz")]);
    assert_eq!(shard.punch(2, 101), [(2, 4), (100, 1)]);
    assert_eq!(shard, inline(&[(0, b"ab"), (101, b"yz")]));
}

#[test]
fn blocks_that_are_forgotten_take_with_them_what_they_hold() {
    let check = |addresses: &[u64], lost: &[(u64, u64)]| {
        let mut shard = sample();
        let addresses = addresses.iter().map(|block| block * B).collect();
        assert_eq!(shard.forget_blocks(&addresses, B), lost);
        shard.trim(B);
        assert_eq!(shard.validate(0, 128 << 10, B), Ok(()));
        assert!(
            shard.blobs.iter().all(|(at, blob)| addresses.range(*at..*at + blob.bytes(B)).next().is_none())
        );
    };
    check(&[39, 44, 81], &[]);
    check(&[42], &[(2 * B, B)]);
    check(&[40, 43], &[(0, B), (3 * B, B)]);
    check(&[80], &[(5 * B + 10, 90), (5 * B + 200, 5)]);
    // Of a compressed blob nothing is left without one of its blocks.
    let packed = Packed { algorithm: Algorithm::Snappy, raw_blocks: 4, bytes: 5000 };
    let blob = Blob { birth: 5, checksums: row([&[1], &[2]]), share: None, packed: Some(packed) };
    let piece = |blob_offset| Piece { len: 4096, blob: 40 * B, blob_offset };
    let mut shard = Shard {
        blobs: Sorted::from([(40 * B, blob)]),
        pieces: Sorted::from([(0, piece(0)), (3 * B, piece(3 * 4096))]),
        ..Shard::default()
    };
    assert_eq!(shard.validate(0, 128 << 10, B), Ok(()));
    assert_eq!(shard.forget_blocks(&BTreeSet::from([41 * B]), B), [(0, B), (3 * B, B)]);
    shard.trim(B);
    assert!(shard.is_empty() && shard.blobs.is_empty());
}

#[test]
fn a_shard_may_have_the_bytes_themselves() {
    let bytes = |len: usize| Bytes::from(vec![7; len]);
    let shard = |parts: Vec<(u64, Bytes)>| Shard { inline: parts.into_iter().collect(), ..Shard::default() };
    let sound = shard(vec![(10, bytes(300)), (310, bytes(1)), (4000, bytes(96))]);
    let value = sound.encode(B);
    assert!(value.len() <= sound.encoded_bytes_max());
    assert_eq!(Shard::decode(value.clone(), 0, 128 << 10, B).as_ref(), Ok(&sound));
    assert_eq!((sound.counts(B), sound.is_empty(), sound.place(0, B)), ([397, 0, 0, 0, 0], false, None));
    assert_eq!(sound.ranges().collect::<Vec<_>>(), [(10, 300), (310, 1), (4000, 96)]);
    assert!(Shard::decode(value.clone(), 1, 128 << 10, B).is_err(), "another shard's value");
    for len in 0..value.len() {
        assert!(Shard::decode(value.slice(..len), 0, 128 << 10, B).is_err());
    }
    let wrong = [vec![(4000, bytes(97))], vec![(10, bytes(0))], vec![(10, bytes(5)), (14, bytes(5))]];
    for parts in wrong {
        let wrong = shard(parts);
        assert!(Shard::decode(wrong.encode(B), 0, 128 << 10, B).is_err(), "{wrong:?}");
    }
    assert!(Shard::decode(Bytes::from_static(&[2, 0, 0, 0, 0]), 0, 128 << 10, B).is_err(), "none");
    let both = Shard { inline: sound.inline.clone(), ..sample() };
    assert!(both.validate(0, 128 << 10, B).is_err());
}

#[test]
fn finds_the_place_of_a_block() {
    let shard = sample();
    let place = shard.place(2 * B, B).expect("mapped");
    assert_eq!((place.address, place.checksum, place.birth), (42 * B, one(3), 5));
    let place = shard.place(5 * B, B).expect("a block that begins with a hole");
    assert_eq!((place.address, place.checksum), (80 * B, one(9)));
    assert_eq!(shard.place(4 * B, B), None);
    assert_eq!(shard.place(6 * B, B), None);
    assert!(shard.owns(43 * B, 5, B) && !shard.owns(43 * B, 6, B) && !shard.owns(44 * B, 5, B));
}

fn compressed() -> Shard {
    let packed = Some(Packed { algorithm: Algorithm::Lz4, raw_blocks: 8, bytes: 5000 });
    Shard {
        blobs: Sorted::from([
            (40 * B, Blob { birth: 5, checksums: row([&[1], &[2]]), share: None, packed }),
            (80 * B, Blob { birth: 6, checksums: row([&[9]]), share: None, packed: None }),
        ]),
        pieces: Sorted::from([
            (0, Piece { len: 2 * 4096, blob: 40 * B, blob_offset: 0 }),
            (2 * B, Piece { len: 4096, blob: 80 * B, blob_offset: 0 }),
            (3 * B, Piece { len: 5 * 4096 - 7, blob: 40 * B, blob_offset: 3 * 4096 }),
        ]),
        ..Shard::default()
    }
}

#[test]
fn a_compressed_blob_is_there_as_long_as_something_refers_to_it() {
    let mut shard = compressed();
    let value = shard.encode(B);
    assert!(value.len() <= shard.encoded_bytes_max());
    assert_eq!(Shard::decode(value, 0, 128 << 10, B).as_ref(), Ok(&shard));
    assert_eq!(shard.counts(B), [8 * B - 7, 3 * B, 0, 2 * B, 7 * B - 7]);
    let place = shard.place(7 * B, B).expect("mapped");
    assert_eq!((place.address, place.index, place.is_packed), (40 * B, 7, true));
    assert_eq!(shard.place(8 * B, B), None);
    assert!(shard.owns(41 * B, 5, B) && !shard.owns(42 * B, 5, B));
    shard.pieces.remove(0);
    assert_eq!(shard.trim(B), []);
    assert_eq!(shard.validate(0, 128 << 10, B), Ok(()));
    // A blob that is cut right behind it, where the compressed one's offsets would lead.
    shard.blobs.insert(42 * B, Blob { birth: 7, checksums: row([&[4], &[5]]), share: None, packed: None });
    shard.pieces.insert(9 * B, Piece { len: 4096, blob: 42 * B, blob_offset: 0 });
    let before = shard.pieces.get(3 * B).copied();
    assert_eq!(shard.trim(B), [Extent { start: 43 * B, len: B }]);
    assert_eq!(shard.pieces.get(3 * B).copied(), before);
    shard.pieces.remove(3 * B);
    assert_eq!(shard.trim(B), [Extent { start: 40 * B, len: 2 * B }]);
    assert_eq!(shard.validate(0, 128 << 10, B), Ok(()));
}

#[test]
fn impossible_compressed_blobs_are_refused() {
    let with = |raw_blocks, bytes| {
        let mut shard = compressed();
        let Some((_, blob)) = shard.blobs.at_mut(0) else { panic!("there is one") };
        blob.packed = Some(Packed { algorithm: Algorithm::Lz4, raw_blocks, bytes });
        shard.validate(0, 128 << 10, B)
    };
    assert_eq!(with(8, 4097), Ok(()));
    for (raw_blocks, bytes) in [(8, 4096), (8, 8193), (8, 0), (2, 5000), (7, 5000), (33, 5000)] {
        assert!(with(raw_blocks, bytes).is_err(), "{raw_blocks} blocks, {bytes} bytes");
    }
}

#[test]
fn trimming_cuts_a_blob_in_the_middle() {
    let mut shard = sample();
    shard.pieces.insert(0, Piece { len: 100, blob: 40 * B, blob_offset: 0 });
    shard.pieces.insert(3 * B + 7, Piece { len: 20, blob: 40 * B, blob_offset: 3 * 4096 + 7 });
    shard.pieces.remove(5 * B + 200);
    let freed = shard.trim(B);
    assert_eq!(freed, vec![Extent { start: 41 * B, len: 2 * B }]);
    assert_eq!(shard.validate(0, 128 << 10, B), Ok(()));
    assert_eq!(shard.place(3 * B, B).map(|p| (p.address, p.checksum)), Some((43 * B, one(4))));
    assert_eq!(shard.allocated(B), 3 * B);
    shard.pieces = Sorted::default();
    assert_eq!(shard.trim(B).iter().map(|e| e.len).sum::<u64>(), 3 * B);
    assert!(shard.blobs.is_empty());
}

proptest! {
    /// Whatever is forgotten in whatever order: each block comes back once, when nothing uses it any more, and what stays is where it
    /// was, under its checksum.
    #[test]
    fn trimming_gives_back_what_nothing_uses(
        blobs in prop::collection::vec((1u8..5, 0u64..2, any::<bool>()), 1..6),
        holes in prop::collection::vec((0..40 * B, 1..4 * B), 1..9),
    ) {
        let (mut shard, mut owned) = (Shard::default(), BTreeSet::new());
        let (mut address, mut logical) = (40 * B, 0);
        for (birth, (blocks, gap, is_packed)) in (1u8..).zip(blobs) {
            address += gap * B;
            let contents: Vec<[u8; 2]> = (0..blocks).map(|number| [birth, number]).collect();
            let checksums = Checksums::of_blocks(ChecksumKind::Crc32c, contents.iter().map(|content| &content[..]));
            let blocks = u32::from(blocks);
            let packed = Packed { algorithm: Algorithm::Lz4, raw_blocks: 2 * blocks, bytes: blocks * 4096 - 100 };
            let packed = is_packed.then_some(packed);
            let raw = packed.map_or(blocks, |packed| packed.raw_blocks);
            shard.blobs.insert(address, Blob { birth: birth.into(), checksums, share: None, packed });
            shard.pieces.insert(logical, Piece { len: raw * 4096, blob: address, blob_offset: 0 });
            owned.extend((0..u64::from(blocks)).map(|number| address + number * B));
            address += u64::from(blocks) * B;
            logical += u64::from(raw) * B;
        }
        let blocks_of = |extent: Extent| (extent.start..extent.end()).step_by(4096);
        let before = shard.clone();
        prop_assert_eq!(before.validate(0, 256 << 10, B), Ok(()));
        for (from, len) in holes {
            shard.punch(from, from + len);
            for block in shard.trim(B).into_iter().flat_map(blocks_of) {
                prop_assert!(owned.remove(&block), "{block:#x} comes back that is not there");
            }
            // Which says, too, that each block of an uncompressed blob is used.
            prop_assert_eq!(shard.validate(0, 256 << 10, B), Ok(()));
            prop_assert_eq!(&shard.extents(B).flat_map(blocks_of).collect::<BTreeSet<_>>(), &owned);
            for logical in (0..40 * B).step_by(4096) {
                let Some(place) = shard.place(logical, B) else { continue };
                let was = before.place(logical, B).map(|was| (was.address, was.index, was.checksum, was.birth));
                let index = if place.is_packed { Some(place.index) } else { was.map(|(_, index, ..)| index) };
                prop_assert_eq!(was, index.map(|index| (place.address, index, place.checksum, place.birth)));
            }
        }
    }
}

proptest! {
    /// Blocks over blocks, over holes and over parts of blocks: each has the place it was given last, and what it was in comes back
    /// once.
    #[test]
    fn blocks_that_are_overwritten_come_back(
        steps in prop::collection::vec((0u64..16, 1u64..5, any::<bool>(), prop::option::of((0..16 * B, 1..3 * B))), 1..30),
    ) {
        let (mut shard, mut owned) = (Shard::default(), BTreeSet::new());
        let mut places: BTreeMap<u64, (u64, Checksum)> = BTreeMap::new();
        let mut address = 40 * B;
        let blocks_of = |extent: Extent| (extent.start..extent.end()).step_by(4096);
        for (birth, (first, count, is_scattered, hole)) in (1u8..).zip(steps) {
            let mut new: Vec<NewBlock> = (0..count).map(|number| (address + number * B, one(birth))).collect();
            address += count * B;
            if is_scattered {
                new.reverse();
            }
            owned.extend(new.iter().map(|(address, _)| *address));
            places.extend((first..).map(|block| block * B).zip(new.iter().copied()));
            let freed = shard.overwrite(first * B, &new, birth.into(), B);
            let cut = hole.map(|(from, len)| {
                shard.punch(from, from + len);
                // Of a block of which a part is forgotten, something may be left or not.
                places.retain(|at, _| *at + B <= from || *at >= from + len || shard.place(*at, B).is_some());
                shard.trim(B)
            });
            for block in freed.into_iter().chain(cut.into_iter().flatten()).flat_map(blocks_of) {
                prop_assert!(owned.remove(&block), "{block:#x} comes back that is not there");
            }
            prop_assert_eq!(shard.validate(0, 128 << 10, B), Ok(()));
            prop_assert_eq!(&shard.extents(B).flat_map(blocks_of).collect::<BTreeSet<_>>(), &owned);
            for logical in (0..20 * B).step_by(4096) {
                let place = shard.place(logical, B).map(|place| (place.address, place.checksum));
                prop_assert_eq!(place, places.get(&logical).copied());
            }
        }
    }
}
