//! Whether to change the allocator, and to which: the rule of `design/advice.md`.

use crate::schema::{AllocatorRow, RunFigures, Verdict};
use crate::text::bytes_text;

/// The system's allocator, the one that all others are compared with.
pub const SYSTEM: &str = "system";

/// Least gain in the program's CPU time that a change is worth.
pub const WORTH_TIME: f64 = 0.03;
/// Least gain in peak resident memory that a change is worth.
pub const WORTH_PEAK: f64 = 0.05;
/// What a per cent of peak memory counts against one of time, so that the two least gains weigh
/// the same.
pub const PEAK_WEIGHT: f64 = WORTH_TIME / WORTH_PEAK;
/// Most that time may get worse for the sake of memory.
pub const TIME_LOSS_MAX: f64 = 0.10;
/// Most that peak memory may get worse for the sake of time.
pub const PEAK_LOSS_MAX: f64 = 0.25;
/// Noise of a peak that was measured without a spread.
const PEAK_NOISE_MIN: f64 = 0.02;
/// Spread assumed of what was measured once.
const SINGLE_SPREAD: f64 = 0.10;
/// A gain this many times the noise is beyond doubt.
const CLEAR_NOISE_FACTOR: f64 = 2.0;
/// Below all three a program is too small for any difference to be worth a change: what it holds
/// (an allocator's own bookkeeping is as large), the time that it allocates in all (a process start
/// costs as much), and its life (a server that idles may be anything).
const TINY_BYTES: u64 = 1 << 20;
const TINY_S: f64 = 0.001;
const TINY_LIFE_S: f64 = 2.0;
/// Repeats from which a spread says something.
const REPEATS_MIN: u32 = 3;

/// An allocator's measurements, as the decision takes them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AllocatorResult {
    /// The figures; `time_ratio` is filled in by [`crate::advice()`].
    pub row: AllocatorRow,
    /// Spread of the replay's peak over its repeats: (max - min) / median; 0 when unknown.
    pub peak_spread: f64,
    /// The same of the program's own runs; 0 when unknown.
    pub run_peak_spread: f64,
}

/// What the replay's figures are scaled by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProgramFigures {
    /// CPU seconds of the bare program; 0 when unknown, then replay says nothing about time.
    pub cpu_s: f64,
    /// Allocations, resizes and frees of the program.
    pub operations: u64,
    /// Resident memory at the peak that no allocator can change, KiB; 0 when unknown.
    pub other_resident_kb: u64,
    /// Repeats of the replay behind each figure.
    pub replay_repeats: u32,
    /// Seconds from its first to its last event; 0 when unknown.
    pub life_s: f64,
    /// Highest sum of requested bytes alive.
    pub peak_live_bytes: u64,
}

impl ProgramFigures {
    /// Whether the program allocates so little, and so shortly, that what it asks for is lost
    /// beside what any allocator needs for itself.
    fn is_tiny(&self, system: &AllocatorRow) -> bool {
        let allocating_s = self.operations as f64 * system.ns_per_op.max(0.0) * 1e-9;
        self.peak_live_bytes > 0
            && self.peak_live_bytes < TINY_BYTES
            && allocating_s < TINY_S
            && self.life_s < TINY_LIFE_S
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Run,
    Replay,
}

/// What an allocator would change in the whole program, as ratios to the system's.
#[derive(Clone, Copy, Debug)]
struct Effect {
    time: f64,
    peak: f64,
    time_noise: f64,
    peak_noise: f64,
    repeats: u32,
    by: By,
}

impl Effect {
    fn of_run(system: &AllocatorResult, other: &AllocatorResult) -> Option<Self> {
        let (of_system, run) = (system.row.run.as_ref()?, other.row.run.as_ref()?);
        let spread = |run: &RunFigures| if run.repeats < 2 { SINGLE_SPREAD } else { run.spread };
        Some(Self {
            time: run.time_ratio,
            peak: run.peak_rss_ratio,
            time_noise: half_sum(spread(of_system), spread(run)),
            peak_noise: half_sum(system.run_peak_spread, other.run_peak_spread).max(PEAK_NOISE_MIN),
            repeats: run.repeats.min(of_system.repeats),
            by: By::Run,
        })
    }

