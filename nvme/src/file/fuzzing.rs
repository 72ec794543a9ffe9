//! Fuzz entry of the texts in /proc and /sys; see [`crate::fuzzing`].

use super::holders::{lock_owner, mounted_at};
use super::queue::Queue;

/// What /proc/locks and /proc/self/mountinfo may say of device 254:0 and inode 99, and sysfs of a queue: a name and a
/// value on each line. One text for all.
pub(crate) fn system_texts(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Some(pid) = lock_owner(&text, libc::makedev(254, 0), 99) {
        assert!(text.contains(&pid.to_string()) && text.contains("fe:00:99"));
    }
    if let Some(place) = mounted_at(&text, "254:0") {
        assert!(text.contains(&place));
    }
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(|rest| rest.trim().to_owned())
    };
    let queue = Queue::parse(value);
    if let Some(limits) = queue.polling() {
        for (offset, len) in [(0, 0), (0, 4096), (4096, 1 << 20), (u64::MAX - 4096, 4096)] {
            assert!(queue.may_poll && (!limits.allow(offset, len) || len <= crate::limits::POLLED_IO_MAX));
        }
    }
}

/// Sound test cases.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "1: POSIX  ADVISORY  WRITE 7 fe:00:99 0 EOF\n2: FLOCK  ADVISORY  WRITE 4711 fe:00:99 0 EOF\n",
        "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n",
        "write_cache write back\nrotational 0\ndiscard_max_bytes 2199023255040\nio_poll 1\n",
        "io_poll 1\nmax_hw_sectors_kb 128\nmax_sectors_kb 64\nmax_segments 9\nchunk_sectors 256\n",
        "io_poll 1\nmax_sectors_kb 64\nmax_segments 9\nchunk_sectors 36028797018963968\n",
        "io_poll 1\nmax_sectors_kb 64\nmax_segments 18446744073709551615\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
