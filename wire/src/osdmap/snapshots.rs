//! Snapshots of a pool: ids and the two modes, of which a pool is in one for ever.

use thiserror::Error;

use super::pool::{Pool, PoolFlags, PoolSnapshot};
use crate::types::{Epoch, UTime};

/// Why a snapshot operation is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// EINVAL.
    #[error("the pool's snapshots are managed by its clients, not by the pool")]
    SelfManaged,
    /// EINVAL.
    #[error("the pool's snapshots are managed by the pool, not by its clients")]
    PoolManaged,
    /// EEXIST.
    #[error("there is a snapshot '{0}' already")]
    Exists(String),
    /// ENOENT.
    #[error("there is no snapshot '{0}'")]
    NotFound(String),
}

impl Pool {
    //= ceph 16.2 osdmap: ids of pool snapshots start at 1, those of self-managed snapshots at 2; removing takes
    //= an id too

    /// Takes a snapshot of the whole pool; gives its id. `epoch` is the one that will show it.
    pub fn create_pool_snapshot(
        &mut self,
        name: &str,
        stamp: UTime,
        epoch: Epoch,
    ) -> Result<u64, SnapshotError> {
        self.check_pool_managed()?;
        if self.snaps.values().any(|snap| snap.name == name) {
            return Err(SnapshotError::Exists(name.to_owned()));
        }
        self.flags = self.flags.with(PoolFlags::POOL_SNAPS);
        let id = self.next_snapshot(epoch);
        self.snaps.insert(id, PoolSnapshot { id, stamp, name: name.to_owned() });
        Ok(id)
    }

    /// Removes a snapshot of the whole pool; gives its id.
    pub fn remove_pool_snapshot(&mut self, name: &str, epoch: Epoch) -> Result<u64, SnapshotError> {
        self.check_pool_managed()?;
        let found = self.snaps.iter().find(|(_, snap)| snap.name == name).map(|(&id, _)| id);
        let id = found.ok_or_else(|| SnapshotError::NotFound(name.to_owned()))?;
        self.snaps.remove(&id);
        self.next_snapshot(epoch);
        Ok(id)
    }

    /// Gives an id for a snapshot that clients manage.
    pub fn create_self_managed_snapshot(&mut self, epoch: Epoch) -> Result<u64, SnapshotError> {
        self.check_self_managed()?;
        if !self.flags.contains(PoolFlags::SELFMANAGED_SNAPS) {
            self.flags = self.flags.with(PoolFlags::SELFMANAGED_SNAPS);
            self.snap_seq = self.snap_seq.max(1);
        }
        Ok(self.next_snapshot(epoch))
    }

    /// Notes that a self-managed snapshot is removed; the caller adds `id` to the increment's removed snapshots.
    /// False if the id was never given.
    pub fn remove_self_managed_snapshot(&mut self, id: u64, epoch: Epoch) -> Result<bool, SnapshotError> {
        self.check_self_managed()?;
        // The last number there is cannot be in a set of ranges, as its end would not be a number.
        let exists = (2..=self.snap_seq).contains(&id) && id != u64::MAX;
        if !self.flags.contains(PoolFlags::SELFMANAGED_SNAPS) || !exists {
            return Ok(false);
        }
        self.next_snapshot(epoch);
        Ok(true)
    }

    fn check_pool_managed(&self) -> Result<(), SnapshotError> {
        if self.flags.contains(PoolFlags::SELFMANAGED_SNAPS) {
            return Err(SnapshotError::SelfManaged);
        }
        Ok(())
    }

    fn check_self_managed(&self) -> Result<(), SnapshotError> {
        if self.flags.contains(PoolFlags::POOL_SNAPS) || !self.snaps.is_empty() {
            return Err(SnapshotError::PoolManaged);
        }
        Ok(())
    }

    fn next_snapshot(&mut self, epoch: Epoch) -> u64 {
        self.snap_seq = self.snap_seq.saturating_add(1);
        self.snap_epoch = epoch;
        self.snap_seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_modes_are_those_of_ceph() {
        let mut pool = Pool::replicated(8, 1, 1, 0, UTime::default());
        assert_eq!(pool.create_pool_snapshot("a", UTime::default(), Epoch(5)), Ok(1));
        assert_eq!(
            pool.create_pool_snapshot("a", UTime::default(), Epoch(5)),
            Err(SnapshotError::Exists("a".into()))
        );
        assert_eq!(pool.remove_pool_snapshot("a", Epoch(6)), Ok(1));
        assert_eq!((pool.snap_seq, pool.snap_epoch), (2, Epoch(6)));
        assert_eq!(pool.create_self_managed_snapshot(Epoch(7)), Err(SnapshotError::PoolManaged));

        let mut pool = Pool::replicated(8, 1, 1, 0, UTime::default());
        assert_eq!(pool.create_self_managed_snapshot(Epoch(5)), Ok(2));
        assert_eq!(pool.remove_self_managed_snapshot(9, Epoch(6)), Ok(false));
        assert_eq!(pool.remove_self_managed_snapshot(2, Epoch(6)), Ok(true));
        assert_eq!(pool.create_self_managed_snapshot(Epoch(7)), Ok(4));
        assert_eq!(
            pool.create_pool_snapshot("a", UTime::default(), Epoch(8)),
            Err(SnapshotError::SelfManaged)
        );
    }
}
