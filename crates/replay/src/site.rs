//! Call sites on regions: each candidate's own blocks served by the region that is advised, the
//! rest of the program beside them on the system's `malloc`.
#![forbid(unsafe_code)]

use crate::error::ReplayError;
use crate::figures::{median, memory_figures, spread};
use crate::plan::{Plan, SiteFacts};
use crate::progress::{Phase, Progress};
use crate::replay::Timing;
use crate::result::Field;
use crate::spec::{AllocatorSpec, ReplayOptions, WorkerProgram};
use crate::supervise::{Limits, Outcome, Task, run_once};
use heapwright_regions::RegionKind;
use std::time::{Duration, Instant};

/// Sizes of a slab site at most.
pub(crate) const SITE_SIZES_MAX: usize = 8;

/// Fewer pairs of runs tell no noise, so they show no difference; so many run whatever the time.
const PAIRS_MIN: usize = 3;
/// Of so many pairs of runs one may say the contrary of the rest.
const CONTRARY_MAX_IN: usize = 5;

/// A stack or a buddy heap has room for so many times the site's peak: cut-offs and order cost.
const CAPACITY_FACTOR: u64 = 4;
const CAPACITY_BYTES_MIN: u64 = 1 << 20;
const CAPACITY_BYTES_MAX: u64 = 2 << 30;

/// What a worker is told of the site that it routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SiteRoute {
    pub(crate) site: u32,
    pub(crate) kind: RegionKind,
    /// Whether all threads share one region; else each has its own.
    pub(crate) is_shared: bool,
    /// For stack and buddy, which have a fixed length.
    pub(crate) capacity_bytes: usize,
    pub(crate) sizes: [usize; SITE_SIZES_MAX],
}

/// What serving one site by a region did to the whole program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SiteFigures {
    /// Why there are no figures; empty when there are.
    pub failure: String,
    /// Whether the region is one that threads share, since some end what others made; else each
    /// thread has one of its own.
    pub is_shared: bool,
    /// CPU seconds that the whole replay saves: median over rounds of the run without less that
    /// with the region.
    pub gain_s: f64,
    /// Median CPU seconds of the replay without a region: the program itself took no less.
    pub base_s: f64,
    /// Half the sum of both medians' spreads, in seconds: a gain below it is none.
    pub noise_s: f64,
    /// Peak resident growth with all sites on the system's `malloc`, bytes.
    pub base_peak_bytes: u64,
    /// The same with this site on its region.
    pub peak_bytes: u64,
    /// Most bytes that the regions held: what one block that never dies would pin.
    pub held_bytes: u64,
    /// Timing runs behind the medians.
    pub repeats: u32,
}

impl SiteRoute {
    /// As one argument of a worker.
    pub(crate) fn to_argument(self) -> String {
        let sizes: Vec<String> = self.sizes.iter().map(usize::to_string).collect();
        let Self { site, kind, is_shared, capacity_bytes, .. } = self;
        let owner = if is_shared { "shared" } else { "own" };
        format!("{site}:{}:{owner}:{capacity_bytes}:{}", kind.name(), sizes.join(","))
    }

    pub(crate) fn from_argument(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let site = parts.next()?.parse().ok()?;
        let kind = RegionKind::from_name(parts.next()?)?;
        let is_shared = parts.next()? == "shared";
        let capacity_bytes = parts.next()?.parse().ok()?;
        let mut sizes = [0; SITE_SIZES_MAX];
        for (place, size) in sizes.iter_mut().zip(parts.next()?.split(',')) {
            *place = size.parse().ok()?;
        }
        Some(Self { site, kind, is_shared, capacity_bytes, sizes })
    }
}

