//! Calls on an object in memory, for tests.

#![allow(dead_code, reason = "each test program uses a part")]

use bytes::Bytes;
use cls::{CallError, Caller, ClassHost, MemoryObject, NATIVE};
use futures_util::FutureExt;
use wire::codec::Writer;
use wire::types::{Addr, AddrKind, EntityName, UTime};

/// Now, in seconds, unless a test says otherwise.
pub const NOW: u32 = 1000;

/// Client `number` at `seconds`.
pub fn caller_at(number: u8, seconds: u32) -> Caller {
    Caller {
        name: EntityName::client(i64::from(number)),
        addr: Addr::any(([127, 0, 0, number], 0).into(), u32::from(number)),
        now: UTime { seconds, nanoseconds: 0 },
    }
}

/// Client `number` now.
pub fn caller(number: u8) -> Caller {
    caller_at(number, NOW)
}

/// The address of client `number` as locks have it.
pub fn lock_addr(number: u8) -> Addr {
    Addr { kind: AddrKind::LEGACY, ..caller(number).addr }
}

/// Calls a method as an OSD does: reads need the object, and what fails changes nothing. The value and the output.
pub fn call(
    object: &mut MemoryObject,
    caller: &Caller,
    class: &str,
    method: &str,
    input: impl Into<Bytes>,
) -> (i32, Bytes) {
    let mut changed = object.clone();
    let future = NATIVE.call(class.as_bytes(), method.as_bytes(), &mut changed, caller, input.into());
    let (value, output) = match future.now_or_never().expect("memory never waits") {
        Ok(reply) => (reply.value, reply.output),
        Err(CallError::Errno(errno)) => (errno.code(), Bytes::new()),
        Err(error) => panic!("{error}"),
    };
    if value >= 0 {
        let writes = NATIVE.access(class.as_bytes(), method.as_bytes()).is_some_and(cls::Access::may_write);
        assert!(writes || changed == *object, "a method that reads changes nothing");
        *object = changed;
    }
    (value, output)
}

/// Encodes.
pub fn bytes(write: impl FnOnce(&mut Writer)) -> Bytes {
    let mut w = Writer::new();
    write(&mut w);
    w.finish()
}
