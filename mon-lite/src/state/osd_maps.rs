//! The OSD map with its recent past: the newest full map, and the increments that led to it.
//!
//! Invariant: `oldest` plus all increments gives `newest`; the increments are consecutive. Cluster view; pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use wire::codec::{DecodeResult, Reader, Wire, Writer, decode_exact, encode_to_bytes};
use wire::osdmap::{Incremental, OsdMap, Step};
use wire::types::{Epoch, UTime};

use super::{Change, StateError};
use crate::limits::{OSD_INCREMENTALS_BYTES_MAX, OSD_INCREMENTALS_MAX, OSD_MAP_BYTES_MAX};

/// The OSD map and what is kept of its history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OsdMaps {
    newest: Arc<OsdMap>,
    /// The base of the history: its epoch is the oldest that can be rebuilt.
    oldest: Arc<OsdMap>,
    /// By the epoch that each leads to.
    incrementals: BTreeMap<Epoch, Bytes>,
    incremental_bytes: usize,
}

/// The OSD map has no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the OSD map would have {bytes} bytes, at most {OSD_MAP_BYTES_MAX} are possible: remove pools, snapshots or blocks"
)]
pub struct MapFull {
    /// What it would have.
    pub bytes: usize,
}

impl OsdMaps {
    /// The newest map.
    pub fn newest(&self) -> &Arc<OsdMap> {
        &self.newest
    }

    /// Epoch of the newest map; 0 before the cluster was made.
    pub fn epoch(&self) -> Epoch {
        self.newest.epoch
    }

    /// Oldest epoch that can be rebuilt.
    pub fn oldest_epoch(&self) -> Epoch {
        self.oldest.epoch
    }

    /// The increment that leads to `epoch`, if it is kept.
    pub fn incremental(&self, epoch: Epoch) -> Option<&Bytes> {
        self.incrementals.get(&epoch)
    }

    /// The full map of `epoch`, rebuilt if it is not the newest; none if it is too old or does not exist yet.
    pub fn full(&self, epoch: Epoch) -> Option<Arc<OsdMap>> {
        if epoch == self.newest.epoch {
            return Some(self.newest.clone());
        }
        if epoch < self.oldest.epoch || epoch > self.newest.epoch {
            return None;
        }
        // Each was applied once already, so none fails now.
        let mut increments = self.incrementals.range(..=epoch).map(|(_, bytes)| bytes);
        increments.try_fold(self.oldest.clone(), |map, bytes| apply(&map, bytes).ok())
    }

    /// The change that `edit` makes to a draft of the next map, at time `now`. Refused if the map would be too large.
    pub fn edit<E: From<MapFull>>(
        &self,
        now: UTime,
        edit: impl FnOnce(&mut OsdMap) -> Result<(), E>,
    ) -> Result<Change, E> {
        let mut draft = self.newest.draft_next(now);
        edit(&mut draft)?;
        let step = Step::between(&self.newest, draft);
        if step.full.len() > OSD_MAP_BYTES_MAX {
            return Err(MapFull { bytes: step.full.len() }.into());
        }
        Ok(Change::OsdMap(encode_to_bytes(&step.incremental)))
    }

    /// The same for an edit that never makes the map larger.
    pub fn edit_within(&self, now: UTime, edit: impl FnOnce(&mut OsdMap)) -> Change {
        let mut draft = self.newest.draft_next(now);
        edit(&mut draft);
        Change::OsdMap(encode_to_bytes(&Step::between(&self.newest, draft).incremental))
    }

    pub(super) fn apply(&mut self, bytes: Bytes) -> Result<(), StateError> {
        self.newest = apply(&self.newest, &bytes)?;
        if self.oldest.epoch == Epoch(0) {
            self.oldest = self.newest.clone();
            return Ok(());
        }
        self.incremental_bytes += bytes.len();
        self.incrementals.insert(self.newest.epoch, bytes);
        while self.incrementals.len() > OSD_INCREMENTALS_MAX
            || self.incremental_bytes > OSD_INCREMENTALS_BYTES_MAX
        {
            let Some((_, first)) = self.incrementals.pop_first() else { break };
            self.oldest = apply(&self.oldest, &first)?;
            self.incremental_bytes -= first.len();
        }
        Ok(())
    }
}

fn apply(map: &OsdMap, bytes: &Bytes) -> Result<Arc<OsdMap>, StateError> {
    let incremental: Incremental = decode_exact("osd map increment", bytes.clone())?;
    Ok(Arc::new(map.apply(&incremental)?))
}

impl Wire for OsdMaps {
    const BYTES_MIN: usize = 8;

    fn encode(&self, w: &mut Writer) {
        w.put(&encode_to_bytes(&*self.oldest));
        w.count(self.incrementals.len());
        self.incrementals.values().for_each(|bytes| w.put(bytes));
    }

    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        let oldest: Bytes = r.get()?;
        let oldest = Arc::new(decode_exact::<OsdMap>("osd map", oldest)?);
        let mut maps = Self { newest: oldest.clone(), oldest, ..Self::default() };
        let incrementals: Vec<Bytes> = r.list_with(4, Reader::name)?;
        for bytes in incrementals {
            maps.apply(bytes)
                .map_err(|error| r.error("increments that follow each other", error.to_string()))?;
        }
        Ok(maps)
    }
}
