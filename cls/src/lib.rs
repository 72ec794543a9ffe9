//! Object classes: methods that clients call on one object, run where the object is.
//!
//! A method sees its caller, its input and one object inside the transaction of the request that calls it, and nothing
//! else: no clock, no randomness, no other object. Invariant: what a method changes is part of that transaction, so it
//! happens with the request's other ops or not at all. Lives on the object's core.

mod context;
mod error;
pub mod fuzzing;
mod hello;
mod host;
pub mod limits;
mod lock;
mod memory;
mod object;
mod registry;

pub use context::{Caller, ObjectContext};
pub use error::{CallError, CallResult};
pub use host::{Access, CallFuture, ClassHost, Reply};
pub use memory::MemoryObject;
pub use object::{Object, ObjectFuture, ObjectStat, OmapPage};
pub use registry::{Class, Method, NATIVE, Registry};
