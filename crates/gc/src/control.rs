//! Controller: changes the heap's growth and the nursery while the program runs, towards a
//! throughput goal and a pause target. Where the two conflict, the pause wins.

use crate::system::monotonic_ns;

use crate::config::Config;
use crate::stats::Statistics;

/// Growth is never set beyond this, in percent.
const GROWTH_PERCENT_MAX: usize = 800;
const NURSERY_BYTES_MIN: usize = 256 << 10;
/// The nursery does not grow beyond this part of what triggers a full collection, so that a small
/// heap stays one.
const NURSERY_PART: usize = 4;
/// Without a target a minor collection that took longer makes a grown nursery smaller. A nursery of
/// 16 MiB full of survivors takes 6 to 7 ms where we measured; 10 is what it may take.
const PAUSE_NS_MAX: u64 = 8_000_000;
/// The nursery grows while minor collections take more than this part of the time,
const COST_PART: u64 = 32;
/// and less than this part of what is in it survives: a larger one gives more the time to die. What
/// survives in larger parts is as a rule meant to live, and is copied from any nursery.
const SURVIVAL_PART: usize = 4;
/// Of the share of time that collections may take, below this part the heap may shrink again.
const IDLE_PART: f64 = 0.25;

#[derive(Debug)]
pub(crate) struct Controller {
    /// What is in force.
    pub(crate) growth_percent: usize,
    pub(crate) nursery_bytes: usize,
    growth_percent_first: usize,
    /// The nursery as it was asked for, and how large it may become.
    nursery_bytes_first: usize,
    nursery_bytes_max: usize,
    minor: Minor,
    /// At the last look: the clock, and the time in pauses.
    last_ns: u64,
    last_paused_ns: u64,
}

/// Minor collections of late, the earlier ones less and less.
#[derive(Debug, Default)]
struct Minor {
    /// The thread's CPU time when the last one ended.
    end_cpu_ns: u64,
    /// CPU time of all, and of the mutator between them.
    cpu_ns: u64,
    mutator_ns: u64,
    /// Bytes that were in the nursery, and those that were copied.
    used_bytes: usize,
    copied_bytes: usize,
}

impl Minor {
    fn is_costly(&self) -> bool {
        self.cpu_ns * COST_PART > self.cpu_ns + self.mutator_ns
    }

    fn frees_most(&self) -> bool {
        self.copied_bytes * SURVIVAL_PART < self.used_bytes
    }
}

impl Controller {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            growth_percent: config.growth_percent,
            nursery_bytes: config.nursery_bytes,
            growth_percent_first: config.growth_percent,
            nursery_bytes_first: config.nursery_bytes,
            nursery_bytes_max: config.nursery_bytes.saturating_mul(config.nursery_growth),
            minor: Minor::default(),
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
            let is_bound = self.nursery_bytes < self.nursery_bytes_first
                || self.growth_percent == GROWTH_PERCENT_MAX;
            statistics.goal_conflicts += u64::from(config.pause_target.is_some() && is_bound);
        } else if share < allowed * IDLE_PART {
            let extra = (self.growth_percent - 100) * 7 / 8;
            self.growth_percent = (100 + extra).max(self.growth_percent_first.min(150));
        }
    }

    /// A minor collection copied so many of the bytes in the nursery.
    pub(crate) fn note_minor(&mut self, used_bytes: usize, copied_bytes: usize) {
        let minor = &mut self.minor;
        minor.used_bytes = minor.used_bytes - minor.used_bytes / 8 + used_bytes;
        minor.copied_bytes = minor.copied_bytes - minor.copied_bytes / 8 + copied_bytes;
    }

    /// A minor collection took from `begin_cpu_ns` on `cpu_ns`: chooses the nursery for the next. A
    /// full collection starts at `trigger_bytes`.
    pub(crate) fn after_minor(
        &mut self,
        config: &Config,
        (begin_cpu_ns, cpu_ns): (u64, u64),
        trigger_bytes: usize,
    ) {
        let minor = &mut self.minor;
        let mutator_ns = begin_cpu_ns.saturating_sub(minor.end_cpu_ns);
        minor.end_cpu_ns = begin_cpu_ns + cpu_ns;
        minor.cpu_ns = minor.cpu_ns - minor.cpu_ns / 8 + cpu_ns;
        minor.mutator_ns = minor.mutator_ns - minor.mutator_ns / 8 + mutator_ns;
        let target_ns = config.pause_target.map(|target| target.as_nanos() as u64);
        let first = self.nursery_bytes_first;
        match target_ns {
            Some(target_ns) if cpu_ns > target_ns => {
                self.nursery_bytes = (self.nursery_bytes / 2).max(NURSERY_BYTES_MIN.min(first));
            }
            None if cpu_ns > PAUSE_NS_MAX => {
                self.nursery_bytes = (self.nursery_bytes / 4 * 3).max(first);
            }
            Some(target_ns) if cpu_ns >= target_ns / 4 => {}
            None if cpu_ns >= PAUSE_NS_MAX / 2 => {}
            _ => {
                let is_worth_it = self.minor.is_costly() && self.minor.frees_most();
                let part = if is_worth_it { trigger_bytes / NURSERY_PART } else { 0 };
                let most = self.nursery_bytes_max.min(part).max(first);
                let larger = self.nursery_bytes + self.nursery_bytes / 4;
                self.nursery_bytes = larger.min(most).max(self.nursery_bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Controller, NURSERY_BYTES_MIN};
    use crate::stats::Statistics;
    use crate::{Collector, Config};
    use core::time::Duration;

    /// Minor collections of `cpu_ns` each after twice that of the mutator; of a nursery of 1000
    /// bytes `copied` survive.
    fn run(controller: &mut Controller, config: &Config, count: u64, cpu_ns: u64, copied: usize) {
        for _ in 0..count {
            let begin_ns = controller.minor.end_cpu_ns + 2 * cpu_ns;
            controller.note_minor(1000, copied);
            controller.after_minor(config, (begin_ns, cpu_ns), 64 << 20);
        }
    }

    #[test]
    fn the_nursery_follows_the_pauses() {
        let pause_target = Some(Duration::from_millis(1));
        let config = Config { pause_target, ..Config::with(Collector::Generational) };
        let mut controller = Controller::new(&config);
        run(&mut controller, &config, 20, 5_000_000, 500);
        assert_eq!(controller.nursery_bytes, NURSERY_BYTES_MIN);
        run(&mut controller, &config, 100, 1_000, 500);
        assert_eq!(controller.nursery_bytes, config.nursery_bytes);
    }

    #[test]
    fn the_nursery_grows_while_little_survives_and_shrinks_when_a_pause_is_long() {
        let config = Config::with(Collector::Generational);
        let first = config.nursery_bytes;
        let mut controller = Controller::new(&config);
        run(&mut controller, &config, 100, 100_000, 400);
        assert_eq!(controller.nursery_bytes, first, "much survives");
        run(&mut controller, &config, 100, 100_000, 20);
        assert_eq!(controller.nursery_bytes, 4 * first);
        run(&mut controller, &config, 10, 9_000_000, 20);
        assert_eq!(controller.nursery_bytes, first);
        let fixed = Config { nursery_growth: 1, ..config };
        let mut controller = Controller::new(&fixed);
        run(&mut controller, &fixed, 100, 100_000, 20);
        assert_eq!(controller.nursery_bytes, first);
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
