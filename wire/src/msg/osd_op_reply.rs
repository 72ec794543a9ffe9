//! OSD_OPREPLY: an OSD's answer to a client.

use bytes::Bytes;

use crate::codec::{DecodeResult, Reader, Wire, Writer};
use crate::msg::op::{OP_BYTES, decode_ops};
use crate::msg::osd_op::TRACE_BYTES;
use crate::msg::{Op, OpArgs, OpCode, OsdOp, Payload, RequestFlags};
use crate::msgr2::Data;
use crate::types::{EVersion, Epoch, ObjectLocator, PgId};

/// Where a client is sent to instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Pool, key, namespace.
    pub locator: ObjectLocator,
    /// Name; empty for the same.
    pub object: Bytes,
}

/// OSD_OPREPLY, with the request's transaction id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsdOpReply {
    /// Name.
    pub object: Bytes,
    /// Placement group.
    pub pg: PgId,
    /// Flags: the request's, and what kind of answer it is.
    pub flags: u64,
    /// 0, a positive result of the last operation, or a negative errno.
    pub result: i32,
    /// For old clients: epoch of `replay_version`, and `user_version` if there is one.
    pub bad_replay_version: EVersion,
    /// The OSD's map.
    pub epoch: Epoch,
    /// The request's operations with their outputs.
    pub ops: Vec<Op>,
    /// Copied from the request.
    pub attempt: i32,
    /// Result of each operation; as many as `ops`.
    pub results: Vec<i32>,
    /// The placement group's version given to a write; zero for reads.
    pub replay_version: EVersion,
    /// The object's version.
    pub user_version: u64,
    /// Cache tiering.
    pub redirect: Option<Redirect>,
}

impl OsdOpReply {
    /// An answer to `request` with `result`, its operations without output and results of 0. `executed` is
    /// false for errors found before execution.
    pub fn to_request(request: &OsdOp, result: i32, executed: bool, epoch: Epoch) -> Self {
        //= ceph 16.2 MOSDOpReply: flags are the request's without bits 0-2, plus ONDISK, plus ACK when executed
        let mut flags = u64::from(request.flags.0 & !7 | RequestFlags::ON_DISK.0);
        if executed {
            flags |= u64::from(RequestFlags::ACK.0);
        }
        Self {
            object: request.object.clone(),
            pg: request.pg.pg,
            flags,
            result,
            bad_replay_version: EVersion::default(),
            epoch,
            ops: request.ops.iter().map(|op| op.reply(Data::new())).collect(),
            attempt: request.attempt,
            results: vec![0; request.ops.len()],
            replay_version: EVersion::default(),
            user_version: 0,
            redirect: None,
        }
    }

    /// Sets both versions, and the old field that repeats them.
    pub fn set_versions(&mut self, replay_version: EVersion, user_version: u64) {
        self.replay_version = replay_version;
        self.user_version = user_version;
        //= ceph 16.2 MOSDOpReply: bad_replay_version has the user version, unless there is none (seen in traffic)
        let version = if user_version == 0 { replay_version.version } else { user_version };
        self.bad_replay_version = EVersion::new(replay_version.epoch, version);
    }
}

impl Payload for OsdOpReply {
    const KIND: u16 = 43;
    const VERSION: u16 = 8;
    const COMPAT: u16 = 2;
    const NAME: &'static str = "OSD_OPREPLY";

    fn encode(&self, w: &mut Writer) -> Data {
        assert_eq!(self.ops.len(), self.results.len(), "invariant: each operation has a result");
        w.blob(&self.object);
        w.put(&self.pg);
        w.u64(self.flags);
        w.s32(self.result);
        w.put(&self.bad_replay_version);
        w.put(&self.epoch);
        w.count(self.ops.len());
        let mut data = Data::new();
        for op in &self.ops {
            op.encode(w);
            data.append_data(&op.data);
        }
        w.s32(self.attempt);
        for result in &self.results {
            w.s32(*result);
        }
        w.put(&self.replay_version);
        w.u64(self.user_version);
        w.bool(self.redirect.is_some());
        if let Some(redirect) = &self.redirect {
            w.put(redirect);
        }
        w.zeros(TRACE_BYTES);
        data
    }

    fn decode(r: &mut Reader, data: Data) -> DecodeResult<Self> {
        let object = r.name()?;
        let pg = r.get()?;
        let flags = r.u64()?;
        let result = r.s32()?;
        let bad_replay_version = r.get()?;
        let epoch = r.get()?;
        let count = r.count(OP_BYTES)?;
        let ops = decode_ops(r, count, data)?;
        let attempt = r.s32()?;
        let results = ops.iter().map(|_| r.s32()).collect::<DecodeResult<_>>()?;
        let replay_version = r.get()?;
        let user_version = r.u64()?;
        let redirect = if r.bool()? { Some(r.get()?) } else { None };
        r.skip(TRACE_BYTES)?;
        Ok(Self {
            object,
            pg,
            flags,
            result,
            bad_replay_version,
            epoch,
            ops,
            attempt,
            results,
            replay_version,
            user_version,
            redirect,
        })
    }

    //= ceph 16.2 MOSDOpReply: data_off is the low half of the read offset, for aligning the client's buffer
    fn data_offset(&self) -> u16 {
        let read = self.ops.iter().find(|op| matches!(op.code, OpCode::READ | OpCode::SYNC_READ));
        match read.map(Op::args) {
            Some(OpArgs::Extent { offset, .. }) => u16::try_from(offset & 0xffff).unwrap_or_default(),
            _ => 0,
        }
    }
}

impl Wire for Redirect {
    const BYTES_MIN: usize = 6;
    fn encode(&self, w: &mut Writer) {
        w.env(1, 1, |w| {
            w.put(&self.locator);
            w.blob(&self.object);
            w.u32(0);
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("redirect", 1, |r, _| {
            let locator = r.get()?;
            let object = r.name()?;
            // Instructions that were never given.
            let length = r.count(1)?;
            r.skip(length)?;
            Ok(Self { locator, object })
        })
    }
}
