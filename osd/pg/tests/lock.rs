//! Class `lock`: who gets a lock, who does not, and what is told of it.

mod world;

use bytes::Bytes;
use wire::codec::{Reader, Writer};
use wire::msg::{Op, OpCode};
use wire::types::{Addr, AddrKind, EntityName, UTime};
use world::{World, bytes, caller, class_call, names, op};

const EXCLUSIVE: u8 = 1;
const SHARED: u8 = 2;
const EPHEMERAL: u8 = 3;
const EBUSY: i32 = -16;
const EEXIST: i32 = -17;
const EINVAL: i32 = -22;
const ENOENT: i32 = -2;

fn input(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    bytes(|w| w.env(1, 1, write))
}

fn lock_for(kind: u8, cookie: &str, tag: &str, seconds: u32, flags: u8) -> Op {
    let input = input(|w| {
        w.str("l");
        w.u8(kind);
        w.str(cookie);
        w.str(tag);
        w.str("why");
        w.put(&UTime { seconds, nanoseconds: 0 });
        w.u8(flags);
    });
    class_call("lock", "lock", &input)
}

fn lock(kind: u8, cookie: &str) -> Op {
    lock_for(kind, cookie, "", 0, 0)
}

fn unlock(cookie: &str) -> Op {
    class_call(
        "lock",
        "unlock",
        &input(|w| {
            w.str("l");
            w.str(cookie);
        }),
    )
}

fn asserted(kind: u8, cookie: &str, tag: &str) -> Op {
    class_call(
        "lock",
        "assert_locked",
        &input(|w| {
            w.str("l");
            w.u8(kind);
            w.str(cookie);
            w.str(tag);
        }),
    )
}

/// Runs an op as a client at a second.
fn run(world: &mut World, client: i64, second: u32, op: Op) -> i32 {
    let mut request = world.request("x", &[op]);
    request.caller = caller(client);
    request.caller.now.seconds = second;
    world.serve(&request).result
}

/// Cookies of those who hold the lock, its type and its tag.
fn info(world: &mut World) -> (Vec<String>, u8, Bytes) {
    let reply = world.run("x", &[class_call("lock", "get_info", &input(|w| w.str("l")))]);
    assert_eq!(reply.result, 0);
    let mut r = Reader::new("info", Bytes::from(reply.data[0].clone()));
    r.env("info", 1, |r, _| {
        let lockers = r.list_with(1, |r| {
            let cookie = r.env("id", 1, |r, _| {
                let _name: EntityName = r.get()?;
                r.str()
            })?;
            r.env("info", 1, |r, _| {
                let _expiration: UTime = r.get()?;
                let addr: Addr = r.get()?;
                assert_eq!((addr.kind, addr.nonce), (AddrKind::LEGACY, 77));
                assert_eq!(r.str()?, "why");
                Ok(())
            })?;
            Ok(cookie)
        })?;
        Ok((lockers, r.u8()?, r.blob()?))
    })
    .expect("well formed")
}

#[test]
fn exclusive_locks_have_one_holder() {
    let mut world = World::new();
    assert_eq!(run(&mut world, 1, 1000, lock(EXCLUSIVE, "a")), 0);
    assert_eq!(run(&mut world, 1, 1000, lock(EXCLUSIVE, "a")), EEXIST);
    assert_eq!(run(&mut world, 1, 1000, lock(EXCLUSIVE, "b")), EBUSY);
    assert_eq!(run(&mut world, 2, 1000, lock(SHARED, "a")), EBUSY);
    assert_eq!(run(&mut world, 1, 1000, lock_for(EXCLUSIVE, "a", "", 0, 1)), 0);
    assert_eq!(info(&mut world), (vec!["a".into()], EXCLUSIVE, Bytes::new()));
    assert_eq!(run(&mut world, 2, 1000, unlock("a")), ENOENT);
    assert_eq!(run(&mut world, 1, 1000, unlock("a")), 0);
    assert_eq!(run(&mut world, 1, 1000, unlock("a")), ENOENT);
    // The record stays, without holders.
    assert_eq!(info(&mut world), (vec![], EXCLUSIVE, Bytes::new()));
    assert_eq!(run(&mut world, 2, 1000, lock_for(SHARED, "c", "tag", 0, 0)), 0);
}

