//! Each method of `lock`, each of its errors.

#![expect(clippy::expect_used, reason = "tests")]

mod world;

use bytes::Bytes;
use cls::{MemoryObject, Object};
use wire::codec::Writer;
use wire::types::{EntityName, UTime};
use world::{NOW, bytes, call, caller, caller_at, lock_addr};

const ENOENT: i32 = -2;
const EIO: i32 = -5;
const EBUSY: i32 = -16;
const EEXIST: i32 = -17;
const EINVAL: i32 = -22;
const EXCLUSIVE: u8 = 1;
const SHARED: u8 = 2;
const EPHEMERAL: u8 = 3;
const MAY_RENEW: u8 = 1;
const MUST_RENEW: u8 = 2;

/// What is asked of a lock named `l`.
#[derive(Clone, Copy)]
struct Ask {
    client: u8,
    lock_type: u8,
    cookie: &'static str,
    tag: &'static str,
    seconds: u32,
    flags: u8,
    at: u32,
}

/// Client 1, exclusive, no cookie, no tag, for ever.
const ASK: Ask = Ask { client: 1, lock_type: EXCLUSIVE, cookie: "", tag: "", seconds: 0, flags: 0, at: NOW };

fn lock(object: &mut MemoryObject, ask: Ask) -> i32 {
    let input = bytes(|w| {
        w.env(1, 1, |w| {
            w.str("l");
            w.u8(ask.lock_type);
            w.str(ask.cookie);
            w.str(ask.tag);
            w.str("why");
            w.put(&UTime { seconds: ask.seconds, nanoseconds: 0 });
            w.u8(ask.flags);
        });
    });
    call(object, &caller_at(ask.client, ask.at), "lock", "lock", input).0
}

fn unlock(object: &mut MemoryObject, client: u8, cookie: &str) -> i32 {
    let input = named(|w| w.str(cookie));
    call(object, &caller(client), "lock", "unlock", input).0
}

fn named(rest: impl FnOnce(&mut Writer)) -> Bytes {
    bytes(|w| {
        w.env(1, 1, |w| {
            w.str("l");
            rest(w);
        });
    })
}

/// What get_info tells at a time.
fn info_at(object: &mut MemoryObject, at: u32) -> Bytes {
    let (value, output) = call(object, &caller_at(9, at), "lock", "get_info", named(|_| ()));
    assert_eq!(value, 0);
    output
}

/// A lock held by `holders`: client, cookie, expiration.
fn info(lock_type: u8, tag: &str, holders: &[(u8, &str, u32)]) -> Bytes {
    bytes(|w| {
        w.env(1, 1, |w| {
            w.list_with(holders, |w, &(client, cookie, expiration)| {
                w.env(1, 1, |w| {
                    w.put(&EntityName::client(i64::from(client)));
                    w.str(cookie);
                });
                w.env(1, 1, |w| {
                    w.put(&UTime { seconds: expiration, nanoseconds: 0 });
                    w.put(&lock_addr(client));
                    w.str("why");
                });
            });
            w.u8(lock_type);
            w.str(tag);
        });
    })
}

#[track_caller]
fn check(asks: &[(Ask, i32)], expect: Bytes) {
    let mut object = MemoryObject::default();
    for (step, &(ask, result)) in asks.iter().enumerate() {
        assert_eq!(lock(&mut object, ask), result, "step {step}");
    }
    assert_eq!(info_at(&mut object, NOW), expect);
}

#[test]
fn exclusive_locks_have_one_holder() {
    let other = Ask { client: 2, ..ASK };
    check(
        &[
            (ASK, 0),
            (other, EBUSY),
            (ASK, EEXIST),
            (Ask { cookie: "c", ..ASK }, EBUSY),
            (Ask { lock_type: SHARED, ..other }, EBUSY),
            (Ask { lock_type: EPHEMERAL, ..other }, EBUSY),
        ],
        info(EXCLUSIVE, "", &[(1, "", 0)]),
    );
}

#[test]
fn shared_locks_have_many_holders_with_one_tag() {
    let shared = Ask { lock_type: SHARED, tag: "t", ..ASK };
    check(
        &[
            (shared, 0),
            (Ask { client: 2, ..shared }, 0),
            (Ask { cookie: "c", ..shared }, 0),
            (Ask { client: 3, tag: "u", ..shared }, EBUSY),
            (Ask { client: 3, lock_type: EXCLUSIVE, ..shared }, EBUSY),
            (shared, EEXIST),
            // Another tag is looked at before the own hold.
            (Ask { tag: "u", ..shared }, EBUSY),
        ],
        info(SHARED, "t", &[(1, "", 0), (1, "c", 0), (2, "", 0)]),
    );
}

