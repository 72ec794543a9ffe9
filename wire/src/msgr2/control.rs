//! Contents of the control frames.

use crate::codec::{DecodeResult, Reader, Wire, Writer, decode_exact, encode_to_bytes};
use crate::msgr2::Tag;
use crate::types::{Addr, AddrVec, EntityKind, Features, UTime};

/// Bit in the flags of both IDENTs: no acknowledgement, no replay.
pub const FLAG_LOSSY: u64 = 1;

/// A control frame's content, which knows its tag.
pub trait Control: Wire {
    /// Tag of the frame.
    const TAG: Tag;

    /// The segment to send.
    fn to_segment(&self) -> bytes::Bytes {
        encode_to_bytes(self)
    }

    /// Reads the segment. Newer peers may append fields, so what is left over is ignored.
    fn from_segment(segment: bytes::Bytes) -> DecodeResult<Self> {
        Self::decode(&mut Reader::new(Self::NAME, segment))
    }

    /// Name in errors.
    const NAME: &'static str;

    /// Reads the segment and refuses what is left over; for tests and tools.
    fn from_segment_exact(segment: bytes::Bytes) -> DecodeResult<Self> {
        decode_exact(Self::NAME, segment)
    }
}

macro_rules! control {
    ($(#[$doc:meta])* $name:ident = $tag:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Wire for $name {
            const BYTES_MIN: usize = 0 $(+ <$type as Wire>::BYTES_MIN)*;
            fn encode(&self, w: &mut Writer) {
                $(w.put(&self.$field);)*
                // Frames without fields write nothing.
                let _ = w;
            }
            fn decode(r: &mut Reader) -> DecodeResult<Self> {
                r.within(Self::NAME, |r| {
                    let _ = &r;
                    Ok(Self { $($field: r.get()?,)* })
                })
            }
        }

        impl Control for $name {
            const TAG: Tag = Tag::$tag;
            const NAME: &'static str = stringify!($tag);
        }
    };
}

control! {
    /// Who is there.
    Hello = HELLO {
        /// Kind of the sender.
        kind: EntityKind,
        /// The receiver's address as the sender sees it: type msgr2, nonce 0.
        peer_addr: Addr,
    }
}

control! {
    /// The client's choice of method and its credentials.
    AuthRequest = AUTH_REQUEST {
        /// 1 none, 2 cephx.
        method: u32,
        /// Connection modes in order of preference: 1 crc, 2 secure.
        modes: Vec<u32>,
        /// Credentials.
        payload: bytes::Bytes,
    }
}

control! {
    /// The method is not accepted.
    AuthBadMethod = AUTH_BAD_METHOD {
        /// The method refused.
        method: u32,
        /// Negative errno.
        result: i32,
        /// Methods that are accepted.
        allowed_methods: Vec<u32>,
        /// Connection modes that are accepted.
        allowed_modes: Vec<u32>,
    }
}

control! {
    /// The server needs more.
    AuthReplyMore = AUTH_REPLY_MORE {
        /// The method's own.
        payload: bytes::Bytes,
    }
}

control! {
    /// More from the client.
    AuthRequestMore = AUTH_REQUEST_MORE {
        /// The method's own.
        payload: bytes::Bytes,
    }
}

control! {
    /// The client is who it says.
    AuthDone = AUTH_DONE {
        /// The client's id in the cluster.
        global_id: u64,
        /// Connection mode chosen.
        mode: u32,
        /// The method's own.
        payload: bytes::Bytes,
    }
}

control! {
    /// Wants a new session.
    ClientIdent = CLIENT_IDENT {
        /// Own addresses.
        addrs: AddrVec,
        /// Address that was called.
        target: Addr,
        /// Own number; −1 if not known yet.
        global_id: i64,
        /// Number of the connection attempt in the client's process.
        global_seq: u64,
        /// Supported features.
        supported: Features,
        /// Required features.
        required: Features,
        /// [`FLAG_LOSSY`].
        flags: u64,
        /// Names this life of the session.
        cookie: u64,
    }
}

control! {
    /// The session is accepted.
    ServerIdent = SERVER_IDENT {
        /// Own addresses.
        addrs: AddrVec,
        /// Own number: rank or id.
        global_id: i64,
        /// Number of the connection in the server's process.
        global_seq: u64,
        /// Supported features.
        supported: Features,
        /// Required features.
        required: Features,
        /// [`FLAG_LOSSY`]; this is what counts.
        flags: u64,
        /// The server's name for the session; 0 when lossy.
        cookie: u64,
    }
}

control! {
    /// Required features that the client does not support.
    IdentMissingFeatures = IDENT_MISSING_FEATURES {
        /// The missing bits.
        missing: Features,
    }
}

control! {
    /// Wants to resume a session.
    SessionReconnect = SESSION_RECONNECT {
        /// Own addresses.
        addrs: AddrVec,
        /// Cookie of the CLIENT_IDENT that began it.
        client_cookie: u64,
        /// Cookie of the answer.
        server_cookie: u64,
        /// Number of the connection attempt in the client's process.
        global_seq: u64,
        /// Number of reconnects of this session.
        connect_seq: u64,
        /// Last message received.
        message_seq: u64,
    }
}

control! {
    /// The session is not there.
    SessionReset = SESSION_RESET {
        /// Whether everything is to be forgotten, not only the server's side.
        full: bool,
    }
}

control! {
    /// The connect_seq was too low.
    SessionRetry = SESSION_RETRY {
        /// The server's.
        connect_seq: u64,
    }
}

control! {
    /// The global_seq was too low.
    SessionRetryGlobal = SESSION_RETRY_GLOBAL {
        /// The one that the server has seen.
        global_seq: u64,
    }
}

control! {
    /// Resumed.
    SessionReconnectOk = SESSION_RECONNECT_OK {
        /// Last message received.
        message_seq: u64,
    }
}

control! {
    /// The other side is connecting too, and its connection will be used.
    Wait = WAIT {}
}

control! {
    /// Are you there?
    Keepalive = KEEPALIVE2 {
        /// The sender's time, to be sent back.
        sent_at: UTime,
    }
}

control! {
    /// Yes.
    KeepaliveAck = KEEPALIVE2_ACK {
        /// Copied.
        sent_at: UTime,
    }
}

control! {
    /// Messages up to here were received.
    Ack = ACK {
        /// Last message received.
        message_seq: u64,
    }
}

control! {
    /// Signature over all that the signer received; zero when there is no session key.
    AuthSignature = AUTH_SIGNATURE {
        /// HMAC-SHA256.
        signature: Signature,
    }
}

/// 32 raw bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Signature(pub [u8; 32]);

impl Wire for Signature {
    const BYTES_MIN: usize = 32;
    fn encode(&self, w: &mut Writer) {
        w.raw(&self.0);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.array().map(Self)
    }
}

impl Wire for EntityKind {
    const BYTES_MIN: usize = 1;
    fn encode(&self, w: &mut Writer) {
        w.u8(self.0);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.u8().map(Self)
    }
}