#[test]
fn shared_locks_have_several_of_one_tag() {
    let mut world = World::new();
    assert_eq!(run(&mut world, 1, 1000, lock_for(SHARED, "a", "t", 0, 0)), 0);
    assert_eq!(run(&mut world, 2, 1000, lock_for(SHARED, "b", "t", 0, 0)), 0);
    assert_eq!(run(&mut world, 2, 1000, lock_for(SHARED, "c", "u", 0, 0)), EBUSY);
    assert_eq!(run(&mut world, 2, 1000, lock_for(EXCLUSIVE, "c", "t", 0, 0)), EBUSY);
    assert_eq!(info(&mut world).0, ["a", "b"]);
    assert_eq!(run(&mut world, 2, 1000, asserted(SHARED, "b", "t")), 0);
    for wrong in [asserted(EXCLUSIVE, "b", "t"), asserted(SHARED, "a", "t"), asserted(SHARED, "b", "u")] {
        assert_eq!(run(&mut world, 2, 1000, wrong), EBUSY);
    }
    let breaks = |name: i64| {
        class_call(
            "lock",
            "break_lock",
            &input(|w| {
                w.str("l");
                w.put(&EntityName::client(name));
                w.str("a");
            }),
        )
    };
    assert_eq!(run(&mut world, 2, 1000, breaks(2)), ENOENT);
    assert_eq!(run(&mut world, 2, 1000, breaks(1)), 0);
    assert_eq!(info(&mut world).0, ["b"]);
    let renames = |from: &str, to: &str| {
        class_call(
            "lock",
            "set_cookie",
            &input(|w| {
                w.str("l");
                w.u8(SHARED);
                w.str(from);
                w.str("t");
                w.str(to);
            }),
        )
    };
    assert_eq!(run(&mut world, 2, 1000, renames("b", "b")), EBUSY);
    assert_eq!(run(&mut world, 2, 1000, renames("b", "z")), 0);
    assert_eq!(info(&mut world).0, ["z"]);
}

#[test]
fn locks_end_when_their_time_is_up() {
    let mut world = World::new();
    assert_eq!(run(&mut world, 1, 900, lock_for(EXCLUSIVE, "a", "", 50, 0)), 0);
    assert_eq!(run(&mut world, 2, 949, lock(EXCLUSIVE, "b")), EBUSY);
    assert_eq!(run(&mut world, 2, 951, lock(EXCLUSIVE, "b")), 0);
    assert_eq!(info(&mut world).0, ["b"]);
    assert_eq!(run(&mut world, 1, 951, lock_for(EXCLUSIVE, "a", "", 0, 2)), ENOENT);
}

#[test]
fn ephemeral_locks_take_their_object_along() {
    let mut world = World::new();
    assert_eq!(run(&mut world, 1, 1000, lock(EPHEMERAL, "a")), 0);
    assert_eq!(world.run("x", &[op(OpCode::STAT)]).result, 0);
    assert_eq!(run(&mut world, 1, 1000, unlock("a")), 0);
    assert_eq!(world.run("x", &[op(OpCode::STAT)]).result, ENOENT);
    assert_eq!(run(&mut world, 1, 1000, unlock("a")), ENOENT);
}

#[test]
fn lists_locks_and_refuses_nonsense() {
    let mut world = World::new();
    let list = || class_call("lock", "list_locks", b"");
    assert_eq!(run(&mut world, 1, 1000, list()), ENOENT);
    assert_eq!(run(&mut world, 1, 1000, lock(SHARED, "a")), 0);
    let reply = world.run("x", &[list()]);
    assert_eq!(reply.data[0], input(|w| names(w, &["l"])));
    assert_eq!(run(&mut world, 1, 1000, lock(4, "a")), EINVAL);
    assert_eq!(run(&mut world, 1, 1000, lock_for(SHARED, "a", "", 0, 3)), EINVAL);
    for method in ["lock", "unlock", "break_lock", "get_info", "assert_locked", "set_cookie"] {
        assert_eq!(run(&mut world, 1, 1000, class_call("lock", method, b"\x01\x01")), EINVAL, "{method}");
    }
}