#[test]
fn renewing_replaces_the_own_hold() {
    let may = Ask { flags: MAY_RENEW, seconds: 30, ..ASK };
    let must = Ask { flags: MUST_RENEW, seconds: 60, ..ASK };
    check(&[(must, ENOENT), (may, 0)], info(EXCLUSIVE, "", &[(1, "", NOW + 30)]));
    check(&[(ASK, 0), (may, 0), (must, 0)], info(EXCLUSIVE, "", &[(1, "", NOW + 60)]));
    check(&[(ASK, 0), (Ask { client: 2, ..may }, EBUSY)], info(EXCLUSIVE, "", &[(1, "", 0)]));
    // The only holder may change the type.
    check(&[(ASK, 0), (Ask { lock_type: SHARED, ..may }, 0)], info(SHARED, "", &[(1, "", NOW + 30)]));
}

#[test]
fn inputs_are_checked() {
    for ask in [
        Ask { lock_type: 0, ..ASK },
        Ask { lock_type: 4, ..ASK },
        Ask { flags: MAY_RENEW | MUST_RENEW, ..ASK },
    ] {
        let mut object = MemoryObject::default();
        assert_eq!(lock(&mut object, ask), EINVAL);
        assert_eq!(object, MemoryObject::default());
    }
    let no_name = bytes(|w| {
        w.env(1, 1, |w| {
            w.str("");
            w.u8(EXCLUSIVE);
            w.zeros(21);
        });
    });
    let mut object = MemoryObject::default();
    object.create(false).expect("an object");
    assert_eq!(call(&mut object, &caller(1), "lock", "lock", no_name.clone()).0, EINVAL);
    assert_eq!(call(&mut object, &caller(1), "lock", "assert_locked", no_name).0, EINVAL);
    for method in ["lock", "unlock", "break_lock", "get_info", "assert_locked", "set_cookie"] {
        assert_eq!(call(&mut object, &caller(1), "lock", method, "").0, EINVAL, "{method}");
        let newer = Bytes::from_static(&[2, 2, 0, 0, 0, 0]);
        assert_eq!(call(&mut object, &caller(1), "lock", method, newer).0, EINVAL, "{method}");
    }
}

#[test]
fn holds_expire() {
    let short = Ask { seconds: 10, tag: "t", ..ASK };
    let other = |at| Ask { client: 2, at, ..ASK };
    let mut object = MemoryObject::default();
    assert_eq!(lock(&mut object, short), 0);
    assert_eq!(info_at(&mut object, NOW + 10), info(EXCLUSIVE, "t", &[(1, "", NOW + 10)]));
    assert_eq!(lock(&mut object, other(NOW + 10)), EBUSY);
    assert_eq!(info_at(&mut object, NOW + 11), info(EXCLUSIVE, "t", &[]));
    assert_eq!(lock(&mut object, other(NOW + 11)), 0);
    assert_eq!(info_at(&mut object, NOW), info(EXCLUSIVE, "", &[(2, "", 0)]));
    // A duration beyond what times can tell lasts until their end.
    let mut object = MemoryObject::default();
    assert_eq!(lock(&mut object, Ask { seconds: u32::MAX, ..ASK }), 0);
    assert_eq!(lock(&mut object, other(u32::MAX)), EBUSY);
}

#[test]
fn unlocking_keeps_the_record() {
    let mut object = MemoryObject::default();
    assert_eq!(unlock(&mut object, 1, ""), ENOENT);
    assert_eq!(lock(&mut object, Ask { tag: "t", cookie: "c", ..ASK }), 0);
    assert_eq!(unlock(&mut object, 1, ""), ENOENT);
    assert_eq!(unlock(&mut object, 2, "c"), ENOENT);
    assert_eq!(unlock(&mut object, 1, "c"), 0);
    assert_eq!(info_at(&mut object, NOW), info(EXCLUSIVE, "t", &[]));
    assert_eq!(lock(&mut object, Ask { tag: "u", lock_type: SHARED, ..ASK }), 0);
    assert_eq!(info_at(&mut object, NOW), info(SHARED, "u", &[(1, "", 0)]));
}

