//! The conformance suite of the [`BlockDevice`] seam, and that of [`BlockingDevice`].
//!
//! A backend runs [`conforms`] on a device whose content may go, [`durability`] around a power loss (or only a restart,
//! where that is all one can do) and [`poisoned`] after a failed flush. Every check panics with what it expected.
//! Lives on the core it is given.

mod blocking;
mod checks;
pub mod durability;
mod pattern;

use std::rc::Rc;

use rt::Core;

pub use blocking::blocking_conforms;

use crate::buffer::DmaBuf;
use crate::device::{BlockDevice, DeviceError, DeviceResult};

/// Bytes that a device must have for the suite.
pub const SIZE_MIN: u64 = 16 << 20;

/// Checks all of the contract that can be seen without taking the power away. Overwrites the first [`SIZE_MIN`] bytes
/// and the last block.
pub async fn conforms(core: &Core, device: Rc<dyn BlockDevice>) {
    crate::check::geometry(device.geometry());
    assert!(device.geometry().size >= SIZE_MIN, "the suite needs {SIZE_MIN} bytes");
    assert!(!device.name().is_empty(), "a device has a name");
    checks::bounds(&*device).await;
    checks::bytes_come_back(&*device).await;
    checks::big_io(&*device).await;
    checks::many_at_once(&*device).await;
    checks::submitted_when_called(core, &*device).await;
    checks::dropped_futures(core, &*device).await;
    checks::discard(&*device).await;
    for seed in 0..4 {
        checks::model(&*device, seed).await;
    }
}

/// Checks that a failed flush poisoned `device`: nothing more is done through it. Call it for every handle.
pub async fn poisoned(device: &dyn BlockDevice) {
    let block = device.geometry().block_size as usize;
    let is_poisoned = |what: &str, result: DeviceResult<()>| {
        assert!(
            matches!(result, Err(DeviceError::Poisoned { .. })),
            "{what} after a failed flush gave {result:?}, not Poisoned"
        );
    };
    is_poisoned("read", device.read(0, DmaBuf::zeroed(block)).await.map(drop));
    is_poisoned("write", device.write(0, DmaBuf::zeroed(block)).await.map(drop));
    is_poisoned("flush", device.flush().await);
    is_poisoned("discard", device.discard(0, block as u64).await);
}

#[cfg(test)]
mod tests;
