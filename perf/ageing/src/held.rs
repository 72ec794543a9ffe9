//! [`Held`]: what is in use, in pieces of which any may be drawn.

use std::collections::BTreeMap;

use allocator::Extent;

/// See the module.
#[derive(Default)]
pub struct Held {
    /// In no order.
    pieces: Vec<Extent>,
    bytes: u64,
    /// Only where somebody looks for the pieces of a zone: keeping it costs more than all else here.
    places: Option<Places>,
}

/// Where pieces are in the list.
struct Places {
    /// No piece is in two zones of so many bytes.
    zone_bytes: u64,
    by_start: BTreeMap<u64, usize>,
}

impl Held {
    /// Cuts pieces where zones of so many bytes meet, and finds those of a zone without a look at all.
    pub fn by_zone(zone_bytes: u64) -> Self {
        Self { places: Some(Places { zone_bytes, by_start: BTreeMap::new() }), ..Self::default() }
    }

    /// Of all pieces.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub fn push(&mut self, extent: Extent) {
        self.bytes += extent.len;
        let Some(places) = &mut self.places else {
            self.pieces.push(extent);
            return;
        };
        for part in cut(extent, places.zone_bytes) {
            places.by_start.insert(part.start, self.pieces.len());
            self.pieces.push(part);
        }
    }

    /// Takes out the piece at that place in the list; the last one comes there.
    pub fn remove(&mut self, index: usize) -> Extent {
        let piece = self.pieces.swap_remove(index);
        self.bytes -= piece.len;
        if let Some(places) = &mut self.places {
            places.by_start.remove(&piece.start);
            if let Some(moved) = self.pieces.get(index) {
                places.by_start.insert(moved.start, index);
            }
        }
        piece
    }

    /// Takes out the first piece in that zone.
    pub fn remove_first_in(&mut self, zone: Extent) -> Option<Extent> {
        let places = self.places.as_ref()?;
        let (_, index) = places.by_start.range(zone.start..zone.end()).next()?;
        Some(self.remove(*index))
    }

    /// As an allocator tells what is in use: in ascending order, and joined where they touch.
    #[cfg(test)]
    pub fn joined(&self) -> Vec<Extent> {
        let mut sorted = self.pieces.clone();
        sorted.sort_unstable();
        sorted.dedup_by(|next, last| {
            let touch = last.end() == next.start;
            last.len += if touch { next.len } else { 0 };
            touch
        });
        sorted
    }
}

/// The parts of it in each zone.
fn cut(extent: Extent, zone_bytes: u64) -> impl Iterator<Item = Extent> {
    let zones = extent.start / zone_bytes..extent.end().div_ceil(zone_bytes);
    zones.map(move |zone| {
        let start = extent.start.max(zone * zone_bytes);
        Extent::new(start, extent.end().min((zone + 1) * zone_bytes) - start)
    })
}
