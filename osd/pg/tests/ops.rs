//! Each op, each of its errors: what is there before, the request, what the client gets.

#![expect(clippy::expect_used, reason = "tests")]

mod world;

use store::{Compressibility, Hints, ObjectStore};
use wire::msg::{Op, OpArgs, OpCode as O, OpFlags, RequestFlags};
use wire::types::SnapId;
use world::{
    World, args, attr, bytes, class_call, encoded, extent, map, names, object, op, truncated, with, write,
};

const ENOENT: i32 = -2;
const EEXIST: i32 = -17;
const EINVAL: i32 = -22;
const EFBIG: i32 = -27;
const ERANGE: i32 = -34;
const ENAMETOOLONG: i32 = -36;
const ENODATA: i32 = -61;
const EOVERFLOW: i32 = -75;
const EMSGSIZE: i32 = -90;
const EOPNOTSUPP: i32 = -95;
const ECANCELED: i32 = -125;
const MIB: u64 = 1 << 20;

/// A world in which the object `x` holds `0123456789`, the attribute `a` = `10` and omap entries k1 to k3.
fn furnished() -> World {
    let mut world = World::new();
    let reply = world.run(
        "x",
        &[
            write(O::WRITE_FULL, 0, b"0123456789"),
            attr(O::SETXATTR, "a", b"10", (0, 0)),
            encoded(O::OMAP_SET_VALUES, |w| map(w, &[("k1", "v1"), ("k2", "v2"), ("k3", "v3")])),
            with(op(O::OMAP_SET_HEADER), b"head"),
        ],
    );
    assert_eq!(reply.result, 0);
    world
}

/// Runs `ops` on `x` of a furnished world and compares the result and the bytes of the last op.
#[track_caller]
fn check(ops: &[Op], result: i32, data: &[u8]) {
    let reply = furnished().run("x", ops);
    assert_eq!(reply.result, result, "{ops:?}");
    assert_eq!(reply.data.last().expect("an op"), data, "{ops:?}");
}

/// The same, of a change: afterwards the object holds `content`.
#[track_caller]
fn check_change(ops: &[Op], result: i32, content: &[u8]) {
    let mut world = furnished();
    let reply = world.run("x", ops);
    assert_eq!(reply.result, result, "{ops:?}");
    let read = world.run("x", &[extent(O::READ, 0, 0)]);
    assert_eq!(read.data[0], content, "{ops:?}");
}

/// Runs `ops` on an object that does not exist.
#[track_caller]
fn check_missing(ops: &[Op], result: i32, exists_after: bool) {
    let mut world = furnished();
    assert_eq!(world.run("y", ops).result, result, "{ops:?}");
    assert_eq!(world.run("y", &[op(O::STAT)]).result, if exists_after { 0 } else { ENOENT }, "{ops:?}");
}

#[test]
fn reads() {
    check(&[extent(O::READ, 0, 0)], 0, b"0123456789");
    check(&[extent(O::SYNC_READ, 2, 3)], 0, b"234");
    check(&[extent(O::READ, 8, 100)], 0, b"89");
    check(&[extent(O::READ, 10, 1)], 0, b"");
    check(&[extent(O::READ, u64::MAX, u64::MAX)], 0, b"");
    let newer = truncated(extent(O::READ, 0, 0), 1, 4);
    check(std::slice::from_ref(&newer), 0, b"0123");
    check_missing(&[extent(O::READ, 0, 0)], ENOENT, false);
}

#[test]
fn sparse_reads() {
    let two = |offset: u64, data: &[u8]| {
        bytes(|w| {
            w.u32(1);
            w.u64(offset);
            w.u64(data.len() as u64);
            w.blob(data);
        })
    };
    check(&[extent(O::SPARSE_READ, 2, 3)], 0, &two(2, b"234"));
    check(&[extent(O::SPARSE_READ, 8, 50)], 0, &two(8, b"89"));
    check(&[extent(O::SPARSE_READ, 10, 5)], 0, &[0; 8]);
    check(&[truncated(extent(O::SPARSE_READ, 0, 5), 1, 0)], EINVAL, b"");
    check(&[extent(O::MAPEXT, 0, 50)], 0, &two(0, b"0123456789")[..20]);
}

#[test]
fn stats() {
    let expected = bytes(|w| {
        w.u64(10);
        w.u32(1000);
        w.u32(5);
    });
    check(&[op(O::STAT)], 0, &expected);
    check_missing(&[op(O::STAT)], ENOENT, false);
    check_missing(&[op(O::STAT), write(O::WRITE_FULL, 0, b"z")], ENOENT, false);
}

