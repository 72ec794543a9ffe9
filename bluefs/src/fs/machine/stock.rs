//! [`Stock`]: the free space: whole units of the main device, smaller pieces of it, and a fast space beside it if there is one.
//!
//! What is allocated comes from the fast space as long as that has it, else from the main one's units, and in parts from all of
//! them, small pieces last, if none has enough: so a full fast space, or a main one of which only blocks are free, refuses
//! nothing that there is room for elsewhere. Of an allocation, units come before small pieces and these add up to whole units;
//! so where a file is cut at a multiple of the unit, no unit is cut.

use allocator::{AllocError, AllocResult, Allocator, Extent, HybridAllocator, Request};

use crate::fs::error::{FsError, FsResult};
use crate::fs::machine::small::Small;
use crate::fs::tree::Tree;

/// See the module.
pub(super) struct Stock {
    units: HybridAllocator,
    small: Small,
    fast: Option<Fast>,
    /// Bytes.
    unit: u64,
}

/// What an extent is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Units,
    Small,
    Fast,
}

/// How much of each part may be allocated, bytes.
struct Usable {
    fast: u64,
    units: u64,
    small: u64,
}

/// The fast space; its allocator counts from its start.
struct Fast {
    extent: Extent,
    allocator: HybridAllocator,
    /// Nothing more is allocated from it.
    retired: bool,
}

impl Fast {
    fn near(&self, extent: Extent) -> Extent {
        Extent::new(extent.start - self.extent.start, extent.len)
    }
}

impl Stock {
    /// What a tree and a log imply. The tree passed [`crate::fs::check::check`].
    pub fn build(
        tree: &Tree,
        log: &[Extent],
        device_size: u64,
        fast: Option<Extent>,
        unit: u64,
    ) -> FsResult<Self> {
        let fast = fast.map(|extent| Fast {
            extent,
            allocator: HybridAllocator::new(extent.len, unit),
            retired: false,
        });
        let (units, small) = (HybridAllocator::new(device_size, unit), Small::default());
        let mut stock = Self { units, small, fast, unit };
        let bad = |error: AllocError| FsError::corrupt(format!("extents: {error}"));
        for (start, len) in &tree.spaces {
            stock.lend(Extent::new(*start, *len)).map_err(bad)?;
        }
        let files = tree.files.values().flat_map(|inode| &inode.extents);
        for extent in files.chain(log) {
            for (piece, part) in stock.cut(*extent) {
                match part {
                    Part::Small => stock.small.mark_used(piece).map_err(bad)?,
                    _ => stock.with_units(piece, |units, near| units.mark_used(near)).map_err(bad)?,
                }
            }
        }
        Ok(stock)
    }

    /// The main device becomes larger.
    pub fn grow_main(&mut self, size: u64) {
        self.units.grow(size);
    }

    /// The fast space becomes larger: what it was, and more behind that.
    pub fn grow_fast(&mut self, extent: Extent) {
        if let Some(fast) = &mut self.fast {
            fast.allocator.grow(extent.len);
            fast.extent = extent;
        }
    }

    /// Whether there is a fast space and this extent lies in it.
    pub fn is_fast(&self, extent: Extent) -> bool {
        self.fast.as_ref().is_some_and(|fast| extent.start >= fast.extent.start)
    }

    /// Bytes of the fast space that can be allocated: none if it is retired.
    pub fn fast_free(&self) -> u64 {
        let usable = self.fast.as_ref().filter(|fast| !fast.retired);
        usable.map_or(0, |fast| fast.allocator.free_bytes())
    }

    /// Bytes of the main space that are free in whole units.
    pub fn units_free(&self) -> u64 {
        self.units.free_bytes()
    }

    /// Bytes of the main space that are free in smaller pieces.
    pub fn small_free(&self) -> u64 {
        self.small.free_bytes()
    }

    /// Bytes of the main space that are lent in smaller pieces.
    pub fn small_lent(&self) -> u64 {
        self.small.lent_bytes()
    }

    /// Of an extent, bytes that are of smaller pieces.
    pub fn small_within(&self, extent: Extent) -> u64 {
        self.cut(extent)
            .into_iter()
            .filter(|(_, part)| *part == Part::Small)
            .map(|(piece, _)| piece.len)
            .sum()
    }

