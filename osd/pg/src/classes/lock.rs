//! Class `lock`: advisory locks on an object, kept in its attributes as stock OSDs keep them.
//!
//! Invariant: the lockers of one lock share type and tag; an exclusive lock has at most one.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::codec::{DecodeResult, Reader, Wire, Writer, encode_to_bytes};
use wire::types::{Addr, AddrKind, EntityName, UTime};

use crate::errno::{Errno, OpResult};
use crate::execute::Output;
use crate::object_view::ObjectView;
use crate::request::Caller;

const ATTR_PREFIX: &[u8] = b"lock.";
const EXCLUSIVE: u8 = 1;
const SHARED: u8 = 2;
/// Exclusive; the object goes with its last locker.
const EXCLUSIVE_EPHEMERAL: u8 = 3;
const MAY_RENEW: u8 = 1;
const MUST_RENEW: u8 = 2;

/// A method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMethod {
    Lock,
    Unlock,
    BreakLock,
    GetInfo,
    ListLocks,
    AssertLocked,
    SetCookie,
}

impl LockMethod {
    /// By Ceph's name.
    pub fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"lock" => Self::Lock,
            b"unlock" => Self::Unlock,
            b"break_lock" => Self::BreakLock,
            b"get_info" => Self::GetInfo,
            b"list_locks" => Self::ListLocks,
            b"assert_locked" => Self::AssertLocked,
            b"set_cookie" => Self::SetCookie,
            _ => return None,
        })
    }

    /// Whether it may change the object.
    pub fn may_write(self) -> bool {
        matches!(self, Self::Lock | Self::Unlock | Self::BreakLock | Self::SetCookie)
    }
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LockerId {
    name: EntityName,
    cookie: Bytes,
}

