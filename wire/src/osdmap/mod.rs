//! The OSD map: pools, OSDs and CRUSH of one epoch, and the increments that lead from one to the next.
//!
//! Values and pure functions. Encodings are those of Ceph 16.2, byte for byte, with the checksums that readers
//! verify. Cluster view.

mod apply;
mod blocklist;
mod codec;
mod diff;

mod incremental;
mod map;
mod osd;
mod pool;
mod pool_codec;
mod snapshots;

pub use apply::ApplyError;
pub use blocklist::Blocklist;
pub use diff::Step;
pub use incremental::Incremental;
pub use map::{MapFlags, OsdMap, Ratio};
pub use osd::{AFFINITY_DEFAULT, Osd, OsdInfo, OsdState, OsdXInfo, WEIGHT_IN};
pub use pool::{FloatBits, Pool, PoolFlags, PoolOption, PoolSnapshot};
pub use snapshots::SnapshotError;