    /// Bytes that can be allocated.
    pub fn free_bytes(&self) -> u64 {
        self.units_free() + self.small_free() + self.fast_free()
    }

    /// What can be allocated, ascending.
    pub fn free_extents(&self) -> Vec<Extent> {
        let mut all: Vec<Extent> = self.units.free_extents();
        all.extend(self.small.free_runs());
        all.sort_unstable();
        for fast in self.fast.iter().filter(|fast| !fast.retired) {
            let near = fast.allocator.free_extents().into_iter();
            all.extend(near.map(|extent| Extent::new(fast.extent.start + extent.start, extent.len)));
        }
        all
    }

    /// No more is allocated from the fast space.
    pub fn retire_fast(&mut self) {
        if let Some(fast) = &mut self.fast {
            fast.retired = true;
        }
    }

    /// Of so many bytes that the fast space has been lent, those that are not free.
    pub fn fast_used(&self, lent: u64) -> u64 {
        lent - self.fast.as_ref().map_or(0, |fast| fast.allocator.free_bytes())
    }

    /// There is no fast space any more; nothing in it is in use.
    pub fn drop_fast(&mut self) {
        self.fast = None;
    }

    /// The first run of free units of the main space that ends behind `from`.
    pub fn next_units_free(&self, from: u64) -> Option<Extent> {
        self.units.next_free(from)
    }

    /// The main space's free pieces that are smaller than a unit, ascending.
    pub fn small_runs(&self) -> impl Iterator<Item = Extent> {
        self.small.free_runs()
    }

    /// Allocates whole units for a log, which has few extents.
    pub fn allocate_log(&mut self, request: &Request, out: &mut Vec<Extent>) -> AllocResult<()> {
        let usable = Usable { fast: self.fast_free(), units: self.units_free(), small: 0 };
        self.allocate_within(request, &usable, out)
    }

    /// Allocates for a file, in whole units all together, and leaves so much for a log.
    pub fn allocate(&mut self, request: &Request, leave: u64, out: &mut Vec<Extent>) -> AllocResult<()> {
        let (fast, units) = (self.fast_free(), self.units_free());
        let usable = Usable {
            fast: fast.saturating_sub(leave),
            units: units.saturating_sub(leave.saturating_sub(fast)),
            small: self.small_free(),
        };
        self.allocate_within(request, &usable, out)
    }

    fn allocate_within(
        &mut self,
        request: &Request,
        usable: &Usable,
        out: &mut Vec<Extent>,
    ) -> AllocResult<()> {
        let whole = |bytes: u64| bytes / self.unit * self.unit;
        let (fast, units) = (whole(usable.fast), whole(usable.units));
        if fast >= request.len && self.allocate_fast(request, out).is_ok() {
            return Ok(());
        }
        if units >= request.len {
            return self.allocate_units(request, out);
        }
        let first = out.len();
        let of_fast = if fast < request.len { fast } else { 0 };
        let of_units = units.min(request.len - of_fast);
        let of_small = request.len - of_fast - of_units;
        let parts = self.allocate_parts(request, [of_fast, of_units, of_small], usable.small, out);
        if parts.is_err() {
            for extent in out.drain(first..).collect::<Vec<_>>() {
                self.release(extent)?;
            }
        }
        parts
    }

    /// Allocates so much of each part. What it took before an error stays in `out`.
    fn allocate_parts(
        &mut self,
        request: &Request,
        [of_fast, of_units, of_small]: [u64; 3],
        small: u64,
        out: &mut Vec<Extent>,
    ) -> AllocResult<()> {
        if of_small > small {
            return Err(AllocError::NoSpace {
                wanted: request.len,
                available: request.len - of_small + small,
            });
        }
        let first = out.len();
        if of_fast > 0 {
            self.allocate_fast(&Request { len: of_fast, ..*request }, out)?;
        }
        if of_units > 0 {
            let extents_max = request.extents_max.saturating_sub(out.len() - first).max(1);
            self.allocate_units(&Request { len: of_units, extents_max, ..*request }, out)?;
        }
        self.small.allocate(of_small, out)?;
        let Request { len: wanted, unit, extents_max, .. } = *request;
        if out.len() - first > extents_max {
            return Err(AllocError::Fragmented { wanted, unit, extents_max, free: self.free_bytes() });
        }
        Ok(())
    }

