//! Wall-clock time as the wire has it.

use std::fmt;

use crate::codec::{DecodeResult, Reader, Wire, Writer};

/// `utime`: seconds since 1970 and nanoseconds. Peers' values are kept as they come, even when the
/// nanoseconds are a second or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UTime {
    /// Seconds since the epoch of Unix.
    pub seconds: u32,
    /// Nanoseconds.
    pub nanoseconds: u32,
}

impl UTime {
    /// From nanoseconds since 1970. Saturates in 2106, where the format ends.
    pub fn from_nanoseconds(total: u64) -> Self {
        const SECOND: u64 = 1_000_000_000;
        match (u32::try_from(total / SECOND), u32::try_from(total % SECOND)) {
            (Ok(seconds), Ok(nanoseconds)) => Self { seconds, nanoseconds },
            _ => Self { seconds: u32::MAX, nanoseconds: 999_999_999 },
        }
    }

    /// Nanoseconds since 1970.
    pub fn as_nanoseconds(self) -> u64 {
        u64::from(self.seconds) * 1_000_000_000 + u64::from(self.nanoseconds)
    }
}

impl fmt::Display for UTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.seconds, self.nanoseconds)
    }
}

impl Wire for UTime {
    const BYTES_MIN: usize = 8;
    fn encode(&self, w: &mut Writer) {
        w.u32(self.seconds);
        w.u32(self.nanoseconds);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        Ok(Self { seconds: r.u32()?, nanoseconds: r.u32()? })
    }
}
