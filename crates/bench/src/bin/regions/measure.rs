//! Running one subject of one workload: for time, or for the latency of each operation.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use heapwright_os::cycle_counter;
use heapwright_testkit::Random;

/// One way to do a workload.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    /// The package that has it; empty for what is not one.
    pub(crate) package: &'static str,
    pub(crate) variant: &'static str,
    pub(crate) run: fn(&mut Probe),
}

/// A question, and who answers it.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// Operations of a round.
    pub(crate) count: usize,
    /// Whether single operations can be told apart.
    pub(crate) latencies: bool,
    pub(crate) subjects: Vec<Subject>,
}

/// A subject of our own.
pub(crate) const fn ours(variant: &'static str, run: fn(&mut Probe)) -> Subject {
    Subject { name: "heapwright", package: "heapwright-regions", variant, run }
}

/// A subject by another crate.
pub(crate) const fn peer(package: &'static str, run: fn(&mut Probe)) -> Subject {
    Subject { name: package, package, variant: "", run }
}

/// What a subject reports to.
#[derive(Debug)]
pub(crate) struct Probe {
    /// Operations to do.
    pub(crate) count: usize,
    /// Time of all of them, without what comes before and after.
    pub(crate) elapsed: Duration,
    /// Cycles of each, when that is asked for.
    pub(crate) samples: Option<Vec<u32>>,
}

impl Probe {
    pub(crate) fn time(count: usize) -> Self {
        Self { count, elapsed: Duration::ZERO, samples: None }
    }

    pub(crate) fn latency(count: usize) -> Self {
        Self { count, elapsed: Duration::ZERO, samples: Some(Vec::with_capacity(count)) }
    }

    /// Does `operation` `rounds` times before the clock runs, until caches, address translation and
    /// lists are as they stay; then `count` times.
    #[inline(always)]
    pub(crate) fn each_warm(&mut self, rounds: usize, mut operation: impl FnMut(usize)) {
        (0..rounds).for_each(&mut operation);
        self.each(operation);
    }

    /// Does `operation` `count` times.
    #[inline(always)]
    pub(crate) fn each(&mut self, mut operation: impl FnMut(usize)) {
        match self.samples.is_some() {
            false => {
                let start = Instant::now();
                for index in 0..self.count {
                    operation(index);
                }
                self.elapsed += start.elapsed();
            }
            true => {
                for index in 0..self.count {
                    let start = cycle_counter();
                    operation(index);
                    self.sample(start);
                }
            }
        }
    }

    /// Notes an operation that began at `start` cycles and ends now.
    #[inline(always)]
    pub(crate) fn sample(&mut self, start: u64) {
        let cycles = cycle_counter().saturating_sub(start);
        if let Some(samples) = &mut self.samples {
            samples.push(u32::try_from(cycles).unwrap_or(u32::MAX));
        }
    }
}

/// Which blocks a churn has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sizes {
    Fixed(usize),
    /// 16 to 4096, logarithms even.
    LogUniform,
    /// Powers of two from 32 to that.
    Powers(usize),
}

impl Sizes {
    fn draw(self, random: &mut Random) -> Layout {
        let bytes = match self {
            Self::Fixed(bytes) => bytes,
            Self::LogUniform => random.log_uniform(16, 4096) as usize,
            Self::Powers(most) => 32 << random.below((most / 32).ilog2() as u64 + 1),
        };
        Layout::from_size_align(bytes, 8).expect("a layout")
    }
}

/// Numbers drawn before the clock runs; powers of two, so that an index wraps by a mask.
const DRAWS: usize = 1 << 16;

/// Frees a random one of `live` blocks and allocates another, `probe.count` times.
#[inline(always)]
pub(crate) fn churn<B: Copy>(
    probe: &mut Probe,
    live: usize,
    sizes: Sizes,
    mut take: impl FnMut(Layout) -> B,
    mut give: impl FnMut(B, Layout),
) {
    let random = &mut Random::new(1);
    let layouts: Vec<Layout> = (0..DRAWS).map(|_| sizes.draw(random)).collect();
    let victims: Vec<u32> = (0..DRAWS).map(|_| random.below(live as u64) as u32).collect();
    let first = (0..live).map(|index| layouts[index % DRAWS]);
    let mut blocks: Vec<(B, Layout)> = first.map(|layout| (take(layout), layout)).collect();
    let mut replace = |index: usize| {
        let slot = &mut blocks[victims[index % DRAWS] as usize];
        give(slot.0, slot.1);
        let layout = layouts[(index * 7 + 3) % DRAWS];
        *slot = (take(layout), layout);
    };
    probe.each_warm(2 * live, &mut replace);
    for (block, layout) in blocks {
        give(block, layout);
    }
}

/// Writes the first word of a fresh block, as its user would.
#[inline(always)]
pub(crate) fn touched(block: NonNull<u8>) -> NonNull<u8> {
    // SAFETY: a fresh block of eight bytes or more, aligned to them.
    unsafe { block.cast::<u64>().write(1) };
    block
}
