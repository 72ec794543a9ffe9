//! [`Stock`]: the free space, of the main device and of a fast one beside it if there is one.
//!
//! What is allocated comes from the fast space as long as that has it, else from the main one, and in parts from both if
//! neither has enough: so a full fast space refuses nothing that the main one has room for, and the other way around.

use allocator::{AllocError, AllocResult, Allocator, Extent, HybridAllocator, Request};

use crate::fs::error::{FsError, FsResult};
use crate::fs::tree::Tree;

/// See the module.
pub(super) struct Stock {
    main: HybridAllocator,
    fast: Option<Fast>,
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
        let mut stock = Self { main: HybridAllocator::new(device_size, unit), fast };
        let bad = |error: AllocError| FsError::corrupt(format!("extents: {error}"));
        for (start, len) in &tree.spaces {
            stock.mark_free(Extent::new(*start, *len)).map_err(bad)?;
        }
        let files = tree.files.values().flat_map(|inode| &inode.extents);
        for extent in files.chain(log) {
            let (allocator, near) = stock.of(*extent);
            allocator.mark_used(near).map_err(bad)?;
        }
        Ok(stock)
    }

    /// The main device becomes larger.
    pub fn grow_main(&mut self, size: u64) {
        self.main.grow(size);
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

    /// Bytes of the main space that are free.
    pub fn main_free(&self) -> u64 {
        self.main.free_bytes()
    }

    /// Bytes that can be allocated.
    pub fn free_bytes(&self) -> u64 {
        self.main_free() + self.fast_free()
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

    /// The first free run of the main space that ends behind `from`.
    pub fn next_main_free(&self, from: u64) -> Option<Extent> {
        self.main.next_free(from)
    }

    /// Allocates, and leaves so much of the fast space if the main one has the rest.
    pub fn allocate(&mut self, request: &Request, leave: u64, out: &mut Vec<Extent>) -> AllocResult<()> {
        let unit = request.unit.max(1);
        let fast = self.fast_free().saturating_sub(leave) / unit * unit;
        if fast >= request.len && self.allocate_fast(request, out).is_ok() {
            return Ok(());
        }
        let Err(error) = self.allocate_main(request, out) else { return Ok(()) };
        if fast == 0 || fast >= request.len {
            return Err(error);
        }
        let first = out.len();
        self.allocate_fast(&Request { len: fast, ..*request }, out)?;
        let extents_max = request.extents_max.saturating_sub(out.len() - first).max(1);
        let rest = Request { len: request.len - fast, extents_max, ..*request };
        if let Err(error) = self.allocate_main(&rest, out) {
            for extent in out.drain(first..).collect::<Vec<_>>() {
                self.release(extent)?;
            }
            return Err(error);
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

    /// Allocates from the main space only.
    pub fn allocate_main(&mut self, request: &Request, out: &mut Vec<Extent>) -> AllocResult<()> {
        let hint = request.hint.filter(|hint| *hint < self.main.capacity());
        self.main.allocate(&Request { hint, ..*request }, out)
    }

    /// Gives allocated space back.
    pub fn release(&mut self, extent: Extent) -> AllocResult<()> {
        let (allocator, near) = self.of(extent);
        allocator.release(near)
    }

    /// Adds space.
    pub fn mark_free(&mut self, extent: Extent) -> AllocResult<()> {
        let (allocator, near) = self.of(extent);
        allocator.mark_free(near)
    }

    /// Takes free space out of use.
    pub fn mark_used(&mut self, extent: Extent) -> AllocResult<()> {
        let (allocator, near) = self.of(extent);
        allocator.mark_used(near)
    }

    fn of(&mut self, extent: Extent) -> (&mut HybridAllocator, Extent) {
        let is_fast = self.is_fast(extent);
        match &mut self.fast {
            Some(fast) if is_fast => {
                let near = fast.near(extent);
                (&mut fast.allocator, near)
            }
            _ => (&mut self.main, extent),
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
        assert_eq!((stock.fast_free(), stock.main_free()), (UNIT, 0));
        stock.retire_fast();
        assert_eq!(take(&mut stock, 1, 0), None);
    }

    #[test]
    fn what_does_not_fit_leaves_everything_as_it_was() {
        let mut stock = stock();
        let before = (stock.fast_free(), stock.main_free());
        assert_eq!(take(&mut stock, 15, 0), None);
        assert_eq!((stock.fast_free(), stock.main_free()), before);
    }
}
