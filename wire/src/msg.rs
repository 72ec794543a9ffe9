//! Every message spoken here as a value, with its encoding in both directions: client, OSD and monitor are all
//! ours, and all talk to Ceph's own.
//!
//! A daemon that expects one type uses [`Payload::from_message`]; one that takes many matches on
//! [`decode_message`]. A type that nobody here knows comes as [`Body::Unknown`], to be refused by whom it
//! reached.

mod command;
mod daemon;
mod listing;
mod log;
mod maps;
mod monmap;
mod op;
mod op_args;
mod op_code;
mod osd_events;
mod osd_op;
mod osd_op_reply;
mod service;
mod stats;
mod subscribe;

pub use command::{Command, CommandReply, MonCommand, MonCommandAck};
pub use daemon::{Alert, OsdAlert, OsdBeacon, OsdBoot, OsdStatfs, OsdStats, PgReport, PoolReport, Severity};
pub use listing::{
    CloneInfo, ListSnapsReply, ListWatchersReply, ListedObject, PgListReply, WatchItem, pg_list_cursor,
};
pub use log::{Log, LogAck, LogEntry, LogPriority};
pub use maps::{MgrMap, MonGetMap, MonMapMessage, OsdMapMessage};
pub use monmap::{MonInfo, MonMap};
pub use op::{Op, OpFlags};
pub use op_args::OpArgs;
pub use op_code::{AccessKind, OpCode};
pub use osd_events::{Backoff, BackoffStep, WatchEvent, WatchNotify};
pub use osd_op::{OsdOp, RequestFlags};
pub use osd_op_reply::{OsdOpReply, Redirect};
pub use service::{GetPoolStats, GetPoolStatsReply, PoolOp, PoolOpKind, PoolOpReply, StatFs, StatFsReply};
pub use stats::{PoolStat, StatSum, StoreStatfs};
pub use subscribe::{
    ConfigMessage, GetConfig, MonGetVersion, MonGetVersionReply, MonSubscribe, MonSubscribeAck, Subscription,
};

use bytes::Bytes;

use crate::codec::{DecodeError, DecodeResult, Reader, Writer};
use crate::msgr2::{Data, Message, MessageHeader, priority};

/// Why a message could not be understood. Made only from input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Its content is wrong.
    #[error("message type {kind:#x}: {error}")]
    Decode {
        /// Type.
        kind: u16,
        /// What is wrong.
        error: DecodeError,
    },
    /// Its encoding is too new or too old.
    #[error(
        "message type {kind:#x} in encoding {version} (compatible with {compat}), known are {oldest} to {newest}"
    )]
    Version {
        /// Type.
        kind: u16,
        /// Version of the encoding.
        version: u16,
        /// Oldest decoder that can read it.
        compat: u16,
        /// Oldest encoding known here.
        oldest: u16,
        /// Newest encoding known here.
        newest: u16,
    },
    /// Another type came than the one that was asked for.
    #[error("message type {kind:#x}, expected {expected:#x}")]
    Kind {
        /// Type that came.
        kind: u16,
        /// Type wanted.
        expected: u16,
    },
}

/// What all message values have in common.
pub trait Payload: Sized {
    /// Message type.
    const KIND: u16;
    /// Version of the encoding.
    const VERSION: u16;
    /// Oldest version that decoders must know.
    const COMPAT: u16;
    /// Oldest version that is understood.
    const OLDEST: u16 = Self::VERSION;
    /// For the receiver's scheduling.
    const PRIORITY: u16 = priority::DEFAULT;
    /// Name in errors.
    const NAME: &'static str;

    /// Writes the front and gives the data.
    fn encode(&self, front: &mut Writer) -> Data;

    /// Reads front and data.
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self>;

    /// Low bits of the data's offset in its object, for aligning buffers.
    fn data_offset(&self) -> u16 {
        0
    }

    /// The message to send. Replies copy the request's `tid`.
    fn to_message(&self, tid: u64) -> Message {
        let mut front = Writer::with_capacity(FRONT_BYTES_TYPICAL);
        let data = self.encode(&mut front);
        let header = MessageHeader {
            tid,
            kind: Self::KIND,
            priority: Self::PRIORITY,
            version: Self::VERSION,
            compat_version: Self::COMPAT,
            data_offset: self.data_offset(),
        };
        Message { header, front: front.finish(), middle: Bytes::new(), data }
    }

    /// Understands a message of this type.
    fn from_message(message: &Message) -> Result<Self, MessageError> {
        read(message, |front| Self::decode(front, message.data.clone()))
    }
}

