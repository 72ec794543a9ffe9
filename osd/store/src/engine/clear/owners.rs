//! Whose blocks lie in some windows: one walk over all extent maps, a page at a time and each page of the newest state, so nothing is
//! held for it. What changes meanwhile is noticed when it is moved.

use std::collections::BTreeMap;
use std::rc::Rc;

use allocator::Extent;
use bluefs::kv::ScanLimit;
use bytes::Bytes;

use super::Clearing;
use crate::check::length;
use crate::keys::{self, ObjectKey};
use crate::object_store::StoreResult;
use crate::onode::Onode;
use crate::shard::{Place, Shard};
use crate::types::ObjectId;

/// What is looked at before others have their turn.
const PAGE: ScanLimit = ScanLimit { keys: 256, bytes: 256 << 10 };

/// A range of an object that lies in one piece in a window.
pub struct Owner {
    pub object: Rc<ObjectId>,
    pub offset: u64,
    pub len: u64,
}

/// By window.
pub type Owned = BTreeMap<u64, Vec<Owner>>;

/// What is found so far. There are no more entries than there are blocks in use in the windows.
pub struct Found {
    pub by_window: Owned,
    window: u64,
    block: u64,
}

/// The object whose shards come.
struct Open {
    key: Bytes,
    name: Rc<ObjectId>,
    span: u32,
}

impl Clearing {
    /// What of these windows belongs to which object and can move; none if it ends early.
    pub(super) async fn owners(
        &mut self,
        window: u64,
        chosen: &BTreeMap<u64, u64>,
    ) -> StoreResult<Option<Found>> {
        let inner = Rc::clone(&self.inner);
        let by_window = chosen.keys().map(|index| (*index, Vec::new())).collect();
        let mut found = Found { by_window, window, block: inner.block };
        let total = inner.pools.borrow().values().map(|pool| u64::try_from(pool.objects).unwrap_or(0)).sum();
        let (mut objects, mut open) = (0, None);
        let (mut start, end) = keys::all_objects();
        loop {
            inner.check_open()?;
            let page = inner.overlay.pin().scan(&*inner.kv, start, end.clone(), PAGE).await;
            let page = page.map_err(|error| inner.kv_failed(&error))?;
            let next = page.entries.last().filter(|_| page.more).map(|(key, _)| keys::after(key));
            let bytes = page.entries.iter().map(|(key, value)| length(key) + length(value)).sum();
            for (key, value) in page.entries {
                match keys::parse_object(&key) {
                    Ok(ObjectKey::Onode(name)) => {
                        objects += 1;
                        open = Onode::decode(value, &key, &name)
                            .map(|onode| Open { key, name: Rc::new(name), span: onode.shard_span })
                            .ok();
                    }
                    Ok(ObjectKey::Shard(of, number)) => {
                        let Some(open) = open.as_ref().filter(|open| open.key == of) else { continue };
                        if let Ok(shard) = Shard::decode(value, number, open.span, inner.block) {
                            found.note(&open.name, &shard);
                        }
                    }
                    // A check tells of what cannot be read. Its blocks are in nobody's list, so their windows stay.
                    Err(_) => {}
                }
            }
            self.watch.progress(objects, total);
            self.pause(bytes).await;
            match next {
                _ if self.is_cut => return Ok(None),
                Some(next) => start = next,
                None => return Ok(Some(found)),
            }
        }
    }
}

impl Found {
    /// Notes what a shard has in the windows, but what others may use too, and what is compressed.
    fn note(&mut self, object: &Rc<ObjectId>, shard: &Shard) {
        let is_near = |extent: Extent| {
            let (first, last) = (extent.start / self.window, (extent.end() - 1) / self.window);
            self.by_window.range(first..=last).next().is_some()
        };
        if !shard.extents(self.block).any(is_near) {
            return;
        }
        let mut last: Option<Place> = None;
        for (at, piece) in shard.pieces.iter() {
            let (first_block, last_block) = piece.blocks(self.block);
            let numbers = (first_block..=last_block).filter_map(|number| u64::try_from(number).ok());
            for place in numbers.filter_map(|number| shard.block_of(*at, piece, number, self.block)) {
                // A block with a hole in it is in two pieces of the shard.
                if last.is_some_and(|last| last.address == place.address) {
                    continue;
                }
                let follows = |last: Place| {
                    last.logical + self.block == place.logical && last.address + self.block == place.address
                };
                let goes_on = last.is_some_and(follows) && !place.address.is_multiple_of(self.window);
                last = Some(place);
                if place.is_shared || place.is_packed {
                    last = None;
                    continue;
                }
                let Some(owners) = self.by_window.get_mut(&(place.address / self.window)) else { continue };
                match owners.last_mut().filter(|_| goes_on) {
                    Some(owner) => owner.len += self.block,
                    None => {
                        let (object, offset) = (Rc::clone(object), place.logical);
                        owners.push(Owner { object, offset, len: self.block });
                    }
                }
            }
        }
    }
}
