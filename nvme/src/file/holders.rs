//! Who holds a device that could not be opened for this process alone: best effort, for the message.
//!
//! None means that nobody was found. Then it may be nobody any more: a process that was killed, or a ring that was
//! closed, lets go of its files a moment later.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The holder of a file's lock.
pub(super) fn of_lock(file: &Metadata) -> Option<String> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid = lock_owner(&locks, file.dev(), file.ino())?;
    let same = |found: &Metadata| (found.dev(), found.ino()) == (file.dev(), file.ino());
    may_have_open(pid, same).then(|| describe(pid))
}

/// The process that holds a lock by flock, from the text of /proc/locks.
pub(super) fn lock_owner(locks: &str, device: libc::dev_t, inode: u64) -> Option<u32> {
    let place = format!("{:02x}:{:02x}:{inode}", libc::major(device), libc::minor(device));
    locks.lines().find_map(|line| {
        // 1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields.as_slice() {
            [_, "FLOCK", _, _, pid, found, ..] if *found == place => pid.parse().ok(),
            _ => None,
        }
    })
}

/// Who holds a block device: a mount, a swap, a device on top of it, or a process.
pub(super) fn of_block_device(device: libc::dev_t, path: &Path) -> Option<String> {
    let number = format!("{}:{}", libc::major(device), libc::minor(device));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if let Some(place) = mounted_at(&mounts, &number) {
        return Some(format!("a file system mounted at {place}"));
    }
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let name = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if swaps.lines().skip(1).any(|line| line.split_whitespace().next() == name.to_str()) {
        return Some("the system as swap space".to_owned());
    }
    let base = format!("/sys/dev/block/{number}");
    if let Some(holder) = first_entry(&format!("{base}/holders")) {
        return Some(format!("the device {holder} on top of it"));
    }
    for partition in entries(&base) {
        let Ok(number) = fs::read_to_string(format!("{base}/{partition}/dev")) else { continue };
        if let Some(place) = mounted_at(&mounts, number.trim()) {
            return Some(format!("its partition {partition}, mounted at {place}"));
        }
        if let Some(holder) = first_entry(&format!("{base}/{partition}/holders")) {
            return Some(format!("its partition {partition}, held by {holder}"));
        }
    }
    let same = |found: &Metadata| found.mode() & libc::S_IFMT == libc::S_IFBLK && found.rdev() == device;
    let mut processes = entries("/proc").into_iter().filter_map(|name| name.parse::<u32>().ok());
    processes.find(|pid| has_open(*pid, same) == Some(true)).map(describe)
}

/// Whether a process has such a file open; none if one may not look, or it is gone.
fn has_open(pid: u32, same: impl Fn(&Metadata) -> bool) -> Option<bool> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    Some(descriptors.flatten().any(|entry| fs::metadata(entry.path()).is_ok_and(|found| same(&found))))
}

/// False if the process is gone, or surely has no such file open.
fn may_have_open(pid: u32, same: impl Fn(&Metadata) -> bool) -> bool {
    has_open(pid, same).unwrap_or_else(|| Path::new(&format!("/proc/{pid}")).exists())
}

fn describe(pid: u32) -> String {
    if pid == std::process::id() {
        return "this process".to_owned();
    }
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    match command.trim() {
        "" => format!("process {pid}"),
        command => format!("process {pid} ({command})"),
    }
}

fn entries(directory: &str) -> Vec<String> {
    let Ok(found) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        found.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn first_entry(directory: &str) -> Option<String> {
    entries(directory).into_iter().next()
}

/// Where a device number is mounted, from the text of /proc/self/mountinfo.
pub(super) fn mounted_at(mounts: &str, number: &str) -> Option<String> {
    mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields.as_slice() {
            [_, _, found, _, place, ..] if *found == number => Some((*place).to_owned()),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_owners_in_what_proc_says() {
        let locks =
            "1: POSIX  ADVISORY  WRITE 7 fe:00:99 0 EOF\n2: FLOCK  ADVISORY  WRITE 4711 fe:00:99 0 EOF\n";
        assert_eq!(lock_owner(locks, libc::makedev(0xfe, 0), 99), Some(4711));
        assert_eq!(lock_owner(locks, libc::makedev(0xfe, 0), 98), None);
        let mounts = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n";
        assert_eq!(mounted_at(mounts, "254:0").as_deref(), Some("/"));
        assert_eq!(mounted_at(mounts, "254:1"), None);
    }

    #[test]
    fn a_process_without_the_file_does_not_hold_it() {
        let me = std::process::id();
        assert!(may_have_open(me, |_| true));
        assert!(!may_have_open(me, |_| false));
        // No process can have this number.
        assert!(!may_have_open(u32::MAX, |_| true));
    }
}
