//! Recognises what a device holds before it is formatted, so that nobody's data is overwritten by mistake.
//!
//! A finding is a reason to refuse, never a proof: anything that is not blank is reported, known or not. Nothing is
//! written. Works on any view of a device.

pub(crate) mod fuzzing;
mod signatures;

use std::fmt;

use crate::blocking::BlockingDevice;
use crate::buffer::DmaBuf;
use crate::device::{BlockDevice, DeviceResult, Geometry};
use crate::limits::{PROBE_HEAD_BYTES, PROBE_TAIL_BYTES};
use signatures::Content;

/// Bytes by which a caller knows its own devices.
#[derive(Clone, Copy, Debug)]
pub struct OwnMagic<'a> {
    /// The bytes.
    pub magic: &'a [u8],
    /// Where they are, from the start of the device.
    pub offset: u64,
}

/// What a device holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The caller's own magic.
    Own,
    /// Somebody's data, recognised.
    Foreign {
        /// Kind, with its article.
        what: &'static str,
        /// Name that its owner gave it.
        name: Option<String>,
        /// Where the signature is, bytes.
        at: u64,
    },
    /// Bytes that are not zero and mean nothing to us.
    NotBlank {
        /// Where the first of them is.
        at: u64,
    },
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => write!(f, "a device of spirula"),
            Self::Foreign { what, name: Some(name), at } => {
                write!(f, "{what} named {name:?} (signature at byte {at})")
            }
            Self::Foreign { what, name: None, at } => write!(f, "{what} (signature at byte {at})"),
            Self::NotBlank { at } => {
                write!(f, "data of an unknown kind (the first byte that is not zero is at {at})")
            }
        }
    }
}

/// Looks at a device from a foreign thread, or before there are cores. None if its first MiB is blank and no signature
/// is anywhere.
pub fn probe_foreign(device: &dyn BlockingDevice, own: &[OwnMagic<'_>]) -> DeviceResult<Option<Found>> {
    let (head_len, tail_start, tail_len) = places(device.geometry());
    let mut head = DmaBuf::zeroed(head_len);
    device.read_at(0, &mut head)?;
    let mut tail = DmaBuf::zeroed(tail_len);
    device.read_at(tail_start, &mut tail)?;
    Ok(judge(&head, &tail, tail_start, own))
}

/// Looks at a device from its core; otherwise as [`probe_foreign`].
pub async fn probe_foreign_on_core(
    device: &dyn BlockDevice,
    own: &[OwnMagic<'_>],
) -> DeviceResult<Option<Found>> {
    let (head_len, tail_start, tail_len) = places(device.geometry());
    let head = device.read(0, DmaBuf::zeroed(head_len)).await?;
    let tail = device.read(tail_start, DmaBuf::zeroed(tail_len)).await?;
    Ok(judge(&head, &tail, tail_start, own))
}

/// Length of the head, start and length of the tail: whole blocks, and all of a device that is small.
fn places(geometry: &Geometry) -> (usize, u64, usize) {
    let whole = |bytes: u64| bytes.next_multiple_of(u64::from(geometry.block_size)).min(geometry.size);
    let (head, tail) = (whole(PROBE_HEAD_BYTES), whole(PROBE_TAIL_BYTES));
    (head as usize, geometry.size - tail, tail as usize)
}

fn judge(head: &[u8], tail: &[u8], tail_start: u64, own: &[OwnMagic<'_>]) -> Option<Found> {
    let content = Content { head, tail, tail_start };
    if own.iter().any(|own| content.has(own.offset, own.magic)) {
        return Some(Found::Own);
    }
    if let Some(found) = signatures::recognise(&content) {
        return Some(found);
    }
    let at = head.iter().position(|&byte| byte != 0)?;
    Some(Found::NotBlank { at: at as u64 })
}

#[cfg(test)]
mod tests;
