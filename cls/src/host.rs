//! The seam between a placement group and the classes: which methods there are, what they may do, and running one.

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;

use crate::context::Caller;
use crate::error::CallResult;
use crate::object::Object;

/// What a method does to its object, as it was registered. Decides how its request is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads. It is not started on a missing object unless the rest of the request writes.
    Read,
    /// It writes without looking at what is there.
    Write,
    /// It reads and writes.
    ReadWrite,
}

impl Access {
    /// Whether it may look at the object.
    pub fn may_read(self) -> bool {
        self != Self::Write
    }

    /// Whether it may change the object.
    pub fn may_write(self) -> bool {
        self != Self::Read
    }
}

/// What a call gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Zero or more as the method likes, or a negated errno: then the call failed, output or not.
    pub value: i32,
    /// Output.
    pub output: Bytes,
}

impl Reply {
    /// Success without output.
    pub fn done() -> CallResult<Self> {
        Ok(Self::default())
    }

    /// Success with output.
    pub fn output(output: impl Into<Bytes>) -> CallResult<Self> {
        Ok(Self { value: 0, output: output.into() })
    }
}

/// A call in progress. Not sent between cores.
pub type CallFuture<'a> = Pin<Box<dyn Future<Output = CallResult<Reply>> + 'a>>;

/// The classes of an OSD.
///
/// A call changes nothing but its object, and that only through the [`Object`]; if it fails, whoever made the
/// transaction drops it. The same call on the same object by the same caller gives the same result.
pub trait ClassHost: fmt::Debug {
    /// What the method does; `None` if there is no such class or method. Does not change while a request is served.
    fn access(&self, class: &[u8], method: &[u8]) -> Option<Access>;

    /// Runs a method. Unknown ones are EOPNOTSUPP, malformed input is EINVAL.
    fn call<'a>(
        &'a self,
        class: &'a [u8],
        method: &'a [u8],
        object: &'a mut dyn Object,
        caller: &'a Caller,
        input: Bytes,
    ) -> CallFuture<'a>;
}
