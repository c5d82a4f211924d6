//! The first pass: the whole program's figures, and how alike the blocks of each stack are.
//!
//! It finds the live peak (the second pass takes stock there) and what the choice of call sites
//! needs: for each stack the spread of sizes and lifetimes.

use heapwright_format::AllocKind;
use heapwright_format::FreeKind;
use heapwright_format::objects::Change;
use heapwright_format::stacks::StackId;
use rustc_hash::FxHashMap;

use crate::histogram::OctaveBars;
use crate::live::LiveTable;
use crate::schema::LivePoint;
use crate::walk::Step;
use crate::weight::Weights;

/// Points of the live series, the peak and the end apart.
const TIMELINE_POINTS: u64 = 590;

/// Sums over blocks from which mean and spread of log size and log lifetime follow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Moments {
    pub(crate) blocks: f64,
    size: f64,
    size_squared: f64,
    lifetime: f64,
    lifetime_squared: f64,
}

impl Moments {
    fn add(&mut self, size: u64, lifetime: u64) {
        let (size, lifetime) = (log2(size), log2(lifetime));
        self.blocks += 1.0;
        self.size += size;
        self.size_squared += size * size;
        self.lifetime += lifetime;
        self.lifetime_squared += lifetime * lifetime;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.blocks += other.blocks;
        self.size += other.size;
        self.size_squared += other.size_squared;
        self.lifetime += other.lifetime;
        self.lifetime_squared += other.lifetime_squared;
    }

    /// Sum of squared distances from the mean, of both logs.
    pub(crate) fn spread(&self) -> f64 {
        if self.blocks == 0.0 {
            return 0.0;
        }
        let of = |sum: f64, squares: f64| (squares - sum * sum / self.blocks).max(0.0);
        of(self.size, self.size_squared) + of(self.lifetime, self.lifetime_squared)
    }
}

/// log2 of `value + 1`, straight lines between the powers of two: good to 0.09, and the same on
/// every machine.
fn log2(value: u64) -> f64 {
    let value = value.saturating_add(1);
    let exponent = 63 - value.leading_zeros();
    f64::from(exponent) + (value as f64 / (1u64 << exponent) as f64 - 1.0)
}

/// What one stack allocated.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StackSurvey {
    pub(crate) allocs: f64,
    pub(crate) bytes: f64,
    pub(crate) moments: Moments,
}

struct LiveBlock {
    stack: StackId,
    size: u64,
    birth_clock: u64,
    weight: f64,
    kind: AllocKind,
}

/// The whole program's figures. Memory that the program maps itself is apart.
#[derive(Default)]
pub(crate) struct Survey {
    pub(crate) stacks: Vec<StackSurvey>,
    pub(crate) allocs: f64,
    pub(crate) bytes: f64,
    pub(crate) truncated: f64,
    pub(crate) live: f64,
    pub(crate) peak: f64,
    /// Number of the change after which the live bytes were highest, first time.
    pub(crate) peak_change: u64,
    pub(crate) timeline: Vec<LivePoint>,
    pub(crate) sizes: OctaveBars,
    pub(crate) lifetimes: OctaveBars,
    pub(crate) mapped_allocs: u64,
    pub(crate) mapped: u64,
    pub(crate) mapped_peak: u64,
    pub(crate) failed: FxHashMap<StackId, (u64, u64)>,
    pub(crate) mismatched: FxHashMap<(AllocKind, FreeKind), (u64, StackId)>,
    peak_point: LivePoint,
    clock: u64,
    blocks: LiveTable<LiveBlock>,
    first_time: Option<u64>,
    units_per_second: f64,
    point_events: u64,
    next_point: u64,
}

impl Survey {
    /// For a process of `events` events on a clock of `units_per_second`.
    pub(crate) fn new(events: u64, units_per_second: f64) -> Self {
        let point_events = events.div_ceil(TIMELINE_POINTS).max(1);
        Self { units_per_second, point_events, next_point: point_events, ..Self::default() }
    }

    /// Takes the next change.
    pub(crate) fn visit(&mut self, step: &Step, weights: Weights) {
        match step.change {
            Change::Born { object, size, kind, stack, .. } => {
                let block = LiveBlock { stack, size, birth_clock: 0, weight: 1.0, kind };
                if kind == AllocKind::Mmap {
                    self.mapped_allocs += 1;
                    self.mapped = self.mapped.saturating_add(size);
                    self.mapped_peak = self.mapped_peak.max(self.mapped);
                    self.blocks.insert(object, block);
                    return;
                }
                let weight = weights.of(size);
                let bytes = weight * size as f64;
                let survey = self.stack(stack);
                survey.allocs += weight;
                survey.bytes += bytes;
                self.allocs += weight;
                self.bytes += bytes;
                self.truncated += if step.is_truncated { weight } else { 0.0 };
                self.sizes.add(size, weight.round() as u64, bytes.round() as u64);
                self.clock = self.clock.saturating_add(bytes as u64);
                let birth_clock = self.clock;
                self.blocks.insert(object, LiveBlock { birth_clock, weight, ..block });
                self.grow(bytes, step);
            }
            Change::Resized { object, old_size, size, .. } => {
                let Some(place) = self.blocks.place(object) else { return };
                let block = self.blocks.at(place);
                block.size = size;
                let (stack, weight) = (block.stack, block.weight);
                let growth = weight * size.saturating_sub(old_size) as f64;
                self.stack(stack).bytes += growth;
                self.bytes += growth;
                self.clock = self.clock.saturating_add(growth as u64);
                self.grow(weight * (size as f64 - old_size as f64), step);
            }
            Change::Died { object, size, kind } => {
                let Some((_, block)) = self.blocks.remove(object) else { return };
                if block.kind == AllocKind::Mmap {
                    self.mapped = self.mapped.saturating_sub(size);
                    return;
                }
                self.grow(-block.weight * block.size as f64, step);
                self.end(&block);
                if !step.is_guess && !is_matching(block.kind, kind) {
                    let entry =
                        self.mismatched.entry((block.kind, kind)).or_insert((0, block.stack));
                    entry.0 += 1;
                }
            }
            Change::Trimmed { bytes, .. } => self.mapped = self.mapped.saturating_sub(bytes),
            Change::Failed { size, stack } => {
                let entry = self.failed.entry(stack).or_default();
                entry.0 += 1;
                entry.1 = entry.1.max(size);
            }
            _ => {}
        }
        self.draw(step);
    }

