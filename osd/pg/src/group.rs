//! A placement group's versions and log: turns what a request did into a transaction and an answer.
//!
//! Invariants: versions ascend by one per logged request, in the order the transactions are submitted; the group's
//! state is its stored info brought forward by its log, so no write has to rewrite the info.

use std::collections::BTreeMap;

use bytes::Bytes;
use store::{AccessHints, BlockSums, CollectionId, LogVersion, Op, Transaction};
use wire::codec::{DecodeResult, Reader, Writer};
use wire::msg::RequestFlags;
use wire::types::{EVersion, Epoch, PgId};

use crate::chunks;
use crate::duplicates::{Duplicates, Recorded};
use crate::execute::{Effect, Execution};
use crate::log_entry::{LogEntry, LogKind, OpReturn};
use crate::object_info::{INFO_ATTR, ObjectState};
use crate::request::Request;
use wire::Errno;

const INFO_VERSION: u8 = 1;

/// What is stored as the collection's metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupInfo {
    /// Epoch in which the group was created here.
    pub created: Epoch,
    /// Newest version given.
    pub last_update: EVersion,
    /// Newest user version given.
    pub last_user_version: u64,
}

impl GroupInfo {
    /// As stored.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        w.env(INFO_VERSION, 1, |w| {
            w.put(&self.created);
            w.put(&self.last_update);
            w.u64(self.last_user_version);
        });
        w.finish()
    }

    /// Reads what [`GroupInfo::encode`] wrote.
    pub fn decode(value: Bytes) -> DecodeResult<Self> {
        Reader::new("group info", value).env("group info", INFO_VERSION, |r, _| {
            Ok(Self { created: r.get()?, last_update: r.get()?, last_user_version: r.u64()? })
        })
    }
}

/// The versions in a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyVersions {
    /// Version given to the write; zero for reads.
    pub replay: EVersion,
    /// What old clients look at.
    pub bad_replay: EVersion,
    /// The object's version as clients see it.
    pub user: u64,
}

impl ReplyVersions {
    //= ceph 16.2 MOSDOpReply: old clients get the user version, if there is one, in place of the version
    /// The usual pair.
    pub fn new(replay: EVersion, user: u64) -> Self {
        let shown = if user != 0 { user } else { replay.version };
        Self { replay, bad_replay: EVersion::new(replay.epoch, shown), user }
    }
}

/// A logged request, ready to submit.
#[derive(Debug)]
pub struct Sealed {
    /// For the store.
    pub transaction: Transaction,
    /// What the client says of the data in it.
    pub hints: AccessHints,
    /// What was verified of the data when it came.
    pub sums: BlockSums,
    /// The object afterwards; `None` if it does not exist.
    pub after: Option<ObjectState>,
    /// For the reply.
    pub versions: ReplyVersions,
}

/// The group.
#[derive(Debug)]
pub struct Group {
    id: PgId,
    info: GroupInfo,
    duplicates: Duplicates,
}

impl Group {
    /// A new group, and the transaction that creates its collection.
    pub fn create(id: PgId, bits: u8, created: Epoch) -> (Self, Transaction) {
        let info = GroupInfo { created, ..GroupInfo::default() };
        let group = Self { id, info, duplicates: Duplicates::default() };
        let collection = group.collection();
        let ops = vec![
            Op::CreateCollection { collection, bits },
            Op::SetCollectionMeta { collection, value: info.encode() },
        ];
        (group, Transaction { ops })
    }

    /// A stored group: the collection's metadata, brought forward by its log.
    pub fn open(id: PgId, meta: Bytes, log: Vec<(LogVersion, Bytes)>) -> DecodeResult<Self> {
        let mut info = GroupInfo::decode(meta)?;
        let mut duplicates = Duplicates::default();
        for (_, bytes) in log {
            let entry = LogEntry::decode(bytes)?;
            info.last_update = info.last_update.max(entry.version);
            info.last_user_version = info.last_user_version.max(entry.last_user_version);
            duplicates.insert(&entry);
        }
        Ok(Self { id, info, duplicates })
    }

    /// Its id.
    pub fn id(&self) -> PgId {
        self.id
    }

    /// Its collection.
    pub fn collection(&self) -> CollectionId {
        CollectionId { pool: self.id.pool, seed: self.id.seed }
    }

    /// Its versions.
    pub fn info(&self) -> &GroupInfo {
        &self.info
    }

    /// How the same request was answered before, if it was.
    pub fn duplicate(&self, request: &Request) -> Option<&Recorded> {
        self.duplicates.get(&request.reqid)
    }

    /// Versions of the reply to a request that is not logged.
    pub fn versions_of_read(&self, result: i32, object: Option<&ObjectState>) -> ReplyVersions {
        if result < 0 {
            return ReplyVersions::default();
        }
        ReplyVersions::new(EVersion::default(), object.map_or(0, |state| state.info.user_version))
    }

