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
    /// Increments do not fit or are broken, for this reason; a full map is needed.
    NeedFull(String),
    /// The peer's maps are of no use at all, for this reason.
    Useless(String),
}

/// The newest map that can be had from `current` and `message`.
pub(crate) fn follow(current: Option<&Arc<OsdMap>>, message: &OsdMapMessage) -> Followed {
    if current.is_some_and(|map| map.fsid != message.fsid) {
        return Followed::Useless(format!("they are of another cluster, {}", message.fsid));
    }
    let mut newest = current.cloned();
    let known = |map: &Option<Arc<OsdMap>>| map.as_ref().map(|map| map.epoch);
    if let Some((&epoch, bytes)) = message.full.last_key_value()
        && known(&newest) < Some(epoch)
    {
        match decode_exact::<OsdMap>("osd map", bytes.clone()) {
            Ok(map) => newest = Some(Arc::new(map)),
            Err(error) => return Followed::Useless(error.to_string()),
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wire::codec::encode_to_bytes;
    use wire::osdmap::Step;
    use wire::types::{Epoch, UTime};

    use super::*;

    /// The first four maps of a cluster, and a message without any.
    fn history() -> (Vec<Step>, OsdMapMessage) {
        let mut map = OsdMap::default();
        let mut steps = Vec::new();
        for _ in 0..4 {
            let mut draft = map.draft_next(UTime::default());
            draft.fsid = uuid::Uuid::from_u128(1);
            draft.pool_max += 1;
            steps.push(Step::between(&map, draft));
            map = steps.last().unwrap().map.clone();
        }
        let message = OsdMapMessage {
            fsid: map.fsid,
            incrementals: Default::default(),
            full: Default::default(),
            oldest: Epoch(1),
            newest: map.epoch,
            trim_lower_bound: Epoch(0),
        };
        (steps, message)
    }

    #[test]
    fn full_maps_and_increments_lead_to_the_newest() {
        let (steps, empty) = history();
        let newest = Followed::Newer(Arc::new(steps[3].map.clone()));
        let mut message = empty.clone();
        message.full.insert(Epoch(2), steps[1].full.clone());
        for step in &steps[1..] {
            message.incrementals.insert(step.map.epoch, encode_to_bytes(&step.incremental));
        }
        assert_eq!(follow(None, &message), newest);
        let third = Arc::new(steps[2].map.clone());
        assert_eq!(follow(Some(&third), &message), newest);
        let fourth = Arc::new(steps[3].map.clone());
        assert_eq!(follow(Some(&fourth), &message), Followed::Nothing);
        assert_eq!(follow(Some(&third), &empty), Followed::Nothing);
    }

    #[test]
    fn what_does_not_fit_is_noticed() {
        let (steps, empty) = history();
        let first = Arc::new(steps[0].map.clone());
        let mut gap = empty.clone();
        gap.incrementals.insert(Epoch(4), encode_to_bytes(&steps[3].incremental));
        assert!(matches!(follow(Some(&first), &gap), Followed::NeedFull(_)));
        let mut broken = empty.clone();
        let mut bytes = encode_to_bytes(&steps[1].incremental).to_vec();
        bytes[40] ^= 1;
        broken.incrementals.insert(Epoch(2), bytes.into());
        assert!(matches!(follow(Some(&first), &broken), Followed::NeedFull(_)));
        let mut broken = empty.clone();
        broken.full.insert(Epoch(2), Bytes::from_static(b"nonsense"));
        assert!(matches!(follow(Some(&first), &broken), Followed::Useless(_)));
        let foreign = OsdMapMessage { fsid: uuid::Uuid::nil(), ..empty };
        assert!(matches!(follow(Some(&first), &foreign), Followed::Useless(_)));
    }
}
