//! Resident memory of a running process tree, as far as the kernel's own peak does not tell it.

use heapwright_launch::server::process_tree;
use std::fs;
use std::time::{Duration, Instant};

/// What was seen while a program ran.
#[derive(Debug, Default)]
pub(crate) struct Resident {
    /// Highest resident bytes of the process by the kernel's high-water mark, as last read.
    pub high_water_bytes: u64,
    /// Highest sum of Pss over the tree, if it was sampled.
    pub peak_pss_bytes: Option<u64>,
    last_sample: Option<Instant>,
}

impl Resident {
    /// Looks at `pid`: its high-water mark while that is below `floor_bytes` (above, the figure
    /// that comes with its end is exact), and the tree's Pss if `sample_every` has passed.
    pub(crate) fn look(&mut self, pid: u32, floor_bytes: u64, sample_every: Option<Duration>) {
        if self.high_water_bytes <= floor_bytes {
            let seen = field_bytes(&format!("/proc/{pid}/status"), "VmHWM:");
            self.high_water_bytes = self.high_water_bytes.max(seen.unwrap_or(0));
        }
        let due = |every| self.last_sample.is_none_or(|last| last.elapsed() >= every);
        if sample_every.is_some_and(due) {
            let tree = process_tree(pid);
            let pss = |pid: &u32| field_bytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:");
            let sum: u64 = tree.iter().filter_map(pss).sum();
            self.peak_pss_bytes = Some(self.peak_pss_bytes.unwrap_or(0).max(sum));
            self.last_sample = Some(Instant::now());
        }
    }
}

/// The figure after `name` in a file of `/proc` that counts in kB.
fn field_bytes(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::Resident;
    use std::time::Duration;

    #[test]
    fn this_process_is_resident() {
        let mut resident = Resident::default();
        resident.look(std::process::id(), 1 << 40, Some(Duration::ZERO));
        assert!(resident.high_water_bytes > 256 << 10);
        assert!(resident.peak_pss_bytes.is_some_and(|bytes| bytes > 64 << 10));
    }
}
