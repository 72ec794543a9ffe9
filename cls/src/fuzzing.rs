//! One entry per decoder of the native classes, and calls of their methods, for fuzzers and for replaying their corpora.
//!
//! Each entry takes any bytes and panics when an invariant breaks: a decoder panics or gives more than its input holds;
//! encoding what was decoded and decoding that again does not give the same; a method that reads changes its object; the
//! same call does two things; an exclusive lock has two holders. What is refused is fine.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use wire::codec::{Writer, decode_exact, encode_to_bytes};
use wire::types::{Addr, EntityName, UTime};

use crate::lock::{LockRecord, LockType, input};
use crate::{Access, CallError, Caller, ClassHost, MemoryObject, NATIVE, Object, Reply};

/// Name of an entry, and the function that takes the bytes of one test case.
pub type Target = (&'static str, fn(&[u8]));

/// All entries.
pub const fn targets() -> &'static [Target] {
    TARGETS
}

static TARGETS: &[Target] =
    &[("cls_lock_record", lock_record), ("cls_lock_inputs", lock_inputs), ("cls_calls", calls)];

/// Calls of one test case.
const CALLS_MAX: usize = 24;
/// The attribute that a client may fill with anything, and every lock of [`calls`] may be kept in.
const LOCK_ATTR: &[u8] = b"lock.l";

/// The record as it is kept with its object.
fn lock_record(bytes: &[u8]) {
    let Ok(record) = decode_exact::<LockRecord>("fuzz", Bytes::copy_from_slice(bytes)) else {
        return;
    };
    let encoded = encode_to_bytes(&record);
    assert_eq!(decode_exact::<LockRecord>("fuzz", encoded).as_ref(), Ok(&record));
    assert!(LockType::from_code(record.lock_type).is_none_or(|known| known.code() == record.lock_type));
    for info in record.lockers.values() {
        assert!(!info.is_expired(info.expiration), "a hold lasts until its end");
    }
}

/// Every decoder of a method's input takes the same bytes.
fn lock_inputs(bytes: &[u8]) {
    let all = Bytes::copy_from_slice(bytes);
    let fits = |parts: &[&Bytes]| assert!(parts.iter().map(|part| part.len()).sum::<usize>() <= all.len());
    if let Ok(lock) = input::Lock::decode(all.clone()) {
        fits(&[&lock.name, &lock.cookie, &lock.tag, &lock.description]);
    }
    if let Ok(hold) = input::unlock(all.clone()) {
        fits(&[&hold.name, &hold.cookie]);
    }
    if let Ok((hold, _)) = input::break_lock(all.clone()) {
        fits(&[&hold.name, &hold.cookie]);
    }
    if let Ok(name) = input::get_info(all.clone()) {
        fits(&[&name]);
    }
    if let Ok(expected) = input::assert_locked(all.clone()) {
        fits(&[&expected.name, &expected.cookie, &expected.tag]);
    }
    if let Ok((expected, cookie)) = input::set_cookie(all.clone()) {
        fits(&[&expected.name, &expected.cookie, &expected.tag, &cookie]);
    }
}

/// Calls on one object, each: method, caller (low bits) and seconds that pass (high bits), length, input. A method
/// beyond those there are stands for a client that writes its input into the attribute of a lock itself.
///
/// The input is taken as it is, or, if the length's highest bit is set, as choices for a sound one.
fn calls(mut bytes: &[u8]) {
    let mut object = MemoryObject::default();
    let mut now = 1;
    let mut is_tampered = false;
    for _ in 0..CALLS_MAX {
        let [method, who, length, rest @ ..] = bytes else { break };
        let (part, rest) = rest.split_at(usize::from(length & 0x7f).min(rest.len()));
        bytes = rest;
        now += u32::from(who >> 3);
        let caller = Caller {
            name: EntityName::client(i64::from(who & 3)),
            addr: Addr::any(([127, 0, 0, 1], 0).into(), u32::from(who & 3)),
            now: UTime { seconds: now, nanoseconds: 0 },
        };
        let number = usize::from(*method) % (methods().count() + 1);
        let Some((class, name, access)) = methods().nth(number) else {
            is_tampered = true;
            let written = object.set_attr(Bytes::from_static(LOCK_ATTR), Bytes::copy_from_slice(part));
            assert_eq!(written, Ok(()));
            continue;
        };
        let input = if length & 0x80 == 0 { Bytes::copy_from_slice(part) } else { sound_input(name, part) };
        call(&mut object, (class, name, access), &caller, &input);
        if !is_tampered {
            check_lock(&object, caller.now);
        }
    }
}

fn methods() -> impl Iterator<Item = (&'static str, &'static str, Access)> {
    let of_class = |class: &'static crate::Class| {
        class.methods.iter().map(move |method| (class.name, method.name, method.access))
    };
    NATIVE.classes.iter().copied().flat_map(of_class)
}

