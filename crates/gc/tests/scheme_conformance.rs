//! The tier `scheme`: a public conformance suite for R7RS-small, which is not ours and not here.
//!
//! `HEAPWRIGHT_SCHEME_SUITE=FILE cargo xtask test --tier scheme`, where the file is
//! `tests/r7rs-tests.scm` of Chibi Scheme; `docs/design/scheme.md` tells what it gave.

#[path = "../examples/scheme/interpreter.rs"]
mod interpreter;
#[path = "scheme_suite/settings.rs"]
mod settings;

/// Where the interpreter's objects lie; `scheme_malloc` has another.
mod store {
    pub use heapwright_gc::vm::VmHeap as Store;
}

use heapwright_gc::{Collector, Config};
use interpreter::machine::Machine;

const HARNESS: &str = include_str!("scheme_suite/harness.scm");

/// The suite's groups, and how many tests each has; the suite may have grown since.
const GROUPS: &[(&str, usize)] = &[
    ("4.1 Primitive expression types", 27),
    ("4.2 Derived expression types", 74),
    ("4.3 Macros", 25),
    ("5 Program structure", 15),
    ("6.1 Equivalence Predicates", 25),
    ("6.2 Numbers", 211),
    ("6.3 Booleans", 18),
    ("6.4 Lists", 65),
    ("6.5 Symbols", 17),
    ("6.6 Characters", 79),
    ("6.7 Strings", 130),
    ("6.8 Vectors", 43),
    ("6.9 Bytevectors", 39),
    ("6.10 Control Features", 34),
    ("6.11 Exceptions", 30),
    ("6.12 Environments and evaluation", 4),
    ("Read syntax", 93),
    ("Numeric syntax", 220),
    ("6.13 Input and output", 63),
    ("6.14 System interface", 13),
];

/// Groups that run with a collection at each call, too.
const STRESSED: &[&str] = &["4.1 ", "4.3 ", "5 ", "6.4 ", "6.10 ", "6.11 "];

/// The suite that the environment names; a tier without one has failed, not passed.
fn suite() -> String {
    let file = std::env::var("HEAPWRIGHT_SCHEME_SUITE")
        .expect("HEAPWRIGHT_SCHEME_SUITE names the suite's file");
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Runs the suite; passes and tests by group, in the order in which they end.
fn run(config: Config, suite: &str) -> Vec<(String, usize, usize)> {
    let name = config.collector.name();
    let mut machine = Machine::new(config).expect("the library runs");
    machine.eval(HARNESS).expect("the harness is a library");
    machine.eval(suite).unwrap_or_else(|error| panic!("{name}: {error}\n{}", machine.output));
    machine.memory.collect();
    let (objects, _) = machine.memory.verify();
    let collections = machine.memory.heap().statistics().pauses();
    let symbols = machine.memory.symbol_count();
    println!("{name}: {collections} pauses; {objects} objects and {symbols} symbols at the end");
    let mut groups = Vec::new();
    for line in machine.output.lines() {
        if let Some(rest) = line.strip_prefix("group \"") {
            let (group, counts) = rest.split_once("\" ").expect("counts come after the name");
            let (passed, total) = counts.split_once(" of ").expect("two counts");
            let [passed, total] = [passed, total].map(|text| text.parse().expect("a count"));
            groups.push((group.to_owned(), passed, total));
        } else if line.starts_with("failed ") {
            println!("{name}: {line}");
        }
    }
    groups
}

#[test]
#[ignore = "tier: a suite that is not part of this project"]
fn tier_scheme_passes_the_public_suite_under_every_collector() {
    let suite = suite();
    for collector in Collector::ALL {
        let config = settings::busy(collector);
        let groups = run(config, &suite);
        for (group, wanted) in GROUPS {
            let (_, passed, total) = groups
                .iter()
                .find(|(name, ..)| name == group)
                .unwrap_or_else(|| panic!("the suite has no group {group}"));
            println!("{:13} {group}: {passed} of {total}", collector.name());
            assert!(passed >= wanted, "{collector:?}: {group}: {passed} of {total}");
        }
    }
}

#[test]
#[ignore = "tier: a suite that is not part of this project"]
fn tier_scheme_passes_groups_of_the_suite_with_a_collection_at_each_call() {
    let suite = suite();
    let begin = suite.find("(test-begin \"4.1").expect("the first group");
    let part: String = suite[begin..]
        .split("(test-begin \"")
        .filter(|group| STRESSED.iter().any(|name| group.starts_with(name)))
        .map(|group| format!("(test-begin \"{group}"))
        .collect();
    let part = format!("(import (scheme base) (chibi test))\n{part}");
    for collector in Collector::ALL {
        let config = settings::at_each_call(collector, 256 << 20);
        let groups = run(config, &part);
        assert_eq!(groups.len(), STRESSED.len(), "{collector:?}");
        for (group, passed, total) in groups {
            println!("{:13} {group}: {passed} of {total}", collector.name());
            assert_eq!(passed, total, "{collector:?}: {group}");
        }
    }
}
