//! What stays resident when most blocks were freed: after a burst, and under keys that expire.

use heapwright_compare::Subject;

use super::costs::{numbers, program};
use super::programs::Tools;
use super::results::Row;
use super::rounds::named;
use super::{Options, Results, Size};

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
            for subject in subjects {
                let rows = printed("burst", &arguments, subject, tools)
                    .and_then(|figures| burst_rows(name, &figures, subject));
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

/// At rest, after every survivor was read, at the peak, the time of the next burst, and what
/// merging cost where something was merged.
fn burst_rows(name: &str, figures: &[f64], subject: &Subject) -> Result<Vec<Row>, String> {
    let &[live, idle, read, peak, first_ms, next_ms, freed_kb, cpu_us, step_ns, stretch_ns] =
        figures
    else {
        return Err("it printed no figures".to_owned());
    };
    let mut rows = vec![
        resident(name, live, idle, subject),
        resident(&format!("{name}-read"), live, read, subject),
        Row { peak_rss_kb: Some(peak), ..named(&format!("{name}-peak"), subject) },
        Row {
            next_ratio: Some(next_ms / first_ms.max(f64::MIN_POSITIVE)),
            ..named(&format!("{name}-next"), subject)
        },
    ];
    if freed_kb > 0.0 {
        rows.push(Row {
            us_per_page: Some(cpu_us / (freed_kb / 4.0)),
            held_up_us: Some(step_ns.max(stretch_ns) / 1e3),
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