/// Measures each of `sites` (their regions; a site's number is its place), which [`crate::compile_with_sites`] has numbered in `plan`, by itself:
/// a memory run and `options.repeats` timing runs, in turns with runs without any region.
///
/// # Errors
/// [`ReplayError::System`] when no worker can be started.
pub fn measure_sites(
    plan: &Plan,
    sites: &[RegionKind],
    options: &ReplayOptions,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Vec<SiteFigures>, ReplayError> {
    let program = match &options.worker {
        Some(program) => program.clone(),
        None => WorkerProgram::this()?,
    };
    let mut figures = vec![SiteFigures::default(); sites.len()];
    let routes: Vec<Option<SiteRoute>> = sites
        .iter()
        .enumerate()
        .map(|(index, &kind)| {
            let facts = plan.facts().sites.get(index).copied().unwrap_or_default();
            figures[index].failure = obstacle(&facts, kind);
            figures[index].is_shared = facts.handed_over > 0;
            let capacity = (facts.peak_live_bytes * CAPACITY_FACTOR)
                .clamp(CAPACITY_BYTES_MIN, CAPACITY_BYTES_MAX);
            figures[index].failure.is_empty().then_some(SiteRoute {
                site: index as u32,
                kind,
                is_shared: facts.handed_over > 0,
                capacity_bytes: capacity as usize,
                sizes: facts.sizes,
            })
        })
        .collect();
    if routes.iter().all(Option::is_none) {
        return Ok(figures);
    }
    let started = Instant::now();
    let rounds = options.repeats as usize + 1;
    let total = (rounds * (routes.iter().flatten().count() + 1)) as u64;
    let mut done = 0;
    let mut run = |route: Option<SiteRoute>, is_memory: bool| -> Result<Outcome, ReplayError> {
        let phase = if is_memory { Phase::Memory } else { Phase::Time };
        let what = "call sites on regions".to_owned();
        progress(&Progress::new(phase, what, done, total, started.elapsed()));
        done += 1;
        let system = AllocatorSpec::system();
        let limits = Limits { run: options.run_limit, stall: options.stall_limit };
        let task = Task {
            allocator: Some(&system),
            route,
            is_memory,
            // The system's allocator and the regions know no clock.
            pace: Duration::ZERO,
            stock: None,
        };
        run_once(&program, plan, task, limits, &mut |_| {})
    };
    let base = run(None, true)?;
    if !base.failure.is_empty() {
        name_base_failure(&mut figures, &base.failure);
        return Ok(figures);
    }
    for (figures, route) in figures.iter_mut().zip(&routes) {
        let Some(route) = *route else { continue };
        let outcome = run(Some(route), true)?;
        figures.failure = outcome.failure;
        if figures.failure.is_empty() {
            // The live blocks at every sample are the recording's, or nothing is said.
            figures.failure =
                memory_figures(plan.facts(), &outcome.result).err().unwrap_or_default();
        }
        figures.base_peak_bytes = base.result.get(Field::PeakBytes);
        figures.peak_bytes = outcome.result.get(Field::PeakBytes);
        figures.held_bytes = outcome.result.get(Field::RegionBytes);
    }
    let mut pairs: Vec<Vec<Pair>> = vec![Vec::new(); sites.len()];
    let mut wanted: Vec<usize> = (0..sites.len()).filter(|&at| routes[at].is_some()).collect();
    // A difference that shows is looked at a second time: one site of eight shows one by chance.
    for _ in 0..2 {
        for _ in 0..options.repeats {
            wanted.retain(|&index| figures[index].failure.is_empty());
            let is_over = options.time_budget.is_some_and(|budget| started.elapsed() > budget);
            let is_short = wanted.iter().any(|&index| pairs[index].len() < PAIRS_MIN);
            if wanted.is_empty() || is_over && !is_short {
                break;
            }
            let base = run(None, false)?;
            if !base.failure.is_empty() {
                name_base_failure(&mut figures, &base.failure);
                return Ok(figures);
            }
            let base_s = Timing::of(&base).cpu_s;
            for &index in &wanted {
                let outcome = run(routes[index], false)?;
                pairs[index].push(Pair { base_s, region_s: Timing::of(&outcome).cpu_s });
                figures[index].failure = outcome.failure;
            }
        }
        wanted.retain(|&index| Difference::of(&pairs[index]).shows());
    }
    for (figures, pairs) in figures.iter_mut().zip(&pairs) {
        let Difference { gain_s, base_s, noise_s } = Difference::of(pairs);
        (figures.gain_s, figures.base_s, figures.noise_s) = (gain_s, base_s, noise_s);
        figures.repeats = pairs.len() as u32;
    }
    Ok(figures)
}

/// CPU seconds of two runs of one round: without the region and with it.
#[derive(Clone, Copy, Debug)]
struct Pair {
    base_s: f64,
    region_s: f64,
}

/// What pairs say.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Difference {
    gain_s: f64,
    base_s: f64,
    noise_s: f64,
}

