//! Ceph's common types as values, with their encodings. Pure; any core.

mod addr;
mod features;
mod interval_set;
mod name;
mod object;
mod pg;
mod time;

pub use addr::{Addr, AddrKind, AddrVec, SocketBytes};
pub use features::Features;
pub use interval_set::IntervalSet;
pub use name::{AuthName, EntityKind, EntityName};
pub use object::{HObject, ObjectLocator, SnapId};
pub use pg::{EVersion, Epoch, PgId, PoolId, RequestId, ShardPgId};
pub use time::UTime;
