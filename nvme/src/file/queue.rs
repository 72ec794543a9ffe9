//! What sysfs tells about the queue of a block device. Everything is optional: a file system may lie on no device.

use std::path::PathBuf;

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

    fn parse(read: impl Fn(&str) -> Option<String>) -> Self {
        let number = |name: &str| read(name).and_then(|text| text.parse::<u64>().ok());
        Self {
            volatile_cache: read("write_cache").map(|text| text != "write through"),
            rotational: number("rotational") == Some(1),
            discard: number("discard_max_bytes").is_some_and(|bytes| bytes > 0),
            may_poll: number("io_poll") == Some(1),
            io_max: number("max_hw_sectors_kb").map(|kib| kib << 10),
        }
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
        };
        assert_eq!(queue, expected);
        let through = Queue::parse(|name| (name == "write_cache").then(|| "write through".to_owned()));
        assert_eq!(through.volatile_cache, Some(false));
        assert_eq!(Queue::parse(|_| None), Queue::default());
    }
}
