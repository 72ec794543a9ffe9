//! The class `lock`: advisory locks on an object, held by clients.
//!
//! A lock is an attribute of its object. Invariants: holders of one lock agree on its tag, and an exclusive one has at
//! most one holder that has not expired. Expired holders are dropped whenever the lock is looked at, and from the
//! attribute when it is next written.

pub(crate) mod input;
mod record;

use bytes::Bytes;
use wire::codec::{Writer, decode_exact, encode_to_bytes};
use wire::types::{AddrKind, UTime};

use crate::context::ObjectContext;
use crate::error::CallResult;
use crate::host::{Access, Reply};
use crate::registry::{Class, Method};
use input::{Expected, Hold, Lock};
pub(crate) use record::{LockRecord, LockType, LockerId, LockerInfo};
use wire::Errno;

/// The class.
pub static CLASS: Class = Class {
    name: "lock",
    methods: &[
        Method {
            name: "lock",
            access: Access::ReadWrite,
            run: |context, input| Box::pin(lock(context, input)),
        },
        Method {
            name: "unlock",
            access: Access::ReadWrite,
            run: |context, input| Box::pin(unlock(context, input)),
        },
        Method {
            name: "break_lock",
            access: Access::ReadWrite,
            run: |context, input| Box::pin(break_lock(context, input)),
        },
        Method {
            name: "get_info",
            access: Access::Read,
            run: |context, input| Box::pin(get_info(context, input)),
        },
        Method { name: "list_locks", access: Access::Read, run: |context, _| Box::pin(list_locks(context)) },
        Method {
            name: "assert_locked",
            access: Access::Read,
            run: |context, input| Box::pin(assert_locked(context, input)),
        },
        Method {
            name: "set_cookie",
            access: Access::ReadWrite,
            run: |context, input| Box::pin(set_cookie(context, input)),
        },
    ],
};

/// The attribute of a lock is this and the lock's name.
const ATTR_PREFIX: &[u8] = b"lock.";
/// Flag: a hold that is there is replaced.
const MAY_RENEW: u8 = 1;
/// Flag: a hold must be there and is replaced.
const MUST_RENEW: u8 = 2;

async fn lock(context: &mut ObjectContext<'_>, input: Bytes) -> CallResult<Reply> {
    let Lock { name, lock_type, cookie, tag, description, duration, flags } = Lock::decode(input)?;
    let lock_type = checked(lock_type, &name)?;
    let (may_renew, must_renew) = (flags & MAY_RENEW != 0, flags & MUST_RENEW != 0);
    if may_renew && must_renew {
        return Err(Errno::EINVAL.into());
    }
    let mut record = if context.exists() { load(context, &name).await? } else { LockRecord::default() };
    // Before the own hold is taken out: its tag counts too.
    if !record.lockers.is_empty() && record.tag != tag {
        return Err(Errno::EBUSY.into());
    }
    let id = LockerId { locker: context.caller().name, cookie };
    match record.lockers.remove(&id) {
        Some(_) if !may_renew && !must_renew => return Err(Errno::EEXIST.into()),
        None if must_renew => return Err(Errno::ENOENT.into()),
        _ => {}
    }
    if !record.lockers.is_empty() && (lock_type.is_exclusive() || record.lock_type != lock_type.code()) {
        return Err(Errno::EBUSY.into());
    }
    //= ceph 16.2 lock: the type of the address is always legacy, which is what blocklists of it say
    let mut addr = context.caller().addr;
    addr.kind = AddrKind::LEGACY;
    let expiration = expiration(context.now(), duration);
    record.lock_type = lock_type.code();
    record.tag = tag;
    record.lockers.insert(id, LockerInfo { expiration, addr, description });
    save(context, &name, &record)
}

async fn unlock(context: &mut ObjectContext<'_>, input: Bytes) -> CallResult<Reply> {
    let Hold { name, cookie } = input::unlock(input)?;
    let locker = context.caller().name;
    release(context, &name, &LockerId { locker, cookie }).await
}

async fn break_lock(context: &mut ObjectContext<'_>, input: Bytes) -> CallResult<Reply> {
    let (Hold { name, cookie }, locker) = input::break_lock(input)?;
    release(context, &name, &LockerId { locker, cookie }).await
}