    /// Allocates from the fast space only.
    pub fn allocate_fast(&mut self, request: &Request, out: &mut Vec<Extent>) -> AllocResult<()> {
        let Some(fast) = self.fast.as_mut().filter(|fast| !fast.retired) else {
            return Err(AllocError::NoSpace { wanted: request.len, available: 0 });
        };
        let hint = request.hint.and_then(|hint| hint.checked_sub(fast.extent.start));
        let mut near = Vec::new();
        fast.allocator.allocate(&Request { hint, ..*request }, &mut near)?;
        let start = fast.extent.start;
        out.extend(near.into_iter().map(|extent| Extent::new(start + extent.start, extent.len)));
        Ok(())
    }

    /// From the lowest on, where nothing is better: so what was lent last, mostly behind what was there from the start, comes free
    /// and can be given back.
    fn allocate_units(&mut self, request: &Request, out: &mut Vec<Extent>) -> AllocResult<()> {
        let hint = request.hint.filter(|hint| *hint < self.units.capacity()).unwrap_or(0);
        self.units.allocate(&Request { hint: Some(hint), ..*request }, out)
    }

    /// Gives allocated space back.
    pub fn release(&mut self, extent: Extent) -> AllocResult<()> {
        for (piece, part) in self.cut(extent) {
            match part {
                Part::Small => self.small.release(piece)?,
                _ => self.with_units(piece, |units, near| units.release(near))?,
            }
        }
        Ok(())
    }

    /// Adds lent space: units, or a piece that is smaller.
    pub fn lend(&mut self, extent: Extent) -> AllocResult<()> {
        if !self.is_fast(extent) && !self.is_whole(extent) {
            return self.small.lend(extent);
        }
        self.with_units(extent, |units, near| units.mark_free(near))
    }

    /// Takes free space away, for good.
    pub fn take_back(&mut self, extent: Extent) -> AllocResult<()> {
        for (piece, part) in self.cut(extent) {
            match part {
                Part::Small => self.small.take_back(piece)?,
                _ => self.with_units(piece, |units, near| units.mark_used(near))?,
            }
        }
        Ok(())
    }

    /// Whether an extent consists of whole units.
    fn is_whole(&self, extent: Extent) -> bool {
        extent.start.is_multiple_of(self.unit) && extent.len.is_multiple_of(self.unit)
    }

    /// Cuts an extent by the parts of the space.
    fn cut(&self, extent: Extent) -> Vec<(Extent, Part)> {
        if self.is_fast(extent) {
            return vec![(extent, Part::Fast)];
        }
        let part = |is_small| if is_small { Part::Small } else { Part::Units };
        self.small.cut(extent).into_iter().map(|(piece, is_small)| (piece, part(is_small))).collect()
    }

