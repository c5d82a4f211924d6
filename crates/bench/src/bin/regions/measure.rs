//! Running one subject of one workload: for time, or for the latency of each operation.

use std::alloc::Layout;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use heapwright_os::cycle_counter;
use heapwright_testkit::Random;

/// One way to do a workload, by the clock and by the operation: two copies, so that noting single
/// operations costs those on the clock nothing, in code neither.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    /// The package that has it; empty for what is not one.
    pub(crate) package: &'static str,
    pub(crate) variant: &'static str,
    pub(crate) time: fn(&mut Probe<Time>),
    pub(crate) latency: fn(&mut Probe<Latency>),
}

/// A question, and who answers it.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// Operations of a round.
    pub(crate) count: usize,
    pub(crate) process: Process,
    pub(crate) subjects: Vec<Subject>,
}

/// In which process a round of a workload runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// In the suite's own, where earlier rounds have left memory in every allocator.
    Shared,
    /// In one of its own: nobody has memory that somebody had before.
    Fresh,
}

/// A subject: its name, package and variant, and a function of any probe.
macro_rules! subject {
    ($name:expr, $package:expr, $variant:expr, $run:expr) => {
        $crate::measure::Subject {
            name: $name,
            package: $package,
            variant: $variant,
            time: $run,
            latency: $run,
        }
    };
}
pub(crate) use subject;

/// A subject of our own: its variant and function.
macro_rules! ours {
    ($variant:expr, $run:expr $(,)?) => {
        $crate::measure::subject!("heapwright", "heapwright-regions", $variant, $run)
    };
}
pub(crate) use ours;

/// A subject by another crate: its package and function.
macro_rules! peer {
    ($package:expr, $run:expr $(,)?) => {
        $crate::measure::subject!($package, $package, "", $run)
    };
}
pub(crate) use peer;

/// What a probe looks at.
pub(crate) trait Mode: Send {
    /// Whether each operation is noted.
    const IS_SAMPLED: bool;
}

/// All operations by the clock.
#[derive(Debug)]
pub(crate) struct Time;

impl Mode for Time {
    const IS_SAMPLED: bool = false;
}

/// Each operation by the cycle counter.
#[derive(Debug)]
pub(crate) struct Latency;

impl Mode for Latency {
    const IS_SAMPLED: bool = true;
}

/// What a subject reports to.
#[derive(Debug)]
pub(crate) struct Probe<M> {
    /// Operations to do.
    pub(crate) count: usize,
    /// Time of all of them, without what comes before and after.
    pub(crate) elapsed: Duration,
    /// Cycles of each, without the counter's own.
    pub(crate) samples: Vec<u32>,
    /// What the counter takes between two readings, in cycles.
    counter_cycles: u32,
    mode: PhantomData<M>,
}

impl<M: Mode> Probe<M> {
    /// For `count` operations; `counter_cycles` are taken off each one noted.
    pub(crate) fn new(count: usize, counter_cycles: u32) -> Self {
        let samples = Vec::with_capacity(if M::IS_SAMPLED { count } else { 0 });
        Self { count, elapsed: Duration::ZERO, samples, counter_cycles, mode: PhantomData }
    }

    /// One for a thread that does `count` of the operations.
    pub(crate) fn part(&self, count: usize) -> Self {
        Self::new(count, self.counter_cycles)
    }

    /// Takes in what threads did beside each other.
    pub(crate) fn join(&mut self, parts: impl IntoIterator<Item = Self>) {
        let mut longest = Duration::ZERO;
        for part in parts {
            longest = longest.max(part.elapsed);
            self.samples.extend(part.samples);
        }
        self.elapsed += longest;
    }

    /// Does `operation` `rounds` times before the clock runs, until caches, address translation and
    /// lists are as they stay; then `count` times.
    #[inline(always)]
    pub(crate) fn each_warm(&mut self, rounds: usize, mut operation: impl FnMut(usize)) {
        (0..rounds).for_each(&mut operation);
        self.each(operation);
    }

    /// Does `operation` `self.count` times, on the clock.
    #[inline(always)]
    pub(crate) fn each(&mut self, operation: impl FnMut(usize)) {
        let start = Instant::now();
        self.run(self.count, operation);
        self.elapsed += start.elapsed();
    }

    /// Does `operation` `count` times; who calls it has the clock.
    #[inline(always)]
    pub(crate) fn run(&mut self, count: usize, mut operation: impl FnMut(usize)) {
        if !M::IS_SAMPLED {
            (0..count).for_each(operation);
            return;
        }
        for index in 0..count {
            let start = cycle_counter();
            operation(index);
            self.sample(start);
        }
    }

    /// Notes an operation that began at `start` cycles and ends now.
    #[inline(always)]
    pub(crate) fn sample(&mut self, start: u64) {
        self.sample_group(start, 1);
    }

    /// Notes `count` operations that cannot be told apart as one of their mean length.
    #[inline(always)]
    pub(crate) fn sample_group(&mut self, start: u64, count: usize) {
        let cycles = cycle_counter().saturating_sub(start + u64::from(self.counter_cycles));
        self.samples.push(u32::try_from(cycles / count as u64).unwrap_or(u32::MAX));
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
    probe: &mut Probe<impl Mode>,
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
