//! Frame tags and preambles.

use std::fmt;

use crate::crc::crc32c;
use crate::limits::{
    CONTROL_BYTES_MAX, MESSAGE_DATA_BYTES_MAX, MESSAGE_FRONT_BYTES_MAX, MESSAGE_MIDDLE_BYTES_MAX,
};
use crate::msgr2::{MESSAGE_HEADER_BYTES, Message, ProtocolError};

/// Length of a preamble.
pub const PREAMBLE_BYTES: usize = 32;
/// Length of revision 2.1's epilogue, present when a frame has more than one segment.
pub const EPILOGUE_21_BYTES: usize = 13;
/// Length of revision 2.0's epilogue, present always.
pub const EPILOGUE_20_BYTES: usize = 17;
/// Most segments a frame can have.
pub const SEGMENTS_MAX: usize = 4;
/// Which of them is a message's data.
pub const DATA_SEGMENT: usize = 3;

const FLAGS_AT: usize = 26;
const PREAMBLE_CRC_AT: usize = 28;
const ALIGN_CONTROL: u16 = 8;
const ALIGN_DATA: u16 = 4096;

/// Frame format, chosen by the banners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revision {
    /// All checksums at the end.
    V20,
    /// The first segment's checksum directly after it.
    V21,
}

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(u8);

macro_rules! tags {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        impl Tag {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// The tag of a preamble's first byte.
            pub fn from_byte(tag: u8) -> Result<Self, ProtocolError> {
                match tag {
                    $($value => Ok(Self::$name),)*
                    _ => Err(ProtocolError::UnknownTag { tag }),
                }
            }
        }

        impl fmt::Debug for Tag {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match *self {
                    $(Self::$name => $text,)*
                    _ => "unknown",
                })
            }
        }
    };
}

tags! {
    /// Both: kind, and the peer's address as seen.
    HELLO = 1, "HELLO";
    /// Client: method and credentials.
    AUTH_REQUEST = 2, "AUTH_REQUEST";
    /// Server: method refused, these are allowed.
    AUTH_BAD_METHOD = 3, "AUTH_BAD_METHOD";
    /// Server: more is needed.
    AUTH_REPLY_MORE = 4, "AUTH_REPLY_MORE";
    /// Client: more.
    AUTH_REQUEST_MORE = 5, "AUTH_REQUEST_MORE";
    /// Server: accepted.
    AUTH_DONE = 6, "AUTH_DONE";
    /// Both: signature of the handshake.
    AUTH_SIGNATURE = 7, "AUTH_SIGNATURE";
    /// Client: new session.
    CLIENT_IDENT = 8, "CLIENT_IDENT";
    /// Server: session accepted.
    SERVER_IDENT = 9, "SERVER_IDENT";
    /// Server: features missing.
    IDENT_MISSING_FEATURES = 10, "IDENT_MISSING_FEATURES";
    /// Client: resume a session.
    SESSION_RECONNECT = 11, "SESSION_RECONNECT";
    /// Server: no such session.
    SESSION_RESET = 12, "SESSION_RESET";
    /// Server: try again with a higher connect_seq.
    SESSION_RETRY = 13, "SESSION_RETRY";
    /// Server: try again with a higher global_seq.
    SESSION_RETRY_GLOBAL = 14, "SESSION_RETRY_GLOBAL";
    /// Server: resumed.
    SESSION_RECONNECT_OK = 15, "SESSION_RECONNECT_OK";
    /// Server: wait for our connection.
    WAIT = 16, "WAIT";
    /// Both: a message.
    MESSAGE = 17, "MESSAGE";
    /// Both: are you there?
    KEEPALIVE2 = 18, "KEEPALIVE2";
    /// Both: I am.
    KEEPALIVE2_ACK = 19, "KEEPALIVE2_ACK";
    /// Both: messages up to here were received.
    ACK = 20, "ACK";
}

impl Tag {
    /// The byte on the wire.
    pub fn byte(self) -> u8 {
        self.0
    }
}

/// What becomes of a message with more data than [`MESSAGE_DATA_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LongData {
    /// It ends the connection, before any of it is read.
    #[default]
    Refused,
    /// It is checked and thrown away as it comes; [`super::Event::TooLong`] tells of the rest of the message.
    Dropped,
}

