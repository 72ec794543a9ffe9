//! How much memory the OSDs of this process may take, if nobody says: half of what there is.

use std::path::Path;

use anyhow::{Context, ensure};

use crate::size::show_size;

/// An OSD takes no more than this unless it is told so. //= ceph 16.2 osd_memory_target
const BYTES_PER_OSD_MAX: u64 = 4 << 30;
/// What makes no sense for an OSD whatever its device; the store says it more exactly.
const BYTES_PER_OSD_MIN: u64 = 64 << 20;
/// The OSDs of a process take this part of the memory that there is unless they are told otherwise.
const PART: u64 = 2;

/// Bytes of memory for each of so many OSDs of one process. `total` is what they may take together.
pub fn per_osd(total: Option<u64>, osds: u64) -> anyhow::Result<u64> {
    let osds = osds.max(1);
    let bytes = match total {
        Some(total) => total / osds,
        None => (available()? / PART / osds).min(BYTES_PER_OSD_MAX),
    };
    ensure!(
        bytes >= BYTES_PER_OSD_MIN,
        "{} of memory for {osds} OSDs are {} each; give them more with --memory-target, or run fewer",
        show_size(bytes * osds),
        show_size(bytes)
    );
    Ok(bytes)
}

/// The machine's memory, or what the control group of this process may take of it.
fn available() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let machine = memory_total(&text).context("/proc/meminfo does not say how much memory there is")?;
    // Without control groups, or with those of an older kernel, the machine's is what there is.
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = |group: &Path| {
        let file = Path::new("/sys/fs/cgroup").join(group.strip_prefix("/").ok()?).join("memory.max");
        std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()
    };
    let own = groups.lines().find_map(|line| line.strip_prefix("0::")).map(Path::new);
    let limits = own.into_iter().flat_map(Path::ancestors).filter_map(limit);
    Ok(limits.fold(machine, u64::min))
}

fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_divided_and_too_little_is_an_error() {
        assert_eq!(per_osd(Some(3 << 30), 3).expect("enough"), 1 << 30);
        let error = per_osd(Some(100 << 20), 4).expect_err("too little").to_string();
        assert!(error.contains("25.0 MiB each") && error.contains("--memory-target"), "{error}");
        let usual = per_osd(None, 1).expect("this machine has some");
        assert!((BYTES_PER_OSD_MIN..=BYTES_PER_OSD_MAX).contains(&usual));
    }

    #[test]
    fn what_the_kernel_says_is_understood() {
        assert_eq!(memory_total("MemTotal:       24576 kB\nMemFree: 1 kB\n"), Some(24 << 20));
        assert_eq!(memory_total("MemFree: 1 kB\n"), None);
    }
}