impl Wire for LockerId {
    const BYTES_MIN: usize = 6;
    fn encode(&self, w: &mut Writer) {
        w.env(1, 1, |w| {
            w.put(&self.name);
            w.blob(&self.cookie);
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("locker id", 1, |r, _| Ok(Self { name: r.get()?, cookie: r.blob()? }))
    }
}

/// What is known of a holder.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LockerInfo {
    /// When the lock ends by itself; zero for never.
    expiration: UTime,
    addr: Addr,
    description: Bytes,
}

impl Wire for LockerInfo {
    const BYTES_MIN: usize = 6;
    fn encode(&self, w: &mut Writer) {
        w.env(1, 1, |w| {
            w.put(&self.expiration);
            w.put(&self.addr);
            w.blob(&self.description);
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("locker info", 1, |r, _| {
            Ok(Self { expiration: r.get()?, addr: r.get()?, description: r.blob()? })
        })
    }
}

/// A lock, as stored and as `get_info` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lock {
    lockers: BTreeMap<LockerId, LockerInfo>,
    kind: u8,
    tag: Bytes,
}

impl Wire for Lock {
    const BYTES_MIN: usize = 6;
    fn encode(&self, w: &mut Writer) {
        w.env(1, 1, |w| {
            w.put(&self.lockers);
            w.u8(self.kind);
            w.blob(&self.tag);
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("lock", 1, |r, _| Ok(Self { lockers: r.get()?, kind: r.u8()?, tag: r.blob()? }))
    }
}

/// Runs a method.
pub async fn run(
    method: LockMethod,
    view: &mut ObjectView,
    caller: &Caller,
    input: Bytes,
) -> OpResult<Output> {
    let mut r = Reader::new("lock input", input);
    let malformed = |_| Errno::EINVAL;
    match method {
        LockMethod::Lock => {
            let wanted = r.env("lock", 1, |r, _| LockInput::read(r)).map_err(malformed)?;
            lock(view, caller, wanted).await
        }
        LockMethod::Unlock => {
            let (name, cookie) = r.env("unlock", 1, |r, _| Ok((r.blob()?, r.blob()?))).map_err(malformed)?;
            unlock(view, caller, &name, LockerId { name: caller.name, cookie }).await
        }
        LockMethod::BreakLock => {
            let (name, locker, cookie) =
                r.env("break", 1, |r, _| Ok((r.blob()?, r.get()?, r.blob()?))).map_err(malformed)?;
            unlock(view, caller, &name, LockerId { name: locker, cookie }).await
        }
        LockMethod::GetInfo => {
            let name = r.env("get info", 1, |r, _| r.blob()).map_err(malformed)?;
            Ok(Output::bytes(encode_to_bytes(&load(view, caller, &name).await?)))
        }
        LockMethod::ListLocks => list(view).await,
        LockMethod::AssertLocked => {
            let asserted = r.env("assert locked", 1, |r, _| Asserted::read(r)).map_err(malformed)?;
            check(view, caller, &asserted).await?;
            Ok(Output::default())
        }
        LockMethod::SetCookie => {
            let read = r.env("set cookie", 1, |r, _| Ok((Asserted::read(r)?, r.blob()?)));
            let (asserted, cookie) = read.map_err(malformed)?;
            set_cookie(view, caller, &asserted, cookie).await
        }
    }
}

/// What `lock` is asked.
struct LockInput {
    name: Bytes,
    kind: u8,
    cookie: Bytes,
    tag: Bytes,
    description: Bytes,
    duration: UTime,
    flags: u8,
}

impl LockInput {
    fn read(r: &mut Reader) -> DecodeResult<Self> {
        Ok(Self {
            name: r.blob()?,
            kind: r.u8()?,
            cookie: r.blob()?,
            tag: r.blob()?,
            description: r.blob()?,
            duration: r.get()?,
            flags: r.u8()?,
        })
    }
}

/// What a caller claims to hold.
struct Asserted {
    name: Bytes,
    kind: u8,
    cookie: Bytes,
    tag: Bytes,
}

impl Asserted {
    fn read(r: &mut Reader) -> DecodeResult<Self> {
        Ok(Self { name: r.blob()?, kind: r.u8()?, cookie: r.blob()?, tag: r.blob()? })
    }
}

//= ceph 16.2 cls_lock: the checks of lock and their order
async fn lock(view: &mut ObjectView, caller: &Caller, wanted: LockInput) -> OpResult<Output> {
    check_kind(wanted.kind, &wanted.name)?;
    if wanted.flags & (MAY_RENEW | MUST_RENEW) == MAY_RENEW | MUST_RENEW {
        return Err(Errno::EINVAL.into());
    }
    let mut lock = load(view, caller, &wanted.name).await?;
    if !lock.lockers.is_empty() && lock.tag != wanted.tag {
        return Err(Errno::EBUSY.into());
    }
    let id = LockerId { name: caller.name, cookie: wanted.cookie };
    match (lock.lockers.remove(&id), wanted.flags) {
        (Some(_), 0) => return Err(Errno::EEXIST.into()),
        (None, flags) if flags & MUST_RENEW != 0 => return Err(Errno::ENOENT.into()),
        _ => {}
    }
    if !lock.lockers.is_empty() && (wanted.kind != SHARED || lock.kind != wanted.kind) {
        return Err(Errno::EBUSY.into());
    }
    let expiration = match wanted.duration {
        UTime { seconds: 0, nanoseconds: 0 } => UTime::default(),
        duration => {
            let end = caller.now.as_nanoseconds().saturating_add(duration.as_nanoseconds());
            UTime::from_nanoseconds(end)
        }
    };
    //= ceph 16.2 cls_lock: addresses are kept in their old form, which is what blocklists are compared with
    let addr = Addr { kind: AddrKind::LEGACY, ..caller.addr };
    lock.lockers.insert(id, LockerInfo { expiration, addr, description: wanted.description });
    lock.kind = wanted.kind;
    lock.tag = wanted.tag;
    save(view, &wanted.name, &lock);
    Ok(Output::default())
}

async fn unlock(view: &mut ObjectView, caller: &Caller, name: &[u8], id: LockerId) -> OpResult<Output> {
    let mut lock = load(view, caller, name).await?;
    if lock.lockers.remove(&id).is_none() {
        return Err(Errno::ENOENT.into());
    }
    if lock.kind == EXCLUSIVE_EPHEMERAL {
        view.remove();
    } else {
        save(view, name, &lock);
    }
    Ok(Output::default())
}

async fn list(view: &ObjectView) -> OpResult<Output> {
    let attrs = view.attrs().await?;
    let names: Vec<Bytes> = attrs
        .keys()
        .filter(|name| name.starts_with(ATTR_PREFIX))
        .map(|name| name.slice(ATTR_PREFIX.len()..))
        .collect();
    let mut w = Writer::new();
    w.env(1, 1, |w| w.list(&names));
    Ok(Output::bytes(w.finish()))
}

/// The lock if the caller holds it as asserted.
async fn check(view: &ObjectView, caller: &Caller, asserted: &Asserted) -> OpResult<(Lock, LockerId)> {
    check_kind(asserted.kind, &asserted.name)?;
    let lock = load(view, caller, &asserted.name).await?;
    let id = LockerId { name: caller.name, cookie: asserted.cookie.clone() };
    let held = lock.kind == asserted.kind && lock.tag == asserted.tag && lock.lockers.contains_key(&id);
    if held { Ok((lock, id)) } else { Err(Errno::EBUSY.into()) }
}

async fn set_cookie(
    view: &mut ObjectView,
    caller: &Caller,
    asserted: &Asserted,
    cookie: Bytes,
) -> OpResult<Output> {
    let (mut lock, id) = check(view, caller, asserted).await?;
    let renamed = LockerId { name: caller.name, cookie };
    if lock.lockers.contains_key(&renamed) {
        return Err(Errno::EBUSY.into());
    }
    if let Some(info) = lock.lockers.remove(&id) {
        lock.lockers.insert(renamed, info);
    }
    save(view, &asserted.name, &lock);
    Ok(Output::default())
}

fn check_kind(kind: u8, name: &[u8]) -> Result<(), Errno> {
    let known = matches!(kind, EXCLUSIVE | SHARED | EXCLUSIVE_EPHEMERAL);
    if known && !name.is_empty() { Ok(()) } else { Err(Errno::EINVAL) }
}

/// The lock without holders whose time is up; an empty one if there was never one.
async fn load(view: &ObjectView, caller: &Caller, name: &[u8]) -> OpResult<Lock> {
    let Some(stored) = view.attr(&attr_name(name)).await? else { return Ok(Lock::default()) };
    let mut lock: Lock = Reader::new("stored lock", stored).get().map_err(|_malformed| Errno::EIO)?;
    let now = caller.now;
    lock.lockers.retain(|_, info| info.expiration == UTime::default() || info.expiration >= now);
    Ok(lock)
}

fn save(view: &mut ObjectView, name: &[u8], lock: &Lock) {
    view.set_attr(attr_name(name), encode_to_bytes(lock));
}

fn attr_name(name: &[u8]) -> Bytes {
    [ATTR_PREFIX, name].concat().into()
}
