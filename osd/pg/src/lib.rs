//! Placement groups as values: what a client's request on an object does, in Ceph's terms.
//!
//! Reads go through the object store's seam; nothing else is asked or told. The same ops on the same object give the
//! same results, changes and versions, whoever runs them.

mod checksum;
mod chunks;
mod classes;
mod data_overlay;
mod duplicates;
mod errno;
mod execute;
pub mod fuzzing;
mod group;
mod hints;
pub mod limits;
mod listing;
mod log_entry;
mod object_info;
mod object_view;
mod omap_overlay;
mod operation;
mod ops_attr;
mod ops_omap;
mod ops_read;
mod ops_write;
mod request;

pub use classes::Method;
pub use cls::Caller;
pub use duplicates::{Duplicates, Recorded};
pub use errno::{OpError, OpResult};
pub use execute::{Effect, Execution, Output, execute};
pub use group::{Group, GroupInfo, ReplyVersions, Sealed};
pub use listing::{ALL_NAMESPACES, END_OF_GROUP, GroupRange, ListQuery, encode_page, hash_bits};
pub use log_entry::{LogEntry, LogKind, OpReturn};
pub use object_info::{INFO_ATTR, ObjectInfo, ObjectState, USER_ATTR_PREFIX};
pub use object_view::{Changes, ObjectView, load_state};
pub use operation::{AttrOperand, Extent, Operation, Relation, may_write};
pub use request::Request;
