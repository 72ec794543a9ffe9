//! What sysfs tells about the queue of a block device. Everything is optional: a file system may lie on no device.

use std::path::PathBuf;

use crate::limits::POLLED_IO_MAX;

/// Attributes of the queue below a device number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Queue {
    /// "write back" or "write through"; none if the system does not say.
    pub volatile_cache: Option<bool>,
    pub rotational: bool,
    pub discard: bool,
    /// The device has queues for polling, or the system lets one try.
    pub may_poll: bool,
    /// Bytes the hardware takes as one.
    pub io_max: Option<u64>,
    /// Bytes up to which the system does not split.
    pub unsplit_max: Option<u64>,
    /// Pieces of memory up to which it does not.
    pub segments_max: Option<u64>,
    /// Multiples of these bytes at which it does in any case.
    pub boundary: Option<u64>,
}

impl Queue {
    /// Reads the attributes of the device with this number; a partition has those of its disk.
    pub fn of(device: libc::dev_t) -> Self {
        let (major, minor) = (libc::major(device), libc::minor(device));
        let base = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
        let directories = [base.join("queue"), base.join("../queue")];
        let read = |name: &str| {
            let found =
                directories.iter().find_map(|directory| std::fs::read_to_string(directory.join(name)).ok());
            found.map(|text| text.trim().to_owned())
        };
        Self::parse(read)
    }

    pub fn parse(read: impl Fn(&str) -> Option<String>) -> Self {
        let number = |name: &str| read(name).and_then(|text| text.parse::<u64>().ok());
        Self {
            volatile_cache: read("write_cache").map(|text| text != "write through"),
            rotational: number("rotational") == Some(1),
            discard: number("discard_max_bytes").is_some_and(|bytes| bytes > 0),
            may_poll: number("io_poll") == Some(1),
            io_max: number("max_hw_sectors_kb").map(|kib| kib.saturating_mul(1 << 10)),
            unsplit_max: number("max_sectors_kb").map(|kib| kib.saturating_mul(1 << 10)),
            segments_max: number("max_segments"),
            // A boundary beyond 64 bits is none.
            boundary: number("chunk_sectors")
                .filter(|&sectors| sectors > 0)
                .and_then(|sectors| sectors.checked_mul(512)),
        }
    }

    /// Which I/Os may be polled for, if any.
    ///
    /// Only those that the system surely passes on whole. Kernel 6.1, for one, refuses a polled I/O that needs splitting
    /// and then retries it for ever by itself.
    pub fn polling(&self) -> Option<PollingLimits> {
        if !self.may_poll {
            return None;
        }
        // Memory of n pages from anywhere within a page may be n + 1 pieces.
        let segments = self.segments_max.unwrap_or(1).saturating_sub(1).saturating_mul(4096);
        let len_max = POLLED_IO_MAX.min(segments).min(self.unsplit_max.unwrap_or(0));
        (len_max > 0).then_some(PollingLimits { len_max, boundary: self.boundary })
    }
}

/// Limits of what may be polled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PollingLimits {
    /// Bytes.
    len_max: u64,
    /// No I/O that crosses a multiple of these bytes.
    boundary: Option<u64>,
}

impl PollingLimits {
    pub fn allow(&self, offset: u64, len: u64) -> bool {
        len <= self.len_max
            && self.boundary.is_none_or(|boundary| offset / boundary == (offset + len.max(1) - 1) / boundary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_what_sysfs_says() {
        let queue = Queue::parse(|name| {
            let text = match name {
                "write_cache" => "write back",
                "rotational" => "0",
                "discard_max_bytes" => "2199023255040",
                "io_poll" => "1",
                "max_hw_sectors_kb" => "128",
                "max_sectors_kb" => "64",
                "max_segments" => "9",
                "chunk_sectors" => "256",
                _ => return None,
            };
            Some(text.to_owned())
        });
        let expected = Queue {
            volatile_cache: Some(true),
            rotational: false,
            discard: true,
            may_poll: true,
            io_max: Some(128 << 10),
            unsplit_max: Some(64 << 10),
            segments_max: Some(9),
            boundary: Some(128 << 10),
        };
        assert_eq!(queue, expected);
        let limits = queue.polling().unwrap();
        assert!(limits.allow(0, 32 << 10) && !limits.allow(0, 36 << 10));
        assert!(limits.allow(124 << 10, 4096) && !limits.allow(124 << 10, 8192));
        assert_eq!(Queue { segments_max: Some(1), ..queue.clone() }.polling(), None);
        assert_eq!(Queue { may_poll: false, ..queue }.polling(), None);
        let through = Queue::parse(|name| (name == "write_cache").then(|| "write through".to_owned()));
        assert_eq!(through.volatile_cache, Some(false));
        assert_eq!(Queue::parse(|_| None), Queue::default());
    }
}
