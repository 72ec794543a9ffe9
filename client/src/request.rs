//! What a caller asks of an OSD, and how it is named in errors.

use std::fmt;

use bytes::Bytes;
use uuid::Uuid;
use wire::msg::{Command, CommandReply, Op, OsdOpReply, RequestFlags};
use wire::types::{HObject, ObjectLocator, PoolId, SnapId, UTime};

use crate::error::Error;

/// A request; the same at every resend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub target: Target,
    pub body: Body,
}

/// Whom it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// An object.
    Object { locator: ObjectLocator, name: Bytes },
    /// The placement group that holds this hash.
    Group { pool: PoolId, hash: u32, nspace: Bytes },
    /// A daemon.
    Osd(i32),
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Ops on the target.
    Ops { ops: Vec<Op>, flags: RequestFlags, mtime: UTime },
    /// An operator's command.
    Command(Command),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The ops' answer.
    Ops(Box<OsdOpReply>),
    /// The command's answer.
    Command(CommandReply),
    /// None.
    Failed(Error),
}

impl Request {
    /// A command to a daemon.
    pub fn command(osd: i32, fsid: Uuid, command: String, input: Bytes) -> Self {
        let body = Body::Command(Command { fsid, command: vec![command], input: input.into() });
        Self { target: Target::Osd(osd), body }
    }

    /// Whether something may change.
    pub fn may_write(&self) -> bool {
        matches!(&self.body, Body::Ops { flags, .. } if flags.contains(RequestFlags::WRITE))
    }

    /// Whether it goes on although the pool is full.
    pub fn ignores_full(&self) -> bool {
        let ignoring = [RequestFlags::FULL_TRY, RequestFlags::FULL_FORCE];
        matches!(&self.body, Body::Ops { flags, .. } if ignoring.iter().any(|&flag| flags.contains(flag)))
    }

    /// Bytes of payload, for limits.
    pub fn payload_bytes(&self) -> u64 {
        let bytes = match &self.body {
            Body::Ops { ops, .. } => ops.iter().map(|op| op.data.len()).sum(),
            Body::Command(command) => command.input.len(),
        };
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// The place of the target among the objects, given its hash: for back-offs.
    pub fn place_among_objects(&self, hash: u32) -> HObject {
        let empty = HObject { hash, snap: SnapId::HEAD, ..HObject::minimum() };
        match &self.target {
            Target::Object { locator, name } => HObject {
                key: if locator.key == *name { Bytes::new() } else { locator.key.clone() },
                oid: name.clone(),
                nspace: locator.nspace.clone(),
                pool: locator.pool,
                ..empty
            },
            Target::Group { pool, nspace, .. } => HObject { nspace: nspace.clone(), pool: *pool, ..empty },
            Target::Osd(_) => empty,
        }
    }
}

/// As errors name it: `WRITE+TRUNCATE on 'name' in pool 3`.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const OPS_SHOWN: usize = 4;
        match &self.body {
            Body::Ops { ops, .. } => {
                for (index, op) in ops.iter().take(OPS_SHOWN).enumerate() {
                    write!(f, "{}{:?}", if index > 0 { "+" } else { "" }, op.code)?;
                }
                if ops.len() > OPS_SHOWN {
                    write!(f, "+{} more", ops.len() - OPS_SHOWN)?;
                }
            }
            Body::Command(command) => write!(f, "command {}", command.command.join(" "))?,
        }
        match &self.target {
            Target::Object { locator, name } => {
                write!(f, " on '{}'", name.escape_ascii())?;
                if !locator.nspace.is_empty() {
                    write!(f, " of namespace '{}'", locator.nspace.escape_ascii())?;
                }
                write!(f, " in pool {}", locator.pool)
            }
            Target::Group { pool, hash, .. } => write!(f, " at hash {hash:#010x} of pool {pool}"),
            Target::Osd(osd) => write!(f, " to osd.{osd}"),
        }
    }
}
