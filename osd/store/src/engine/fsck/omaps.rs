//! The walk over the omaps: entries without an owner, and owners that count others.

use std::collections::{BTreeMap, BTreeSet};

use super::Check;
use crate::check;
use crate::journal::item::Item;
use crate::keys;
use crate::object_store::{FsckSeverity, Remedy, StoreResult};
use crate::onode::Onode;
use crate::types::ObjectId;

impl Check {
    pub(super) async fn omap_entries(&mut self) -> StoreResult<()> {
        let mut range = Some(keys::all_omaps());
        let mut found: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let mut foreign = BTreeSet::new();
        // What is counted and owned is only right if the objects stay as they are.
        let repairs = self.nothing_changes();
        while let Some(page) = self.page(&mut range).await? {
            for (key, value) in page {
                let id = match keys::omap_id(&key) {
                    Ok(id) => id,
                    Err(error) => {
                        let detail = format!("key {}: {error}", key.escape_ascii());
                        self.unreadable_key(key, detail);
                        continue;
                    }
                };
                if !self.omaps.contains_key(&id) {
                    if !self.reaps.contains(&id) {
                        foreign.insert(id);
                    }
                    continue;
                }
                if key != keys::omap_header(id)
                    && let Ok(user) = keys::omap_user_key(&key)
                {
                    let (keys, bytes) = found.entry(id).or_default();
                    *keys += 1;
                    *bytes += check::length(&user) + check::length(&value);
                }
            }
        }
        if self.is_cut {
            return Ok(());
        }
        for id in foreign {
            let detail = format!("omap id {id}");
            self.find(FsckSeverity::Warning, Remedy::Repair, "omap-without-owner", detail.clone());
            if repairs && !self.has_unreadable {
                let (start, end) = keys::omap_of_id(id);
                self.fix("omap-without-owner", detail, [Item::DeleteRange(start, end)]);
            }
        }
        for (id, (name, keys, bytes)) in std::mem::take(&mut self.omaps) {
            let is = found.get(&id).copied().unwrap_or_default();
            if is != (keys, bytes) {
                let detail = format!("{name} counts {keys} keys of {bytes} bytes, expected {is:?}");
                self.find(FsckSeverity::Error, Remedy::Repair, "omap-statistics", detail.clone());
                if repairs {
                    self.count_omap(&name, is, detail).await?;
                }
            }
        }
        Ok(())
    }

    /// The object counts what there is.
    async fn count_omap(
        &mut self,
        name: &ObjectId,
        (keys, bytes): (u64, u64),
        detail: String,
    ) -> StoreResult<()> {
        let key = keys::onode(name);
        let values = self.pin().get(&*self.inner.kv, vec![key.clone()]).await;
        let value = values.map_err(|error| self.inner.kv_failed(&error))?.pop().flatten();
        let decoded = value.map(|value| Onode::decode(value, &key, name));
        let Some(Ok(mut onode)) = decoded else { panic!("{name} was read before") };
        (onode.omap_keys, onode.omap_bytes) = (keys, bytes);
        let value = onode.encode(&key);
        self.fix("omap-statistics", detail, [Item::Put(key, value)]);
        Ok(())
    }
}