#[test]
fn checksums() {
    let sum = |offset, length, chunk_size, algorithm, init: &[u8]| {
        with(args(O::CHECKSUM, OpArgs::Checksum { offset, length, chunk_size, algorithm }), init)
    };
    let seed = [0xff; 4];
    // The values come from a real OSD: crc32c of "123456789" with seed -1, and xxhash of the ten digits.
    check(&[sum(1, 9, 0, 2, &seed)], 0, &[1, 0, 0, 0, 0x7c, 0x6d, 0xf9, 0x1c]);
    let whole = furnished().run("x", &[sum(0, 0, 0, 2, &seed)]).data;
    check(&[sum(0, 10, 0, 2, &seed)], 0, &whole[0]);
    check(&[sum(0, 10, 5, 2, &seed)], 0, &{
        let mut out = vec![2, 0, 0, 0];
        for half in ["01234", "56789"] {
            out.extend_from_slice(&(!crc32c::crc32c(half.as_bytes())).to_le_bytes());
        }
        out
    });
    check(&[sum(20, 5, 0, 2, &seed)], 0, b"");
    check(&[sum(0, 0, 4, 2, &seed)], EINVAL, b"");
    check(&[sum(0, 10, 4, 2, &seed)], EINVAL, b"");
    check(&[sum(4, 8, 4, 2, &seed)], EINVAL, b"");
    check(&[sum(0, 10, 0, 3, &seed)], EINVAL, b"");
    check(&[sum(0, 10, 0, 2, &seed[..3])], EINVAL, b"");
    check(&[sum(0, 10, 0, 1, &seed)], EINVAL, b"");
    check(&[sum(0, 10, 0, 1, &[0; 8])], 0, &{
        let mut out = vec![1, 0, 0, 0];
        out.extend_from_slice(&twox_hash::XxHash64::oneshot(0, b"0123456789").to_le_bytes());
        out
    });
}

#[test]
fn compares_extents() {
    check(&[write(O::CMPEXT, 3, b"345")], 0, b"");
    check(&[write(O::CMPEXT, 3, b"355")], -4096, b"");
    check(&[write(O::CMPEXT, 8, b"89\0\0")], 0, b"");
    check(&[write(O::CMPEXT, 8, b"89\0x")], -4098, b"");
    check_missing(&[write(O::CMPEXT, 0, b"\0")], ENOENT, false);
    check_missing(&[write(O::CMPEXT, 0, b"\0\0"), write(O::WRITE, 0, b"q")], 0, true);
    check_change(&[write(O::CMPEXT, 0, b"9"), write(O::WRITE, 0, b"q")], -4095, b"0123456789");
}

#[test]
fn asserts_versions() {
    let version = |version| args(O::ASSERT_VERSION, OpArgs::AssertVersion { version });
    check(&[version(1)], 0, b"");
    check(&[version(0)], EINVAL, b"");
    check(&[version(2)], EOVERFLOW, b"");
    let mut world = furnished();
    assert_eq!(world.run("x", &[write(O::WRITE, 0, b"z")]).versions.user, 2);
    assert_eq!(world.run("x", &[version(1)]).result, ERANGE);
}

#[test]
fn writes() {
    check_change(&[write(O::WRITE, 8, b"abcd")], 0, b"01234567abcd");
    check_change(&[write(O::WRITE, 12, b"a")], 0, b"0123456789\0\0a");
    check_change(&[write(O::WRITE, 12, b"")], 0, b"0123456789\0\0");
    check_change(&[write(O::WRITE, 3, b"")], 0, b"0123456789");
    check_change(&[with(extent(O::WRITE, 0, 2), b"abc")], EINVAL, b"0123456789");
    check_change(&[write(O::WRITE, 128 * MIB, b"a")], EFBIG, b"0123456789");
    check_change(&[write(O::WRITE, 128 * MIB - 1, b"ab")], EFBIG, b"0123456789");
    check_change(&[write(O::WRITE, u64::MAX, b"a")], EFBIG, b"0123456789");
    check_change(&[write(O::WRITE_FULL, 0, b"ab")], 0, b"ab");
    check_change(&[write(O::WRITE_FULL, 0, b"")], 0, b"");
    check_change(&[with(extent(O::WRITE_FULL, 0, 2), b"a")], EINVAL, b"0123456789");
    check_change(&[write(O::APPEND, 77, b"ab")], 0, b"0123456789ab");
    check_missing(&[write(O::WRITE, 0, b"")], 0, true);
    check_missing(&[write(O::WRITE_FULL, 0, b"")], 0, true);
    check_missing(&[write(O::APPEND, 0, b"a")], 0, true);
}

