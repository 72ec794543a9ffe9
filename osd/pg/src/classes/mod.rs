//! Native object classes: methods that run on an object as ops of a request.
//!
//! A method sees what an op sees, the object under the request's changes, and may change it; it has no other state.

mod lock;

use bytes::Bytes;
use wire::msg::{Op, OpCode};

use crate::errno::{Errno, OpResult};
use crate::execute::Output;
use crate::object_view::ObjectView;
use crate::request::Caller;

/// A method of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Of `lock`.
    Lock(lock::LockMethod),
}

impl Method {
    /// The method that a CALL names. `Err` if the op is malformed or there is no such class or method.
    pub fn of(op: &Op) -> Result<(Self, Bytes), Errno> {
        assert!(op.code == OpCode::CALL, "invariant: only calls name methods");
        let (class, method, input) = op.call().ok_or(Errno::EINVAL)?;
        let method = match &class[..] {
            b"lock" => lock::LockMethod::named(&method).map(Self::Lock),
            _ => None,
        };
        Ok((method.ok_or(Errno::EOPNOTSUPP)?, input))
    }

    /// Whether it may change the object; if not, it does not run on a missing one.
    pub fn may_write(self) -> bool {
        match self {
            Self::Lock(method) => method.may_write(),
        }
    }

    /// Runs it.
    pub async fn run(self, view: &mut ObjectView, caller: &Caller, input: Bytes) -> OpResult<Output> {
        match self {
            Self::Lock(method) => lock::run(method, view, caller, input).await,
        }
    }
}
