//! The machine that something was measured on.

use serde::{Deserialize, Serialize};
use std::fs;
use std::thread;

/// What a reader needs to know about a machine; the fields of `machine` in `advice.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// CPU model.
    pub cpu: String,
    /// Logical CPUs usable.
    pub cpus: u32,
    /// RAM in bytes.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// C library and version.
    pub libc: String,
    /// `uname -m`.
    pub architecture: String,
}

/// Whether the CPU's time stamp counter keeps time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CycleCounter {
    /// It runs at one rate on all CPUs.
    Invariant,
    /// It does not, or nobody says that it does.
    Unknown,
}

impl Machine {
    /// This machine; unknown facts are empty or 0. Reads three files of `/proc`.
    pub fn this() -> Self {
        let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory_info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu: field(&cpu_info, "model name").unwrap_or_default().to_owned(),
            cpus: thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32),
            memory_bytes: kib_field(&memory_info, "MemTotal").unwrap_or(0) * 1024,
            kernel: kernel.trim().to_owned(),
            libc: heapwright_os::libc_version()
                .map_or_else(String::new, |version| format!("glibc {version}")),
            architecture: std::env::consts::ARCH.to_owned(),
        }
    }
}

impl CycleCounter {
    /// This machine's.
    pub fn this() -> Self {
        if heapwright_os::has_invariant_cycle_counter() { Self::Invariant } else { Self::Unknown }
    }
}

/// The text after `name :` in a file of `/proc`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

fn kib_field(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Machine, kib_field};

    #[test]
    fn a_field_is_read_with_its_unit() {
        assert_eq!(kib_field("MemTotal:  24 kB\nMemFree: 3 kB\n", "MemFree"), Some(3));
        assert_eq!(kib_field("MemTotal:  24\n", "MemTotal"), None);
    }

    #[test]
    fn this_machine_has_memory_and_a_kernel() {
        let machine = Machine::this();
        assert!(machine.memory_bytes > 1 << 20);
        assert!(machine.cpus >= 1 && !machine.kernel.is_empty());
    }
}
