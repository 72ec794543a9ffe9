//! What is kept in memory of what was read or written: onodes with their shards, and blocks of data. Both are bounded by
//! bytes and let go by the same policy. Lives on one core.

mod blocks;
mod hash;
mod onodes;
mod queues;

pub use blocks::{Block, BlockCache};
pub use onodes::{Cache, Since};
pub use queues::CachePolicy;
