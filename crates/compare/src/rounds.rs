//! The rounds: each allocator once in each, in an order that changes from round to round.

use crate::comparison::{Comparison, Figures, Ratios, Row};
use crate::measure::{self, Measured, Outcome};
use crate::options::{CompareError, CompareOptions, Observer};
use crate::subject::Subject;
use heapwright_launch::{Machine, Program, ProgramError, describe_status, shell_status};
use std::ffi::OsString;
use std::fs::File;
use std::time::{Duration, Instant};

/// A first run may take this long; nothing is known about the program yet.
const FIRST_RUN_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// A run that takes so many times the system's first one, and [`RUN_SLACK`], hangs.
const RUN_LIMIT_FACTOR: u32 = 10;
/// See [`RUN_LIMIT_FACTOR`].
const RUN_SLACK: Duration = Duration::from_secs(10);

/// Runs the program under each allocator, round after round, and compares.
///
/// One run with the system's allocator comes first and is not counted: it warms the file cache
/// and shows how long a run takes. Allocator number `i` of `n` then runs as number `(i + r) % n`
/// in round `r`, backwards in every other round. An allocator that fails once is left out of
/// later rounds and keeps its row.
///
/// # Errors
/// [`CompareError`]: nothing could be compared at all.
pub fn compare(
    options: &CompareOptions,
    observer: &dyn Observer,
) -> Result<Comparison, CompareError> {
    Ok(summarise(options, &run_rounds(options, observer)?))
}

/// As [`compare`], with what each run took, round by round: for differences between two others than
/// the system's.
///
/// # Errors
/// As there.
pub fn run_in_turn(
    options: &CompareOptions,
    observer: &dyn Observer,
) -> Result<Vec<SubjectRuns>, CompareError> {
    let rounds = run_rounds(options, observer)?;
    let comparable = rounds.is_comparable(options);
    let system = &rounds.contestants[0];
    let runs = |one: &Contestant| SubjectRuns {
        name: one.subject.name.clone(),
        failure: one.failure.clone(),
        same_output: comparable.then(|| one.has_output_of(system)),
        cpu_s: one.runs.iter().map(|run| run.cpu_s).collect(),
        peak_rss_bytes: one.runs.iter().map(|run| run.peak_rss_bytes).collect(),
    };
    Ok(rounds.contestants.iter().map(runs).collect())
}

/// The runs under one allocator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubjectRuns {
    /// The subject's name.
    pub name: String,
    /// Why it was left out; empty when it was not.
    pub failure: String,
    /// Whether the program always wrote what it writes under the system's; none where that differs
    /// from run to run.
    pub same_output: Option<bool>,
    /// CPU seconds by round.
    pub cpu_s: Vec<f64>,
    /// Peak resident bytes by round.
    pub peak_rss_bytes: Vec<u64>,
}

/// All rounds, the system's allocator first.
struct Rounds {
    warm: Measured,
    contestants: Vec<Contestant>,
    count: u32,
    interrupted: bool,
}

impl Rounds {
    /// Whether the program writes the same each time it runs under the system's allocator.
    fn is_comparable(&self, options: &CompareOptions) -> bool {
        let system = &self.contestants[0];
        options.load.is_none()
            && system.steady()
            && system.runs.iter().all(|run| run.output == self.warm.output)
    }
}

fn run_rounds(options: &CompareOptions, observer: &dyn Observer) -> Result<Rounds, CompareError> {
    let program = find(options)?;
    let mut contestants = contestants(&options.subjects);
    let count = contestants.len() as u32 * options.rounds.max(1) + 1;
    let mut index = 0;
    let started = Instant::now();

    observer.run_starts(index, count, "system");
    let copy = stdout_copy(options)?;
    let first_limit = options.run_limit.unwrap_or(FIRST_RUN_LIMIT);
    let system = &contestants[0].subject;
    let warm = match measure::run(options, &program, system, first_limit, copy, observer)? {
        Outcome::Ended(measured, _) => measured,
        Outcome::Failed(reason) => return Err(CompareError::Baseline(reason)),
        Outcome::Interrupted => return Err(CompareError::Interrupted),
    };
    let system_wall = Duration::from_secs_f64(warm.wall_s);
    let run_limit =
        options.run_limit.unwrap_or(system_wall.saturating_mul(RUN_LIMIT_FACTOR) + RUN_SLACK);

    let mut rounds = 0;
    let mut interrupted = false;
    while rounds < options.rounds.max(1) && !interrupted {
        let round_started = Instant::now();
        for place in order(contestants.len(), rounds) {
            let contestant = &mut contestants[place];
            index += 1;
            if !contestant.failure.is_empty() {
                continue;
            }
            observer.run_starts(index, count, &contestant.subject.name);
            let outcome =
                measure::run(options, &program, &contestant.subject, run_limit, None, observer)?;
            if matches!(outcome, Outcome::Interrupted) {
                interrupted = true;
                break;
            }
            contestant.take(outcome, &warm);
        }
        if interrupted {
            // A round that was not ended pairs with nothing.
            contestants.iter_mut().for_each(|one| one.runs.truncate(rounds as usize));
            break;
        }
        rounds += 1;
        if !contestants[0].failure.is_empty() {
            return Err(CompareError::Baseline(contestants[0].failure.clone()));
        }
        if started.elapsed() + round_started.elapsed() > options.time_limit {
            break;
        }
    }
    if rounds == 0 {
        return Err(CompareError::Interrupted);
    }
    Ok(Rounds { warm, contestants, count: rounds, interrupted })
}

/// An allocator and its runs so far.
struct Contestant {
    subject: Subject,
    runs: Vec<Measured>,
    failure: String,
}