/// A frame's first 32 bytes, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preamble {
    /// What the frame is.
    pub tag: Tag,
    /// Number of segments, 1 to 4.
    pub segments: usize,
    /// Lengths of the segments; 0 beyond the number.
    pub lengths: [usize; SEGMENTS_MAX],
}

impl Preamble {
    /// Checks everything that can be checked before memory is spent on the frame.
    pub fn decode(bytes: &[u8; PREAMBLE_BYTES], long_data: LongData) -> Result<Self, ProtocolError> {
        let (covered, crc) = bytes.split_at(PREAMBLE_CRC_AT);
        let expected = u32::from_le_bytes(crc.try_into().unwrap_or_default());
        let got = crc32c(0, covered);
        if got != expected {
            return Err(ProtocolError::Checksum { what: "preamble", tag: bytes[0], expected, got });
        }
        let tag = Tag::from_byte(bytes[0])?;
        let segments = usize::from(bytes[1]);
        let shape = |what, got: usize, expected: String| ProtocolError::FrameShape {
            tag,
            what,
            got: got as u64,
            expected,
        };
        if !(1..=SEGMENTS_MAX).contains(&segments) || (tag != Tag::MESSAGE && segments != 1) {
            let most = if tag == Tag::MESSAGE { SEGMENTS_MAX } else { 1 };
            return Err(shape("segment count", segments, format!("1 to {most}")));
        }
        let mut lengths = [0; SEGMENTS_MAX];
        for (index, length) in lengths.iter_mut().enumerate() {
            let at = 2 + 6 * index;
            let field = bytes[at..at + 4].try_into().unwrap_or_default();
            *length = usize::try_from(u32::from_le_bytes(field)).unwrap_or(usize::MAX);
        }
        let limits = segment_limits(tag);
        for (index, (&length, limit)) in lengths.iter().zip(limits).enumerate() {
            if index >= segments && length != 0 {
                return Err(shape("length of an absent segment", length, "0".into()));
            }
            let dropped = tag == Tag::MESSAGE && index == DATA_SEGMENT && long_data == LongData::Dropped;
            if length > limit && !dropped {
                return Err(shape("segment length", length, format!("at most {limit} in segment {index}")));
            }
        }
        // Bit 0 would mean compression, which only counts when both sides offered it.
        if bytes[FLAGS_AT] != 0 {
            return Err(shape("flags", usize::from(bytes[FLAGS_AT]), "0".into()));
        }
        if segments > 1 && lengths[segments - 1] == 0 {
            return Err(shape("empty last segment", segments - 1, "trailing empty segments left out".into()));
        }
        if tag == Tag::MESSAGE && lengths[0] != MESSAGE_HEADER_BYTES {
            return Err(shape("header length", lengths[0], MESSAGE_HEADER_BYTES.to_string()));
        }
        Ok(Self { tag, segments, lengths })
    }

    /// For sending; drops trailing empty segments. The lengths are our own and within bounds.
    pub fn new(tag: Tag, lengths: [usize; SEGMENTS_MAX]) -> Self {
        let segments = lengths.iter().rposition(|length| *length != 0).map_or(1, |last| last + 1);
        for (length, limit) in lengths.into_iter().zip(segment_limits(tag)) {
            assert!(
                length <= limit,
                "invariant: a {tag:?} frame's segment has {length} bytes, limit {limit}"
            );
        }
        Self { tag, segments, lengths }
    }

