//! [`Target`]: the seam between a load and what it is put on. Lives on one core.

use std::fmt::Display;
use std::future::Future;

use bytes::Bytes;

use crate::content::Content;
use crate::meter::Party;

/// Why an operation failed, in words that name the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TargetError(String);

impl TargetError {
    /// What failed, and why.
    pub fn new(what: impl Display, why: impl Display) -> Self {
        Self(format!("{what}: {why}"))
    }
}

/// Blocks of one size at positions from 0 on.
///
/// Contract: any number of operations are in flight at once. A write that is done is as durable as the target makes writes, and
/// what it wrote is what later reads give. Two writes of one position at once, or a write and a read, give either; with
/// verification there are none.
pub trait Target {
    /// Number of blocks.
    fn positions(&self) -> u64;
    /// Where a block is, for whoever looks for it: device and offset, object and offset.
    fn place(&self, position: u64) -> String;
    /// Reads a block. Its bytes are given if `wanted`; otherwise what is given is nobody's business, so that nothing is copied
    /// for it.
    fn read(&self, position: u64, wanted: bool) -> impl Future<Output = Result<Bytes, TargetError>>;
    /// Writes a block.
    fn write(&self, position: u64, content: Content) -> impl Future<Output = Result<(), TargetError>>;
    /// What everybody besides the calling thread has spent so far for this load.
    fn spent(&self) -> impl Future<Output = Result<Vec<Party>, TargetError>>;
    /// Bytes written so far to the device that this is all about; none if nobody knows.
    fn device_bytes(&self) -> impl Future<Output = Result<Option<u64>, TargetError>>;
}
