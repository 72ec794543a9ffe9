//! The suite over every allocator of this crate.

use allocator::{BitmapAllocator, ExtentAllocator, suite};

#[test]
fn bitmap() {
    suite::run(BitmapAllocator::new);
}

#[test]
fn oracle() {
    suite::run(ExtentAllocator::new);
}
