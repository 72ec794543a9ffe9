//! The suite over every allocator of this crate.

use allocator::{
    BitmapAllocator, BtreeAllocator, ExtentAllocator, HybridAllocator, ZonedAllocator, suite, suite_zoned,
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
fn btree() {
    suite::run(BtreeAllocator::new);
}

#[test]
fn zoned() {
    suite_zoned::run(ZonedAllocator::new);
}
