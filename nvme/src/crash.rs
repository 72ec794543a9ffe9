//! What power loss does to writes that are not durable. Pure; the simulated and the recording device share it.

use std::ops::Range;
use std::sync::Arc;

use rt::sim::RandomStream;

use crate::image::Image;

/// A write or discard that was in flight, or completed but not flushed.
#[derive(Clone, Debug)]
pub struct UnsettledWrite {
    /// Number among the writes and discards of the device, in order of submission.
    pub number: u64,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// The caller knows that it completed.
    pub completed: bool,
    /// What it stores; none for a discard.
    pub(crate) data: Option<Arc<[u8]>>,
}

/// What became of an [`UnsettledWrite`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All of it is there.
    Kept,
    /// None of it is there.
    Lost,
    /// Those of its units (see [`UnsettledWrite::units`]) are there which are true here; the rest keeps what was
    /// there before. Missing entries are false.
    Torn(Vec<bool>),
}

impl UnsettledWrite {
    /// Cuts the write at multiples of the atomic write unit: the pieces which survive or vanish as one.
    pub fn units(&self, atomic_write_unit: u32) -> impl Iterator<Item = Range<u64>> + use<> {
        let unit = u64::from(atomic_write_unit);
        let (mut at, end) = (self.offset, self.offset + self.len);
        std::iter::from_fn(move || {
            let start = at;
            at = ((start / unit + 1) * unit).min(end);
            (start < end).then_some(start..at)
        })
    }

    /// The pieces that are there after `fate`.
    pub(crate) fn surviving(&self, fate: &Fate, atomic_write_unit: u32) -> Vec<Range<u64>> {
        match fate {
            Fate::Kept => std::iter::once(self.offset..self.offset + self.len).collect(),
            Fate::Lost => Vec::new(),
            Fate::Torn(kept) => {
                let units = self.units(atomic_write_unit).zip(kept);
                units.filter(|(_, kept)| **kept).map(|(unit, _)| unit).collect()
            }
        }
    }

    /// Stores a piece of the write; a discard's reads as zeroes.
    pub(crate) fn store(&self, piece: &Range<u64>, image: &mut Image) {
        match &self.data {
            Some(data) => {
                let from = (piece.start - self.offset) as usize;
                let to = (piece.end - self.offset) as usize;
                image.write(piece.start, &data[from..to]);
            }
            None => image.clear(piece.start, piece.end - piece.start),
        }
    }

    pub(crate) fn overlaps(&self, offset: u64, len: u64) -> bool {
        self.offset < offset + len && offset < self.offset + self.len
    }
}

/// A fate drawn at random: a third each; a write of one unit cannot tear.
pub(crate) fn random_fate(random: &mut RandomStream, units: usize) -> Fate {
    match random.below(3) {
        0 => Fate::Kept,
        1 => Fate::Lost,
        _ => torn(random, units),
    }
}

/// A tear drawn at random: a prefix, a suffix, or any set of the units, neither none nor all where there are two.
pub(crate) fn torn(random: &mut RandomStream, units: usize) -> Fate {
    if units < 2 {
        return if random.one_in(2) { Fate::Kept } else { Fate::Lost };
    }
    let split = random.between(1, units as u64 - 1) as usize;
    let mut kept: Vec<bool> = match random.below(3) {
        0 => (0..units).map(|unit| unit < split).collect(),
        1 => (0..units).map(|unit| unit >= split).collect(),
        _ => (0..units).map(|_| random.one_in(2)).collect(),
    };
    let uniform = kept.iter().all(|&unit| unit == kept[0]);
    if uniform {
        kept[split] = !kept[split];
    }
    Fate::Torn(kept)
}

/// Shuffles what survived, since a device may write overlapping pieces in any order.
pub(crate) fn shuffle<T>(random: &mut RandomStream, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, random.below(last as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: u64, data: &[u8]) -> UnsettledWrite {
        UnsettledWrite {
            number: 0,
            offset,
            len: data.len() as u64,
            completed: false,
            data: Some(data.into()),
        }
    }

    #[test]
    fn units_are_cut_at_absolute_multiples() {
        let pieces: Vec<_> = write(1024, &[1; 4096 + 512]).units(4096).collect();
        assert_eq!(pieces, [1024..4096, 4096..5632]);
        let pieces: Vec<_> = write(4096, &[1; 1024]).units(512).collect();
        assert_eq!(pieces, [4096..4608, 4608..5120]);
    }

    #[test]
    fn a_torn_write_leaves_what_was_there() {
        let mut image = Image::new();
        image.write(0, &[9; 2048]);
        let torn = write(0, &[1; 2048]);
        for piece in torn.surviving(&Fate::Torn(vec![false, true, false, true]), 512) {
            torn.store(&piece, &mut image);
        }
        let mut back = [0; 2048];
        image.read(0, &mut back);
        assert_eq!([back[0], back[512], back[1024], back[1536]], [9, 1, 9, 1]);
    }

    #[test]
    fn random_tears_tear() {
        let mut random = RandomStream::new(1, "tears");
        for units in 2..20 {
            for _ in 0..50 {
                let Fate::Torn(kept) = torn(&mut random, units) else { panic!("torn") };
                assert_eq!(kept.len(), units);
                assert!(kept.contains(&true) && kept.contains(&false));
            }
        }
    }
}
