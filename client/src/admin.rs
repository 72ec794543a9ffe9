//! What is asked of monitors and daemons rather than of objects: pools, snapshots, space, commands.

use std::rc::Rc;

use bytes::Bytes;
use wire::codec::Reader;
use wire::msg::{
    GetPoolStats, GetPoolStatsReply, MonCommand, MonCommandAck, PoolOp, PoolOpKind, PoolOpReply, StatFs,
    StatFsReply,
};
use wire::types::{PoolId, SnapId};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::io::Pool;
use crate::request::{Outcome, Request};
use wire::Errno;

/// What a command gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOutput {
    /// The daemon's words, for the operator.
    pub status: String,
    /// The result.
    pub output: Bytes,
}

impl Client {
    /// Runs a command, one JSON text, on a monitor.
    pub async fn mon_command(&self, command: &str, input: Bytes) -> Result<CommandOutput> {
        let body =
            MonCommand { fsid: self.osdmap().fsid, command: vec![command.to_owned()], input: input.into() };
        let what = format!("command {command}");
        let ack: MonCommandAck = self.ask_monitor(&what, &body).await?;
        check(&what, ack.result, &ack.status)?;
        Ok(CommandOutput { status: ack.status, output: ack.output.to_bytes() })
    }

    /// Runs a command, one JSON text, on an OSD. It may run more than once if the connection fails.
    pub async fn osd_command(&self, osd: i32, command: &str, input: Bytes) -> Result<CommandOutput> {
        let request = Rc::new(Request::command(osd, self.osdmap().fsid, command.to_owned(), input));
        match self.ask_osd(request.clone()).await? {
            Outcome::Command(reply) => match Errno::from_code(reply.result) {
                Some(errno) => Err(Error::Refused { what: format!("{request}: {}", reply.status), errno }),
                None => Ok(CommandOutput { status: reply.status, output: reply.output.to_bytes() }),
            },
            Outcome::Failed(error) => Err(error),
            Outcome::Ops(_) => {
                let reason = "the answer to an operation came".to_owned();
                Err(Error::Unexpected { what: request.to_string(), reason })
            }
        }
    }

    /// Makes a pool with the monitor's defaults, and waits until it is in the map.
    pub async fn create_pool(&self, name: &str) -> Result<Pool> {
        self.pool_op(0, PoolOpKind::CREATE, SnapId(0), name).await?;
        self.pool(name).await
    }

    /// Deletes a pool with all its objects.
    pub async fn delete_pool(&self, name: &str) -> Result<()> {
        let pool = self.pool(name).await?;
        //= ceph 16.2 mon: a deletion that names an existing pool is answered and not done; stock clients say this
        self.pool_op(pool.id(), PoolOpKind::DELETE, SnapId(0), "delete").await.map(drop)
    }

    /// Space in the whole cluster.
    pub async fn cluster_space(&self) -> Result<StatFsReply> {
        let body = StatFs { version: 0, fsid: self.osdmap().fsid, pool: None };
        self.ask_monitor("asking for the cluster's space", &body).await
    }

    /// Statistics of pools; unknown names are left out.
    pub async fn pool_stats(&self, names: &[&str]) -> Result<GetPoolStatsReply> {
        let pools = names.iter().map(|&name| name.to_owned()).collect();
        let body = GetPoolStats { version: 0, fsid: self.osdmap().fsid, pools };
        self.ask_monitor("asking for statistics of pools", &body).await
    }

    async fn pool_op(&self, pool: PoolId, op: PoolOpKind, snap: SnapId, name: &str) -> Result<Option<Bytes>> {
        let what = format!("change {:#x} of pool {pool} with '{name}'", op.0);
        let number = u32::try_from(pool).map_err(|_| Error::NoSuchPool(pool.to_string()))?;
        let map = self.osdmap();
        let body = PoolOp {
            version: u64::from(map.epoch.0),
            fsid: map.fsid,
            pool: number,
            op,
            snap,
            name: name.to_owned(),
            crush_rule: -1,
        };
        let reply: PoolOpReply = self.ask_monitor(&what, &body).await?;
        check(&what, reply.result, "")?;
        self.wait_for_epoch(reply.epoch).await?;
        Ok(reply.output)
    }
}

impl Pool {
    /// Takes a snapshot of the whole pool.
    pub async fn create_snapshot(&self, name: &str) -> Result<()> {
        self.client().pool_op(self.id(), PoolOpKind::CREATE_SNAP, SnapId(0), name).await.map(drop)
    }

    /// Removes a snapshot of the whole pool.
    pub async fn remove_snapshot(&self, name: &str) -> Result<()> {
        self.client().pool_op(self.id(), PoolOpKind::DELETE_SNAP, SnapId(0), name).await.map(drop)
    }

    /// Gives an id for a snapshot that this client manages.
    pub async fn create_self_managed_snapshot(&self) -> Result<SnapId> {
        let output =
            self.client().pool_op(self.id(), PoolOpKind::CREATE_UNMANAGED_SNAP, SnapId(0), "").await?;
        let mut r = Reader::new("snapshot id", output.unwrap_or_default());
        let what = || format!("snapshot id of pool {}", self.id());
        r.u64().map(SnapId).map_err(|error| Error::Answer { what: what(), error })
    }

    /// Gives an id of a self-managed snapshot back.
    pub async fn remove_self_managed_snapshot(&self, snap: SnapId) -> Result<()> {
        self.client().pool_op(self.id(), PoolOpKind::DELETE_UNMANAGED_SNAP, snap, "").await.map(drop)
    }
}

fn check(what: &str, result: i32, text: &str) -> Result<()> {
    if let Some(errno) = Errno::from_code(result) {
        return Err(Error::Monitor { what: what.to_owned(), errno, text: text.to_owned() });
    }
    Ok(())
}