    /// Versions of the reply to a listing.
    pub fn versions_of_list(&self) -> ReplyVersions {
        ReplyVersions::new(self.info.last_update, self.info.last_user_version)
    }

    /// Gives the request its version and makes its transaction; `None` if it is not logged. `before` is the object
    /// before the request.
    ///
    /// The transactions must be submitted in the order of these calls.
    pub fn seal(
        &mut self,
        epoch: Epoch,
        request: &Request,
        execution: &mut Execution,
        before: Option<ObjectState>,
    ) -> Option<Sealed> {
        let effect = std::mem::replace(&mut execution.effect, Effect::Read);
        let previous = self.info;
        let version = EVersion::new(epoch.max(previous.last_update.epoch), previous.last_update.version + 1);
        let user_before = before.map_or(0, |state| state.info.user_version);
        let collection = self.collection();
        let mut transaction = Transaction::default();
        let mut hints = AccessHints::default();
        let (kind, after, versions) = match effect {
            Effect::Read => return None,
            Effect::Unchanged => (LogKind::Outcome, before, ReplyVersions::new(version, user_before)),
            //= ceph 16.2 osd: a write that failed for want of its object tells the group's versions
            Effect::Failed if execution.result == Errno::ENOENT.code() => {
                let versions = ReplyVersions {
                    replay: version,
                    bad_replay: previous.last_update,
                    user: previous.last_user_version,
                };
                (LogKind::Outcome, before, versions)
            }
            Effect::Failed => (LogKind::Outcome, before, ReplyVersions::new(version, user_before)),
            Effect::Changed(changes) => {
                //= ceph 16.2 osd: user versions never fall behind the group's, which is what old clients see
                let user = (previous.last_user_version.max(user_before) + 1).max(version.version);
                self.info.last_user_version = user;
                transaction.ops = changes.ops;
                hints.keep = changes.keep;
                let after = changes.after.map(|mut state| {
                    state.info.user_version = user;
                    let attrs = BTreeMap::from([(Bytes::from_static(INFO_ATTR), state.info.encode())]);
                    transaction.ops.push(Op::SetAttrs { collection, object: request.object.clone(), attrs });
                    state
                });
                let kind = if after.is_some() { LogKind::Modify } else { LogKind::Delete };
                (kind, after, ReplyVersions::new(version, user))
            }
        };
        self.info.last_update = version;
        let entry = LogEntry {
            kind,
            version,
            user_version: versions.user,
            last_user_version: self.info.last_user_version,
            reqid: request.reqid,
            mtime: request.mtime,
            result: execution.result,
            returns: returns(request, execution),
            object: request.object.clone(),
        };
        transaction.ops.push(Op::LogAppend {
            collection,
            version: LogVersion { epoch: version.epoch.0, version: version.version },
            entry: entry.encode(),
        });
        self.duplicates.insert(&entry);
        let sums = sums_of(request, &transaction);
        Some(Sealed { transaction, hints, sums, after, versions })
    }

    /// Forgets that a request was answered: the store refused its transaction. Its version stays unused.
    pub fn forget(&mut self, request: &Request) {
        self.duplicates.remove(&request.reqid);
    }
}

const _: () = assert!(wire::crc::BLOCK_BYTES as u64 == store::limits::BLOCK);

/// The checksums of the blocks that a transaction's only write has, if it writes what one op brought, as it came.
fn sums_of(request: &Request, transaction: &Transaction) -> BlockSums {
    let mut writes = transaction.ops.iter().filter_map(|op| match op {
        Op::Write { data, .. } => Some(data.as_slice()),
        _ => None,
    });
    let (Some([written]), None) = (writes.next(), writes.next()) else { return BlockSums::new() };
    let is_written = |op: &&wire::msg::Op| match op.data.parts() {
        [only] => only.as_ptr() == written.as_ptr() && only.len() == written.len(),
        _ => false,
    };
    let brought = request.ops.iter().find(is_written);
    let sums = brought.map(|op| op.data.block_checksums()).unwrap_or_default();
    //= ceph 16.2 crc32c: as the name has it everywhere else, but not inverted at the end
    sums.iter().map(|sum| !sum).collect()
}

/// What a request sent again must be told per op.
fn returns(request: &Request, execution: &Execution) -> Vec<OpReturn> {
    if !request.has(RequestFlags::RETURN_VECTOR) {
        return Vec::new();
    }
    let one = |output: &crate::execute::Output| OpReturn {
        value: output.value,
        // A failed or idle write may have read much; only what a changing one may return is worth a log entry.
        data: if output.len() <= crate::limits::WRITE_OUTPUT_BYTES_MAX as u64 {
            chunks::concat(&output.data)
        } else {
            Bytes::new()
        },
    };
    execution.outputs.iter().map(one).collect()
}
