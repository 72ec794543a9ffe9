//! [`Small`]: pieces of the main space that were lent without a whole unit in them, and what of them is free. Files get of
//! these when there are not enough units, so none of them waits for free blocks to lie in a row.
//!
//! First fit: there are never many of them, see [`crate::fs::superblock::Superblock::small_bytes_max`].

use std::collections::BTreeMap;

use allocator::{AllocError, AllocResult, Extent};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Small {
    lent: Runs,
    free: Runs,
}

impl Small {
    /// Bytes lent.
    pub fn lent_bytes(&self) -> u64 {
        self.lent.bytes
    }

    /// Of that, free.
    pub fn free_bytes(&self) -> u64 {
        self.free.bytes
    }

    /// Free runs, ascending.
    pub fn free_runs(&self) -> impl Iterator<Item = Extent> {
        self.free.runs.iter().map(|(start, len)| Extent::new(*start, *len))
    }

    /// A piece comes; all of it is free.
    pub fn lend(&mut self, extent: Extent) -> AllocResult<()> {
        if self.lent.overlaps(extent) {
            return Err(AllocError::NotUsed(extent));
        }
        self.lent.insert(extent);
        self.free.insert(extent);
        Ok(())
    }

    /// What is free goes.
    pub fn take_back(&mut self, extent: Extent) -> AllocResult<()> {
        self.mark_used(extent)?;
        self.lent.remove(extent);
        Ok(())
    }

    /// What is free is somebody's.
    pub fn mark_used(&mut self, extent: Extent) -> AllocResult<()> {
        if !self.free.contains(extent) {
            return Err(AllocError::NotFree(extent));
        }
        self.free.remove(extent);
        Ok(())
    }

    /// What is somebody's is free.
    pub fn release(&mut self, extent: Extent) -> AllocResult<()> {
        if !self.lent.contains(extent) || self.free.overlaps(extent) {
            return Err(AllocError::NotUsed(extent));
        }
        self.free.insert(extent);
        Ok(())
    }

    /// Takes so many bytes, or nothing.
    pub fn allocate(&mut self, bytes: u64, out: &mut Vec<Extent>) -> AllocResult<()> {
        if bytes > self.free.bytes {
            return Err(AllocError::NoSpace { wanted: bytes, available: self.free.bytes });
        }
        let mut left = bytes;
        while left > 0 {
            let Some(run) = self.free_runs().next() else { unreachable!("so much is free") };
            let taken = Extent::new(run.start, run.len.min(left));
            self.free.remove(taken);
            left -= taken.len;
            out.push(taken);
        }
        Ok(())
    }

    /// Cuts an extent where pieces begin and end; tells of each cut whether it is of them.
    pub fn cut(&self, extent: Extent) -> Vec<(Extent, bool)> {
        let mut cuts = Vec::new();
        let mut from = extent.start;
        for (start, len) in self.lent.around(extent) {
            let (begins, ends) = (start.max(from), (start + len).min(extent.end()));
            if from < begins {
                cuts.push((Extent::new(from, begins - from), false));
            }
            cuts.push((Extent::new(begins, ends - begins), true));
            from = ends;
        }
        if from < extent.end() {
            cuts.push((Extent::new(from, extent.end() - from), false));
        }
        cuts
    }
}

/// Bytes, in runs that do not touch.
#[derive(Debug, Default)]
struct Runs {
    /// Start to length.
    runs: BTreeMap<u64, u64>,
    bytes: u64,
}

impl Runs {
    /// The runs that share bytes with an extent, ascending.
    fn around(&self, extent: Extent) -> impl Iterator<Item = (u64, u64)> {
        let before = self.runs.range(..extent.start).next_back();
        let first = before.filter(|(start, len)| *start + *len > extent.start);
        first
            .into_iter()
            .chain(self.runs.range(extent.start..extent.end()))
            .map(|(start, len)| (*start, *len))
    }

    fn overlaps(&self, extent: Extent) -> bool {
        self.around(extent).next().is_some()
    }

    fn contains(&self, extent: Extent) -> bool {
        self.around(extent).next().is_some_and(|(start, len)| Extent::new(start, len).contains(&extent))
    }

    /// Adds bytes that are not there.
    fn insert(&mut self, extent: Extent) {
        let (mut start, mut end) = (extent.start, extent.end());
        if let Some((before, _)) =
            self.runs.range(..start).next_back().filter(|(at, len)| *at + *len == start)
        {
            start = *before;
        }
        if let Some(len) = self.runs.remove(&end) {
            end += len;
        }
        self.runs.insert(start, end - start);
        self.bytes += extent.len;
    }

    /// Removes bytes that are there, of one run.
    fn remove(&mut self, extent: Extent) {
        let Some((start, len)) = self.around(extent).next() else { return };
        self.runs.remove(&start);
        if start < extent.start {
            self.runs.insert(start, extent.start - start);
        }
        if extent.end() < start + len {
            self.runs.insert(extent.end(), start + len - extent.end());
        }
        self.bytes -= extent.len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(start: u64, len: u64) -> Extent {
        Extent::new(start, len)
    }

    #[test]
    fn what_is_lent_is_taken_released_and_given_back() {
        let mut small = Small::default();
        for piece in [extent(10, 3), extent(20, 4), extent(13, 2)] {
            small.lend(piece).expect("is new");
            small.lend(piece).expect_err("is lent");
        }
        assert_eq!((small.lent_bytes(), small.free_bytes()), (9, 9));
        assert_eq!(small.free_runs().collect::<Vec<_>>(), [extent(10, 5), extent(20, 4)]);
        let mut taken = Vec::new();
        small.allocate(10, &mut taken).expect_err("there is less");
        small.allocate(7, &mut taken).expect("there is so much");
        assert_eq!((&taken[..], small.free_bytes()), (&[extent(10, 5), extent(20, 2)][..], 2));
        small.take_back(extent(20, 4)).expect_err("is in use");
        small.take_back(extent(23, 1)).expect("is free");
        for wrong in [extent(9, 2), extent(22, 1), extent(23, 1), extent(14, 2)] {
            small.release(wrong).expect_err("is free, or not lent");
        }
        small.release(extent(11, 2)).expect("is in use");
        small.release(extent(13, 2)).expect("is in use");
        assert_eq!(small.free_runs().collect::<Vec<_>>(), [extent(11, 4), extent(22, 1)]);
        assert_eq!((small.lent_bytes(), small.free_bytes()), (8, 5));
    }

    #[test]
    fn extents_are_cut_where_pieces_begin_and_end() {
        let mut small = Small::default();
        for piece in [extent(10, 5), extent(20, 5)] {
            small.lend(piece).expect("is new");
        }
        let check = |whole, cuts: &[(u64, u64, bool)]| {
            let expect: Vec<_> = cuts.iter().map(|(start, len, is)| (extent(*start, *len), *is)).collect();
            assert_eq!(small.cut(whole), expect);
        };
        check(extent(0, 10), &[(0, 10, false)]);
        check(extent(11, 3), &[(11, 3, true)]);
        check(extent(12, 20), &[(12, 3, true), (15, 5, false), (20, 5, true), (25, 7, false)]);
    }
}
