//! A `log-writes` device of the kernel's device mapper: made, marked and removed through its control node.
//!
//! The target logs every write that reached the device, in the order in which flushes made them durable, and marks of the
//! caller's between them. Foreign to all cores: it blocks.

#![expect(unsafe_code, reason = "device-mapper is driven by ioctl")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

const CONTROL: &str = "/dev/mapper/control";
/// Size of `struct dm_ioctl`, bytes.
const HEADER: usize = 312;
/// Enough for a table of one line or a mark.
const BUFFER: usize = 4096;
const NAME_AT: usize = 48;

const DEV_CREATE: u8 = 3;
const DEV_REMOVE: u8 = 4;
const DEV_SUSPEND: u8 = 6;
const TABLE_LOAD: u8 = 9;
const TARGET_MSG: u8 = 14;

/// A mapped device; it stays until [`LogWrites::remove`].
pub struct LogWrites {
    control: File,
    name: String,
    minor: u64,
}

impl LogWrites {
    /// Maps `data` (of `sectors` units of 512 bytes) as `name`, logging to the device `log`.
    pub fn create(name: &str, sectors: u64, data: &str, log: &str) -> io::Result<Self> {
        let control = OpenOptions::new().read(true).write(true).open(CONTROL)?;
        let mut mapped = Self { control, name: name.to_owned(), minor: 0 };
        let answer = mapped.call(DEV_CREATE, &[], 0)?;
        let number = u64::from_le_bytes(answer[40..48].try_into().map_err(io::Error::other)?);
        // The kernel's huge encoding of a device number.
        mapped.minor = (number & 0xff) | ((number >> 12) & 0xfff_ff00);
        let mut table = vec![0_u8; 40];
        table[8..16].copy_from_slice(&sectors.to_le_bytes());
        table[24..34].copy_from_slice(b"log-writes");
        table.extend_from_slice(format!("{data} {log}\0").as_bytes());
        mapped.call(TABLE_LOAD, &table, 1)?;
        mapped.call(DEV_SUSPEND, &[], 0)?; // without the suspend flag it resumes
        Ok(mapped)
    }

    /// Path of the mapped device.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/dm-{}", self.minor))
    }

    /// Puts a mark into the log, behind everything whose flush has completed by now. Any thread may.
    pub fn mark(&self, text: &str) -> io::Result<()> {
        let mut message = vec![0_u8; 8];
        message.extend_from_slice(format!("mark {text}\0").as_bytes());
        self.call(TARGET_MSG, &message, 0).map(|_| ())
    }

    /// Unmaps the device; the log is complete then.
    pub fn remove(self) -> io::Result<()> {
        self.call(DEV_REMOVE, &[], 0).map(|_| ())
    }

    fn call(&self, number: u8, payload: &[u8], targets: u32) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0_u8; BUFFER];
        if HEADER + payload.len() > BUFFER || self.name.len() >= 128 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too long for a device-mapper call"));
        }
        for (at, value) in
            [(0, 4_u32), (4, 0), (8, 0), (12, BUFFER as u32), (16, HEADER as u32), (20, targets)]
        {
            buffer[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        buffer[NAME_AT..NAME_AT + self.name.len()].copy_from_slice(self.name.as_bytes());
        buffer[HEADER..HEADER + payload.len()].copy_from_slice(payload);
        let request = (3_u64 << 30) | ((HEADER as u64) << 16) | (0xfd << 8) | u64::from(number);
        // SAFETY: the buffer is as long as its header says, and lives through the call.
        let result = unsafe { libc::ioctl(self.control.as_raw_fd(), request as _, buffer.as_mut_ptr()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(buffer) }
    }
}
