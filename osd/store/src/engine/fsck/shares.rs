//! Shares: how often their blocks are counted, against how often objects use them.

use allocator::Extent;
use smallvec::SmallVec;

use super::Check;
use crate::journal::item::Item;
use crate::keys;
use crate::limits;
use crate::object_store::{FsckSeverity, Remedy, StoreResult};
use crate::shard::Blob;
use crate::share::Share;
use crate::types::ObjectId;

/// A share, and how often its blocks were found in use.
pub(super) struct Counted {
    /// As it is stored; none if it is not there or cannot be used.
    stored: Option<Share>,
    /// Uses of each block.
    found: Vec<u32>,
    /// Pool of the objects that use it; none if there is none so far.
    pool: Option<i64>,
    /// These are of several.
    is_mixed: bool,
}

impl Counted {
    fn new(stored: Option<Share>) -> Self {
        let found = vec![0; stored.as_ref().map_or(0, |share| share.uses.len())];
        Self { stored, found, pool: None, is_mixed: false }
    }
}

impl Check {
    /// Space of which no object is the owner alone.
    pub(super) async fn shares(&mut self) -> StoreResult<()> {
        let mut range = Some(keys::all_shares());
        while let Some(page) = self.page(&mut range).await? {
            for (key, value) in page {
                let id = match keys::parse_share(&key) {
                    Ok(id) => id,
                    Err(error) => {
                        let detail = format!("key {}: {error}", key.escape_ascii());
                        self.find(FsckSeverity::Fatal, Remedy::Repair, "share", detail.clone());
                        // No blob can refer to it.
                        self.fix("share", detail, [Item::Delete(key)]);
                        continue;
                    }
                };
                let problem = match Share::decode(value) {
                    Ok(share) if self.is_placed(id.1, &share) => {
                        self.claim_share(id.1, &share);
                        self.shares.insert(id, Counted::new(Some(share)));
                        continue;
                    }
                    Ok(share) => format!("{} blocks at {:#x} of birth {}", share.uses.len(), id.1, id.0),
                    Err(error) => format!("key {}: {error}", key.escape_ascii()),
                };
                self.find(FsckSeverity::Fatal, Remedy::Repair, "share", problem);
                // Made anew for those who use it.
                self.shares.insert(id, Counted::new(None));
            }
        }
        Ok(())
    }

    fn is_placed(&self, address: u64, share: &Share) -> bool {
        let block = self.inner.block;
        let len = u64::try_from(share.uses.len()).ok().and_then(|blocks| blocks.checked_mul(block));
        let end = len.and_then(|len| address.checked_add(len));
        let is_inside = end.is_some_and(|end| end <= self.window);
        is_inside && address.is_multiple_of(block) && share.blocks() > 0
    }

    fn claim_share(&mut self, address: u64, share: &Share) {
        let block = self.inner.block;
        let addresses = (address..).step_by(usize::try_from(block).unwrap_or(1));
        for (address, _) in addresses.zip(&share.uses).filter(|(_, uses)| **uses > 0) {
            self.claim(Extent::new(address, block), || "a share".to_owned());
        }
        let stats = self.found_pools.entry(share.pool).or_default();
        stats.allocated += i64::try_from(share.blocks() * block).unwrap_or(i64::MAX);
    }

    /// Counts the uses of a shared blob's blocks.
    pub(super) fn count_share(&mut self, name: &ObjectId, address: u64, blob: &Blob, share: u64) {
        let first = usize::try_from((address - share) / self.inner.block).unwrap_or(usize::MAX);
        let end = first.saturating_add(blob.checksums.len());
        let counted = self.shares.get(&(blob.birth, share));
        let stored = counted.and_then(|counted| counted.stored.as_ref());
        let stored = stored.filter(|share| end <= share.uses.len());
        match stored.map(|share| share.pool) {
            None => {
                let detail =
                    format!("{name} shares the blob at {address:#x}, of which nobody counts the uses");
                self.find(FsckSeverity::Fatal, Remedy::Repair, "share-missing", detail);
            }
            Some(pool) if pool != name.pool => {
                let detail = format!("{name} shares the blob at {address:#x} with objects of pool {pool}");
                self.find(FsckSeverity::Error, Remedy::Repair, "share-pool", detail);
            }
            Some(_) => {}
        }
        // What was one blob is in one shard.
        if end > usize::try_from(u64::from(limits::SHARD_SPAN_MAX) / self.inner.block).unwrap_or(usize::MAX) {
            self.has_unreadable = true;
            return;
        }
        let counted = self.shares.entry((blob.birth, share)).or_insert_with(|| Counted::new(None));
        if counted.found.len() < end {
            counted.found.resize(end, 0);
        }
        counted.found.iter_mut().take(end).skip(first).for_each(|count| *count += 1);
        counted.is_mixed |= counted.pool.is_some_and(|pool| pool != name.pool);
        counted.pool = Some(name.pool);
    }

    pub(super) fn compare_shares(&mut self) {
        // What is counted is only right if the objects stay as they are.
        let repairs = self.nothing_changes();
        for ((birth, address), counted) in std::mem::take(&mut self.shares) {
            if let Some(share) = &counted.stored {
                self.compare_uses(birth, address, share, &counted.found);
            }
            if repairs {
                self.fix_share(birth, address, counted);
            }
        }
    }

    fn compare_uses(&mut self, birth: u64, address: u64, share: &Share, found: &[u32]) {
        let pairs = || share.uses.iter().zip(found).enumerate();
        let Some((first, (is, should))) = pairs().find(|(_, (is, should))| is != should) else { return };
        let wrong = pairs().filter(|(_, (is, should))| is != should).count();
        let detail = format!(
            "share at {address:#x} of birth {birth}: block {first} is counted {is} times and used {should} \
             times; {wrong} blocks are wrong"
        );
        // Counted too low, a block is freed while it is in use.
        let is_low = pairs().any(|(_, (is, should))| is < should);
        let severity = if is_low { FsckSeverity::Fatal } else { FsckSeverity::Error };
        self.find(severity, Remedy::Repair, "share-uses", detail);
    }

    /// What is stored becomes what was found. As long as something cannot be read, which may use the blocks, no count falls.
    fn fix_share(&mut self, birth: u64, address: u64, counted: Counted) {
        let Counted { stored, found, pool, is_mixed } = counted;
        let before = |at: usize| stored.as_ref().and_then(|share| share.uses.get(at)).copied().unwrap_or(0);
        let least = |at: usize| if self.has_unreadable { before(at) } else { 0 };
        let uses: SmallVec<[u32; 32]> =
            found.iter().enumerate().map(|(at, uses)| (*uses).max(least(at))).collect();
        let of_stored = stored.as_ref().map(|share| share.pool);
        let pool = if is_mixed { of_stored.or(pool) } else { pool.or(of_stored) };
        let since = stored.as_ref().map_or(self.inner.journal.borrow().last_record(), |share| share.since);
        let is_used = uses.iter().any(|uses| *uses > 0);
        let should = pool.filter(|_| is_used).map(|pool| Share { pool, since, uses });
        if should == stored && (stored.is_some() || self.has_unreadable) {
            return;
        }
        let key = keys::share(birth, address);
        let detail = format!("share at {address:#x} of birth {birth}: {stored:?}, should be {should:?}");
        let item = match should {
            Some(share) => Item::Put(key, share.encode()),
            None => Item::Delete(key),
        };
        self.fix("share-uses", detail, [item]);
    }
}
