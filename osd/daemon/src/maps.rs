//! The OSD map in force, the increments that led to it, and what of them to tell a peer.
//!
//! Invariant: increments kept are consecutive and end at the map in force. Lives on one core.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use rt::sync::Watch;
use wire::msg::OsdMapMessage;
use wire::osdmap::OsdMap;
use wire::types::Epoch;

use crate::limits::{MAP_INCREMENTS_KEPT, MAP_INCREMENTS_PER_MESSAGE_MAX};

/// The map in force.
pub struct Maps {
    current: RefCell<Rc<OsdMap>>,
    full: RefCell<Bytes>,
    increments: RefCell<BTreeMap<Epoch, Bytes>>,
    epoch: Watch<Epoch>,
}

impl Maps {
    /// What the store remembers; epoch 0 if nothing.
    pub fn new(map: OsdMap, full: Bytes, increments: BTreeMap<Epoch, Bytes>) -> Self {
        let epoch = map.epoch;
        let maps = Self {
            current: RefCell::new(Rc::new(map)),
            full: RefCell::new(full),
            increments: RefCell::default(),
            epoch: Watch::new(epoch),
        };
        // Whatever is not consecutive up to the map is of no use.
        let mut expected = epoch;
        for (of, bytes) in increments.into_iter().rev() {
            if of != expected {
                break;
            }
            maps.increments.borrow_mut().insert(of, bytes);
            expected = Epoch(expected.0.saturating_sub(1));
        }
        maps
    }

    /// The map in force. Epoch 0 if none ever came.
    pub fn current(&self) -> Rc<OsdMap> {
        self.current.borrow().clone()
    }

    /// Its epoch.
    pub fn epoch(&self) -> Epoch {
        self.current.borrow().epoch
    }

    /// A newer map is in force. `increment` leads to it from the one before, if that is how it came.
    pub fn install(&self, map: Rc<OsdMap>, full: Bytes, increment: Option<Bytes>) {
        assert!(map.epoch > self.epoch(), "invariant: epochs ascend");
        let epoch = map.epoch;
        let mut increments = self.increments.borrow_mut();
        match increment {
            Some(bytes) => {
                increments.insert(epoch, bytes);
            }
            None => increments.clear(),
        }
        while increments.len() > MAP_INCREMENTS_KEPT as usize {
            increments.pop_first();
        }
        drop(increments);
        self.current.replace(map);
        self.full.replace(full);
        self.epoch.set(epoch);
    }

    /// Waits until a map of `epoch` or later is in force.
    pub async fn reach(&self, epoch: Epoch) {
        let mut watcher = self.epoch.watch();
        while *watcher.borrow() < epoch {
            if watcher.changed().await.is_err() {
                return;
            }
        }
    }

    /// What brings a peer with the map of epoch `have` up to date; nothing if it is.
    pub fn message_since(&self, have: Epoch) -> Option<OsdMapMessage> {
        let map = self.current();
        if have >= map.epoch || map.epoch == Epoch(0) {
            return None;
        }
        let increments = self.increments.borrow();
        let oldest = increments.first_key_value().map_or(map.epoch, |(epoch, _)| *epoch);
        let near = map.epoch.0 - have.0 <= MAP_INCREMENTS_PER_MESSAGE_MAX;
        let mut message = OsdMapMessage {
            fsid: map.fsid,
            incrementals: BTreeMap::new(),
            full: BTreeMap::new(),
            oldest,
            newest: map.epoch,
            trim_lower_bound: Epoch(0),
        };
        if near && increments.contains_key(&have.next()) {
            message.incrementals =
                increments.range(have.next()..).map(|(epoch, bytes)| (*epoch, bytes.clone())).collect();
        } else {
            message.full.insert(map.epoch, self.full.borrow().clone());
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(epoch: u32) -> Rc<OsdMap> {
        Rc::new(OsdMap { epoch: Epoch(epoch), ..OsdMap::default() })
    }

    fn told(maps: &Maps, have: u32) -> Option<(Vec<u32>, Vec<u32>)> {
        let message = maps.message_since(Epoch(have))?;
        let epochs = |map: BTreeMap<Epoch, Bytes>| map.into_keys().map(|epoch| epoch.0).collect();
        Some((epochs(message.incrementals), epochs(message.full)))
    }

    #[test]
    fn peers_get_increments_if_they_are_near_and_a_full_map_if_not() {
        let maps = Maps::new(OsdMap::default(), Bytes::new(), BTreeMap::new());
        assert_eq!(told(&maps, 0), None);
        maps.install(map(5), "full 5".into(), None);
        for epoch in 6..=400 {
            maps.install(map(epoch), "full".into(), Some("increment".into()));
        }
        assert_eq!(told(&maps, 400), None);
        assert_eq!(told(&maps, 401), None);
        assert_eq!(told(&maps, 398), Some((vec![399, 400], vec![])));
        assert_eq!(told(&maps, 360), Some(((361..=400).collect(), vec![])));
        assert_eq!(told(&maps, 359), Some((vec![], vec![400])));
        maps.install(map(500), "full".into(), None);
        assert_eq!(told(&maps, 499), Some((vec![], vec![500])));
        assert_eq!(told(&maps, 0), Some((vec![], vec![500])));
    }

    #[test]
    fn remembered_increments_must_lead_to_the_remembered_map() {
        let remembered = [3, 4, 6, 7, 8].map(|epoch| (Epoch(epoch), Bytes::from("increment")));
        let maps =
            Maps::new(OsdMap { epoch: Epoch(8), ..OsdMap::default() }, "full".into(), remembered.into());
        assert_eq!(told(&maps, 5), Some((vec![6, 7, 8], vec![])));
        assert_eq!(told(&maps, 3), Some((vec![], vec![8])));
    }
}