impl Difference {
    /// The median gain. Its noise is half the sum of both spreads, and all of it where more than
    /// one pair in five says the contrary, or there are too few pairs.
    fn of(pairs: &[Pair]) -> Self {
        let gains = || pairs.iter().map(|pair| pair.base_s - pair.region_s);
        let (base, region) =
            (|| pairs.iter().map(|pair| pair.base_s), || pairs.iter().map(|pair| pair.region_s));
        let gain_s = median(gains());
        let base_s = median(base());
        let spreads_s = spread(base()) * base_s + spread(region()) * median(region());
        let contrary = gains().filter(|gain| gain * gain_s <= 0.0).count();
        let is_agreed = pairs.len() >= PAIRS_MIN && contrary * CONTRARY_MAX_IN <= pairs.len();
        let noise_s = (spreads_s / 2.0).max(if is_agreed { 0.0 } else { gain_s.abs() });
        Self { gain_s, base_s, noise_s }
    }

    fn shows(&self) -> bool {
        self.gain_s.abs() > self.noise_s
    }
}

/// Without the run that a site is compared with, no site has figures.
fn name_base_failure(figures: &mut [SiteFigures], failure: &str) {
    for one in figures.iter_mut().filter(|one| one.failure.is_empty()) {
        one.failure = format!("the run without a region failed: {failure}");
    }
}

/// Why a site cannot be measured; empty when it can.
fn obstacle(facts: &SiteFacts, kind: RegionKind) -> String {
    let is_sized = matches!(kind, RegionKind::Pool | RegionKind::Slab);
    let is_single = facts.sizes[1] == 0;
    if is_sized && facts.other_sizes > 0 || kind == RegionKind::Pool && !is_single {
        return "its blocks have more sizes than the pattern says".into();
    }
    if facts.blocks == 0 { "no block of it is in the recording".into() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::{Difference, PAIRS_MIN, Pair, RegionKind, SiteRoute};

    #[test]
    fn a_difference_shows_when_it_is_above_the_noise_and_pairs_agree() {
        let pairs = |runs: &[(f64, f64)]| -> Vec<Pair> {
            runs.iter().map(|&(base_s, region_s)| Pair { base_s, region_s }).collect()
        };
        let clear = [(1.0, 0.9), (1.01, 0.91), (1.0, 0.9), (1.02, 0.9), (1.0, 0.91)];
        let found = Difference::of(&pairs(&clear));
        assert!(found.shows() && (found.gain_s - 0.1).abs() < 1e-9 && found.base_s == 1.0);
        // The same median, but two of five say the contrary; then one that swamps all.
        let torn = [(1.0, 0.9), (1.0, 0.9), (1.0, 0.9), (1.0, 1.01), (1.0, 1.01)];
        assert!(!Difference::of(&pairs(&torn)).shows());
        let noisy = [(1.0, 0.9), (1.0, 0.9), (1.0, 0.9), (1.0, 0.9), (1.3, 0.9)];
        assert!(!Difference::of(&pairs(&noisy)).shows());
        assert!(!Difference::of(&[]).shows());
        assert!(!Difference::of(&pairs(&clear[..PAIRS_MIN - 1])).shows());
        assert!(Difference::of(&pairs(&clear[..PAIRS_MIN])).shows());
    }

    #[test]
    fn a_route_is_what_it_was_after_the_way_to_the_worker() {
        for kind in RegionKind::ALL {
            let sizes = [16, 32, 0, 0, 0, 0, 0, 7];
            for is_shared in [false, true] {
                let route = SiteRoute { site: 4, kind, is_shared, capacity_bytes: 1 << 20, sizes };
                assert_eq!(SiteRoute::from_argument(&route.to_argument()), Some(route));
            }
            assert_eq!(RegionKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(SiteRoute::from_argument("-"), None);
        assert_eq!(RegionKind::from_name("general"), None);
    }
}