impl Contestant {
    /// Keeps the run, or the reason why there is none.
    fn take(&mut self, outcome: Outcome, warm: &Measured) {
        match outcome {
            Outcome::Ended(measured, message) => {
                // A server that is stopped may end by the signal or in an orderly way.
                let judged = measured.output.is_some();
                if judged && measured.status != warm.status {
                    let (how, usual) =
                        (describe_status(measured.status), describe_status(warm.status));
                    self.failure = format!("{how} instead of {usual}");
                    if !message.is_empty() {
                        self.failure += &format!(": {message}");
                    }
                }
                self.runs.push(measured);
            }
            Outcome::Failed(reason) => self.failure = reason,
            Outcome::Interrupted => {}
        }
    }

    /// Whether every run wrote what those of `other` did.
    fn has_output_of(&self, other: &Self) -> bool {
        self.runs.iter().all(|run| run.output == other.runs[0].output)
    }

    /// Whether every run wrote the same.
    fn steady(&self) -> bool {
        self.runs.windows(2).all(|pair| pair[0].output == pair[1].output)
    }
}

fn find(options: &CompareOptions) -> Result<Program, CompareError> {
    let Some(name) = options.command.first() else {
        let error = ProgramError::NotFound { command: OsString::new() };
        return Err(CompareError::Program(error));
    };
    let program = Program::find(name).map_err(CompareError::Program)?;
    if program.reach().remedy().is_some() {
        let image = program.image().to_owned();
        return Err(CompareError::OutOfReach { image, reach: program.reach() });
    }
    Ok(program)
}

fn stdout_copy(options: &CompareOptions) -> Result<Option<File>, CompareError> {
    let create = |path: &std::path::PathBuf| {
        File::create(path).map_err(|error| CompareError::StdoutCopy(path.clone(), error))
    };
    options.stdout_copy.as_ref().map(create).transpose()
}

/// The system's allocator first, then the others, each once.
fn contestants(subjects: &[Subject]) -> Vec<Contestant> {
    let mut chosen = vec![Subject::system()];
    for subject in subjects {
        if !subject.is_system()
            && !chosen.iter().any(|one| one.origin == subject.origin && one.name == subject.name)
        {
            chosen.push(subject.clone());
        }
    }
    let contestant = |subject: Subject| {
        let failure = subject.object.as_ref().err().cloned().unwrap_or_default();
        Contestant { subject, runs: Vec::new(), failure }
    };
    chosen.into_iter().map(contestant).collect()
}

/// Rotated by one in each round, and backwards in every other.
fn order(count: usize, round: u32) -> Vec<usize> {
    let mut places: Vec<usize> = (0..count).map(|place| (place + round as usize) % count).collect();
    if round % 2 == 1 {
        places.reverse();
    }
    places
}

fn summarise(options: &CompareOptions, all: &Rounds) -> Comparison {
    let Rounds { warm, contestants, count: rounds, interrupted } = all;
    let (rounds, interrupted) = (*rounds, *interrupted);
    let text = |word: &OsString| word.to_string_lossy().into_owned();
    let system = &contestants[0];
    let mut notes = Vec::new();
    if interrupted {
        notes.push(format!("interrupted: {rounds} of {} rounds", options.rounds));
    } else if rounds < options.rounds {
        let seconds = options.time_limit.as_secs_f64();
        notes.push(format!(
            "{rounds} of {} rounds: the time limit of {seconds:.0} s was reached (--time-limit)",
            options.rounds
        ));
    }
    if rounds < 3 {
        notes.push("fewer than three rounds: the intervals say little".into());
    }
    if !warm.status.success() && options.load.is_none() {
        notes.push(format!("the program itself ends with {}", describe_status(warm.status)));
    }
    let comparable = all.is_comparable(options);
    if options.load.is_none() && !comparable {
        notes.push(
            "output differs between runs of the same allocator (the system's), so sameness \
             cannot be judged"
                .into(),
        );
    }
    for contestant in contestants.iter().skip(1).filter(|one| comparable && !one.steady()) {
        let name = &contestant.subject.name;
        notes.push(format!("output differs between runs of the same allocator ({name})"));
    }
    Comparison {
        schema: 1,
        heapwright_version: env!("CARGO_PKG_VERSION").into(),
        machine: Machine::this(),
        command: options.command.iter().map(text).collect(),
        load: options.load.as_ref().map(text),
        exit_status: if options.load.is_some() { 0 } else { shell_status(warm.status) },
        rounds,
        rows: contestants
            .iter()
            .enumerate()
            .map(|(place, contestant)| row(place, contestant, system, comparable))
            .collect(),
        notes,
    }
}

fn row(place: usize, contestant: &Contestant, system: &Contestant, comparable: bool) -> Row {
    let subject = &contestant.subject;
    let measured = contestant.failure.is_empty() && !contestant.runs.is_empty();
    let same = || contestant.has_output_of(system);
    Row {
        name: subject.name.clone(),
        version: subject.version.clone(),
        origin: subject.origin.clone(),
        failure: contestant.failure.clone(),
        repeats: contestant.runs.len() as u32,
        figures: measured.then(|| Figures::of(&contestant.runs)),
        ratios: (measured && place > 0).then(|| Ratios::of(&contestant.runs, &system.runs)),
        same_output: (measured && comparable).then(same),
    }
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn every_allocator_runs_once_a_round_and_at_every_place() {
        let count = 5;
        let mut first = Vec::new();
        for round in 0..10 {
            let mut places = order(count, round);
            first.push(places[0]);
            places.sort_unstable();
            assert_eq!(places, [0, 1, 2, 3, 4]);
        }
        first.sort_unstable();
        first.dedup();
        assert_eq!(first, [0, 1, 2, 3, 4], "each one is first in some round");
    }
}