#[test]
fn anybody_may_break_a_lock() {
    let input = |client: u8, cookie: &str| {
        named(|w| {
            w.put(&EntityName::client(i64::from(client)));
            w.str(cookie);
        })
    };
    let mut object = MemoryObject::default();
    assert_eq!(call(&mut object, &caller(2), "lock", "break_lock", input(1, "c")).0, ENOENT);
    assert_eq!(lock(&mut object, Ask { cookie: "c", ..ASK }), 0);
    assert_eq!(call(&mut object, &caller(2), "lock", "break_lock", input(2, "c")).0, ENOENT);
    assert_eq!(call(&mut object, &caller(2), "lock", "break_lock", input(1, "d")).0, ENOENT);
    assert_eq!(call(&mut object, &caller(2), "lock", "break_lock", input(1, "c")).0, 0);
    assert_eq!(info_at(&mut object, NOW), info(EXCLUSIVE, "", &[]));
}

#[test]
fn ephemeral_locks_take_their_object_with_them() {
    let mut object = MemoryObject::default();
    assert_eq!(lock(&mut object, Ask { lock_type: EPHEMERAL, ..ASK }), 0);
    assert!(object.stat().is_some());
    assert_eq!(unlock(&mut object, 1, ""), 0);
    assert_eq!(object.stat(), None);
}

#[test]
fn lists_what_was_ever_locked() {
    let mut object = MemoryObject::default();
    object.set_attr("lo".into(), "x".into()).expect("room");
    let list = |object: &mut MemoryObject| call(object, &caller(1), "lock", "list_locks", "").1;
    let names = |names: &[String]| bytes(|w| w.env(1, 1, |w| w.list(names)));
    assert_eq!(list(&mut object), names(&[]));
    lock(&mut object, ASK);
    unlock(&mut object, 1, "");
    assert_eq!(list(&mut object), names(&["l".into()]));
}

#[test]
fn asserts_and_renames_the_own_hold_only() {
    let expected = |w: &mut Writer, lock_type: u8, cookie: &str, tag: &str| {
        w.u8(lock_type);
        w.str(cookie);
        w.str(tag);
    };
    let assert_locked = |object: &mut MemoryObject, client, lock_type, cookie: &str, tag: &str| {
        let input = named(|w| expected(w, lock_type, cookie, tag));
        call(object, &caller(client), "lock", "assert_locked", input).0
    };
    let set_cookie = |object: &mut MemoryObject, client, lock_type, cookie: &str, tag: &str, new: &str| {
        let input = named(|w| {
            expected(w, lock_type, cookie, tag);
            w.str(new);
        });
        call(object, &caller(client), "lock", "set_cookie", input).0
    };
    let mut object = MemoryObject::default();
    assert_eq!(assert_locked(&mut object, 1, EXCLUSIVE, "c", "t"), ENOENT);
    object.create(false).expect("an object");
    let shared = Ask { lock_type: SHARED, cookie: "c", tag: "t", ..ASK };
    for (client, lock_type, cookie, tag, result) in [
        (1, SHARED, "c", "t", 0),
        (2, SHARED, "c", "t", EBUSY),
        (1, EXCLUSIVE, "c", "t", EBUSY),
        (1, SHARED, "d", "t", EBUSY),
        (1, SHARED, "c", "u", EBUSY),
        (1, 7, "c", "t", EINVAL),
    ] {
        let mut unlocked = object.clone();
        let never = if lock_type == 7 { EINVAL } else { EBUSY };
        assert_eq!(assert_locked(&mut unlocked, client, lock_type, cookie, tag), never);
        assert_eq!(set_cookie(&mut unlocked, client, lock_type, cookie, tag, "n"), never);
        let mut locked = object.clone();
        lock(&mut locked, shared);
        lock(&mut locked, Ask { cookie: "taken", ..shared });
        assert_eq!(assert_locked(&mut locked, client, lock_type, cookie, tag), result);
        assert_eq!(set_cookie(&mut locked, client, lock_type, cookie, tag, "n"), result);
        if result == 0 {
            assert_eq!(info_at(&mut locked, NOW), info(SHARED, "t", &[(1, "n", 0), (1, "taken", 0)]));
            assert_eq!(set_cookie(&mut locked, client, lock_type, "n", tag, "taken"), EBUSY);
        }
    }
}

#[test]
fn garbage_in_the_attribute_is_an_error_and_nothing_worse() {
    let mut object = MemoryObject::default();
    lock(&mut object, ASK);
    let whole = object.clone();
    object.set_attr("lock.l".into(), "garbage".into()).expect("room");
    assert_eq!(lock(&mut object, ASK), EIO);
    assert_eq!(unlock(&mut object, 1, ""), EIO);
    assert_eq!(call(&mut object, &caller(1), "lock", "get_info", named(|_| ())).0, EIO);
    let record = info_at(&mut whole.clone(), NOW);
    for cut in 0..record.len() {
        object.set_attr("lock.l".into(), record.slice(..cut)).expect("room");
        assert_eq!(lock(&mut object, ASK), EIO, "cut at {cut}");
    }
}
