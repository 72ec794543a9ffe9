//! CRUSH: the map as a value, the mapping from an input to devices, and a builder for our own tree.
//!
//! Everything here is pure, and total: a map that decodes can be mapped on with any input without a panic, in
//! bounded time. Cluster view.

mod builder;
mod codec;
mod ln;
mod map;
mod mapper;

pub use builder::{BuildError, Location, ReplicatedRule, TYPE_DEVICE, TYPE_HOST, TYPE_OSD, TYPE_ROOT};
pub use ln::crush_ln;
pub use map::{
    Algorithm, Bucket, BucketId, ChooseArg, ChooseArgs, CrushMap, ListWeight, Rule, Step, StrawWeight,
    Tunables, WEIGHT_ONE,
};
pub use mapper::{ITEM_NONE, Input, do_rule};
