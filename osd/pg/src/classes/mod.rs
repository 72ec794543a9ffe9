//! Calls of object classes as ops of a request.
//!
//! A method sees what an op sees, the object under the request's changes, and may change it; it has no other state.

mod object;

use bytes::Bytes;
use cls::{Access, Caller, ClassHost, NATIVE};
use wire::msg::{Op, OpCode};

use crate::errno::OpResult;
use crate::execute::Output;
use crate::object_view::ObjectView;
use object::ClassObject;
use wire::Errno;

/// A method of a class that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    class: Bytes,
    name: Bytes,
    access: Access,
}

impl Method {
    /// The method that a CALL names. `Err` if the op is malformed or there is no such class or method.
    pub fn of(op: &Op) -> Result<(Self, Bytes), Errno> {
        assert!(op.code == OpCode::CALL, "invariant: only calls name methods");
        let (class, name, input) = op.call().ok_or(Errno::EINVAL)?;
        let access = NATIVE.access(&class, &name).ok_or(Errno::EOPNOTSUPP)?;
        Ok((Self { class, name, access }, input))
    }

    /// Whether it may change the object; if not, it does not run on a missing one.
    pub fn may_write(&self) -> bool {
        self.access.may_write()
    }

    /// Runs it. A negative value is a failure that may have output.
    pub async fn run(&self, view: &mut ObjectView, caller: &Caller, input: Bytes) -> OpResult<Output> {
        let mut object = ClassObject { view };
        let reply = NATIVE.call(&self.class, &self.name, &mut object, caller, input).await?;
        Ok(Output { value: reply.value, ..Output::bytes(reply.output) })
    }
}
