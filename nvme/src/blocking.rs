//! [`BlockingDevice`]: the view of a device for foreign threads, which may block and never run on a core.

use crate::device::{DeviceResult, Geometry};

/// A block device as seen from foreign threads: every call blocks until it is done.
///
/// Contract:
/// - Any number of threads may call at the same time. Two overlapping calls at the same time have an undefined
///   result (for the overlap only), unless both are reads.
/// - Offsets, lengths and the *address* of the memory are multiples of the block size; slices of a
///   [`DmaBuf`](crate::DmaBuf) at multiples of the block size are. Anything else is
///   [`DeviceError::Range`](crate::DeviceError::Range).
/// - A write that returned is not durable when `volatile_cache` is set. A `flush` makes durable every write that
///   returned before the flush was called, on any thread, and promises nothing about others.
/// - Power loss, poisoning, discard and reads of blocks never written are as for
///   [`BlockDevice`](crate::BlockDevice), and poisoning is shared with it when both are views of one device.
pub trait BlockingDevice: Send + Sync {
    /// What the device is.
    fn geometry(&self) -> &Geometry;
    /// Bytes now: those of the geometry, or more if it has grown since it was opened.
    fn size(&self) -> u64 {
        self.geometry().size
    }
    /// Path or name, for messages.
    fn name(&self) -> &str;
    /// Fills `memory` from `offset`.
    fn read_at(&self, offset: u64, memory: &mut [u8]) -> DeviceResult<()>;
    /// Writes `memory` at `offset`.
    fn write_at(&self, offset: u64, memory: &[u8]) -> DeviceResult<()>;
    /// Makes durable what was written before.
    fn flush(&self) -> DeviceResult<()>;
    /// Advises that the bytes are no longer needed.
    fn discard(&self, offset: u64, len: u64) -> DeviceResult<()>;
}
