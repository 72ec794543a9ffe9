//! The monitor as a service: its log, its state, its sessions, on one core.
//!
//! Invariant: nothing a client is told about a change precedes the change's commit; clients see states in the order
//! of the log.

mod committer;
mod create;
mod dispatch;
mod global_ids;
mod listener;
mod osd_sessions;
mod session;
mod shared;
mod subscriptions;
mod tick;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use nvme::BlockDevice;
use rt::{Core, Group};
use uuid::Uuid;
use wire::types::UTime;

use crate::log::{Committed, DiskLog, LogError, LogIdentity, ReplicatedLog};
use crate::osd_life::BootRefusal;
use crate::state::{State, StateError};

pub use create::{MkfsOptions, mkfs};

use shared::{Shared, ShutDown};

/// How to run a monitor.
#[derive(Clone, Debug)]
pub struct MonConfig {
    /// The cluster.
    pub fsid: Uuid,
    /// Own name, such as `a`.
    pub name: String,
    /// Name of the host, for `mon metadata`.
    pub hostname: String,
    /// Where to listen; port 0 picks one. The monitor map is changed if it differs from last time.
    pub listen: SocketAddr,
}

/// Why a monitor does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum MonError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log's content.
    #[error("the monitor's log cannot be replayed: {0}")]
    State(#[from] StateError),
    /// The socket.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// An OSD of the new cluster.
    #[error(transparent)]
    Osd(#[from] BootRefusal),
    /// The device was formatted but the cluster was not made.
    #[error("the log on {device} holds no cluster: mkfs was interrupted; run it again, overwriting")]
    Empty {
        /// The device.
        device: String,
    },
}

/// A monitor.
pub struct Monitor;

/// A running monitor. Dropping it leaves the monitor running.
pub struct MonHandle {
    shared: Rc<Shared>,
    address: SocketAddr,
}

impl Monitor {
    /// Opens the log on `device`, replays it, and serves until [`MonHandle::stop`].
    pub async fn start(
        core: Core,
        device: Rc<dyn BlockDevice>,
        config: MonConfig,
    ) -> Result<MonHandle, MonError> {
        let identity = LogIdentity { fsid: config.fsid, name: config.name.clone() };
        let name = device.name().to_owned();
        let mut log = DiskLog::open(device, &identity).await?;
        let state = replay(&mut log, config.fsid).await?;
        if state.osd_maps.epoch().0 == 0 {
            return Err(MonError::Empty { device: name });
        }
        let listen_error = |error| MonError::Listen { address: config.listen, error };
        let listener = core.listen(config.listen).map_err(listen_error)?;
        let address = listener.local_addr();
        let (shared, proposals) = Shared::new(core.clone(), config, address, state);
        core.spawn(Group::Commit, "mon commit", committer::run(shared.clone(), log, proposals));
        shared.announce().await.map_err(|stopped| shared.why_stopped(stopped))?;
        core.spawn(Group::Client, "mon listen", listener::run(shared.clone(), listener));
        core.spawn(Group::Background, "mon tick", tick::run(shared.clone()));
        Ok(MonHandle { shared, address })
    }
}

impl MonHandle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A copy of the state as it is now.
    pub fn state(&self) -> State {
        self.shared.state.borrow().clone()
    }

    /// Waits until the monitor stops by itself, which it does only when its log fails; the reason.
    pub async fn failed(&self) -> MonError {
        self.shared.stopped().await;
        self.shared.why_stopped(ShutDown)
    }

    /// Closes all connections, seals the log, and waits for both.
    pub async fn stop(self) {
        self.shared.gate.close().await;
    }
}

/// Feeds the state with what the log holds.
async fn replay(log: &mut DiskLog, fsid: Uuid) -> Result<State, MonError> {
    let mut state = State::new(fsid);
    let end = log.committed_index();
    let mut at = crate::log::LogIndex(0);
    while at < end {
        match log.next_committed().await? {
            Committed::Snapshot { through, state: bytes } => {
                state = wire::codec::decode_exact("snapshot of the monitor", bytes)
                    .map_err(StateError::Decode)?;
                at = through;
            }
            Committed::Entry { index, payload } => {
                state.apply_bytes(payload)?;
                at = index;
            }
        }
    }
    Ok(state)
}

/// Wall clock of the core.
fn wall_clock(core: &Core) -> UTime {
    UTime::from_nanoseconds(core.wall_clock().0)
}
