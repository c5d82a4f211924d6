//! How fast and how lean is each allocator, as any program gets it?
//!
//! Programs run as processes under `LD_PRELOAD` of each allocator, alternately, in rounds; the
//! C library's own allocator is the base of every ratio, of time and of peak resident memory.
//! The programs are ours, in the shapes of the 27 of the public suites (and called after them),
//! or real ones that this machine has. Besides, single costs: latency of a pair, tail latency,
//! instructions of a pair, private memory of a program that does nothing.
//!
//! Expected winners: mimalloc 2 by time, the system's allocator by memory; the question is
//! whether one allocator comes near both.
//!
//! # Not here
//! Recordings (`heapwright replay`) and the user's own programs (`heapwright compare`).

mod costs;
mod measure;
mod options;
mod programs;
mod real;
mod results;
mod rounds;
mod sparse;
mod table;
mod workloads;

pub use options::{Options, Size};
pub use results::{Mean, Missing, Results, Row};

use crate::statistics::median;
use heapwright_compare::Subject;
use heapwright_launch::{Machine, Objects};

/// The system's allocator, as rows name it.
pub const BASE: &str = "malloc";

/// Runs the suite and tells each run to `say`. Seconds when quick, many minutes otherwise.
///
/// # Errors
/// A sentence when nothing can be measured: no C compiler, an allocator that is not there.
pub fn run(options: &Options, say: &mut dyn FnMut(&str)) -> Result<Results, String> {
    let subjects = subjects(options)?;
    let tools = programs::compile(&options.directory)?;
    let mut results = Results {
        suite: "malloc",
        machine: Machine::this(),
        rounds: options.rounds,
        quick: options.size == Size::Quick,
        rows: Vec::new(),
        means: Vec::new(),
        missing: Vec::new(),
    };
    for subject in &subjects {
        if let Err(reason) = &subject.object {
            results.leave_out("all", &subject.name, reason.clone());
        }
    }
    let usable: Vec<Subject> = subjects.into_iter().filter(|one| one.object.is_ok()).collect();
    for workload in workloads::all(options.size) {
        if options.wants(workload.name) {
            say(workload.name);
            rounds::run(&workload, &usable, &tools, options, &mut results);
        }
    }
    costs::run(&usable, &tools, options, &mut results, say);
    results.means = results::means(&results.rows);
    Ok(results)
}

/// The system's, ours, and the peers asked for.
fn subjects(options: &Options) -> Result<Vec<Subject>, String> {
    let objects = Objects::in_directory(options.objects.clone());
    let mut subjects = match &options.against {
        None if options.size == Size::Full => Subject::all(&objects),
        None => Vec::new(),
        Some(peers) => {
            let mut subjects = Vec::new();
            for peer in peers {
                let (name, object) = match peer.split_once('=') {
                    Some((name, object)) => (Some(name), object),
                    None => (None, peer.as_str()),
                };
                let mut subject =
                    Subject::named(object, &objects).map_err(|error| error.to_string())?;
                if let Some(name) = name {
                    subject.name = name.to_owned();
                }
                subjects.push(subject);
            }
            subjects
        }
    };
    for (place, name) in ["system", "heapwright"].into_iter().enumerate() {
        if !subjects.iter().any(|one| one.name == name) {
            let subject = Subject::named(name, &objects).map_err(|error| error.to_string())?;
            subjects.insert(place, subject);
        }
    }
    for subject in subjects.iter_mut().filter(|one| one.is_system()) {
        subject.name = BASE.to_owned();
    }
    Ok(subjects)
}

/// Largest minus smallest as a share of the median; 0 for one value.
fn spread(values: &[f64]) -> f64 {
    if values.len() < 2 || median(values) == 0.0 { 0.0 } else { crate::statistics::spread(values) }
}