#[test]
fn writes_around_truncations() {
    let mut world = furnished();
    // A newer truncation comes along with the write.
    world.run("x", &[truncated(write(O::WRITE, 0, b"ab"), 2, 4)]);
    assert_eq!(world.run("x", &[extent(O::READ, 0, 0)]).data[0], b"ab23");
    // A write from before it does not reach beyond the end.
    world.run("x", &[truncated(write(O::WRITE, 3, b"zz"), 1, 10)]);
    assert_eq!(world.run("x", &[extent(O::READ, 0, 0)]).data[0], b"ab2z");
    // Old truncations are ignored; new ones must agree with themselves.
    assert_eq!(world.run("x", &[truncated(extent(O::TRUNCATE, 1, 0), 2, 1)]).result, 0);
    assert_eq!(world.run("x", &[truncated(extent(O::TRUNCATE, 1, 0), 3, 2)]).result, EINVAL);
    assert_eq!(world.run("x", &[truncated(op(O::TRIM_TRUNC), 3, 2)]).result, 0);
    assert_eq!(world.run("x", &[extent(O::READ, 0, 0)]).data[0], b"ab");
}

#[test]
fn repeats_patterns() {
    let same = |offset, length, pattern: &[u8]| {
        let pattern_length = pattern.len() as u64;
        with(args(O::WRITE_SAME, OpArgs::WriteSame { offset, length, pattern_length }), pattern)
    };
    check_change(&[same(8, 6, b"ab")], 0, b"01234567ababab");
    check_change(&[same(8, 0, b"ab")], 0, b"0123456789");
    check_change(&[same(8, 5, b"ab")], EINVAL, b"0123456789");
    check_change(&[same(8, 5, b"")], EINVAL, b"0123456789");
    check_change(&[same(0, 129 * MIB, b"a")], EFBIG, b"0123456789");
    check_missing(&[same(0, 200_000, b"abc")], EINVAL, false);
    check_missing(&[same(0, 300_000, b"abc")], 0, true);
}

#[test]
fn zeroes_and_truncates() {
    check_change(&[extent(O::ZERO, 2, 3)], 0, b"01\0\0\x0056789");
    check_change(&[extent(O::ZERO, 2, 8)], 0, b"01");
    check_change(&[extent(O::ZERO, 2, 100)], 0, b"01");
    check_change(&[extent(O::ZERO, 10, 3)], 0, b"0123456789");
    check_change(&[extent(O::ZERO, 2, 0)], EINVAL, b"0123456789");
    check_change(&[extent(O::ZERO, 128 * MIB, 1)], EFBIG, b"0123456789");
    check_change(&[extent(O::TRUNCATE, 4, 0)], 0, b"0123");
    check_change(&[extent(O::TRUNCATE, 12, 0)], 0, b"0123456789\0\0");
    check_change(&[extent(O::TRUNCATE, 4, 0), extent(O::TRUNCATE, 6, 0)], 0, b"0123\0\0");
    check_change(&[extent(O::TRUNCATE, 128 * MIB, 0)], EFBIG, b"0123456789");
    check_missing(&[extent(O::ZERO, 0, 3)], 0, false);
    check_missing(&[extent(O::TRUNCATE, 5, 0)], 0, false);
}

#[test]
fn creates_and_deletes() {
    let exclusive = op(O::CREATE).with_flags(OpFlags::EXCLUSIVE);
    check_missing(&[op(O::CREATE)], 0, true);
    check_missing(std::slice::from_ref(&exclusive), 0, true);
    check_missing(&[op(O::DELETE)], ENOENT, false);
    check_missing(&[op(O::CREATE), op(O::DELETE)], 0, false);
    check_missing(&[encoded(O::CREATE, |w| w.str("category"))], 0, true);
    check_missing(&[with(op(O::CREATE), &[9, 0, 0, 0])], EINVAL, false);
    check_change(&[exclusive], EEXIST, b"0123456789");
    check_change(&[op(O::CREATE)], 0, b"0123456789");
    // A new life has nothing of the old one.
    check_change(&[op(O::DELETE), write(O::WRITE, 2, b"a")], 0, b"\0\0a");
    let mut world = furnished();
    world.run("x", &[op(O::DELETE), op(O::CREATE)]);
    assert_eq!(world.run("x", &[op(O::GETXATTRS)]).data[0], [0; 4]);
    assert_eq!(world.run("x", &[op(O::OMAP_GET_HEADER)]).data[0], b"");
    // Hints create, and are kept.
    check_missing(&[op(O::SET_ALLOC_HINT)], 0, true);
}