/// Understands a message of a type by `decode`, which gets the front.
fn read<P: Payload>(
    message: &Message,
    decode: impl FnOnce(&mut Reader) -> DecodeResult<P>,
) -> Result<P, MessageError> {
    let MessageHeader { kind, version, compat_version: compat, .. } = message.header;
    if kind != P::KIND {
        return Err(MessageError::Kind { kind, expected: P::KIND });
    }
    let (oldest, newest) = (P::OLDEST, P::VERSION);
    if compat > newest || version < oldest {
        return Err(MessageError::Version { kind, version, compat, oldest, newest });
    }
    let mut front = Reader::new(P::NAME, message.front.clone());
    let decoded = decode(&mut front).and_then(|body| {
        // Newer peers may append fields; of known encodings nothing may be left.
        if version <= newest {
            front.finish()?;
        }
        Ok(body)
    });
    decoded.map_err(|error| MessageError::Decode { kind, error })
}

/// Room for the front of an operation or its reply, so that writing it rarely moves it.
const FRONT_BYTES_TYPICAL: usize = 384;

/// Reads data that must not be there.
fn no_data(front: &Reader, data: &Data) -> DecodeResult<()> {
    match data.len() {
        0 => Ok(()),
        length => Err(front.error("no data segment", format!("{length} bytes"))),
    }
}

macro_rules! bodies {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Any message.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Body {
            $($(#[$doc])* $name($name),)*
            /// A type that is not known here, as it came.
            Unknown(Message),
        }

        $(impl From<$name> for Body {
            fn from(body: $name) -> Self {
                Self::$name(body)
            }
        })*

        /// Understands a message of any type.
        pub fn decode_message(message: &Message) -> Result<Body, MessageError> {
            match message.header.kind {
                $($name::KIND => $name::from_message(message).map(Body::$name),)*
                _ => Ok(Body::Unknown(message.clone())),
            }
        }

        impl Body {
            /// The message to send.
            pub fn to_message(&self, tid: u64) -> Message {
                match self {
                    $(Self::$name(body) => body.to_message(tid),)*
                    Self::Unknown(message) => message.clone(),
                }
            }

            /// Name of the type, for logs.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => $name::NAME,)*
                    Self::Unknown(_) => "unknown message",
                }
            }
        }

        /// All types known here, with their names.
        pub const KINDS: &[(u16, &str)] = &[$(($name::KIND, $name::NAME),)*];
    };
}

bodies! {
    /// Empty.
    Ping,
    /// Client to monitor.
    MonGetMap,
    /// Monitor to all.
    MonMapMessage,
    /// All to monitor.
    MonSubscribe,
    /// Monitor to old clients.
    MonSubscribeAck,
    /// Monitor to all.
    ConfigMessage,
    /// Daemon to monitor.
    GetConfig,
    /// All to monitor.
    MonGetVersion,
    /// Monitor to all.
    MonGetVersionReply,
    /// Monitor and OSD to all.
    OsdMapMessage,
    /// Monitor to all.
    MgrMap,
    /// Client to monitor.
    StatFs,
    /// Monitor to client.
    StatFsReply,
    /// Client to monitor.
    GetPoolStats,
    /// Monitor to client.
    GetPoolStatsReply,
    /// Client to monitor.
    PoolOp,
    /// Monitor to client.
    PoolOpReply,
    /// Client to monitor.
    MonCommand,
    /// Monitor to client.
    MonCommandAck,
    /// Client to any daemon.
    Command,
    /// Any daemon to client.
    CommandReply,
    /// All to monitor, monitor to subscribers.
    Log,
    /// Monitor to all.
    LogAck,
    /// Client to OSD.
    OsdOp,
    /// OSD to client.
    OsdOpReply,
    /// OSD to client and back.
    Backoff,
    /// OSD to client.
    WatchNotify,
    /// Our OSD to our monitor.
    OsdBoot,
    /// Our OSD to our monitor.
    OsdBeacon,
    /// Our OSD to our monitor.
    OsdStats,
    /// Our OSD to our monitor.
    OsdAlert,
}

/// PING: a client asks a slow OSD for a sign of life, and gets none but the connection's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ping {
    /// Empty in requests; a monitor answers with a JSON text.
    pub text: Option<String>,
}

impl Payload for Ping {
    const KIND: u16 = 2;
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const NAME: &'static str = "PING";

    fn encode(&self, front: &mut Writer) -> Data {
        if let Some(text) = &self.text {
            front.str(text);
        }
        Data::new()
    }

    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(front, &data)?;
        Ok(Self { text: if front.is_empty() { None } else { Some(front.str()?) } })
    }
}

/// The prefix of many messages between clients and monitors; only the version is ever used.
fn encode_paxos(w: &mut Writer, version: u64) {
    w.u64(version);
    w.s16(-1);
    w.u64(0);
}

fn decode_paxos(r: &mut Reader) -> DecodeResult<u64> {
    let version = r.u64()?;
    r.skip(2 + 8)?;
    Ok(version)
}
