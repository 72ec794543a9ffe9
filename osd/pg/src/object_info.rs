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

const VERSION: u8 = 2;
/// Flag of an encoded info: what was truncated follows.
const TRUNCATED: u8 = 1;
/// Flag of an encoded info: the client's hints follow.
const HINTED: u8 = 2;

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
    /// The attribute's value: it is written with every change of the object, so what is 0 is left out.
    pub fn encode(&self) -> Bytes {
        let is_truncated = (self.truncate_seq, self.truncate_size) != (0, 0);
        let hints = (self.expected_object_size, self.expected_write_size, self.alloc_hint_flags);
        let is_hinted = hints != (0, 0, 0);
        let mut w = Writer::with_capacity(64);
        w.env(VERSION, VERSION, |w| {
            w.u8(if is_truncated { TRUNCATED } else { 0 } | if is_hinted { HINTED } else { 0 });
            w.u64(self.user_version);
            w.put(&self.mtime);
            if is_truncated {
                w.u32(self.truncate_seq);
                w.u64(self.truncate_size);
            }
            if is_hinted {
                w.u64(self.expected_object_size);
                w.u64(self.expected_write_size);
                w.u32(self.alloc_hint_flags);
            }
        });
        w.finish()
    }

    /// Reads the attribute's value.
    pub fn decode(value: Bytes) -> DecodeResult<Self> {
        Reader::new("object info", value).env("object info", VERSION, |r, version| {
            // The first version had everything.
            let flags = if version < VERSION { TRUNCATED | HINTED } else { r.u8()? };
            if flags & !(TRUNCATED | HINTED) != 0 {
                return Err(r.error("flags of an object info", format!("{flags:#x}")));
            }
            let mut info = Self { user_version: r.u64()?, mtime: r.get()?, ..Self::default() };
            if flags & TRUNCATED != 0 {
                info.truncate_seq = r.u32()?;
                info.truncate_size = r.u64()?;
            }
            if flags & HINTED != 0 {
                info.expected_object_size = r.u64()?;
                info.expected_write_size = r.u64()?;
                info.alloc_hint_flags = r.u32()?;
            }
            Ok(info)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> [ObjectInfo; 4] {
        let plain = ObjectInfo {
            user_version: 7,
            mtime: UTime { seconds: 8, nanoseconds: 9 },
            ..ObjectInfo::default()
        };
        let truncated = ObjectInfo { truncate_seq: 3, truncate_size: 4, ..plain };
        let hinted = ObjectInfo { expected_object_size: 4 << 20, alloc_hint_flags: 1, ..plain };
        [plain, truncated, hinted, ObjectInfo { truncate_size: 5, expected_write_size: 6, ..hinted }]
    }

    #[test]
    fn round_trips_and_is_short() {
        for info in samples() {
            assert_eq!(ObjectInfo::decode(info.encode()), Ok(info));
        }
        assert_eq!(samples().map(|info| info.encode().len()), [23, 35, 43, 55]);
    }

    #[test]
    fn the_first_version_is_read() {
        for info in samples() {
            let mut w = Writer::new();
            w.env(1, 1, |w| {
                w.u64(info.user_version);
                w.put(&info.mtime);
                w.u32(info.truncate_seq);
                w.u64(info.truncate_size);
                w.u64(info.expected_object_size);
                w.u64(info.expected_write_size);
                w.u32(info.alloc_hint_flags);
            });
            assert_eq!(ObjectInfo::decode(w.finish()), Ok(info));
        }
    }

    #[test]
    fn unknown_flags_are_refused() {
        let mut value = samples()[0].encode().to_vec();
        value[6] = 4;
        assert!(ObjectInfo::decode(Bytes::from(value)).is_err());
    }
}
