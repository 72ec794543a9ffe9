//! A client's request on one object, and what is wrong with it before anything is executed.

use cls::Caller;
use store::ObjectId;
use wire::msg::{Op, OpCode, RequestFlags};
use wire::types::{RequestId, SnapId, UTime};

use crate::classes::Method;
use crate::limits::{NAMESPACE_BYTES_MAX, OBJECT_NAME_BYTES_MAX, WRITE_PAYLOAD_BYTES_MAX};
use crate::operation::may_write;
use wire::Errno;

/// The request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The same at every resend.
    pub reqid: RequestId,
    /// Who asks.
    pub caller: Caller,
    /// The head of the object; its name is empty for ops on the whole group.
    pub object: ObjectId,
    /// What to read: the head, or the object at a snapshot.
    pub snap: SnapId,
    /// Newest snapshot of the write's context.
    pub snap_seq: SnapId,
    /// Snapshots of the write's context, descending.
    pub snaps: Vec<SnapId>,
    /// Flags.
    pub flags: RequestFlags,
    /// Modification time for writes; zero leaves the object's.
    pub mtime: UTime,
    /// The ops.
    pub ops: Vec<Op>,
}

impl Request {
    /// Whether any op may change the object. What the flags say is not trusted.
    pub fn may_write(&self) -> bool {
        self.ops.iter().any(may_write)
    }

    /// Whether it concerns the whole group.
    pub fn is_group_request(&self) -> bool {
        self.ops.iter().any(|op| op.code.is_pg_op())
    }

    /// Whether the flag is set.
    pub fn has(&self, flag: RequestFlags) -> bool {
        self.flags.contains(flag)
    }

    /// Refuses what can be refused without looking at the object. `Err` is answered without versions or per-op results.
    pub fn check(&self) -> Result<(), Errno> {
        if self.has(RequestFlags::PARALLEL_EXEC) {
            return Err(Errno::EINVAL);
        }
        for call in self.ops.iter().filter(|op| op.code == OpCode::CALL) {
            Method::of(call)?;
        }
        if self.is_group_request() {
            return Ok(());
        }
        self.check_name()?;
        if self.may_write() {
            return self.check_write();
        }
        if self.snap == SnapId::DIR && self.ops.iter().any(|op| op.code != OpCode::LIST_SNAPS) {
            return Err(Errno::EINVAL);
        }
        // Objects have no clones, so every real snapshot shows the head; 0 is none.
        if self.snap == SnapId(0) {
            return Err(Errno::ENOENT);
        }
        Ok(())
    }

    /// Why it is refused if its payload was too long to be kept, so that its ops have none. //= ceph 16.2
    /// osd_max_write_size. There it is only for writes, but a payload so long cannot be compared with any object either.
    pub fn refusal_without_payload(&self) -> Errno {
        if self.has(RequestFlags::PARALLEL_EXEC) {
            return Errno::EINVAL;
        }
        self.check_name().err().unwrap_or(Errno::EMSGSIZE)
    }

    fn check_name(&self) -> Result<(), Errno> {
        if self.object.name.len() > OBJECT_NAME_BYTES_MAX
            || self.object.key.len() > OBJECT_NAME_BYTES_MAX
            || self.object.namespace.len() > NAMESPACE_BYTES_MAX
        {
            return Err(Errno::ENAMETOOLONG);
        }
        if self.object.name.is_empty() {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    fn check_write(&self) -> Result<(), Errno> {
        if self.snap != SnapId::HEAD {
            return Err(Errno::EINVAL);
        }
        let payload: usize = self.ops.iter().map(|op| op.data.len()).sum();
        if payload > WRITE_PAYLOAD_BYTES_MAX {
            return Err(Errno::EMSGSIZE);
        }
        let descending = self.snaps.windows(2).all(|pair| pair[0] > pair[1]);
        if !descending || self.snaps.first().is_some_and(|&newest| newest > self.snap_seq) {
            return Err(Errno::EINVAL);
        }
        // Writing without cloning would change what the snapshots show.
        if !self.snaps.is_empty() {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(())
    }
}
