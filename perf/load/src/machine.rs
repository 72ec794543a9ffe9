//! [`Machine`]: where something was measured, so that others can tell whether they may compare.

use std::fs;

use rustix::system::uname;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Model of its processors; none if the kernel does not say.
    pub cpu: Option<String>,
    /// Logical processors that this process may use.
    pub cores: usize,
    /// Release of its kernel.
    pub kernel: String,
    /// Kind of processor, as x86_64.
    pub architecture: String,
    /// Physical memory, bytes; none if the kernel does not say.
    pub memory_bytes: Option<u64>,
    /// What instructions are counted, or why none are.
    pub instructions: String,
}

impl Machine {
    /// The one that this runs on.
    pub fn this() -> Self {
        let system = uname();
        Self {
            cpu: fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| model(&text)),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: system.release().to_string_lossy().into_owned(),
            architecture: system.machine().to_string_lossy().into_owned(),
            memory_bytes: fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory_bytes(&text)),
            instructions: crate::meter::Meter::about_instructions(),
        }
    }
}

/// The first processor's model.
fn model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(
            model("processor\t: 0\nmodel name\t: A: fast one\nmodel name\t: B\n"),
            Some("A: fast one".to_owned())
        );
        assert_eq!(memory_bytes("MemTotal:        4 kB\nMemFree: 1 kB\n"), Some(4096));
        assert_eq!((model(""), memory_bytes("MemTotal: x")), (None, None));
        let machine = Machine::this();
        assert!(machine.cores > 0 && !machine.kernel.is_empty());
    }
}