#[test]
fn attributes() {
    let all = |entries: &[(&str, &str)]| bytes(|w| map(w, entries));
    check(&[attr(O::GETXATTR, "a", b"", (0, 0))], 0, b"10");
    check(&[attr(O::GETXATTR, "b", b"", (0, 0))], ENODATA, b"");
    check(&[op(O::GETXATTRS)], 0, &all(&[("a", "10")]));
    check(&[with(attr(O::GETXATTR, "long", b"", (0, 0)), b"lon")], EINVAL, b"");
    check_missing(&[attr(O::SETXATTR, "a", b"1", (0, 0))], 0, true);
    check_missing(&[attr(O::RMXATTR, "a", b"", (0, 0))], ENOENT, false);
    check_missing(&[attr(O::GETXATTR, "a", b"", (0, 0)), op(O::CREATE)], ENOENT, false);
    check_missing(&[op(O::GETXATTRS), op(O::CREATE)], ENOENT, false);
    let mut world = furnished();
    assert_eq!(world.run("x", &[attr(O::RMXATTR, "nope", b"", (0, 0))]).result, 0);
    assert_eq!(world.run("x", &[attr(O::SETXATTR, "b", b"", (0, 0))]).result, 0);
    assert_eq!(world.run("x", &[attr(O::RMXATTR, "a", b"", (0, 0))]).result, 0);
    assert_eq!(world.run("x", &[op(O::GETXATTRS)]).data[0], all(&[("b", "")]));
    let long = "n".repeat(101);
    assert_eq!(world.run("x", &[attr(O::SETXATTR, &long, b"", (0, 0))]).result, ENAMETOOLONG);
    assert_eq!(world.run("x", &[attr(O::SETXATTR, &long[1..], b"", (0, 0))]).result, 0);
    // The store's own attributes are out of reach.
    assert_eq!(world.run("x", &[attr(O::GETXATTR, "_", b"", (0, 0))]).result, ENODATA);
}

#[test]
fn compares_attributes() {
    let text = |name, relation, value: &[u8]| attr(O::CMPXATTR, name, value, (relation, 1));
    let number = |relation, value: u64| attr(O::CMPXATTR, "a", &value.to_le_bytes(), (relation, 2));
    // Given value, relation, stored "10".
    for (given, holds) in [
        ("0", [false, true, false, false, true, true]),
        ("10", [true, false, false, true, false, true]),
        ("9", [false, true, true, true, false, false]),
    ] {
        for (relation, holds) in (1..).zip(holds) {
            check(&[text("a", relation, given.as_bytes())], if holds { 1 } else { ECANCELED }, b"");
        }
    }
    // As a number 9 is less than 10.
    for (given, holds) in [
        (9, [false, true, false, false, true, true]),
        (10, [true, false, false, true, false, true]),
        (11, [false, true, true, true, false, false]),
    ] {
        for (relation, holds) in (1..).zip(holds) {
            check(&[number(relation, given)], if holds { 1 } else { ECANCELED }, b"");
        }
    }
    check(&[text("absent", 1, b"")], 1, b"");
    check(&[text("a", 7, b"")], EINVAL, b"");
    check(&[attr(O::CMPXATTR, "a", b"10", (1, 3))], EINVAL, b"");
    check(&[attr(O::CMPXATTR, "a", b"10", (1, 2))], EINVAL, b"");
    check_missing(&[text("a", 1, b""), op(O::CREATE)], ENOENT, false);
}

#[test]
fn omap_reads() {
    let keys = |after: &str, max: u64| {
        encoded(O::OMAP_GET_KEYS, |w| {
            w.str(after);
            w.u64(max);
        })
    };
    let vals = |after: &str, max: u64, prefix: &str| {
        encoded(O::OMAP_GET_VALUES, |w| {
            w.str(after);
            w.u64(max);
            w.str(prefix);
        })
    };
    let page = |entries: &[(&str, &str)], more: bool| {
        bytes(|w| {
            map(w, entries);
            w.bool(more);
        })
    };
    check(
        &[keys("", 10)],
        0,
        &bytes(|w| {
            names(w, &["k1", "k2", "k3"]);
            w.bool(false)
        }),
    );
    check(
        &[keys("k1", 1)],
        0,
        &bytes(|w| {
            names(w, &["k2"]);
            w.bool(true)
        }),
    );
    check(
        &[keys("k2", 1)],
        0,
        &bytes(|w| {
            names(w, &["k3"]);
            w.bool(false)
        }),
    );
    check(
        &[keys("", 0)],
        0,
        &bytes(|w| {
            names(w, &[]);
            w.bool(true)
        }),
    );
    check(&[vals("", 2, "k")], 0, &page(&[("k1", "v1"), ("k2", "v2")], true));
    check(&[vals("", 9, "k2")], 0, &page(&[("k2", "v2")], false));
    check(&[vals("k3", 9, "")], 0, &page(&[], false));
    check(&[with(op(O::OMAP_GET_VALUES), b"\x01")], EINVAL, b"");
    check(&[op(O::OMAP_GET_HEADER)], 0, b"head");
    check(
        &[encoded(O::OMAP_GET_VALUES_BY_KEYS, |w| names(w, &["k2", "zz", "k1"]))],
        0,
        &bytes(|w| map(w, &[("k1", "v1"), ("k2", "v2")])),
    );
    check_missing(&[keys("", 5)], ENOENT, false);
}

