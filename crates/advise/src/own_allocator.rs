//! A program that brings an allocator of its own: that one, not the system's, is what a change
//! must beat.

use heapwright_format::merge::Module;

use crate::schema::Verdict;
use crate::verdict::{AllocatorResult, ProgramFigures, SYSTEM, decide};

/// Allocators by the names of their shared objects.
const FAMILIES: [&str; 7] =
    ["jemalloc", "mimalloc", "tcmalloc", "rpmalloc", "snmalloc", "hoard", "scudo"];

/// File name of the module that is an allocator known here, if the process has one.
pub(crate) fn own_allocator(modules: &[Module]) -> Option<String> {
    let names = modules.iter().map(|module| module.path.rsplit('/').next().unwrap_or_default());
    names
        .filter(|name| name.starts_with("lib") && name.contains(".so"))
        .find(|name| family(name).is_some())
        .map(str::to_owned)
}

fn family(name: &str) -> Option<&'static str> {
    FAMILIES.into_iter().find(|family| name.contains(family))
}

/// [`decide`], with the program's own allocator in the system's place when it has one.
///
/// A run with nothing preloaded is a run on the own allocator; a replay on the system's is not.
pub(crate) fn decide_against(
    own: Option<&str>,
    results: &[AllocatorResult],
    program: &ProgramFigures,
) -> Verdict {
    let Some(own) = own else { return decide(results, program) };
    let own_family = family(own).unwrap_or_default();
    let mut results = results.to_vec();
    let bare_run = results.iter_mut().find(|result| result.row.name == SYSTEM).and_then(|system| {
        system.row.name = "glibc".into();
        system.row.run.take()
    });
    match results.iter_mut().find(|result| result.row.name == own_family) {
        Some(base) => {
            base.row.name = SYSTEM.into();
            base.row.run = bare_run;
        }
        None => {
            let mut verdict = decide(&[], program);
            verdict.allocator = own.to_owned();
            verdict.reason = format!(
                "The program brings {own}, which was not replayed, so nothing is compared with \
                 it; name its object with --on."
            );
            return verdict;
        }
    }
    let mut verdict = decide(&results, program);
    if verdict.allocator == SYSTEM {
        verdict.allocator = own.to_owned();
    } else if verdict.allocator == "glibc" {
        verdict.allocator = SYSTEM.into();
    }
    let phrase = format!("the program's own {own}");
    verdict.reason = verdict.reason.replace("the system's allocator", &phrase);
    verdict
}

#[cfg(test)]
mod tests {
    use heapwright_format::merge::Module;

    use super::{decide_against, own_allocator};
    use crate::schema::AllocatorRow;
    use crate::verdict::{AllocatorResult, ProgramFigures};

    fn module(path: &str) -> Module {
        let path = path.to_owned();
        Module { start: 0, end: 1, bias: 0, build_id: Vec::new(), path, time: 0 }
    }

    fn result(name: &str, ns_per_op: f64) -> AllocatorResult {
        let name = name.to_owned();
        let row = AllocatorRow { name, ns_per_op, peak_rss_kb: 1000, ..AllocatorRow::default() };
        AllocatorResult { row, ..AllocatorResult::default() }
    }

    #[test]
    fn an_allocator_among_the_modules_is_found() {
        let modules = [module("/usr/bin/redis-server"), module("/usr/lib/libjemalloc.so.2")];
        assert_eq!(own_allocator(&modules).as_deref(), Some("libjemalloc.so.2"));
        assert_eq!(own_allocator(&[module("/home/jemalloc/app"), module("libc.so.6")]), None);
    }

    #[test]
    fn a_change_must_beat_the_allocator_that_the_program_has() {
        let program =
            ProgramFigures { cpu_s: 1.0, operations: 10_000_000, ..ProgramFigures::default() };
        let program = ProgramFigures { replay_repeats: 5, ..program };
        let results = [result("system", 60.0), result("jemalloc", 20.0), result("mimalloc", 20.0)];
        assert!(decide_against(None, &results, &program).change, "glibc is beaten");
        let own = Some("libjemalloc.so.2");
        let verdict = decide_against(own, &results, &program);
        assert!(!verdict.change && verdict.allocator == "libjemalloc.so.2", "{verdict:?}");
        let results = [result("system", 60.0), result("jemalloc", 20.0), result("mimalloc", 5.0)];
        let verdict = decide_against(own, &results, &program);
        assert!(verdict.change && verdict.allocator == "mimalloc");
        assert!(verdict.reason.contains("than the program's own libjemalloc.so.2"));
        let verdict = decide_against(Some("libhoard.so"), &results, &program);
        assert!(!verdict.change && verdict.reason.contains("was not replayed"));
    }
}
