//! What real worlds ask of the system besides I/O: CPUs, time and random bits.

use std::io;

/// Binds the calling thread to these CPUs; to any if there are none.
#[expect(unsafe_code, reason = "there is no safe call for this")]
pub(crate) fn bind_to_cpus(cpus: &[usize]) -> io::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    // SAFETY: an all-zero set is a valid, empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &cpu in cpus {
        if cpu >= 8 * size_of::<libc::cpu_set_t>() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no CPU {cpu}")));
        }
        // SAFETY: the number is within the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: the set is of the size that is passed; 0 is the calling thread.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Bytes of physical memory of this process; none if the kernel does not say.
pub(crate) fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    #[expect(unsafe_code, reason = "there is no safe call for this")]
    // SAFETY: it only looks a number up.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.checked_mul(u64::try_from(page).ok()?)
}

/// Nanoseconds of the monotonic clock, from a moment in the past on: ten times per operation, so without the standard library's
/// arithmetic, which takes three times as long as the clock itself.
pub(crate) fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "there is no safe call for this")]
    // SAFETY: it writes to `time` only.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    assert!(done == 0, "every kernel has a monotonic clock");
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Bits to seed a generator with.
pub(crate) fn entropy() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    #[expect(unsafe_code, reason = "there is no safe call for this")]
    // SAFETY: the memory is as long as is said.
    let got = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) };
    if got != 32 {
        return Err(io::Error::last_os_error());
    }
    Ok(seed)
}
