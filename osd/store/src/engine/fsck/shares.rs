//! Shares: how often their blocks are counted, against how often objects use them.

use allocator::Extent;

use super::{Check, PAGE};
use crate::keys;
use crate::object_store::{FsckSeverity, StoreResult};
use crate::shard::Blob;
use crate::share::Share;
use crate::types::ObjectId;

impl Check {
    /// Space of which no object is the owner alone.
    pub(super) async fn shares(&mut self) -> StoreResult<()> {
        let block = self.inner.block;
        let (mut start, end) = keys::all_shares();
        loop {
            let page = self.pin.scan(&*self.inner.kv, start, end.clone(), PAGE).await;
            let page = page.map_err(|error| self.inner.kv_failed(&error))?;
            let next = page.entries.last().filter(|_| page.more).map(|(key, _)| keys::after(key));
            for (key, value) in page.entries {
                let parsed = keys::parse_share(&key).and_then(|id| Ok((id, Share::decode(value)?)));
                let (id, share) = match parsed {
                    Ok(parsed) => parsed,
                    Err(error) => {
                        let detail = format!("key {}: {error}", key.escape_ascii());
                        self.find(FsckSeverity::Fatal, "share", detail);
                        continue;
                    }
                };
                let len = u64::try_from(share.uses.len()).ok().and_then(|blocks| blocks.checked_mul(block));
                let end = len.and_then(|len| id.1.checked_add(len));
                let is_placed = end.is_some_and(|end| end <= self.inner.superblock.window);
                if !is_placed || !id.1.is_multiple_of(block) || share.blocks() == 0 {
                    let detail = format!("{} blocks at {:#x} of birth {}", share.uses.len(), id.1, id.0);
                    self.find(FsckSeverity::Fatal, "share", detail);
                    continue;
                }
                for (address, uses) in (id.1..).step_by(usize::try_from(block).unwrap_or(1)).zip(&share.uses)
                {
                    if *uses > 0 {
                        self.claim(Extent::new(address, block), || "a share".to_owned());
                    }
                }
                let stats = self.found_pools.entry(share.pool).or_default();
                stats.allocated += i64::try_from(share.blocks() * block).unwrap_or(i64::MAX);
                let found = vec![0; share.uses.len()];
                self.shares.insert(id, (share, found));
            }
            match next {
                Some(next) => start = next,
                None => return Ok(()),
            }
        }
    }

    /// Counts the uses of a shared blob's blocks.
    pub(super) fn count_share(&mut self, name: &ObjectId, address: u64, blob: &Blob, share: u64) {
        let first = usize::try_from((address - share) / self.inner.block).unwrap_or(usize::MAX);
        let known = self.shares.get_mut(&(blob.birth, share));
        let counts = known.and_then(|(known, found)| {
            Some((known.pool, found.get_mut(first..first.checked_add(blob.checksums.len())?)?))
        });
        match counts {
            Some((pool, counts)) => {
                counts.iter_mut().for_each(|count| *count += 1);
                if pool != name.pool {
                    let detail =
                        format!("{name} shares the blob at {address:#x} with objects of pool {pool}");
                    self.find(FsckSeverity::Error, "share-pool", detail);
                }
            }
            None => {
                let detail =
                    format!("{name} shares the blob at {address:#x}, of which nobody counts the uses");
                self.find(FsckSeverity::Fatal, "share-missing", detail);
            }
        }
    }

    pub(super) fn compare_shares(&mut self) {
        for ((birth, address), (share, found)) in std::mem::take(&mut self.shares) {
            let pairs = || share.uses.iter().zip(&found).enumerate();
            if let Some((first, (is, should))) = pairs().find(|(_, (is, should))| is != should) {
                let wrong = pairs().filter(|(_, (is, should))| is != should).count();
                let detail = format!(
                    "share at {address:#x} of birth {birth}: block {first} is counted {is} times and used {should} \
                     times; {wrong} blocks are wrong"
                );
                // Counted too low, a block is freed while it is in use.
                let is_low = pairs().any(|(_, (is, should))| is < should);
                let severity = if is_low { FsckSeverity::Fatal } else { FsckSeverity::Error };
                self.find(severity, "share-uses", detail);
            }
        }
    }
}
