//! The checksums that clients can ask an OSD to compute.

use std::hash::Hasher;

use twox_hash::{XxHash32, XxHash64};
use wire::codec::Writer;

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumKind {
    /// xxhash32.
    Xxhash32,
    /// xxhash64.
    Xxhash64,
    /// crc32c.
    Crc32c,
}

impl ChecksumKind {
    //= ceph 16.2 rados.h: CEPH_OSD_CHECKSUM_OP_TYPE_*
    /// From the op's code.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Xxhash32,
            1 => Self::Xxhash64,
            2 => Self::Crc32c,
            _ => return None,
        })
    }

    /// The initial value at the start of an op's payload; `None` if it is too short.
    pub fn seed(self, init: &[u8]) -> Option<u64> {
        match self {
            Self::Xxhash64 => init.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)),
            _ => init.first_chunk().map(|bytes| u64::from(u32::from_le_bytes(*bytes))),
        }
    }
}

/// A checksum in progress.
pub enum Checksum {
    /// xxhash32.
    Xxhash32(XxHash32),
    /// xxhash64.
    Xxhash64(XxHash64),
    /// crc32c without inversions, as everywhere in Ceph.
    Crc32c(u32),
}

impl Checksum {
    /// Starts with `seed` from [`ChecksumKind::seed`].
    pub fn new(kind: ChecksumKind, seed: u64) -> Self {
        // The seed of the 32 bit kinds came from 32 bits.
        let low = (seed & u64::from(u32::MAX)) as u32;
        match kind {
            ChecksumKind::Xxhash32 => Self::Xxhash32(XxHash32::with_seed(low)),
            ChecksumKind::Xxhash64 => Self::Xxhash64(XxHash64::with_seed(seed)),
            ChecksumKind::Crc32c => Self::Crc32c(low),
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Xxhash32(state) => state.write(bytes),
            Self::Xxhash64(state) => state.write(bytes),
            // The crate inverts before and after; Ceph does neither.
            Self::Crc32c(crc) => *crc = !crc32c::crc32c_append(!*crc, bytes),
        }
    }

    /// Appends the value in the width of its kind.
    pub fn write(&self, w: &mut Writer) {
        match self {
            Self::Xxhash32(state) => w.u32(state.finish_32()),
            Self::Xxhash64(state) => w.u64(state.finish()),
            Self::Crc32c(crc) => w.u32(*crc),
        }
    }
}