#[test]
fn what_a_request_returns_fits_a_reply() {
    let mut world = furnished();
    // The largest object can be read, but not twice in one request.
    assert_eq!(world.run("x", &[write(O::WRITE, 128 * MIB - 1, b"z")]).result, 0);
    let whole = extent(O::READ, 0, 128 * MIB);
    let reply = world.run("x", &[whole.clone(), op(O::STAT)]);
    assert_eq!((reply.result, reply.data[0].len() as u64), (0, 128 * MIB));
    let reply = world.run("x", &[whole.clone(), whole.clone().with_flags(OpFlags::FAIL_OK), op(O::STAT)]);
    assert_eq!(reply.result, EMSGSIZE);
    assert_eq!(reply.values, [0, EMSGSIZE, 0]);
    assert!(reply.data[1].is_empty());
    // Nor many long values.
    let keys: Vec<String> = (10..30).map(|number| format!("long{number}")).collect();
    for key in &keys {
        let value = vec![7; 8 << 20];
        let set = encoded(O::OMAP_SET_VALUES, |w| {
            w.u32(1);
            w.str(key);
            w.blob(&value);
        });
        assert_eq!(world.run("y", &[set]).result, 0);
    }
    let by_keys = |count: usize| {
        let some: Vec<&str> = keys[..count].iter().map(String::as_str).collect();
        encoded(O::OMAP_GET_VALUES_BY_KEYS, |w| names(w, &some))
    };
    assert_eq!(world.run("y", &[by_keys(15)]).result, 0);
    assert_eq!(world.run("y", &[by_keys(20)]).result, EMSGSIZE);
}

#[test]
fn omap_lookups_of_many_keys_find_all() {
    let mut world = furnished();
    let entries: Vec<(String, String)> = (100..150).map(|n| (format!("m{n}"), format!("v{n}"))).collect();
    let borrowed: Vec<(&str, &str)> = entries.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(world.run("x", &[encoded(O::OMAP_SET_VALUES, |w| map(w, &borrowed))]).result, 0);
    let keys: Vec<&str> = borrowed.iter().map(|(key, _)| *key).collect();
    let reply = world.run("x", &[encoded(O::OMAP_GET_VALUES_BY_KEYS, |w| names(w, &keys))]);
    assert_eq!(reply.data[0], bytes(|w| map(w, &borrowed)));
    let compare = |last: &str| {
        encoded(O::OMAP_CMP, |w| {
            w.u32(50);
            for (number, (key, value)) in borrowed.iter().enumerate() {
                w.str(key);
                w.str(if number == 49 { last } else { *value });
                w.s32(1);
            }
        })
    };
    assert_eq!(world.run("x", &[compare("v149")]).result, 0);
    assert_eq!(world.run("x", &[compare("other")]).result, ECANCELED);
}

#[test]
fn omap_comparisons() {
    let cmp = |key: &str, value: &str, relation: i32| {
        encoded(O::OMAP_CMP, |w| {
            w.u32(1);
            w.str(key);
            w.str(value);
            w.s32(relation);
        })
    };
    check(&[cmp("k1", "v1", 1)], 0, b"");
    check(&[cmp("k1", "v2", 1)], ECANCELED, b"");
    check(&[cmp("k1", "v0", 3)], 0, b"");
    check(&[cmp("k1", "v1", 3)], ECANCELED, b"");
    check(&[cmp("k1", "v2", 5)], 0, b"");
    check(&[cmp("absent", "", 1)], 0, b"");
    check(&[cmp("absent", "a", 5)], 0, b"");
    check(&[cmp("k1", "v1", 2)], EINVAL, b"");
    check_missing(&[cmp("k1", "", 1)], ENOENT, false);
    check_missing(&[cmp("k1", "", 1), op(O::CREATE)], ENOENT, false);
}

