//! What a placement group keeps about an object besides its bytes, in the store's attribute [`INFO_ATTR`].
//!
//! Clients' attributes live beside it under the prefix [`USER_ATTR_PREFIX`], so no name a client chooses can reach it.

use bytes::Bytes;
use wire::codec::{DecodeResult, Reader, Writer};
use wire::types::UTime;

/// Name of the attribute with the [`ObjectInfo`].
pub const INFO_ATTR: &[u8] = b"_";
/// First byte of every attribute set by clients.
pub const USER_ATTR_PREFIX: u8 = b'u';

const VERSION: u8 = 1;

/// The store's name of a client's attribute.
pub fn user_attr(name: &[u8]) -> Bytes {
    let mut full = Vec::with_capacity(1 + name.len());
    full.push(USER_ATTR_PREFIX);
    full.extend_from_slice(name);
    full.into()
}

/// Metadata of an object. The default is that of an object just created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Version of the last change clients can see.
    pub user_version: u64,
    /// Modification time as the last writer gave it.
    pub mtime: UTime,
    /// Truncation as a file system's client last ordered it; 0 if never.
    pub truncate_seq: u32,
    /// Size of that truncation.
    pub truncate_size: u64,
    /// Client's hint: size the object will have.
    pub expected_object_size: u64,
    /// Client's hint: size of its writes.
    pub expected_write_size: u64,
    /// Client's hint flags.
    pub alloc_hint_flags: u32,
}

impl ObjectInfo {
    /// The attribute's value.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::with_capacity(64);
        w.env(VERSION, 1, |w| {
            w.u64(self.user_version);
            w.put(&self.mtime);
            w.u32(self.truncate_seq);
            w.u64(self.truncate_size);
            w.u64(self.expected_object_size);
            w.u64(self.expected_write_size);
            w.u32(self.alloc_hint_flags);
        });
        w.finish()
    }

    /// Reads the attribute's value.
    pub fn decode(value: Bytes) -> DecodeResult<Self> {
        Reader::new("object info", value).env("object info", VERSION, |r, _| {
            Ok(Self {
                user_version: r.u64()?,
                mtime: r.get()?,
                truncate_seq: r.u32()?,
                truncate_size: r.u64()?,
                expected_object_size: r.u64()?,
                expected_write_size: r.u64()?,
                alloc_hint_flags: r.u32()?,
            })
        })
    }
}

/// An object that exists, as a request sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectState {
    /// Logical size, bytes.
    pub size: u64,
    /// Metadata.
    pub info: ObjectInfo,
}