    fn of_replay(
        system: &AllocatorResult,
        other: &AllocatorResult,
        program: &ProgramFigures,
    ) -> Option<Self> {
        if !system.row.failure.is_empty() || !other.row.failure.is_empty() {
            return None;
        }
        let spread = |row: &AllocatorRow| {
            if program.replay_repeats < 2 { SINGLE_SPREAD } else { row.spread }
        };
        // Seconds that a nanosecond an operation is, over the program's.
        let scale = if program.cpu_s > 0.0 {
            program.operations as f64 * 1e-9 / program.cpu_s
        } else {
            0.0
        };
        let noise_of = |row: &AllocatorRow| row.ns_per_op.max(0.0) * spread(row) * scale;
        let fixed = program.other_resident_kb as f64;
        let peak_of = |row: &AllocatorRow| row.peak_rss_kb as f64 + fixed;
        let peak = match peak_of(&system.row) {
            0.0 => 1.0,
            of_system => peak_of(&other.row) / of_system,
        };
        Some(Self {
            time: (1.0 + (other.row.ns_per_op - system.row.ns_per_op) * scale).max(0.01),
            peak: peak.max(0.01),
            time_noise: half_sum(noise_of(&system.row), noise_of(&other.row)),
            peak_noise: half_sum(system.peak_spread, other.peak_spread).max(PEAK_NOISE_MIN),
            repeats: program.replay_repeats,
            by: By::Replay,
        })
    }

    /// Below 0 is better: logarithm of time plus weighted logarithm of peak.
    fn cost(&self) -> f64 {
        self.time.max(0.01).ln() + PEAK_WEIGHT * self.peak.max(0.01).ln()
    }

    fn noise(&self) -> f64 {
        self.time_noise.hypot(PEAK_WEIGHT * self.peak_noise)
    }

    /// Whether the gain alone, its noise apart, is worth a change.
    fn is_worth(&self) -> bool {
        let gains = 1.0 - self.time >= WORTH_TIME || 1.0 - self.peak >= WORTH_PEAK;
        gains && -self.cost() >= WORTH_TIME && self.is_bearable()
    }

    fn is_bearable(&self) -> bool {
        self.time <= 1.0 + TIME_LOSS_MAX && self.peak <= 1.0 + PEAK_LOSS_MAX
    }

