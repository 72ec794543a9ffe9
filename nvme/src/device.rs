//! The seam every backend implements, with its contract. Lives on one core.

use rt::LocalBoxFuture;

use crate::buffer::DmaBuf;
use crate::limits::MEMBERS_MAX;

/// What a device is, fixed while it is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes; a multiple of `block_size`. A device may grow while it is open, see [`BlockDevice::size`].
    pub size: u64,
    /// Smallest unit of I/O and alignment of offsets and lengths, bytes, a power of two from 512 to 65536.
    pub block_size: u32,
    /// Bytes that a write, aligned to them, leaves whole or untouched at power loss. At least 512; the crash
    /// model of the simulated device tears writes at multiples of this.
    pub atomic_write_unit: u32,
    /// Completed writes may be lost until a flush.
    pub volatile_cache: bool,
    /// Spins: seeks cost milliseconds.
    pub rotational: bool,
    /// Discarded ranges are told to the device.
    pub discard: bool,
    /// Largest I/O in bytes that goes to the device as one; longer ones are split by the backend.
    pub io_max: u32,
    /// Which backend, for `osd metadata` and messages.
    pub kind: Kind,
}

/// Backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    Uring,
    Memory,
    Simulated,
}

/// Why an I/O failed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum DeviceError {
    /// The device could not read or write these bytes; others may be fine.
    #[error("{op} of {len} bytes at {offset:#x} on {device}: {reason}")]
    Io { op: &'static str, offset: u64, len: u64, device: String, reason: String },
    /// Outside the device, or not aligned to its blocks. The caller's mistake.
    #[error("{op} of {len} bytes at {offset:#x} on {device} is out of range or not aligned to {block_size}")]
    Range { op: &'static str, offset: u64, len: u64, device: String, block_size: u32 },
    /// A flush failed before: what is durable is unknown, so nothing more is done through this device.
    #[error("{device} is poisoned by a failed flush: {reason}")]
    Poisoned { device: String, reason: String },
    /// The device went away or the process is ending.
    #[error("{device} is gone")]
    Gone { device: String },
}

/// Result of an I/O.
pub type DeviceResult<T> = Result<T, DeviceError>;

/// Bytes of each member of a joined device by its slot, 0 where there is none; what is not joined is its own first member.
pub type MemberSizes = [u64; MEMBERS_MAX];

/// Of a device that is not joined.
pub fn sizes_of_one(size: u64) -> MemberSizes {
    let mut sizes = MemberSizes::default();
    sizes[0] = size;
    sizes
}

/// A block device as seen from one core.
///
/// Contract:
/// - I/Os are asynchronous and run in any order. Two overlapping I/Os in flight have an undefined result
///   (for the overlap only), unless both are reads.
/// - An I/O is submitted when its method is called, not when its future is first polled. Dropping the future does
///   not undo the I/O; its buffer lives on until the device let go of it.
/// - Completion of a write is not durability when `volatile_cache` is set. A `flush` makes durable every
///   write that *completed* before the flush was submitted, and promises nothing about others.
/// - At power loss each write that is not durable is present, absent, or torn at multiples of
///   `atomic_write_unit`, independently of the others and of their order.
/// - A failed flush poisons the device for all handles: every later call fails with `Poisoned`.
/// - `discard` is advice: afterwards the range reads as zeroes, old or new data until it is written again.
/// - Reads of blocks never written give unspecified bytes without error.
pub trait BlockDevice {
    /// What the device is.
    fn geometry(&self) -> &Geometry;
    /// Bytes now: those of the geometry, or more if it has grown since it was opened.
    fn size(&self) -> u64 {
        self.geometry().size
    }
    /// Looks whether it, or a device joined to it, has grown, and gives what each has now. What is new may be used from then
    /// on, through every handle.
    fn look_again(&self) -> LocalBoxFuture<'static, DeviceResult<MemberSizes>> {
        Box::pin(std::future::ready(Ok(sizes_of_one(self.size()))))
    }
    /// Path or name, for messages.
    fn name(&self) -> &str;
    /// Fills `buf` (its length is the I/O's) from `offset`.
    fn read(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>>;
    /// Writes `buf` at `offset` and gives it back.
    fn write(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>>;
    /// Makes completed writes durable.
    fn flush(&self) -> LocalBoxFuture<'static, DeviceResult<()>>;
    /// Advises that the bytes are no longer needed.
    fn discard(&self, offset: u64, len: u64) -> LocalBoxFuture<'static, DeviceResult<()>>;
}