async fn release(context: &mut ObjectContext<'_>, name: &Bytes, id: &LockerId) -> CallResult<Reply> {
    let mut record = load(context, name).await?;
    if record.lockers.remove(id).is_none() {
        return Err(Errno::ENOENT.into());
    }
    let ephemeral = LockType::from_code(record.lock_type) == Some(LockType::ExclusiveEphemeral);
    // A record that a client has written itself may have other holders; they keep the object.
    if ephemeral && record.lockers.is_empty() {
        context.writable()?.remove()?;
        return Reply::done();
    }
    save(context, name, &record)
}

async fn get_info(context: &mut ObjectContext<'_>, input: Bytes) -> CallResult<Reply> {
    let name = input::get_info(input)?;
    Reply::output(encode_to_bytes(&load(context, &name).await?))
}

async fn list_locks(context: &mut ObjectContext<'_>) -> CallResult<Reply> {
    let attrs = context.attrs().await?;
    let names: Vec<Bytes> = attrs
        .keys()
        .filter(|name| name.starts_with(ATTR_PREFIX))
        .map(|name| name.slice(ATTR_PREFIX.len()..))
        .collect();
    let mut w = Writer::new();
    w.env(1, 1, |w| w.list(&names));
    Reply::output(w.finish())
}

async fn assert_locked(context: &mut ObjectContext<'_>, input: Bytes) -> CallResult<Reply> {
    held(context, &input::assert_locked(input)?).await?;
    Reply::done()
}

async fn set_cookie(context: &mut ObjectContext<'_>, input: Bytes) -> CallResult<Reply> {
    let (expected, cookie) = input::set_cookie(input)?;
    let (mut record, id) = held(context, &expected).await?;
    let renamed = LockerId { locker: id.locker, cookie };
    if record.lockers.contains_key(&renamed) {
        return Err(Errno::EBUSY.into());
    }
    if let Some(info) = record.lockers.remove(&id) {
        record.lockers.insert(renamed, info);
    }
    save(context, &expected.name, &record)
}

/// The lock and the caller's hold on it, if everything is as expected.
async fn held(context: &ObjectContext<'_>, expected: &Expected) -> CallResult<(LockRecord, LockerId)> {
    checked(expected.lock_type, &expected.name)?;
    let record = load(context, &expected.name).await?;
    let id = LockerId { locker: context.caller().name, cookie: expected.cookie.clone() };
    let agrees = record.lock_type == expected.lock_type && record.tag == expected.tag;
    if agrees && record.lockers.contains_key(&id) { Ok((record, id)) } else { Err(Errno::EBUSY.into()) }
}

fn checked(lock_type: u8, name: &Bytes) -> CallResult<LockType> {
    match LockType::from_code(lock_type) {
        Some(lock_type) if !name.is_empty() => Ok(lock_type),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// When a hold ends that begins now.
fn expiration(now: UTime, duration: UTime) -> UTime {
    if duration == UTime::default() {
        return UTime::default();
    }
    UTime::from_nanoseconds(now.as_nanoseconds().saturating_add(duration.as_nanoseconds()))
}

/// The lock without expired holders; the empty one if it was never locked.
async fn load(context: &ObjectContext<'_>, name: &Bytes) -> CallResult<LockRecord> {
    let Some(value) = context.attr(&attr_name(name)).await? else { return Ok(LockRecord::default()) };
    // Clients can write the attribute themselves, so this is their fault and not the store's; but to the caller it is
    // not a fault of its input.
    let mut record: LockRecord = decode_exact("lock record", value).map_err(|_| Errno::EIO)?;
    let now = context.now();
    record.lockers.retain(|_, info| !info.is_expired(now));
    Ok(record)
}

fn save(context: &mut ObjectContext<'_>, name: &Bytes, record: &LockRecord) -> CallResult<Reply> {
    context.writable()?.set_attr(attr_name(name), encode_to_bytes(record))?;
    Reply::done()
}

fn attr_name(name: &[u8]) -> Bytes {
    [ATTR_PREFIX, name].concat().into()
}