    /// Whether the gain is worth a change and no child of noise.
    fn is_proved(&self) -> bool {
        let (time_gain, peak_gain) = (1.0 - self.time, 1.0 - self.peak);
        let time = time_gain >= WORTH_TIME && time_gain > self.time_noise;
        let peak = peak_gain >= WORTH_PEAK && peak_gain > self.peak_noise;
        self.is_worth() && (time || peak) && -self.cost() > self.noise()
    }
}

/// Decides whether a change of the allocator is worth while.
///
/// `results` are one an allocator, among them [`SYSTEM`]. Where the program itself was run
/// under the system's and another allocator, the runs decide, and only among the allocators
/// run; the replay decides alone otherwise.
pub fn decide(results: &[AllocatorResult], program: &ProgramFigures) -> Verdict {
    let mut verdict = Verdict {
        change: false,
        allocator: SYSTEM.into(),
        time_ratio: 1.0,
        peak_rss_ratio: 1.0,
        confidence: "low".into(),
        confirmed_by: "replay".into(),
        repeats: program.replay_repeats,
        ..Verdict::default()
    };
    if results.is_empty() {
        verdict.reason = "No allocator was measured, so there is no advice which to use.".into();
        return verdict;
    }
    let Some(system) = results.iter().find(|result| result.row.name == SYSTEM) else {
        verdict.reason = "The system's allocator was not measured, so nothing is compared.".into();
        return verdict;
    };
    if !system.row.failure.is_empty() && system.row.run.is_none() {
        let failure = system.row.failure.trim_end_matches('.');
        verdict.reason = format!("The system's allocator has no figures: {failure}.");
        return verdict;
    }
    if system.row.failure.is_empty() && program.is_tiny(&system.row) {
        verdict.reason = format!(
            "No difference worth a change: the program lives {} and holds {} at most, less than \
             any allocator needs for itself.",
            life(program.life_s),
            bytes_text(program.peak_live_bytes)
        );
        verdict.confidence = "high".into();
        return verdict;
    }
    let others = || results.iter().filter(|result| result.row.name != SYSTEM);
    let has_runs = others().any(|other| Effect::of_run(system, other).is_some());
    let measured: Vec<(&AllocatorResult, Effect)> = others()
        .filter(|other| other.row.run.as_ref().is_none_or(|run| run.same_output))
        .filter_map(|other| {
            let run = Effect::of_run(system, other);
            let replay = || Effect::of_replay(system, other, program).filter(|_| !has_runs);
            run.or_else(replay).map(|effect| (other, effect))
        })
        .collect();
    let best_first = |a: &&(&AllocatorResult, Effect), b: &&(&AllocatorResult, Effect)| {
        a.1.cost().total_cmp(&b.1.cost()).then_with(|| a.0.row.name.cmp(&b.0.row.name))
    };
    let proved = measured.iter().filter(|(_, effect)| effect.is_proved()).min_by(best_first);
    if let Some((other, effect)) = proved {
        let agreed = Effect::of_replay(system, other, program);
        let is_agreed = effect.by == By::Replay || agreed.is_some_and(|replay| replay.cost() < 0.0);
        return change(other, effect, is_agreed);
    }
    // Runs can be too noisy for a gain that the replay shows clearly.
    let backed = measured.iter().filter(|(_, effect)| effect.by == By::Run && effect.is_worth());
    let backed = backed.filter_map(|(other, _)| {
        let replay = Effect::of_replay(system, other, program)?;
        replay.is_proved().then_some((*other, replay))
    });
    if let Some((other, effect)) = backed.min_by(|a, b| best_first(&a, &b)) {
        let mut verdict = change(other, &effect, true);
        verdict.confidence = "low".into();
        return verdict;
    }
    match measured.iter().min_by(best_first) {
        None => verdict.reason = "No other allocator could be measured.".into(),
        Some((other, effect)) => {
            verdict.reason = no_change_reason(other, effect);
            verdict.repeats = effect.repeats;
            verdict.confirmed_by = effect.by.name().into();
            verdict.confidence = no_change_confidence(&measured).into();
        }
    }
    verdict
}

fn change(other: &AllocatorResult, effect: &Effect, is_agreed: bool) -> Verdict {
    let name = &other.row.name;
    let how = match effect.by {
        By::Run => "running the program",
        By::Replay => "replaying the recording",
    };
    let reason = format!(
        "{name} takes {} than the system's allocator, measured by {how} {} (noise {} of time, \
         {} of memory).",
        differences(effect),
        times(effect.repeats),
        tenths(effect.time_noise),
        tenths(effect.peak_noise),
    );
    let is_clear = -effect.cost() >= CLEAR_NOISE_FACTOR * effect.noise();
    let confidence = match (effect.by, effect.repeats >= REPEATS_MIN, is_clear) {
        (By::Run, true, true) if is_agreed => "high",
        (By::Run, true, _) | (By::Replay, true, true) => "medium",
        _ => "low",
    };
    Verdict {
        change: true,
        allocator: name.clone(),
        reason,
        time_ratio: effect.time,
        peak_rss_ratio: effect.peak,
        confidence: confidence.into(),
        repeats: effect.repeats,
        confirmed_by: effect.by.name().into(),
    }
}

fn no_change_reason(other: &AllocatorResult, effect: &Effect) -> String {
    let name = &other.row.name;
    let what = differences(effect);
    if effect.is_worth() {
        return format!(
            "No difference worth a change: {name} would take {what}, which is within the noise \
             ({} of time, {} of memory).",
            tenths(effect.time_noise),
            tenths(effect.peak_noise)
        );
    }
    if effect.cost() < 0.0 && !effect.is_bearable() {
        return format!(
            "No change: {name} would take {what}, and a gain in one may cost at most {} more time \
             or {} more memory.",
            whole(TIME_LOSS_MAX),
            whole(PEAK_LOSS_MAX)
        );
    }
    if effect.time < 1.0 && effect.peak > 1.0 || effect.time > 1.0 && effect.peak < 1.0 {
        return format!(
            "No difference worth a change: the best other, {name}, would take {what}; weighed \
             together that gains too little (memory counts {PEAK_WEIGHT:.1} of time)."
        );
    }
    format!(
        "No difference worth a change: the best other, {name}, would take {what}; a change must \
         save {} of time or {} of peak memory.",
        whole(WORTH_TIME),
        whole(WORTH_PEAK)
    )
}

/// Sure that nothing is gained: when the noise could hide no worthwhile gain.
fn no_change_confidence(measured: &[(&AllocatorResult, Effect)]) -> &'static str {
    let is_quiet = |effect: &Effect| {
        effect.time_noise <= WORTH_TIME
            && effect.peak_noise <= WORTH_PEAK
            && effect.repeats >= REPEATS_MIN
    };
    let quiet = measured.iter().all(|(_, effect)| is_quiet(effect));
    let run = measured.iter().any(|(_, effect)| effect.by == By::Run);
    match (quiet, run) {
        (true, true) => "high",
        (true, false) => "medium",
        _ => "low",
    }
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Replay => "replay",
        }
    }
}

