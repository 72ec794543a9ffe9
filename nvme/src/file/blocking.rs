//! [`BlockingFile`]: the view of a device file for foreign threads, by ordinary system calls.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::DeviceFile;
use crate::blocking::BlockingDevice;
use crate::check;
use crate::device::{DeviceResult, Geometry};

/// A device file for foreign threads.
pub struct BlockingFile {
    device: Arc<DeviceFile>,
}

impl BlockingFile {
    pub(super) fn new(device: Arc<DeviceFile>) -> Self {
        Self { device }
    }

    fn check(&self, op: &'static str, offset: u64, memory: &[u8]) -> DeviceResult<()> {
        self.device.admit()?;
        check::lent_memory(op, self.device.bounds(), &self.device.name, offset, memory)
    }
}

/// Repeats a transfer that may stop short until `len` bytes are done. `part(done)` transfers some of the bytes
/// from `done` on.
fn transfer(len: usize, mut part: impl FnMut(usize) -> io::Result<usize>) -> io::Result<()> {
    let mut done = 0;
    while done < len {
        match part(done) {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "it has become shorter than when it was opened",
                ));
            }
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl BlockingDevice for BlockingFile {
    fn geometry(&self) -> &Geometry {
        &self.device.geometry
    }

    fn size(&self) -> u64 {
        self.device.size()
    }

    fn name(&self) -> &str {
        &self.device.name
    }

    fn read_at(&self, offset: u64, memory: &mut [u8]) -> DeviceResult<()> {
        self.check("read", offset, memory)?;
        let file = &self.device.file;
        transfer(memory.len(), |done| file.read_at(&mut memory[done..], offset + done as u64))
            .map_err(|error| self.device.failed("read", offset, memory.len() as u64, &error))
    }

    fn write_at(&self, offset: u64, memory: &[u8]) -> DeviceResult<()> {
        self.check("write", offset, memory)?;
        let file = &self.device.file;
        transfer(memory.len(), |done| file.write_at(&memory[done..], offset + done as u64))
            .map_err(|error| self.device.failed("write", offset, memory.len() as u64, &error))
    }

    fn flush(&self) -> DeviceResult<()> {
        self.device.admit()?;
        if !self.device.geometry.volatile_cache {
            return Ok(());
        }
        self.device.file.sync_data().map_err(|error| self.device.poisoned_by(&error))
    }

    fn discard(&self, offset: u64, len: u64) -> DeviceResult<()> {
        self.device.check_range("discard", offset, len)?;
        self.device.discard_now(offset, len)
    }
}
