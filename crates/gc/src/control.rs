//! Controller: changes the heap's growth and the nursery while the program runs, towards a
//! throughput goal and a pause target. Where the two conflict, the pause wins.

use crate::system::monotonic_ns;

use crate::config::Config;
use crate::stats::Statistics;

/// Growth is never set beyond this, in percent.
const GROWTH_PERCENT_MAX: usize = 800;
const NURSERY_BYTES_MIN: usize = 256 << 10;
/// Of the share of time that collections may take, below this part the heap may shrink again.
const IDLE_PART: f64 = 0.25;

#[derive(Debug)]
pub(crate) struct Controller {
    /// What is in force.
    pub(crate) growth_percent: usize,
    pub(crate) nursery_bytes: usize,
    growth_percent_first: usize,
    nursery_bytes_max: usize,
    /// At the last look: the clock, and the time in pauses.
    last_ns: u64,
    last_paused_ns: u64,
}

impl Controller {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            growth_percent: config.growth_percent,
            nursery_bytes: config.nursery_bytes,
            growth_percent_first: config.growth_percent,
            nursery_bytes_max: config.nursery_bytes,
            last_ns: monotonic_ns(),
            last_paused_ns: 0,
        }
    }

    /// A full collection or a cycle has ended: grows the heap when collections took more than the
    /// goal leaves them, and lets it shrink when they took far less.
    pub(crate) fn after_full(&mut self, config: &Config, statistics: &mut Statistics) {
        let Some(percent) = config.throughput_percent else { return };
        let now_ns = monotonic_ns();
        let elapsed = now_ns.saturating_sub(self.last_ns).max(1) as f64;
        let paused = statistics.pause_ns_total.saturating_sub(self.last_paused_ns) as f64;
        self.last_ns = now_ns;
        self.last_paused_ns = statistics.pause_ns_total;
        let allowed = 1.0 - f64::from(percent) / 100.0;
        let share = paused / elapsed;
        if share > allowed {
            let extra = (self.growth_percent - 100) * 3 / 2;
            self.growth_percent = (100 + extra.max(10)).min(GROWTH_PERCENT_MAX);
            // What a smaller nursery or small slices cost is the price of the pauses.
            let is_bound = self.nursery_bytes < self.nursery_bytes_max
                || self.growth_percent == GROWTH_PERCENT_MAX;
            statistics.goal_conflicts += u64::from(config.pause_target.is_some() && is_bound);
        } else if share < allowed * IDLE_PART {
            let extra = (self.growth_percent - 100) * 7 / 8;
            self.growth_percent = (100 + extra).max(self.growth_percent_first.min(150));
        }
    }

    /// A minor collection took `cpu_ns`: chooses the nursery for the next.
    pub(crate) fn after_minor(&mut self, config: &Config, cpu_ns: u64) {
        let Some(target) = config.pause_target else { return };
        let target_ns = target.as_nanos() as u64;
        if cpu_ns > target_ns {
            self.nursery_bytes = (self.nursery_bytes / 2).max(NURSERY_BYTES_MIN);
        } else if cpu_ns < target_ns / 4 {
            let larger = self.nursery_bytes + self.nursery_bytes / 8;
            self.nursery_bytes = larger.min(self.nursery_bytes_max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Controller, NURSERY_BYTES_MIN};
    use crate::stats::Statistics;
    use crate::{Collector, Config};
    use core::time::Duration;

    #[test]
    fn the_nursery_follows_the_pauses() {
        let pause_target = Some(Duration::from_millis(1));
        let config = Config { pause_target, ..Config::with(Collector::Generational) };
        let mut controller = Controller::new(&config);
        (0..20).for_each(|_| controller.after_minor(&config, 5_000_000));
        assert_eq!(controller.nursery_bytes, NURSERY_BYTES_MIN);
        (0..100).for_each(|_| controller.after_minor(&config, 1_000));
        assert_eq!(controller.nursery_bytes, config.nursery_bytes);
    }

    #[test]
    fn the_heap_grows_when_collections_take_more_than_the_goal_leaves() {
        let config = Config { throughput_percent: Some(90), ..Config::default() };
        let mut controller = Controller::new(&config);
        let mut statistics = Statistics::default();
        statistics.pause_ns_total = u64::MAX / 2;
        controller.after_full(&config, &mut statistics);
        assert_eq!(controller.growth_percent, 250);
        controller.last_ns = 0;
        controller.after_full(&config, &mut statistics);
        assert!(controller.growth_percent < 250, "no pause since");
        assert_eq!(statistics.goal_conflicts, 0);
    }
}
