//! Making a cluster: a formatted log whose first entry is the first OSD map.

use std::rc::Rc;

use bytes::Bytes;
use nvme::BlockDevice;
use rt::Core;
use uuid::Uuid;
use wire::codec::encode_to_bytes;

use super::{MonError, wall_clock};
use crate::log::{DiskLog, FormatOptions, LogIdentity, ReplicatedLog};
use crate::osd_life::{self, NewOsd};
use crate::state::Entry;

/// What to make.
#[derive(Clone, Debug)]
pub struct MkfsOptions {
    /// Id of the new cluster.
    pub fsid: Uuid,
    /// Name of the monitor, such as `a`.
    pub name: String,
    /// The OSDs of the cluster, which will boot later. Others can be added only as long as there is no pool.
    pub osds: Vec<NewOsd>,
    /// Go on even if the device holds something.
    pub overwrite: bool,
}

/// Formats `device` as the log of the first monitor of a new cluster.
pub async fn mkfs(core: &Core, device: Rc<dyn BlockDevice>, options: MkfsOptions) -> Result<(), MonError> {
    let now = wall_clock(core);
    let first_map = osd_life::first_map(options.fsid, now, &options.osds)?;
    let identity = LogIdentity { fsid: options.fsid, name: options.name };
    let format =
        FormatOptions { identity: identity.clone(), salt: core.random_u64(), overwrite: options.overwrite };
    DiskLog::format(&device, format).await?;
    let mut log = DiskLog::open(device, &identity).await?;
    let entry: Bytes = encode_to_bytes(&Entry { time: now, changes: vec![first_map] });
    log.propose(entry).await?;
    log.seal().await?;
    Ok(())
}
