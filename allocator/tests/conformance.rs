//! The suite over every allocator of this crate.

use allocator::{
    Allocator, BitmapAllocator, BtreeAllocator, Extent, ExtentAllocator, HybridAllocator, ZonedAllocator,
    suite, suite_zoned,
};

#[test]
fn bitmap() {
    suite::run(BitmapAllocator::new);
}

#[test]
fn oracle() {
    suite::run(ExtentAllocator::new);
}

#[test]
fn hybrid() {
    suite::run(HybridAllocator::new);
}

#[test]
fn grown() {
    suite::run(|capacity, block_size| {
        let mut bitmap = BitmapAllocator::new(block_size, block_size);
        bitmap.grow(capacity / 3 / block_size * block_size + block_size);
        bitmap.grow(capacity);
        bitmap
    });
    suite::run(|capacity, block_size| {
        let mut hybrid = HybridAllocator::new(block_size, block_size);
        hybrid.grow(capacity);
        hybrid
    });
}

#[test]
fn growing_changes_nothing_of_what_there_was() {
    const BLOCK: u64 = 4096;
    for blocks in [1, 100, 32 << 10, (32 << 10) + 1, 70 * (32 << 10)] {
        let mut space = HybridAllocator::new(blocks * BLOCK, BLOCK);
        for start in (0..blocks).step_by(977) {
            space.mark_free(Extent::new(start * BLOCK, BLOCK)).expect("in use");
        }
        let (free, pages) = (space.free_extents(), space.dirty_pages());
        space.grow((blocks + 5 * (32 << 10)) * BLOCK);
        assert_eq!((space.free_extents(), space.dirty_pages()), (free.clone(), pages));
        let new = Extent::new(blocks * BLOCK, 5 * (32 << 10) * BLOCK);
        space.mark_free(new).expect("what is new is in use");
        assert_eq!(space.free_bytes(), new.len + free.len() as u64 * BLOCK);
        let mut taken = Vec::new();
        let request = suite::request(new.len, BLOCK, 1);
        space.allocate(&request, &mut taken).expect("it is in one piece");
        assert!(taken[0].start + BLOCK >= new.start, "{taken:?}");
    }
}

#[test]
fn btree() {
    suite::run(BtreeAllocator::new);
}

#[test]
fn zoned() {
    suite_zoned::run(ZonedAllocator::new);
}