fn half_sum(a: f64, b: f64) -> f64 {
    (a + b) / 2.0
}

/// "12 % less CPU time and 8 % more peak memory".
fn differences(effect: &Effect) -> String {
    format!("{} CPU time and {} peak memory", difference(effect.time), difference(effect.peak))
}

fn difference(ratio: f64) -> String {
    let change = ratio - 1.0;
    if change.abs() < 0.0005 {
        return "no less".into();
    }
    let direction = if change < 0.0 { "less" } else { "more" };
    format!("{} {direction}", tenths(change.abs()))
}

/// A share with one decimal below 10 %, without above.
fn tenths(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 9.95 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

/// A length of time in words: `12 ms`, `less than 1 ms`, `1.5 s`.
fn life(seconds: f64) -> String {
    let ms = seconds * 1e3;
    match ms {
        ms if ms < 1.0 => "less than 1 ms".into(),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        _ => format!("{seconds:.1} s"),
    }
}

fn whole(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn times(repeats: u32) -> String {
    match repeats {
        0 | 1 => "once".into(),
        2 => "twice".into(),
        _ => format!("{repeats} times"),
    }
}

#[cfg(test)]
mod tests {
    use super::{AllocatorResult, ProgramFigures, SYSTEM, decide};
    use crate::schema::{AllocatorRow, RunFigures};

    /// 10 s of CPU and 100 M operations: 10 ns an operation are a tenth of the time.
    const PROGRAM: ProgramFigures = ProgramFigures {
        cpu_s: 10.0,
        operations: 100_000_000,
        other_resident_kb: 0,
        replay_repeats: 5,
        life_s: 1.0,
        peak_live_bytes: 8 << 20,
    };

    #[test]
    fn a_tiny_program_is_told_what_it_is() {
        let tiny = ProgramFigures {
            operations: 900,
            life_s: 0.012,
            peak_live_bytes: 100 << 10,
            ..PROGRAM
        };
        let results = [row("system", 50.0, 4, 0.01), row("other", 1.0, 4, 0.01)];
        let verdict = decide(&results, &tiny);
        assert!(!verdict.change);
        assert_eq!(
            verdict.reason,
            "No difference worth a change: the program lives 12 ms and holds 100 KiB at most, less \
             than any allocator needs for itself."
        );
        let idle_server = ProgramFigures { life_s: 600.0, ..tiny };
        assert!(!decide(&results, &idle_server).reason.contains("lives"));
    }

    fn row(name: &str, ns_per_op: f64, peak_rss_kb: u64, spread: f64) -> AllocatorResult {
        let name = name.into();
        let row = AllocatorRow { name, ns_per_op, peak_rss_kb, spread, ..AllocatorRow::default() };
        AllocatorResult { row, ..AllocatorResult::default() }
    }

    fn with_run(mut result: AllocatorResult, time: f64, peak: f64, spread: f64) -> AllocatorResult {
        result.row.run = Some(RunFigures {
            time_ratio: time,
            peak_rss_ratio: peak,
            spread,
            repeats: 5,
            same_output: true,
            ..RunFigures::default()
        });
        result
    }

    struct Random(u64);

    impl Random {
        fn unit(&mut self) -> f64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    #[test]
    fn a_clear_gain_by_replay_is_recommended() {
        let rows = [row(SYSTEM, 40.0, 10_000, 0.02), row("mimalloc", 20.0, 9_000, 0.02)];
        let verdict = decide(&rows, &PROGRAM);
        assert!(verdict.change);
        assert_eq!(verdict.allocator, "mimalloc");
        assert!((verdict.time_ratio - 0.8).abs() < 1e-9);
        assert!((verdict.peak_rss_ratio - 0.9).abs() < 1e-9);
        assert_eq!(
            (verdict.confidence.as_str(), verdict.confirmed_by.as_str()),
            ("medium", "replay")
        );
        assert_eq!(
            verdict.reason,
            "mimalloc takes 20 % less CPU time and 10 % less peak memory than the system's \
             allocator, measured by replaying the recording 5 times (noise 0.6 % of time, 2.0 % \
             of memory)."
        );
    }

    #[test]
    fn time_gains_are_those_of_the_whole_program() {
        // Twice as fast an operation, but operations are 2 % of the program.
        let program = ProgramFigures { cpu_s: 100.0, operations: 100_000_000, ..PROGRAM };
        let rows = [row(SYSTEM, 20.0, 10_000, 0.01), row("fast", 10.0, 10_000, 0.01)];
        let verdict = decide(&rows, &program);
        assert!(!verdict.change);
        assert_eq!(verdict.allocator, SYSTEM);
        assert_eq!((verdict.time_ratio, verdict.peak_rss_ratio), (1.0, 1.0));
        assert_eq!(verdict.confidence, "medium");
        assert_eq!(
            verdict.reason,
            "No difference worth a change: the best other, fast, would take 1.0 % less CPU time \
             and no less peak memory; a change must save 3 % of time or 5 % of peak memory."
        );
    }

    #[test]
    fn memory_that_no_allocator_changes_dilutes_the_gain() {
        let rows = [row(SYSTEM, 40.0, 10_000, 0.01), row("lean", 40.0, 9_000, 0.01)];
        assert!(decide(&rows, &PROGRAM).change);
        let program = ProgramFigures { other_resident_kb: 20_000, ..PROGRAM };
        assert!(!decide(&rows, &program).change);
    }

    #[test]
    fn the_run_overrules_the_replay() {
        let rows = [
            with_run(row(SYSTEM, 40.0, 10_000, 0.02), 1.0, 1.0, 0.01),
            with_run(row("mimalloc", 20.0, 9_000, 0.02), 1.01, 1.0, 0.01),
            row("unrun", 10.0, 8_000, 0.02),
        ];
        let verdict = decide(&rows, &PROGRAM);
        assert!(!verdict.change, "{}", verdict.reason);
        assert_eq!((verdict.confirmed_by.as_str(), verdict.confidence.as_str()), ("run", "high"));
        let rows = [
            with_run(row(SYSTEM, 40.0, 10_000, 0.02), 1.0, 1.0, 0.01),
            with_run(row("mimalloc", 20.0, 9_000, 0.02), 0.85, 0.95, 0.01),
        ];
        let verdict = decide(&rows, &PROGRAM);
        assert!(verdict.change);
        assert_eq!((verdict.confirmed_by.as_str(), verdict.confidence.as_str()), ("run", "high"));
        assert_eq!((verdict.time_ratio, verdict.peak_rss_ratio), (0.85, 0.95));
    }

    #[test]
    fn a_noisy_run_leaves_a_clear_replay_standing_with_low_confidence() {
        let rows = [
            with_run(row(SYSTEM, 40.0, 10_000, 0.02), 1.0, 1.0, 0.3),
            with_run(row("mimalloc", 20.0, 9_000, 0.02), 0.85, 0.97, 0.3),
        ];
        let verdict = decide(&rows, &PROGRAM);
        assert!(verdict.change);
        assert_eq!((verdict.confirmed_by.as_str(), verdict.confidence.as_str()), ("replay", "low"));
    }

    #[test]
    fn another_output_or_a_failure_rules_an_allocator_out() {
        let mut broken = with_run(row("broken", 20.0, 5_000, 0.02), 0.5, 0.5, 0.01);
        broken.row.run.as_mut().expect("just set").same_output = false;
        let system = with_run(row(SYSTEM, 40.0, 10_000, 0.02), 1.0, 1.0, 0.01);
        assert!(!decide(&[system.clone(), broken], &PROGRAM).change);
        let mut crashed = row("crashed", 1.0, 1, 0.0);
        crashed.row.failure = "it crashed".into();
        let verdict = decide(&[row(SYSTEM, 40.0, 10_000, 0.02), crashed], &PROGRAM);
        assert_eq!(verdict.reason, "No other allocator could be measured.");
        let mut no_system = row(SYSTEM, 0.0, 0, 0.0);
        no_system.row.failure = "signal 11".into();
        let verdict = decide(&[no_system, row("other", 1.0, 1, 0.0)], &PROGRAM);
        assert!(!verdict.change && verdict.reason.contains("signal 11"));
        assert!(!decide(&[], &PROGRAM).change);
    }

    #[test]
    fn a_single_measurement_needs_a_large_gain() {
        let once = ProgramFigures { replay_repeats: 1, ..PROGRAM };
        let rows = [row(SYSTEM, 40.0, 10_000, 0.0), row("a", 36.5, 10_000, 0.0)];
        assert!(!decide(&rows, &once).change, "3.5 % of time within 3.8 % of noise");
        assert!(decide(&rows, &PROGRAM).change);
        let rows = [row(SYSTEM, 40.0, 10_000, 0.0), row("a", 20.0, 10_000, 0.0)];
        let verdict = decide(&rows, &once);
        assert!(verdict.change);
        assert_eq!(verdict.confidence, "low");
    }

    #[test]
    fn memory_is_not_bought_at_any_price() {
        let rows = [row(SYSTEM, 40.0, 10_000, 0.01), row("fast", 1.0, 14_000, 0.01)];
        let verdict = decide(&rows, &PROGRAM);
        assert!(!verdict.change, "40 % more memory");
        assert!(verdict.reason.contains("40 % more peak memory"), "{}", verdict.reason);
    }

    #[test]
    fn never_slower_and_fatter_never_within_noise() {
        let mut random = Random(7);
        let mut changes = 0;
        for _ in 0..20_000 {
            let mut rows = vec![row(SYSTEM, 40.0, 10_000, random.unit() * 0.3)];
            for name in ["a", "b", "c"] {
                let (ns, kb) = (10.0 + random.unit() * 60.0, 5_000.0 + random.unit() * 10_000.0);
                let mut result = row(name, ns, kb as u64, random.unit() * 0.3);
                result.peak_spread = random.unit() * 0.2;
                if random.unit() < 0.3 {
                    let (time, peak) = (0.7 + random.unit() * 0.6, 0.6 + random.unit() * 0.8);
                    result = with_run(result, time, peak, random.unit() * 0.2);
                    if rows[0].row.run.is_none() {
                        rows[0] = with_run(rows[0].clone(), 1.0, 1.0, random.unit() * 0.2);
                    }
                }
                rows.push(result);
            }
            let verdict = decide(&rows, &PROGRAM);
            assert!(!verdict.reason.is_empty());
            if !verdict.change {
                assert_eq!(verdict.allocator, SYSTEM);
                continue;
            }
            changes += 1;
            assert!(verdict.time_ratio < 0.97 + 1e-9 || verdict.peak_rss_ratio < 0.95 + 1e-9);
            assert!(verdict.time_ratio <= 1.1 && verdict.peak_rss_ratio <= 1.25);
            let chosen = rows.iter().find(|result| result.row.name == verdict.allocator).unwrap();
            let (system, time_gain) = (&rows[0], 1.0 - verdict.time_ratio);
            let peak_noise = (system.peak_spread + chosen.peak_spread) / 2.0;
            let time_noise = match verdict.confirmed_by.as_str() {
                "run" => {
                    let spread = |r: &AllocatorResult| r.row.run.as_ref().unwrap().spread;
                    (spread(system) + spread(chosen)) / 2.0
                }
                _ => {
                    let noise = |r: &AllocatorResult| r.row.ns_per_op * r.row.spread * 0.01;
                    (noise(system) + noise(chosen)) / 2.0
                }
            };
            let peak_gain = 1.0 - verdict.peak_rss_ratio;
            assert!(time_gain > time_noise || peak_gain > peak_noise.min(0.02), "{verdict:?}");
        }
        assert!(changes > 2_000, "the test reaches changes: {changes}");
    }

    #[test]
    fn a_better_allocator_is_never_recommended_less() {
        let mut random = Random(11);
        for _ in 0..20_000 {
            let system = row(SYSTEM, 40.0, 10_000, random.unit() * 0.2);
            let (ns, kb) = (10.0 + random.unit() * 50.0, 5_000.0 + random.unit() * 8_000.0);
            let spread = random.unit() * 0.2;
            let worse = decide(&[system.clone(), row("a", ns, kb as u64, spread)], &PROGRAM);
            let (ns, kb) = (ns * (1.0 - random.unit() * 0.2), kb * (1.0 - random.unit() * 0.2));
            let better = decide(&[system, row("a", ns, kb as u64, spread)], &PROGRAM);
            assert!(better.change || !worse.change, "{worse:?} {better:?}");
        }
    }
}
