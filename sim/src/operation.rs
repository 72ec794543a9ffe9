//! What a simulated client asks for, as values, and what each does to an object. Pure.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

/// Largest object the workload makes, bytes.
pub const OBJECT_BYTES_MAX: usize = 512 * 1024;

/// Content of one object as a client can observe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The bytes.
    pub data: Vec<u8>,
    /// Extended attributes.
    pub xattrs: BTreeMap<Bytes, Bytes>,
    /// Omap entries.
    pub omap: BTreeMap<Bytes, Bytes>,
    /// Omap header.
    pub header: Bytes,
}

/// An object's state: absent, or its content.
pub type State = Option<Content>;

/// One change within a request. A request is a list of them, all or nothing.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are what their names say")]
pub enum Change {
    Write {
        offset: usize,
        data: Bytes,
    },
    WriteFull {
        data: Bytes,
    },
    Append {
        data: Bytes,
    },
    Zero {
        offset: usize,
        len: usize,
    },
    Truncate {
        size: usize,
    },
    Remove,
    CreateExclusive,
    SetXattr {
        name: Bytes,
        value: Bytes,
    },
    RemoveXattr {
        name: Bytes,
    },
    OmapSet {
        entries: BTreeMap<Bytes, Bytes>,
    },
    OmapRemove {
        keys: Vec<Bytes>,
    },
    OmapRemoveRange {
        first: Bytes,
        end: Bytes,
    },
    OmapSetHeader {
        header: Bytes,
    },
    OmapClear,
    /// Fails the request with ENOENT if the object is missing; changes nothing.
    AssertExists,
    /// Fails the request with ECANCELED unless the attribute has this value (empty if absent), with ENOENT if the
    /// object is missing.
    CompareXattr {
        name: Bytes,
        value: Bytes,
    },
}

impl Change {
    /// Whether the object is another one afterwards, or at least counts as such, whatever it was before.
    pub fn always_changes(&self) -> bool {
        matches!(
            self,
            Self::WriteFull { .. }
                | Self::Append { .. }
                | Self::Remove
                | Self::CreateExclusive
                | Self::SetXattr { .. }
        )
    }
}

/// Without the payloads, which nobody reads.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { offset, data } => write!(f, "write {offset}+{}", data.len()),
            Self::WriteFull { data } => write!(f, "write full {}", data.len()),
            Self::Append { data } => write!(f, "append {}", data.len()),
            Self::Zero { offset, len } => write!(f, "zero {offset}+{len}"),
            Self::Truncate { size } => write!(f, "truncate {size}"),
            Self::Remove => write!(f, "remove"),
            Self::CreateExclusive => write!(f, "create exclusive"),
            Self::SetXattr { name, .. } => write!(f, "set xattr {}", name.escape_ascii()),
            Self::RemoveXattr { name } => write!(f, "remove xattr {}", name.escape_ascii()),
            Self::OmapSet { entries } => write!(f, "set {} omap keys", entries.len()),
            Self::OmapRemove { keys } => write!(f, "remove {} omap keys", keys.len()),
            Self::OmapRemoveRange { first, end } => {
                write!(f, "remove omap {}..{}", first.escape_ascii(), end.escape_ascii())
            }
            Self::OmapSetHeader { .. } => write!(f, "set omap header"),
            Self::OmapClear => write!(f, "clear omap"),
            Self::AssertExists => write!(f, "assert exists"),
            Self::CompareXattr { name, .. } => write!(f, "compare xattr {}", name.escape_ascii()),
        }
    }
}

/// What a request must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Success.
    Done,
    /// This errno, and no effect.
    Fails(i32),
}

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const ECANCELED: i32 = 125;

/// The state after a request, and its outcome. All or nothing.
pub fn apply(state: &State, request: &[Change]) -> (State, Outcome) {
    let mut next = state.clone();
    for change in request {
        if let Err(errno) = apply_one(&mut next, change) {
            return (state.clone(), Outcome::Fails(errno));
        }
    }
    (next, Outcome::Done)
}

fn apply_one(state: &mut State, change: &Change) -> Result<(), i32> {
    match change {
        Change::Write { offset, data } => write(&mut existing_or_new(state).data, *offset, data),
        Change::WriteFull { data } => existing_or_new(state).data = data.to_vec(),
        Change::Append { data } => existing_or_new(state).data.extend_from_slice(data),
        Change::Zero { offset, len } => {
            if let Some(content) = state {
                zero(&mut content.data, *offset, *len);
            }
        }
        Change::Truncate { size } => {
            if let Some(content) = state {
                content.data.resize(*size, 0);
            }
        }
        Change::Remove => {
            state.take().ok_or(ENOENT)?;
        }
        Change::CreateExclusive => {
            if state.is_some() {
                return Err(EEXIST);
            }
            *state = Some(Content::default());
        }
        Change::SetXattr { name, value } => {
            existing_or_new(state).xattrs.insert(name.clone(), value.clone());
        }
        Change::RemoveXattr { name } => {
            state.as_mut().ok_or(ENOENT)?.xattrs.remove(name);
        }
        Change::OmapSet { entries } => {
            existing_or_new(state)
                .omap
                .extend(entries.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        Change::OmapRemove { keys } => {
            let content = state.as_mut().ok_or(ENOENT)?;
            for key in keys {
                content.omap.remove(key);
            }
        }
        Change::OmapRemoveRange { first, end } => {
            state.as_mut().ok_or(ENOENT)?.omap.retain(|key, _| key < first || key >= end);
        }
        Change::OmapSetHeader { header } => existing_or_new(state).header = header.clone(),
        Change::OmapClear => {
            let content = state.as_mut().ok_or(ENOENT)?;
            content.omap.clear();
            content.header = Bytes::new();
        }
        Change::AssertExists => {
            state.as_ref().ok_or(ENOENT)?;
        }
        Change::CompareXattr { name, value } => {
            let stored = state.as_ref().ok_or(ENOENT)?.xattrs.get(name).cloned().unwrap_or_default();
            if stored != *value {
                return Err(ECANCELED);
            }
        }
    }
    Ok(())
}

fn existing_or_new(state: &mut State) -> &mut Content {
    state.get_or_insert_with(Content::default)
}

fn write(data: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if data.len() < end {
        data.resize(end, 0);
    }
    data[offset..end].copy_from_slice(bytes);
}

/// Ceph's rule: zeroing up to or past the end truncates; entirely beyond the end does nothing.
fn zero(data: &mut Vec<u8>, offset: usize, len: usize) {
    if offset >= data.len() {
        return;
    }
    if offset + len >= data.len() {
        data.truncate(offset);
    } else {
        data[offset..offset + len].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_request_changes_nothing() {
        let before = Some(Content { data: b"abc".to_vec(), ..Content::default() });
        let request = [Change::Append { data: Bytes::from_static(b"d") }, Change::CreateExclusive];
        assert_eq!(apply(&before, &request), (before.clone(), Outcome::Fails(EEXIST)));
        let (after, outcome) = apply(&before, &request[..1]);
        assert_eq!(outcome, Outcome::Done);
        assert_eq!(after.expect("exists").data, b"abcd");
    }

    #[test]
    fn zero_follows_ceph() {
        let mut data = b"abcdef".to_vec();
        zero(&mut data, 6, 4);
        assert_eq!(data, b"abcdef");
        zero(&mut data, 1, 2);
        assert_eq!(data, b"a\0\0def");
        zero(&mut data, 4, 100);
        assert_eq!(data, b"a\0\0d");
    }
}