#[test]
fn omap_changes_are_seen_by_later_ops() {
    let list = encoded(O::OMAP_GET_VALUES, |w| {
        w.str("");
        w.u64(10);
        w.str("");
    });
    // Reads of a changing request come back only with RETURNVEC, and only if short, so look at what is stored too.
    #[track_caller]
    fn see(change: &[Op], list: &Op, expected: &[(&str, &str)]) {
        let mut world = furnished();
        let page = bytes(|w| {
            map(w, expected);
            w.bool(false);
        });
        let mut ops = change.to_vec();
        ops.push(list.clone());
        let mut request = world.request("x", &ops);
        request.flags = RequestFlags::RETURN_VECTOR;
        let reply = world.serve(&request);
        assert_eq!(reply.data.last().expect("an op"), &page, "{change:?}");
        assert_eq!(world.run("x", std::slice::from_ref(list)).data[0], page, "{change:?}");
    }
    let set = |entries: &[(&str, &str)]| encoded(O::OMAP_SET_VALUES, |w| map(w, entries));
    let remove = |keys: &[&str]| encoded(O::OMAP_REMOVE_KEYS, |w| names(w, keys));
    let range = |first: &str, end: &str| {
        encoded(O::OMAP_REMOVE_KEY_RANGE, |w| {
            w.str(first);
            w.str(end);
        })
    };
    see(&[set(&[("k2", "n"), ("k0", "z")])], &list, &[("k0", "z"), ("k1", "v1"), ("k2", "n"), ("k3", "v3")]);
    see(&[remove(&["k2", "zz"])], &list, &[("k1", "v1"), ("k3", "v3")]);
    see(&[range("k1", "k3")], &list, &[("k3", "v3")]);
    see(&[range("k1", "k3"), set(&[("k2", "n")])], &list, &[("k2", "n"), ("k3", "v3")]);
    see(&[set(&[("k2", "n")]), range("k2", "k9")], &list, &[("k1", "v1")]);
    see(&[op(O::OMAP_CLEAR), set(&[("k2", "n")])], &list, &[("k2", "n")]);
    see(&[op(O::DELETE), set(&[("k2", "n")])], &list, &[("k2", "n")]);
    for change in [remove(&["a"]), range("a", "b"), op(O::OMAP_CLEAR)] {
        check_missing(&[change], ENOENT, false);
    }
    check_missing(&[set(&[])], 0, true);
    check_missing(&[op(O::OMAP_SET_HEADER)], 0, true);
}

#[test]
fn data_changes_are_seen_by_later_ops() {
    let mut world = furnished();
    let mut request = world.request(
        "x",
        &[
            write(O::WRITE, 2, b"ab"),
            extent(O::READ, 0, 6),
            extent(O::ZERO, 0, 3),
            extent(O::TRUNCATE, 5, 0),
            extent(O::READ, 0, 0),
            write(O::APPEND, 0, b"q"),
            attr(O::SETXATTR, "a", b"77", (0, 0)),
            attr(O::GETXATTR, "a", b"", (0, 0)),
            op(O::STAT),
        ],
    );
    request.flags = RequestFlags::RETURN_VECTOR;
    let reply = world.serve(&request);
    assert_eq!(reply.result, 0);
    assert_eq!(reply.data[1], b"01ab45");
    assert_eq!(reply.data[4], b"\0\0\0b4");
    assert_eq!(reply.data[7], b"77");
    assert_eq!(reply.data[8][..8], 6u64.to_le_bytes());
    assert_eq!(world.run("x", &[extent(O::READ, 0, 0)]).data[0], b"\0\0\0b4q");
}

#[test]
fn a_failure_stops_the_request_and_undoes_it() {
    let mut world = furnished();
    let ops =
        [write(O::WRITE, 0, b"zzz"), attr(O::GETXATTR, "none", b"", (0, 0)), write(O::WRITE, 3, b"zzz")];
    let reply = world.run("x", &ops);
    assert_eq!((reply.result, reply.values), (ENODATA, vec![0, ENODATA, 0]));
    assert_eq!(world.run("x", &[extent(O::READ, 0, 0)]).data[0], b"0123456789");
    // Unless the op may fail.
    let mut lenient = ops;
    lenient[1].flags = OpFlags::FAIL_OK;
    let reply = world.run("x", &lenient);
    assert_eq!((reply.result, reply.values), (0, vec![0, ENODATA, 0]));
    assert_eq!(world.run("x", &[extent(O::READ, 0, 0)]).data[0], b"zzzzzz6789");
}

#[test]
fn results_of_changing_requests_need_a_flag() {
    let mut world = furnished();
    let ops = [attr(O::CMPXATTR, "a", b"10", (1, 1)), extent(O::READ, 0, 4), write(O::WRITE, 0, b"z")];
    let reply = world.run("x", &ops);
    assert_eq!((reply.result, reply.values, reply.data[1].len()), (0, vec![1, 0, 0], 0));
    let mut request = world.request("x", &[write(O::WRITE, 0, b"y"), attr(O::CMPXATTR, "a", b"10", (1, 1))]);
    request.flags = RequestFlags::RETURN_VECTOR;
    assert_eq!(world.serve(&request).result, 1);
    // Too much to return: nothing happens.
    world.run("x", &[write(O::WRITE_FULL, 0, &[7; 65])]);
    let mut request = world.request("x", &[extent(O::READ, 0, 0), write(O::WRITE, 0, b"q")]);
    request.flags = RequestFlags::RETURN_VECTOR;
    let reply = world.serve(&request);
    assert_eq!((reply.result, reply.values, reply.data[0].len()), (EOVERFLOW, vec![EOVERFLOW, 0], 0));
    assert_eq!(world.run("x", &[extent(O::READ, 0, 0)]).data[0], [7; 65]);
    // A write that changes nothing answers like a read.
    let reply = world.run("y", &[extent(O::TRUNCATE, 0, 0)]);
    assert_eq!((reply.result, reply.versions.user), (0, 0));
    assert_ne!(reply.versions.replay.version, 0);
}

