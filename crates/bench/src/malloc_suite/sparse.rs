//! What stays resident when most blocks were freed: after a burst, and under keys that expire.

use heapwright_compare::Subject;

use super::costs::{numbers, program};
use super::programs::Tools;
use super::results::Row;
use super::rounds::named;
use super::{Options, Results, Size};
use crate::statistics::median;

/// Megabytes of a burst, seconds of rest after it, threads.
const BURST: [&str; 3] = ["400", "15", "8"];
const BURST_QUICK: [&str; 3] = ["40", "3", "8"];
/// The same in a process with one thread, which calls `malloc_trim` instead of waiting long.
const BURST_ALONE: [&str; 3] = ["200", "2", "1"];
const BURST_ALONE_QUICK: [&str; 3] = ["20", "1", "1"];
/// Megabytes of slots, seconds of each rest.
const CHURN: [&str; 2] = ["200", "5"];
const CHURN_QUICK: [&str; 2] = ["20", "1"];

/// Measures what is asked for and adds the rows.
pub(super) fn run(
    subjects: &[Subject],
    tools: &Tools,
    options: &Options,
    results: &mut Results,
    say: &mut dyn FnMut(&str),
) {
    let is_full = options.size == Size::Full;
    for (name, full, quick) in
        [("burst", BURST, BURST_QUICK), ("burst-alone", BURST_ALONE, BURST_ALONE_QUICK)]
    {
        if options.wants(name) {
            say(name);
            let arguments = if is_full { full } else { quick };
            let mut runs = vec![Vec::new(); subjects.len()];
            // In turn, as the programs that are timed.
            for _ in 0..options.rounds.max(1) {
                for (subject, runs) in subjects.iter().zip(&mut runs) {
                    runs.push(printed("burst", &arguments, subject, tools));
                }
            }
            for (subject, runs) in subjects.iter().zip(runs) {
                let rows = runs
                    .into_iter()
                    .collect::<Result<Vec<_>, _>>()
                    .and_then(|runs| burst_rows(name, &runs, subject));
                keep(name, subject, rows, results);
            }
        }
    }
    if options.wants("churn") {
        say("churn");
        let arguments = if is_full { CHURN } else { CHURN_QUICK };
        for subject in subjects {
            let rows = printed("churn", &arguments, subject, tools)
                .and_then(|figures| churn_rows(&figures, subject));
            keep("churn", subject, rows, results);
        }
    }
}

fn keep(name: &str, subject: &Subject, rows: Result<Vec<Row>, String>, results: &mut Results) {
    match rows {
        Ok(rows) => results.rows.extend(rows),
        Err(reason) => results.leave_out(name, &subject.name, reason),
    }
}

/// What the program prints, as numbers.
fn printed(
    name: &str,
    arguments: &[&str],
    subject: &Subject,
    tools: &Tools,
) -> Result<Vec<f64>, String> {
    let (_, said) = program(name, arguments, tools).timed(subject, tools)?;
    Ok(numbers(&String::from_utf8_lossy(&said)))
}

fn resident(name: &str, live_kb: f64, resident_kb: f64, subject: &Subject) -> Row {
    Row { live_kb: Some(live_kb), end_rss_kb: Some(resident_kb), ..named(name, subject) }
}

/// What a run of `burst` prints, by name.
struct Burst {
    live_kb: f64,
    idle_kb: f64,
    read_kb: f64,
    peak_kb: f64,
    next_ratio: f64,
    freed_kb: f64,
    merging_cpu_us: f64,
    held_up_us: f64,
    next_cpu_ratio: f64,
    first_faults: f64,
    next_faults: f64,
}

impl Burst {
    fn of(figures: &[f64]) -> Option<Self> {
        let &[
            live_kb,
            idle_kb,
            read_kb,
            peak_kb,
            first_ms,
            next_ms,
            freed_kb,
            merging_cpu_us,
            step_ns,
            stretch_ns,
            first_cpu_ms,
            next_cpu_ms,
            first_faults,
            next_faults,
        ] = figures
        else {
            return None;
        };
        Some(Self {
            live_kb,
            idle_kb,
            read_kb,
            peak_kb,
            next_ratio: next_ms / first_ms.max(f64::MIN_POSITIVE),
            freed_kb,
            merging_cpu_us,
            held_up_us: step_ns.max(stretch_ns) / 1e3,
            next_cpu_ratio: next_cpu_ms / first_cpu_ms.max(f64::MIN_POSITIVE),
            first_faults,
            next_faults,
        })
    }
}

/// At rest, after every survivor was read, at the peak, the cost of the next burst, and what
/// merging cost where something was merged: medians of the runs, and the longest hold-up of all.
fn burst_rows(name: &str, runs: &[Vec<f64>], subject: &Subject) -> Result<Vec<Row>, String> {
    let runs: Option<Vec<Burst>> = runs.iter().map(|figures| Burst::of(figures)).collect();
    let runs = runs.filter(|runs| !runs.is_empty()).ok_or("it printed no figures")?;
    let each = |value: fn(&Burst) -> f64| runs.iter().map(value).collect::<Vec<f64>>();
    let middle = |value| median(&each(value));
    let next = each(|run| run.next_ratio);
    let mut rows = vec![
        resident(name, middle(|run| run.live_kb), middle(|run| run.idle_kb), subject),
        resident(
            &format!("{name}-read"),
            middle(|run| run.live_kb),
            middle(|run| run.read_kb),
            subject,
        ),
        Row {
            peak_rss_kb: Some(middle(|run| run.peak_kb)),
            ..named(&format!("{name}-peak"), subject)
        },
        Row {
            next_ratio: Some(median(&next)),
            next_ratio_min: Some(next.iter().copied().fold(f64::INFINITY, f64::min)),
            next_ratio_max: Some(next.iter().copied().fold(0.0, f64::max)),
            next_cpu_ratio: Some(middle(|run| run.next_cpu_ratio)),
            next_faults: Some(middle(|run| run.next_faults)),
            first_faults: Some(middle(|run| run.first_faults)),
            ..named(&format!("{name}-next"), subject)
        },
    ];
    let freed_kb: f64 = each(|run| run.freed_kb).iter().sum();
    if freed_kb > 0.0 {
        let cpu_us: f64 = each(|run| run.merging_cpu_us).iter().sum();
        rows.push(Row {
            us_per_page: Some(cpu_us / (freed_kb / 4.0)),
            held_up_us: Some(each(|run| run.held_up_us).into_iter().fold(0.0, f64::max)),
            ..named(&format!("{name}-merging"), subject)
        });
    }
    Ok(rows)
}

/// Under traffic and at low tide: against requested bytes, and against usable ones.
fn churn_rows(figures: &[f64], subject: &Subject) -> Result<Vec<Row>, String> {
    let &[live, usable, full, ebb_live, ebb_usable, ebb, peak, _] = figures else {
        return Err("it printed no figures".to_owned());
    };
    Ok(vec![
        resident("churn", live, full, subject),
        resident("churn-usable", usable, full, subject),
        resident("churn-ebb", ebb_live, ebb, subject),
        resident("churn-ebb-usable", ebb_usable, ebb, subject),
        Row { peak_rss_kb: Some(peak), ..named("churn-peak", subject) },
    ])
}
