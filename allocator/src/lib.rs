//! Allocators over block ranges: pure values without I/O, clock or randomness.
//!
//! [`Allocator`] is the seam, [`HybridAllocator`] the implementation that engines use, [`ExtentAllocator`] the
//! memory oracle, [`suite`] what every implementation must pass. [`Zones`] is the seam for devices with zones, whose space is
//! not free again piece by piece, with [`suite_zoned`] for its suite. [`Space`] adds reservations: values that give
//! back what they hold when dropped, so that an error path cannot leak space. An allocator belongs to one core;
//! where threads share one it lives behind its owner's lock.

#![forbid(unsafe_code)]

mod bitmap;
mod btree;
mod extent;
mod hybrid;
pub mod limits;
mod long_runs;
mod oracle;
mod page;
mod seam;
mod space;
pub mod suite;
pub mod suite_zoned;
mod tree;
mod word;
mod zoned;

pub use bitmap::BitmapAllocator;
pub use btree::BtreeAllocator;
pub use extent::Extent;
pub use hybrid::HybridAllocator;
pub use oracle::ExtentAllocator;
pub use seam::{AllocError, AllocResult, Allocator, Page, Request, Work, Zone, ZoneState, Zones};
pub use space::{Class, Reservation, Space, Taken};
pub use zoned::{ZoneLayout, ZonedAllocator};
