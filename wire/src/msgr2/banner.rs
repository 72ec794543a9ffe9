//! The first bytes in each direction: protocol name and msgr2 feature bits.

use crate::codec::{Reader, Writer};
use crate::limits::BANNER_PAYLOAD_BYTES_MAX;
use crate::msgr2::input::Input;
use crate::msgr2::{ProtocolError, Revision};

const MAGIC: &[u8; 8] = b"ceph v2\n";
const PAYLOAD_BYTES: usize = 16;
/// Frame format 2.1.
pub const FEATURE_REVISION_21: u64 = 1;

/// Our banner.
pub fn encode(supported: u64) -> bytes::Bytes {
    let mut w = Writer::with_capacity(MAGIC.len() + 2 + PAYLOAD_BYTES);
    w.raw(MAGIC);
    w.u16(16);
    w.u64(supported);
    w.u64(0);
    w.finish()
}

/// The frame format agreed on, once the peer's banner is there. Garbage is refused at its first byte, not
/// only when enough of it came.
pub fn decode(input: &mut Input, supported: u64) -> Result<Option<Revision>, ProtocolError> {
    let mut head = [0; MAGIC.len() + 2];
    let there = input.peek(&mut head);
    let compared = there.min(MAGIC.len());
    if head[..compared] != MAGIC[..compared] {
        return Err(ProtocolError::BadBanner { got: head[..compared].to_vec() });
    }
    if there < head.len() {
        return Ok(None);
    }
    let length = usize::from(u16::from_le_bytes([head[8], head[9]]));
    if !(PAYLOAD_BYTES..=BANNER_PAYLOAD_BYTES_MAX).contains(&length) {
        return Err(ProtocolError::BannerLength { length, expected: "16 to 1024" });
    }
    if input.len() < head.len() + length {
        return Ok(None);
    }
    let mut r = Reader::new("banner", input.take(head.len() + length));
    r.skip(head.len())?;
    let theirs = r.u64()?;
    let required = r.u64()?;
    if required & !supported != 0 {
        return Err(ProtocolError::BannerFeatures { required, supported });
    }
    let both = theirs & supported & FEATURE_REVISION_21 != 0;
    Ok(Some(if both { Revision::V21 } else { Revision::V20 }))
}
