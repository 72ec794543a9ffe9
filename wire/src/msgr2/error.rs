//! Why a connection must be closed.

use crate::codec::DecodeError;
use crate::msgr2::Tag;
use crate::types::{Addr, AddrVec, EntityKind, Features};

/// A peer broke the protocol, or cannot be served. The shell writes out what is still to be transmitted,
/// then closes the socket; the protocol has no error frame. Made only from input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The first bytes are no msgr2 banner.
    #[error("peer does not speak msgr2: its first bytes are {got:02x?}, expected \"ceph v2\\n\"")]
    BadBanner {
        /// What came, up to the first wrong byte.
        got: Vec<u8>,
    },
    /// The banner's payload is out of bounds.
    #[error("banner payload of {length} bytes, expected {expected}")]
    BannerLength {
        /// Length claimed.
        length: usize,
        /// What is accepted.
        expected: &'static str,
    },
    /// The peer requires protocol features of msgr2 that we lack.
    #[error("peer requires msgr2 features {required:#x}, supported are {supported:#x}")]
    BannerFeatures {
        /// Required by the peer.
        required: u64,
        /// Ours.
        supported: u64,
    },
    /// A checksum does not match.
    #[error("bad checksum of {what} in a frame with tag {tag}: expected {expected:#010x}, got {got:#010x}")]
    Checksum {
        /// Which part of the frame.
        what: &'static str,
        /// Tag byte.
        tag: u8,
        /// As sent.
        expected: u32,
        /// As computed.
        got: u32,
    },
    /// A tag that no revision has.
    #[error("frame with unknown tag {tag}")]
    UnknownTag {
        /// Tag byte.
        tag: u8,
    },
    /// A frame that may not come now.
    #[error("{tag:?} frame while {state}")]
    UnexpectedTag {
        /// Its tag.
        tag: Tag,
        /// What we were doing.
        state: &'static str,
    },
    /// The shape of a frame is not allowed.
    #[error("{tag:?} frame with {what} {got}, expected {expected}")]
    FrameShape {
        /// Its tag.
        tag: Tag,
        /// Which number is wrong.
        what: &'static str,
        /// The number.
        got: u64,
        /// What is accepted.
        expected: String,
    },
    /// A frame's content could not be decoded.
    #[error("{0}")]
    Decode(#[from] DecodeError),
    /// More bytes than may come before the handshake is over.
    #[error("{got} bytes before the handshake was over, at most {limit} are kept")]
    HandshakeFlood {
        /// Bytes waiting.
        got: usize,
        /// Limit.
        limit: usize,
    },
    /// The peer is of another kind than was called.
    #[error("peer is {got}, expected {expected}")]
    PeerKind {
        /// Kind in its HELLO.
        got: EntityKind,
        /// Kind wanted.
        expected: EntityKind,
    },
    /// Authentication failed for good.
    #[error("authentication refused: {reason}")]
    Auth {
        /// Why.
        reason: String,
    },
    /// The signature of the handshake is wrong.
    #[error("authentication signature does not match")]
    Signature,
    /// The peer gave no address of its own.
    #[error("peer gave no usable address of its own: {addrs}")]
    PeerAddress {
        /// What it gave.
        addrs: AddrVec,
    },
    /// The peer wanted to talk to somebody else.
    #[error("peer wants to talk to {target}, this is {own}")]
    WrongTarget {
        /// Whom it wanted.
        target: Addr,
        /// Us.
        own: AddrVec,
    },
    /// The peer is somebody else than we called.
    #[error("called {target}, but {addrs} answered")]
    WrongPeer {
        /// Whom we called.
        target: Addr,
        /// Who answered.
        addrs: AddrVec,
    },
    /// The peer lacks features that we require.
    #[error("peer lacks required features {missing}")]
    PeerLacksFeatures {
        /// The missing bits.
        missing: Features,
    },
    /// We lack features that the peer requires.
    #[error("peer requires features {missing} that are not supported here")]
    FeaturesUnsupported {
        /// The missing bits.
        missing: Features,
    },
    /// A newer connection of the same peer exists.
    #[error("stale connection: global_seq {got}, a connection with {current} exists")]
    Stale {
        /// Of this connection.
        got: u64,
        /// Of the newer one.
        current: u64,
    },
}
