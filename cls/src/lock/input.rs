//! Inputs of the lock methods.

use bytes::Bytes;
use wire::codec::{DecodeResult, Reader};
use wire::types::{EntityName, UTime};

/// lock.
pub struct Lock {
    pub name: Bytes,
    pub lock_type: u8,
    pub cookie: Bytes,
    pub tag: Bytes,
    pub description: Bytes,
    /// Zero is for ever.
    pub duration: UTime,
    pub flags: u8,
}

/// A hold on a lock: of unlock the caller's own, of break_lock another's.
pub struct Hold {
    pub name: Bytes,
    pub cookie: Bytes,
}

/// A lock and what it must be for assert_locked and set_cookie.
pub struct Expected {
    pub name: Bytes,
    pub lock_type: u8,
    pub cookie: Bytes,
    pub tag: Bytes,
}

impl Lock {
    pub fn decode(input: Bytes) -> DecodeResult<Self> {
        Reader::new("lock input", input).env("lock input", 1, |r, _| {
            Ok(Self {
                name: r.blob()?,
                lock_type: r.u8()?,
                cookie: r.blob()?,
                tag: r.blob()?,
                description: r.blob()?,
                duration: r.get()?,
                flags: r.u8()?,
            })
        })
    }
}

/// Of unlock.
pub fn unlock(input: Bytes) -> DecodeResult<Hold> {
    Reader::new("unlock input", input)
        .env("unlock input", 1, |r, _| Ok(Hold { name: r.blob()?, cookie: r.blob()? }))
}

/// Of break_lock: the hold and whose it is.
pub fn break_lock(input: Bytes) -> DecodeResult<(Hold, EntityName)> {
    Reader::new("break_lock input", input).env("break_lock input", 1, |r, _| {
        let name = r.blob()?;
        let locker = r.get()?;
        Ok((Hold { name, cookie: r.blob()? }, locker))
    })
}

/// Of get_info: the lock's name.
pub fn get_info(input: Bytes) -> DecodeResult<Bytes> {
    Reader::new("get_info input", input).env("get_info input", 1, |r, _| r.blob())
}

/// Of assert_locked.
pub fn assert_locked(input: Bytes) -> DecodeResult<Expected> {
    Reader::new("assert_locked input", input).env("assert_locked input", 1, |r, _| expected(r))
}

/// Of set_cookie: what the lock must be, and the new cookie.
pub fn set_cookie(input: Bytes) -> DecodeResult<(Expected, Bytes)> {
    Reader::new("set_cookie input", input).env("set_cookie input", 1, |r, _| Ok((expected(r)?, r.blob()?)))
}

fn expected(r: &mut Reader) -> DecodeResult<Expected> {
    Ok(Expected { name: r.blob()?, lock_type: r.u8()?, cookie: r.blob()?, tag: r.blob()? })
}