#[test]
fn refuses_what_is_wrong_with_the_whole_request() {
    let mut world = furnished();
    let mut refused = |result: i32, name: &str, ops: &[Op], change: &dyn Fn(&mut pg::Request)| {
        let mut request = world.request(name, ops);
        change(&mut request);
        let reply = world.serve(&request);
        assert_eq!(reply.result, result, "{request:?}");
        assert!(reply.values.iter().all(|&value| value == 0));
        assert_eq!(reply.versions, pg::ReplyVersions::default());
    };
    let (read, put) = (extent(O::READ, 0, 0), write(O::WRITE, 0, b"a"));
    let (read, put) = (std::slice::from_ref(&read), std::slice::from_ref(&put));
    let same = |_: &mut pg::Request| {};
    refused(EINVAL, "", read, &same);
    refused(ENAMETOOLONG, &"n".repeat(2049), read, &same);
    refused(ENAMETOOLONG, "x", read, &|r| r.object.key = vec![b'k'; 2049].into());
    refused(ENAMETOOLONG, "x", read, &|r| r.object.namespace = vec![b'k'; 257].into());
    refused(EINVAL, "x", read, &|r| r.flags = RequestFlags::PARALLEL_EXEC);
    refused(EINVAL, "x", &[with(class_call("lock", "lock", b""), b"lo")], &same);
    for (class, method) in [("nope", "lock"), ("lock", "nope")] {
        refused(EOPNOTSUPP, "x", &[class_call(class, method, b"")], &same);
    }
    refused(EINVAL, "x", put, &|r| r.snap = SnapId(4));
    refused(EINVAL, "x", read, &|r| r.snap = SnapId::DIR);
    refused(EINVAL, "x", put, &|r| (r.snap_seq, r.snaps) = (SnapId(4), vec![SnapId(3), SnapId(4)]));
    refused(EINVAL, "x", put, &|r| (r.snap_seq, r.snaps) = (SnapId(4), vec![SnapId(5)]));
    refused(EOPNOTSUPP, "x", put, &|r| (r.snap_seq, r.snaps) = (SnapId(4), vec![SnapId(4), SnapId(3)]));
    let half = vec![0; 46 << 20];
    refused(-90, "x", &[write(O::WRITE, 0, &half), write(O::WRITE, 0, &half)], &same);
    let mut fits = world.request(&"n".repeat(2048), put);
    fits.object.namespace = vec![b'k'; 256].into();
    assert_eq!(world.serve(&fits).result, 0);
    // Unknown ops fail where they stand.
    assert_eq!(world.run("x", &[op(O(0x1fff))]).values, [EOPNOTSUPP]);
    assert_eq!(world.run("x", &[op(O(0x2fff))]).values, [EOPNOTSUPP]);
    assert_eq!(world.run("x", &[op(O::LIST_SNAPS)]).values, [EINVAL]);
}