    /// The bytes to send.
    pub fn encode(&self) -> [u8; PREAMBLE_BYTES] {
        let mut bytes = [0; PREAMBLE_BYTES];
        bytes[0] = self.tag.byte();
        bytes[1] = u8::try_from(self.segments).unwrap_or_default();
        for index in 0..self.segments {
            let at = 2 + 6 * index;
            let length = u32::try_from(self.lengths[index]).unwrap_or_default();
            bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
            let align = if index == DATA_SEGMENT { ALIGN_DATA } else { ALIGN_CONTROL };
            bytes[at + 4..at + 6].copy_from_slice(&align.to_le_bytes());
        }
        let crc = crc32c(0, &bytes[..PREAMBLE_CRC_AT]);
        bytes[PREAMBLE_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// Whether a message fits the limits.
pub(super) fn fits(message: &Message) -> bool {
    let [_, front, middle, data] = segment_limits(Tag::MESSAGE);
    message.front.len() <= front && message.middle.len() <= middle && message.data.len() <= data
}

/// Largest accepted segments. Only messages are large, and those come only after the handshake.
fn segment_limits(tag: Tag) -> [usize; SEGMENTS_MAX] {
    if tag == Tag::MESSAGE {
        [MESSAGE_HEADER_BYTES, MESSAGE_FRONT_BYTES_MAX, MESSAGE_MIDDLE_BYTES_MAX, MESSAGE_DATA_BYTES_MAX]
    } else {
        [CONTROL_BYTES_MAX, 0, 0, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut [u8; PREAMBLE_BYTES])) -> String {
        let mut bytes = Preamble::new(Tag::MESSAGE, [MESSAGE_HEADER_BYTES, 10, 0, 20]).encode();
        change(&mut bytes);
        let crc = crc32c(0, &bytes[..PREAMBLE_CRC_AT]);
        bytes[PREAMBLE_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        Preamble::decode(&bytes, LongData::Refused).unwrap_err().to_string()
    }

    #[test]
    fn round_trips_and_drops_empty_tails() {
        let preamble = Preamble::new(Tag::MESSAGE, [MESSAGE_HEADER_BYTES, 10, 0, 0]);
        assert_eq!(preamble.segments, 2);
        assert_eq!(Preamble::decode(&preamble.encode(), LongData::Refused), Ok(preamble));
        let empty = Preamble::new(Tag::WAIT, [0; 4]);
        assert_eq!(empty.segments, 1);
        assert_eq!(Preamble::decode(&empty.encode(), LongData::Refused), Ok(empty));
    }

    #[test]
    fn only_a_messages_data_may_be_too_long_to_keep() {
        let decode = |tag: Tag, index: usize, long_data| {
            let mut bytes = Preamble::new(Tag::MESSAGE, [MESSAGE_HEADER_BYTES, 10, 10, 20]).encode();
            bytes[0] = tag.byte();
            let length = u32::try_from(MESSAGE_DATA_BYTES_MAX + 1).unwrap();
            bytes[2 + 6 * index..6 + 6 * index].copy_from_slice(&length.to_le_bytes());
            let crc = crc32c(0, &bytes[..PREAMBLE_CRC_AT]);
            bytes[PREAMBLE_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
            Preamble::decode(&bytes, long_data).map(|preamble| preamble.lengths[index])
        };
        let dropped = decode(Tag::MESSAGE, DATA_SEGMENT, LongData::Dropped);
        assert_eq!(dropped, Ok(MESSAGE_DATA_BYTES_MAX + 1));
        assert!(decode(Tag::MESSAGE, DATA_SEGMENT, LongData::Refused).is_err());
        for index in 0..DATA_SEGMENT {
            assert!(decode(Tag::MESSAGE, index, LongData::Dropped).is_err(), "{index}");
        }
        assert!(decode(Tag::HELLO, DATA_SEGMENT, LongData::Dropped).is_err());
    }

    #[test]
    fn wrong_shapes_are_refused_with_a_sentence() {
        assert!(refused(|b| b[20..24].fill(0xff)).contains("segment length 4294967295"));
        assert!(refused(|b| b[0] = 77).contains("unknown tag 77"));
        assert!(refused(|b| b[1] = 0).contains("segment count 0"));
        assert!(refused(|b| b[1] = 5).contains("segment count 5"));
        assert!(refused(|b| b[1] = 3).contains("absent segment"));
        assert!(refused(|b| b[20] = 0).contains("empty last segment"));
        assert!(refused(|b| b[26] = 1).contains("flags 1"));
        assert!(refused(|b| b[2] = 40).contains("header length 40"));
        assert!(refused(|b| b[0] = Tag::ACK.byte()).contains("ACK frame with segment count 4"));
        let mut bytes = Preamble::new(Tag::WAIT, [0; 4]).encode();
        bytes[30] ^= 1;
        assert!(matches!(Preamble::decode(&bytes, LongData::Refused), Err(ProtocolError::Checksum { .. })));
    }
}
