//! Commands of operators, to the monitor and to single daemons.

use uuid::Uuid;

use crate::codec::{DecodeResult, Reader, Writer};
use crate::msg::{Payload, decode_paxos, encode_paxos};
use crate::msgr2::{Data, priority};

/// MON_COMMAND.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonCommand {
    /// Cluster; may be zero.
    pub fsid: Uuid,
    /// One JSON text.
    pub command: Vec<String>,
    /// Input bytes.
    pub input: Data,
}

impl Payload for MonCommand {
    const KIND: u16 = 50;
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const NAME: &'static str = "MON_COMMAND";

    fn encode(&self, front: &mut Writer) -> Data {
        encode_paxos(front, 0);
        front.put(&self.fsid);
        front.list(&self.command);
        self.input.clone()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        decode_paxos(front)?;
        Ok(Self { fsid: front.get()?, command: front.list()?, input: data })
    }
}

/// MON_COMMAND_ACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonCommandAck {
    /// Version of the service that the command changed.
    pub version: u64,
    /// 0 or a negative errno.
    pub result: i32,
    /// Printed to standard error.
    pub status: String,
    /// The command, copied.
    pub command: Vec<String>,
    /// Printed to standard output.
    pub output: Data,
}

impl Payload for MonCommandAck {
    const KIND: u16 = 51;
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const PRIORITY: u16 = priority::HIGH;
    const NAME: &'static str = "MON_COMMAND_ACK";

    fn encode(&self, front: &mut Writer) -> Data {
        encode_paxos(front, self.version);
        front.s32(self.result);
        front.str(&self.status);
        front.list(&self.command);
        self.output.clone()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        Ok(Self {
            version: decode_paxos(front)?,
            result: front.s32()?,
            status: front.str()?,
            command: front.list()?,
            output: data,
        })
    }
}

/// COMMAND: `ceph tell`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Cluster.
    pub fsid: Uuid,
    /// One JSON text.
    pub command: Vec<String>,
    /// Input bytes.
    pub input: Data,
}

impl Payload for Command {
    const KIND: u16 = 97;
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const NAME: &'static str = "COMMAND";

    fn encode(&self, front: &mut Writer) -> Data {
        front.put(&self.fsid);
        front.list(&self.command);
        self.input.clone()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        Ok(Self { fsid: front.get()?, command: front.list()?, input: data })
    }
}

/// COMMAND_REPLY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandReply {
    /// 0 or a negative errno.
    pub result: i32,
    /// Printed to standard error.
    pub status: String,
    /// Printed to standard output.
    pub output: Data,
}

impl Payload for CommandReply {
    const KIND: u16 = 98;
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const NAME: &'static str = "COMMAND_REPLY";

    fn encode(&self, front: &mut Writer) -> Data {
        front.s32(self.result);
        front.str(&self.status);
        self.output.clone()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        Ok(Self { result: front.s32()?, status: front.str()?, output: data })
    }
}
