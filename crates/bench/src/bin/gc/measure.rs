//! What a process can say about itself: gaps between ticks, CPU time, memory.

use crate::turns::Turns;
use heapwright_os::own_usage;
use std::fs;
use std::time::Instant;

/// The longest time between two ticks of the mutator.
pub struct Ticks {
    last: Instant,
    gap_s_max: f64,
    /// Ticks to the next look at the clock.
    left: u32,
    /// Where the process runs in turn with another.
    turns: Option<Turns>,
}

impl Ticks {
    /// Ticks between two looks at the clock, which costs as much as some allocations.
    const EACH: u32 = 4;

    pub fn new(turns: Option<Turns>) -> Self {
        Self { last: Instant::now(), gap_s_max: 0.0, left: Self::EACH, turns }
    }

    #[inline]
    pub fn tick(&mut self) {
        self.left -= 1;
        if self.left == 0 {
            self.left = Self::EACH;
            self.look();
        }
    }

    fn look(&mut self) {
        let now = Instant::now();
        self.gap_s_max = self.gap_s_max.max((now - self.last).as_secs_f64());
        self.last = now;
        if let Some(turns) = &mut self.turns {
            turns.look(now);
        }
    }

    pub fn gap_ms_max(&self) -> f64 {
        self.gap_s_max * 1e3
    }
}

/// A number of `/proc/self/status` in KiB.
pub fn status_kb(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// User and system time of all threads of this process in seconds.
pub fn cpu_s() -> f64 {
    let usage = own_usage();
    (usage.user + usage.system).as_secs_f64()
}