    /// After the last change: the blocks alive count with their lives so far.
    pub(crate) fn finish(&mut self, events: u64, last_time: u64) {
        let blocks = std::mem::take(&mut self.blocks);
        for block in blocks.values().filter(|block| block.kind != AllocKind::Mmap) {
            self.end(block);
        }
        let time_s = self.seconds(last_time);
        let end = LivePoint { time_s, events, live_bytes: self.live.round() as u64 };
        self.timeline.push(end);
        if self.peak > 0.0 {
            let after = self.timeline.partition_point(|p| p.events < self.peak_point.events);
            self.timeline.insert(after, self.peak_point);
        }
    }

    fn stack(&mut self, stack: StackId) -> &mut StackSurvey {
        let index = stack.0 as usize;
        if self.stacks.len() <= index {
            self.stacks.resize(index + 1, StackSurvey::default());
        }
        &mut self.stacks[index]
    }

    fn grow(&mut self, bytes: f64, step: &Step) {
        self.live += bytes;
        if self.live > self.peak {
            self.peak = self.live;
            self.peak_change = step.index;
            let time_s = self.seconds(step.time);
            let live_bytes = self.live.round() as u64;
            self.peak_point = LivePoint { time_s, events: step.events, live_bytes };
        }
        self.draw(step);
    }

    fn draw(&mut self, step: &Step) {
        let time_s = self.seconds(step.time);
        if step.events >= self.next_point {
            self.next_point = step.events + self.point_events;
            let live_bytes = self.live.round() as u64;
            self.timeline.push(LivePoint { time_s, events: step.events, live_bytes });
        }
    }

    fn seconds(&mut self, time: u64) -> f64 {
        let first = *self.first_time.get_or_insert(time);
        time.saturating_sub(first) as f64 / self.units_per_second
    }

    fn end(&mut self, block: &LiveBlock) {
        let lifetime = self.clock - block.birth_clock;
        let bytes = block.weight * block.size as f64;
        self.lifetimes.add(lifetime, block.weight.round() as u64, bytes.round() as u64);
        self.stack(block.stack).moments.add(block.size, lifetime);
    }
}

/// Whether `free` is the operation meant for blocks of `alloc`.
fn is_matching(alloc: AllocKind, free: FreeKind) -> bool {
    use AllocKind as A;
    use FreeKind as F;
    match alloc {
        A::New | A::NewNothrow => matches!(free, F::Delete | F::DeleteSized),
        A::NewArray | A::NewArrayNothrow => matches!(free, F::DeleteArray | F::DeleteArraySized),
        A::NewAligned => matches!(free, F::DeleteAligned),
        A::NewArrayAligned => matches!(free, F::DeleteArrayAligned),
        A::Rust | A::RustZeroed | A::RustRealloc => matches!(free, F::Rust),
        _ => matches!(free, F::Free | F::FreeSized | F::ReallocZero),
    }
}

#[cfg(test)]
mod tests {
    use heapwright_format::{AllocKind, FreeKind};

    use super::{Moments, is_matching, log2};

    #[test]
    fn logs_are_exact_at_powers_and_close_between() {
        assert_eq!(log2(0), 0.0);
        assert_eq!(log2(1023), 10.0);
        assert_eq!(log2(u64::MAX), 64.0 - 1.0 + (u64::MAX as f64 / (1u64 << 63) as f64 - 1.0));
        for value in 1..5000u64 {
            assert!((log2(value) - (value as f64 + 1.0).log2()).abs() < 0.09);
        }
    }

    #[test]
    fn spread_is_zero_for_equal_blocks_and_adds_up() {
        let mut equal = Moments::default();
        let mut other = Moments::default();
        for _ in 0..10 {
            equal.add(63, 1023);
            other.add(63, 15);
        }
        assert_eq!(equal.spread(), 0.0);
        equal.merge(&other);
        // Ten at 10 and ten at 4: mean 7, each 3 away.
        assert_eq!(equal.spread(), 20.0 * 9.0);
    }

    #[test]
    fn frees_match_their_families() {
        assert!(is_matching(AllocKind::Calloc, FreeKind::Free));
        assert!(is_matching(AllocKind::NewArray, FreeKind::DeleteArraySized));
        assert!(!is_matching(AllocKind::New, FreeKind::Free));
        assert!(!is_matching(AllocKind::New, FreeKind::DeleteArray));
        assert!(!is_matching(AllocKind::Malloc, FreeKind::Delete));
    }
}