/// Calls a method as an OSD does: what fails changes nothing.
fn call(
    object: &mut MemoryObject,
    (class, method, access): (&str, &str, Access),
    caller: &Caller,
    input: &Bytes,
) {
    let run = |mut object: MemoryObject| {
        let future = NATIVE.call(class.as_bytes(), method.as_bytes(), &mut object, caller, input.clone());
        let reply = now_or_never(future);
        (reply, object)
    };
    let (reply, changed) = run(object.clone());
    assert_eq!((&reply, &changed), (&run(object.clone()).0, &changed), "{class}.{method} is not a function");
    match reply {
        Ok(Reply { value: 0.., .. }) => {
            assert!(access.may_write() || changed == *object, "{class}.{method} only reads");
            *object = changed;
        }
        Ok(_) | Err(CallError::Errno(_)) => {}
        Err(CallError::Down(reason)) => panic!("memory is down: {reason}"),
    }
}

/// Holders of the lock agree, and nobody shares an exclusive one.
fn check_lock(object: &MemoryObject, now: UTime) {
    let name = Bytes::from_static(LOCK_ATTR);
    let Ok(Some(value)) = now_or_never(object.attr(&name)) else { return };
    let Ok(record) = decode_exact::<LockRecord>("lock record", value) else {
        panic!("a lock that the class wrote can be read");
    };
    let holders = record.lockers.values().filter(|info| !info.is_expired(now)).count();
    match LockType::from_code(record.lock_type) {
        Some(kind) => assert!(!kind.is_exclusive() || holders <= 1, "{record:?}"),
        None => panic!("{record:?} has a type that cannot be asked for"),
    }
}

/// Input for a method of `lock` that decodes: lock, type, cookie, tag and the rest from a few each.
fn sound_input(method: &str, part: &[u8]) -> Bytes {
    let choice = |at: usize| part.get(at).copied().unwrap_or_default();
    let few = |at: usize| -> &str { ["", "a", "b"][usize::from(choice(at)) % 3] };
    let mut w = Writer::new();
    w.env(1, 1, |w| {
        w.str("l");
        match method {
            "lock" => {
                w.u8(choice(0) % 5);
                w.str(few(1));
                w.str(few(2));
                w.str("why");
                w.put(&UTime { seconds: u32::from(choice(3) % 32), nanoseconds: 0 });
                w.u8(choice(4) % 4);
            }
            "break_lock" => {
                w.put(&EntityName::client(i64::from(choice(0) & 3)));
                w.str(few(1));
            }
            "unlock" => w.str(few(1)),
            "assert_locked" | "set_cookie" => {
                w.u8(choice(0) % 5);
                w.str(few(1));
                w.str(few(2));
                if method == "set_cookie" {
                    w.str(few(3));
                }
            }
            _ => {}
        }
    });
    w.finish()
}

/// Futures on an object in memory are ready at once.
fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("memory never waits"),
    }
}

/// Sound test cases for the entry of this name; none for some.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    let all = ["lock", "unlock", "break_lock", "get_info", "assert_locked", "set_cookie"];
    match name {
        "cls_lock_record" => vec![encode_to_bytes(&sample_record()).to_vec()],
        "cls_lock_inputs" => all.map(|method| sound_input(method, &[1, 1, 2, 5, 0]).to_vec()).into(),
        "cls_calls" => {
            let of = |(number, (_, name, _)): (usize, (&str, &str, Access))| {
                let number = u8::try_from(number).unwrap_or(u8::MAX);
                let raw = sound_input(name, &[1]);
                let length = u8::try_from(raw.len()).unwrap_or(u8::MAX);
                [&[number, 9, 0x85, 1, 1, 2, 5, 0][..], &[number, 9, length], &raw].concat()
            };
            let each: Vec<Vec<u8>> = methods().enumerate().map(of).collect();
            let tampered = encode_to_bytes(&sample_record());
            let length = u8::try_from(tampered.len()).unwrap_or(0x7f).min(0x7f);
            let write = [&[u8::try_from(each.len()).unwrap_or(0), 0, length][..], &tampered].concat();
            vec![each.concat(), [write, each.concat()].concat()]
        }
        _ => Vec::new(),
    }
}

fn sample_record() -> LockRecord {
    let id = crate::lock::LockerId { locker: EntityName::client(1), cookie: Bytes::from_static(b"a") };
    let info = crate::lock::LockerInfo {
        expiration: UTime { seconds: 9, nanoseconds: 0 },
        addr: Addr::any(([127, 0, 0, 1], 0).into(), 1),
        description: Bytes::from_static(b"why"),
    };
    LockRecord { lockers: [(id, info)].into(), lock_type: 1, tag: Bytes::from_static(b"t") }
}
