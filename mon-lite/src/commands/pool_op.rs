//! Changes of pools that librados asks for by message rather than by command. Pure.

use wire::msg::{PoolOp, PoolOpKind};
use wire::types::PoolId;

use super::Refusal;
use super::families::pool;
use crate::limits::SELF_MANAGED_SNAPSHOTS_REMOVED_MAX;
use crate::state::Change;
use crate::view::View;
use wire::Errno;

/// Decides about a pool operation: what to commit, which may be nothing.
pub fn decide(view: &View<'_>, op: &PoolOp) -> Result<Vec<Change>, Refusal> {
    let id = PoolId::from(op.pool);
    if op.op != PoolOpKind::CREATE && !view.osd_map().pools.contains_key(&id) {
        return Err(Refusal::new(Errno::ENOENT, format!("pool {id} does not exist")));
    }
    match op.op {
        PoolOpKind::CREATE => create(view, op),
        PoolOpKind::DELETE => pool::delete_pool(view, id),
        PoolOpKind::CREATE_SNAP | PoolOpKind::CREATE_UNMANAGED_SNAP => Err(pool::no_snapshots()),
        PoolOpKind::DELETE_SNAP => pool::remove_snapshot(view, id, &op.name),
        PoolOpKind::DELETE_UNMANAGED_SNAP => remove_self_managed(view, id, op.snap.0),
        other => {
            Err(Refusal::new(Errno::EOPNOTSUPP, format!("pool operation {:#x} is not offered", other.0)))
        }
    }
}

fn create(view: &View<'_>, op: &PoolOp) -> Result<Vec<Change>, Refusal> {
    if view.osd_map().pool_id(&op.name).is_some() {
        return Err(Refusal::new(Errno::EEXIST, format!("pool '{}' already exists", op.name)));
    }
    let crush_rule = u8::try_from(op.crush_rule).ok();
    pool::create_pool(view, pool::NewPool { name: op.name.clone(), crush_rule, ..pool::NewPool::default() })
}

fn remove_self_managed(view: &View<'_>, id: PoolId, snapshot: u64) -> Result<Vec<Change>, Refusal> {
    let queued = view.osd_map().removed_snaps_queue.get(&id);
    if queued.is_some_and(|queue| queue.contains(snapshot)) {
        return Ok(Vec::new());
    }
    if queued.is_some_and(|queue| queue.range_count() >= SELF_MANAGED_SNAPSHOTS_REMOVED_MAX) {
        return Err(Refusal::new(Errno::EBUSY, "too many removed snapshots wait to be trimmed"));
    }
    let epoch = view.osd_map().epoch.next();
    let mut removed = false;
    let changes = super::families::edit(view, |map| {
        let missing = || Refusal::new(Errno::ENOENT, format!("pool {id} does not exist"));
        let pool = map.pools.get_mut(&id).ok_or_else(missing)?;
        removed = pool.remove_self_managed_snapshot(snapshot, epoch)?;
        if removed {
            map.new_removed_snaps.entry(id).or_default().insert(snapshot, 1);
        }
        Ok(())
    })?;
    Ok(if removed { changes } else { Vec::new() })
}
