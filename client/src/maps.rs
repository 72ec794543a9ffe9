//! Following the OSD map: from the map known and what a daemon sent to a newer map. Pure.

use std::sync::Arc;

use wire::codec::decode_exact;
use wire::msg::OsdMapMessage;
use wire::osdmap::{Incremental, OsdMap};

/// What a message of maps led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Followed {
    /// Nothing new.
    Nothing,
    /// A newer map.
    Newer(Arc<OsdMap>),
    /// What came does not fit or is broken, for this reason; a full map is needed.
    NeedFull(String),
}

/// The newest map that can be had from `current` and `message`. Other clusters' maps are passed over.
pub(crate) fn follow(current: Option<&Arc<OsdMap>>, message: &OsdMapMessage) -> Followed {
    if current.is_some_and(|map| map.fsid != message.fsid) {
        return Followed::NeedFull(format!("map of another cluster, {}", message.fsid));
    }
    let mut newest = current.cloned();
    let known = |map: &Option<Arc<OsdMap>>| map.as_ref().map(|map| map.epoch);
    if let Some((&epoch, bytes)) = message.full.last_key_value()
        && known(&newest) < Some(epoch)
    {
        match decode_exact::<OsdMap>("osd map", bytes.clone()) {
            Ok(map) => newest = Some(Arc::new(map)),
            Err(error) => return Followed::NeedFull(error.to_string()),
        }
    }
    while let Some(map) = &newest
        && let Some(bytes) = message.incrementals.get(&map.epoch.next())
    {
        let step = decode_exact::<Incremental>("osd map increment", bytes.clone());
        let applied = step
            .map_err(|error| error.to_string())
            .and_then(|inc| map.apply(&inc).map_err(|error| error.to_string()));
        match applied {
            Ok(map) => newest = Some(Arc::new(map)),
            Err(reason) => return Followed::NeedFull(reason),
        }
    }
    match newest {
        Some(map) if current.is_none_or(|current| current.epoch < map.epoch) => Followed::Newer(map),
        Some(map) if map.epoch < message.newest && !message.incrementals.is_empty() => {
            Followed::NeedFull(format!("increments do not begin after epoch {}", map.epoch))
        }
        _ => Followed::Nothing,
    }
}