    /// Runs `work` on the allocator of whole units that has an extent, and where the extent is for that.
    fn with_units<T>(&mut self, extent: Extent, work: impl FnOnce(&mut HybridAllocator, Extent) -> T) -> T {
        let is_fast = self.is_fast(extent);
        match &mut self.fast {
            Some(fast) if is_fast => {
                let near = fast.near(extent);
                work(&mut fast.allocator, near)
            }
            _ => work(&mut self.units, extent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: u64 = 1 << 56;
    const UNIT: u64 = 4096;

    fn stock() -> Stock {
        let mut tree = Tree::default();
        tree.spaces.insert(0, 10 * UNIT);
        tree.spaces.insert(FAR, 4 * UNIT);
        Stock::build(&tree, &[], 1 << 20, Some(Extent::new(FAR, 4 * UNIT)), UNIT).expect("fits")
    }

    fn take(stock: &mut Stock, units: u64, leave: u64) -> Option<(u64, u64)> {
        let request = Request { len: units * UNIT, unit: UNIT, extents_max: 8, hint: None };
        let mut out = Vec::new();
        stock.allocate(&request, leave * UNIT, &mut out).ok()?;
        let sum = |fast| {
            out.iter().filter(|extent| stock.is_fast(**extent) == fast).map(|one| one.len / UNIT).sum()
        };
        Some((sum(true), sum(false)))
    }

    #[test]
    fn fast_space_goes_first_and_the_main_one_takes_what_spills() {
        let mut stock = stock();
        assert_eq!(take(&mut stock, 3, 0), Some((3, 0)));
        assert_eq!(take(&mut stock, 2, 0), Some((0, 2)), "not torn while one space has it");
        assert_eq!(take(&mut stock, 1, 1), Some((0, 1)), "the last unit is left");
        assert_eq!(take(&mut stock, 8, 1), None, "and not taken for who leaves it");
        assert_eq!(take(&mut stock, 8, 0), Some((1, 7)), "all that is left, from both");
        assert_eq!((stock.free_bytes(), take(&mut stock, 1, 0)), (0, None));
        stock.release(Extent::new(FAR, UNIT)).expect("was in use");
        assert_eq!((stock.fast_free(), stock.units_free()), (UNIT, 0));
        stock.retire_fast();
        assert_eq!(take(&mut stock, 1, 0), None);
    }

    #[test]
    fn the_lowest_units_go_first_so_that_the_highest_come_free() {
        let mut tree = Tree::default();
        tree.spaces.insert(0, 10 * UNIT);
        let mut stock = Stock::build(&tree, &[], 1 << 20, None, UNIT).expect("fits");
        let file = Request { len: 2 * UNIT, unit: UNIT, extents_max: 8, hint: None };
        let mut files = Vec::new();
        (0..3).for_each(|_| stock.allocate(&file, 0, &mut files).expect("fits"));
        stock.release(Extent::new(0, 2 * UNIT)).expect("was in use");
        stock.allocate(&file, 0, &mut files).expect("fits");
        assert_eq!(files.pop(), Some(Extent::new(0, 2 * UNIT)));
        assert_eq!(stock.free_extents(), [Extent::new(6 * UNIT, 4 * UNIT)]);
    }

    #[test]
    fn what_does_not_fit_leaves_everything_as_it_was() {
        let mut stock = stock();
        let before = (stock.fast_free(), stock.units_free());
        assert_eq!(take(&mut stock, 15, 0), None);
        assert_eq!((stock.fast_free(), stock.units_free()), before);
    }

    #[test]
    fn small_pieces_are_for_files_when_there_are_not_enough_units() {
        let mut tree = Tree::default();
        tree.spaces.insert(0, 4 * UNIT);
        // Together as much as two units and a half, in no place a whole one.
        tree.spaces.extend((10..15).map(|n| (n * UNIT + 512, UNIT / 2)));
        let mut stock = Stock::build(&tree, &[], 1 << 20, None, UNIT).expect("fits");
        assert_eq!((stock.units_free(), stock.small_free()), (4 * UNIT, 5 * UNIT / 2));
        let request = |units: u64| Request { len: units * UNIT, unit: UNIT, extents_max: 8, hint: None };
        let mut log = Vec::new();
        stock.allocate_log(&request(5), &mut log).expect_err("a log has no small pieces");
        let mut file = Vec::new();
        stock.allocate(&request(6), UNIT, &mut file).expect_err("a unit is left for the log");
        stock.allocate(&request(5), UNIT, &mut file).expect("there is so much");
        assert_eq!((stock.units_free(), stock.small_free()), (UNIT, UNIT / 2));
        assert!(file[0].len == 3 * UNIT && file[1..].iter().all(|extent| extent.len == UNIT / 2), "{file:?}");
        stock.allocate_log(&request(1), &mut log).expect("it was left");
        for extent in file.drain(..) {
            stock.release(extent).expect("was in use");
            stock.release(extent).expect_err("is free");
        }
        assert_eq!((stock.units_free(), stock.small_free()), (3 * UNIT, 5 * UNIT / 2));
        let few = Request { extents_max: 2, ..request(5) };
        stock.allocate(&few, 0, &mut file).expect_err("in too many pieces");
        assert_eq!((stock.units_free(), stock.small_free(), file.len()), (3 * UNIT, 5 * UNIT / 2, 0));
        let piece = stock.small_runs().next().expect("one is free");
        stock.take_back(piece).expect("is free");
        assert_eq!((stock.small_free(), stock.small_lent()), (2 * UNIT, 2 * UNIT));
    }
}
