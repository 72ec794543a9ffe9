//! The walk over the omaps: entries without an owner, and owners that count others.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, PAGE};
use crate::check;
use crate::keys;
use crate::object_store::{FsckSeverity, StoreResult};

impl Check {
    pub(super) async fn omap_entries(&mut self) -> StoreResult<()> {
        let (mut start, end) = keys::all_omaps();
        let mut found: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let mut foreign = BTreeSet::new();
        loop {
            let page = self.pin.scan(&*self.inner.kv, start, end.clone(), PAGE).await;
            let page = page.map_err(|error| self.inner.kv_failed(&error))?;
            let next = page.entries.last().filter(|_| page.more).map(|(key, _)| keys::after(key));
            for (key, value) in page.entries {
                let id = match keys::omap_id(&key) {
                    Ok(id) => id,
                    Err(error) => {
                        let detail = format!("key {}: {error}", key.escape_ascii());
                        self.find(FsckSeverity::Error, "key", detail);
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
            match next {
                Some(next) => start = next,
                None => break,
            }
        }
        for id in foreign {
            self.find(FsckSeverity::Warning, "omap-without-owner", format!("omap id {id}"));
        }
        for (id, (name, keys, bytes)) in std::mem::take(&mut self.omaps) {
            let is = found.get(&id).copied().unwrap_or_default();
            if is != (keys, bytes) {
                let detail = format!("{name} counts {keys} keys of {bytes} bytes, expected {is:?}");
                self.find(FsckSeverity::Error, "omap-statistics", detail);
            }
        }
        Ok(())
    }
}