#[test]
fn snapshots_show_the_head_of_objects_without_clones() {
    let mut world = furnished();
    let mut at = |snap, code| {
        let mut request = world.request("x", &[extent(code, 0, 4)]);
        request.snap = snap;
        world.serve(&request)
    };
    assert_eq!(at(SnapId(3), O::READ).data[0], b"0123");
    assert_eq!(at(SnapId(0), O::READ).result, ENOENT);
    let listing = at(SnapId::DIR, O::LIST_SNAPS);
    assert_eq!(listing.result, 0);
    assert_eq!(listing.data[0][10..24], [1, 1, 24, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
}

#[test]
fn versions_follow_the_rules() {
    let mut world = World::new();
    let version = |reply: &world::Reply| {
        let versions = reply.versions;
        (versions.replay.version, versions.bad_replay.version, versions.user)
    };
    let one = write(O::WRITE, 0, b"a");
    assert_eq!(version(&world.run("x", std::slice::from_ref(&one))), (1, 1, 1));
    assert_eq!(version(&world.run("x", &[op(O::STAT)])), (0, 1, 1));
    // A failed write takes a version and leaves the object's.
    let bad = with(extent(O::WRITE, 0, 9), b"a");
    assert_eq!(version(&world.run("x", std::slice::from_ref(&bad))), (2, 1, 1));
    // For want of its object: the group's versions.
    assert_eq!(version(&world.run("y", &[op(O::DELETE)])), (3, 2, 1));
    // A failed read has none.
    assert_eq!(version(&world.run("x", &[attr(O::GETXATTR, "z", b"", (0, 0))])), (0, 0, 0));
    // User versions catch up with the group's.
    assert_eq!(version(&world.run("y", std::slice::from_ref(&one))), (4, 4, 4));
    // Nothing changed on no object: its version is 0, old clients see the group's.
    assert_eq!(version(&world.run("z", &[extent(O::TRUNCATE, 1, 0)])), (5, 5, 0));
    assert_eq!(version(&world.run("y", &[op(O::DELETE)])), (6, 6, 6));
}

#[test]
fn modification_times_are_the_writers() {
    let mut world = furnished();
    let mut request = world.request("x", &[write(O::WRITE, 0, b"a")]);
    request.mtime = wire::types::UTime { seconds: 0, nanoseconds: 0 };
    world.serve(&request);
    assert_eq!(world.run("x", &[op(O::STAT)]).data[0][8..12], 1000u32.to_le_bytes());
}

#[test]
fn tells_what_grows() {
    use pg::{Effect, ObjectView, execute, load_state};
    let grows = |name: &str, ops: &[Op]| {
        let mut world = furnished();
        let request = world.request(name, ops);
        let collection = world.group.collection();
        let before = world::now(load_state(&*world.store, collection, &object(name))).expect("readable");
        let view = ObjectView::new(world.store.clone(), collection, object(name), before);
        match world::now(execute(&request, view)).expect("up").effect {
            Effect::Changed(changes) => changes.grew,
            other => panic!("{other:?}"),
        }
    };
    assert!(grows("x", &[write(O::APPEND, 0, b"a")]));
    assert!(grows("y", &[op(O::CREATE)]));
    assert!(grows("x", &[attr(O::SETXATTR, "n", b"v", (0, 0))]));
    assert!(grows("x", &[encoded(O::OMAP_SET_VALUES, |w| map(w, &[("a", "b")]))]));
    assert!(!grows("x", &[write(O::WRITE, 0, b"a")]));
    assert!(!grows("x", &[op(O::DELETE)]));
    assert!(!grows("x", &[extent(O::TRUNCATE, 0, 0)]));
    assert!(!grows("x", &[op(O::OMAP_CLEAR)]));
    assert!(!grows("x", &[attr(O::SETXATTR, "n", b"v", (0, 0)), op(O::DELETE)]));
}

#[test]
fn hints_of_clients_reach_the_store() {
    let mut world = furnished();
    let hint = |flags| {
        let flags = OpArgs::AllocHint { object_size: 4 * MIB, write_size: 4 * MIB, flags };
        args(O::SET_ALLOC_HINT, flags)
    };
    let hints = |world: &World| {
        let stat = world::now(world.store.stat(world.group.collection(), &object("x")));
        stat.expect("it is there").hints
    };
    let compresses = |compression| Hints { compression, ..Hints::default() };
    let streamed = Hints { is_streamed: true, ..Hints::default() };
    // Read, write and access hints say nothing of compression.
    for (flags, expected) in [
        (1 | 4, Hints::default()),
        (256, compresses(Compressibility::Compressible)),
        (256, compresses(Compressibility::Compressible)),
        (512 | 4, compresses(Compressibility::Incompressible)),
        (256 | 512, compresses(Compressibility::Both)),
        (0, Hints::default()),
        // Read in order, and appended to or not changed at all.
        (1 | 4 | 16, streamed),
        (4 | 32, streamed),
        (4 | 32 | 256, Hints { is_streamed: true, ..compresses(Compressibility::Compressible) }),
        (4 | 8 | 32, Hints::default()),
        (2 | 4 | 16, Hints::default()),
        (32, Hints::default()),
        (4, Hints::default()),
    ] {
        assert_eq!(world.run("x", &[hint(flags), write(O::WRITE, 0, b"abc")]).result, 0);
        assert_eq!(hints(&world), expected, "flags {flags}");
    }
    assert_eq!(world.run("x", &[hint(256)]).result, 0);
    assert_eq!(world.run("x", &[op(O::DELETE), hint(256)]).result, 0);
    assert_eq!(hints(&world), compresses(Compressibility::Compressible), "of the new object");
    assert_eq!(world.run("x", &[op(O::DELETE), op(O::CREATE)]).result, 0);
    assert_eq!(hints(&world), Hints::default());
}
