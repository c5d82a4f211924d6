//! `test --tier mutants-gc`: what the tests of the collectors would miss.
//!
//! Each barrier, flush and hand-over is taken away in turn, in a copy of the sources. The tests that
//! are about it run first; if they pass, the rest of the quick suite must fail. With
//! `HEAPWRIGHT_MUTANTS=R1,3..9` only those.

use crate::mutant;
use crate::workspace::Workspace;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// With the names of the tests that are about it.
type Mutant = mutant::Mutant<&'static [&'static str]>;

const PACKAGE: &str = "heapwright-gc";
/// A run of the whole quick suite takes a minute of processor time, and a mutant may wait for ever.
const RUN_SECONDS: u32 = 400;

/// The quick suite.
const SUITE: &[&str] = &[
    "barrier",
    "callbacks",
    "derive",
    "evacuation",
    "evacuation_tables",
    "finalise",
    "hurry",
    "incremental",
    "limit",
    "model",
    "scheme",
    "scope",
    "sliced_tables",
    "small_limit",
    "threads",
    "vm_writes",
    "weak",
];

const MUTANTS: &[Mutant] = &[
    Mutant {
        promise: "a young reference that is written into an old cell of several words is found",
        file: "gc/src/mutation.rs",
        from: "if finder.found {",
        to: "if false && finder.found {",
        tests: &["model"],
    },
    Mutant {
        promise: "a logged write is in the log",
        file: "gc/src/mutation.rs",
        from: "&& !self.core.fields.try_push(entry) {",
        to: "&& self.core.barrier.get() == Barrier::Cycle {",
        tests: &["model"],
    },
    Mutant {
        promise: "a write that finds the log full is in the log",
        file: "gc/src/mutation.rs",
        from: "self.core.fields.push_slow(LoggedField(self.core.in_heap(cell)));",
        to: "let _ = cell;",
        tests: &["barrier"],
    },
    Mutant {
        promise: "the mutation knows from which address values are young",
        file: "gc/src/mutator.rs",
        from: "self.young_from.set(young_from(&state));",
        to: "",
        tests: &["model"],
    },
    Mutant {
        promise: "cells of several words that were logged reach the collection",
        file: "gc/src/mutator.rs",
        from: "self.cells.swap(&mut logged.cells);",
        to: "",
        tests: &["barrier"],
    },
    Mutant {
        promise: "a value that is overwritten in a cycle is shown to the marker",
        file: "gc/src/mutation.rs",
        from: "self.show_overwritten(old);",
        to: "",
        tests: &["model"],
    },
    Mutant {
        promise: "a value that is borrowed in a cycle is shown to the marker",
        file: "gc/src/mutation.rs",
        from: "self.show_overwritten(value);",
        to: "",
        tests: &["model"],
    },
    Mutant {
        promise: "what is made strong by a table, or a handle, in a cycle is shown to the marker",
        file: "gc/src/mutator.rs",
        from: "plan.snapshot()\n        {\n            marker.push(object);",
        to: "plan.snapshot()\n        {\n            let _ = marker;",
        tests: &["weak", "sliced_tables"],
    },
    Mutant {
        promise: "a weak reference that is made strong in a cycle is shown to the marker",
        file: "gc/src/mutator.rs",
        from: "plan.snapshot() {\n            marker.push(object);",
        to: "plan.snapshot() {\n            let _ = marker;",
        tests: &["weak", "sliced_tables"],
    },
    Mutant {
        promise: "A1: a collection has the logs of the mutation that ended",
        file: "gc/src/mutator.rs",
        from: "        common.cursor = self.cursor.get();\n        self.swap_logs(&mut common.logged);",
        to: "        common.cursor = self.cursor.get();",
        tests: &["barrier"],
    },
    Mutant {
        promise: "only entries of the same cell are repetitions",
        file: "gc/src/write_log.rs",
        from: "entries[kept - 1].cell() != entries[index].cell()",
        to: "entries[kept - 1].cell().addr().get() / 64 != entries[index].cell().addr().get() / 64",
        tests: &["barrier"],
    },
    Mutant {
        promise: "a borrow of an old cell is logged",
        file: "gc/src/mutation.rs",
        from: "return self.note_borrow(value);\n        }\n        self.core.cells.push(self.logged(cell, copy_cell::<T>));",
        to: "return self.note_borrow(value);\n        }",
        tests: &["model"],
    },
    Mutant {
        promise: "a mutator's hole ends where a whole collection follows a slice",
        file: "gc/src/plan/incremental.rs",
        from: "is_slice && !Pacer::is_short(self.headroom(common), common)",
        to: "is_slice",
        tests: &["hurry"],
    },
    Mutant {
        promise: "holes of candidates are no room for the program",
        file: "gc/src/space/block/sparse.rs",
        from: "self.withheld_bytes += BLOCK_BYTES - live;",
        to: "let _ = live;",
        tests: &["hurry"],
    },
    Mutant {
        promise: "holes that are too short for what is made are no room for it",
        file: "gc/src/space/block.rs",
        from: "holes.filter(|len| *len >= lines).sum()",
        to: "holes.filter(|len| *len >= lines.min(1)).sum()",
        tests: &["hurry"],
    },
    Mutant {
        promise: "a cycle that left no room for a mutation is followed by a whole collection",
        file: "gc/src/plan/incremental.rs",
        from: "if is_short && !begins &&",
        to: "if false && is_short && !begins &&",
        tests: &["hurry"],
    },
    Mutant {
        promise: "an allocation that finds no room sweeps on",
        file: "gc/src/space/block.rs",
        from: "None if self.sweep_more() => {}",
        to: "None if false && self.sweep_more() => {}",
        tests: &["hurry"],
    },
    Mutant {
        promise: "places that wait for their objects' plans are settled before objects move",
        file: "gc/src/plan/mark_compact.rs",
        from: "an object\");\n        self.slider.flush();\n",
        to: "an object\");\n",
        tests: &["model"],
    },
    Mutant {
        promise: "an object that has moved has the mark of its collection",
        file: "gc/src/plan/mark_compact.rs",
        from: "            object.claim_alone(mark);\n",
        to: "",
        tests: &["model"],
    },
    Mutant {
        promise: "places that wait in the copier's queue are settled",
        file: "gc/src/relocate.rs",
        from: "Some(field) => self.forward(field),\n",
        to: "Some(_) => {}\n",
        tests: &["model"],
    },
    Mutant {
        promise: "objects that wait in the marker's queue are kept when a slice ends",
        file: "gc/src/mark.rs",
        from: "ahead.into_iter().flatten().for_each(|object| self.stack.push(object));",
        to: "",
        tests: &["model"],
    },
    Mutant {
        promise: "the rest of a long array is marked",
        file: "gc/src/mark.rs",
        from: "self.rests.push(Rest { array, from });",
        to: "",
        tests: &["model"],
    },
    Mutant {
        promise: "young large objects are visited by a minor collection",
        file: "gc/src/plan/generational.rs",
        from: "copier.scan(common.large.object(index));",
        to: "let _ = index;",
        tests: &["model"],
    },
    Mutant {
        promise: "B3: holes that were given out before a cycle are marked when it begins",
        file: "gc/src/space/block.rs",
        from: "self.block_lines(block)[first..end].fill(cycle);",
        to: "let _ = cycle;",
        tests: &["model"],
    },
    Mutant {
        promise: "B3: a hole for a large request is marked in a cycle",
        file: "gc/src/space/block.rs",
        from: "lines[first..first + length].fill(cycle);",
        to: "let _ = cycle;",
        tests: &["small_limit"],
    },
    Mutant {
        promise: "near its limit the old space is collected instead of ever smaller nurseries",
        file: "gc/src/plan/generational.rs",
        from: "common.is_full_due(self.old_bytes(), least_room(common))",
        to: "common.is_full_due(self.old_bytes(), 0 * least_room(common))",
        tests: &["small_limit"],
    },
    Mutant {
        promise: "finalised objects are settled after marking",
        file: "gc/src/plan/mod.rs",
        from: "self.finals.settle(all, visitor);",
        to: "",
        tests: &["finalise"],
    },
    Mutant {
        promise: "N1: identities are settled after marking",
        file: "gc/src/plan/mod.rs",
        from: "self.identities.settle(all, visitor);",
        to: "",
        tests: &["weak"],
    },
    Mutant {
        promise: "vm: a logged write is in the log",
        file: "gc/src/vm.rs",
        from: "self.mutator.concerns(target) && !self.mutator.fields.try_push(entry)",
        to: "self.mutator.concerns(target) && self.mutator.barrier.get() == Barrier::Cycle",
        tests: &["scheme", "vm_writes"],
    },
    Mutant {
        promise: "vm: a write that finds the log full is in the log",
        file: "gc/src/vm.rs",
        from: "return self.mutator.fields.push_slow(entry);",
        to: "return;",
        tests: &["scheme", "vm_writes"],
    },
    Mutant {
        promise: "vm: a value that is overwritten in a cycle is shown to the marker",
        file: "gc/src/vm.rs",
        from: "= L::decode(old) {",
        to: "= L::decode(old).filter(|_| false) {",
        tests: &["scheme", "vm_writes"],
    },
    Mutant {
        promise: "vm: what a machine holds weakly is settled",
        file: "gc/src/plan/mod.rs",
        from: "roots.settle(&mut |object| visitor.settled(object));",
        to: "",
        tests: &["scheme"],
    },
    Mutant {
        promise: "R1: a write into a cell is remembered for the block that it refers into",
        file: "gc/src/mutation.rs",
        from: "|marker| new.trace(marker));",
        to: "|_| {});",
        tests: &["evacuation"],
    },
    Mutant {
        promise: "vm: R1: a write is remembered for the block that it refers into",
        file: "gc/src/vm.rs",
        from: "self.mutator.remember_write(place.cast()",
        to: "self.mutator.remember_write(NonNull::<u8>::dangling()",
        tests: &["vm_writes"],
    },
    Mutant {
        promise: "R1: a borrowed cell is looked at when the borrow has ended",
        file: "gc/src/mutator.rs",
        from: "remembered.borrowed.push(BorrowedCell { cell, mark, copy });",
        to: "let _ = (remembered, mark, copy);",
        tests: &["evacuation"],
    },
    Mutant {
        promise: "R1: large objects made in a cycle are looked at",
        file: "gc/src/plan/incremental.rs",
        from: "self.marker.remember_object(object);",
        to: "",
        tests: &["evacuation"],
    },
    Mutant {
        promise: "R1: the hole that the mutator fills is looked at by the next slice",
        file: "gc/src/plan/incremental.rs",
        from: "self.fresh.push(Fresh { start, end: None });",
        to: "",
        tests: &["evacuation"],
    },
    Mutant {
        promise: "R1: an object with a hole of its own is looked at",
        file: "gc/src/plan/incremental.rs",
        from: "self.fresh.push(Fresh { start: *start, end });",
        to: "let _ = (start, end);",
        tests: &["evacuation"],
    },
    Mutant {
        promise: "R1: a marked object is remembered for the blocks that it refers into",
        file: "gc/src/mark.rs",
        from: "self.set_unit(Some(Unit::Object(object)));",
        to: "",
        tests: &["evacuation"],
    },
    Mutant {
        promise: "R1: a part of an array is remembered for the blocks that it refers into",
        file: "gc/src/mark.rs",
        from: "self.set_unit(Some(Unit::Part(array, from)));",
        to: "",
        tests: &["evacuation"],
    },
    Mutant {
        promise: "R2: what was remembered and has moved is visited where it is",
        file: "gc/src/evacuate.rs",
        from: "let object = object.forwarded().unwrap_or(object);",
        to: "",
        tests: &["evacuation"],
    },
    Mutant {
        promise: "in slices a block stays that a table names something in",
        file: "gc/src/mark.rs",
        from: "fate.inspect(|object| self.pin(*object))",
        to: "fate",
        tests: &["evacuation"],
    },
    Mutant {
        promise: "roots follow what moved in one step",
        file: "gc/src/evacuate.rs",
        from: "common.trace_roots(roots, copier);",
        to: "",
        tests: &["evacuation"],
    },
    Mutant {
        promise: "P2: work that changes hands arrives",
        file: "gc/src/team.rs",
        from: "stack.push(item);",
        to: "let _ = item;",
        tests: &["threads"],
    },
    Mutant {
        promise: "the rest of an array that several copy is visited",
        file: "gc/src/copying.rs",
        from: "self.rests.push(Rest { array, from });",
        to: "let _ = from;",
        tests: &["threads"],
    },
    Mutant {
        promise: "what each thread remembered is visited",
        file: "gc/src/parallel.rs",
        from: "remembered.entries().iter().for_each(|entry| all.push(*entry));",
        to: "let _ = (remembered, &mut all);",
        tests: &["evacuation", "evacuation_tables"],
    },
    Mutant {
        promise: "E1: pairs follow what moved in one step",
        file: "gc/src/plan/mod.rs",
        from: "self.pairs.relocate(place);",
        to: "",
        tests: &["evacuation_tables"],
    },
    Mutant {
        promise: "D2: a handle dropped before the cycle has looked at it keeps its object for this cycle",
        file: "gc/src/dynamic_root.rs",
        from: "*slot = Slot::Leaving(object);\n            return;",
        to: "let _ = object;",
        tests: &["sliced_tables"],
    },
    Mutant {
        promise: "H1: handles that go before the cycle has looked at them are shown to the marker",
        file: "gc/src/mutator.rs",
        from: "self.locals.leave(len, &mut |object| self.show(object));",
        to: "",
        tests: &["sliced_tables"],
    },
    Mutant {
        promise: "what was found dead is not made strong before its pair is cleared",
        file: "gc/src/mutator.rs",
        from: "!state.plan.is_settling()\n",
        to: "true\n",
        tests: &["sliced_tables"],
    },
    Mutant {
        promise: "F1: objects with finalisers that were found dead are queued",
        file: "gc/src/finalise.rs",
        from: "self.found.push(entry);",
        to: "",
        tests: &["sliced_tables"],
    },
    Mutant {
        promise: "the table of identities stays reachable when an entry leaves",
        file: "gc/src/identity.rs",
        from: "slots[gap] = Some(entry);\n",
        to: "",
        tests: &["sliced_tables"],
    },
    Mutant {
        promise: "ephemerons are looked at again after an object was marked",
        file: "gc/src/weak.rs",
        from: "self.marked = marked;\n            self.quiet = 0;",
        to: "",
        tests: &["sliced_tables", "weak"],
    },
    Mutant {
        promise: "roots looked at in slices are marked",
        file: "gc/src/plan/incremental.rs",
        from: "                marker.push(object);\n",
        to: "",
        tests: &["sliced_tables", "evacuation"],
    },
    Mutant {
        promise: "where all blocks are alike, as many are emptied as there is room for",
        file: "gc/src/space/block/sparse.rs",
        from: "let some = ((bytes_max - sum) / step_bytes).min((holes_max - freed) / BLOCK_BYTES);",
        to: "let some = 0;",
        tests: &["evacuation_tables"],
    },
    Mutant {
        promise: "what is given out for an object is within the limit, too",
        file: "gc/src/state.rs",
        from: "0..=LARGE_BYTES => GIVEN_BYTES_MAX,",
        to: "0..=LARGE_BYTES => bytes,",
        tests: &["limit"],
    },
];

/// Tries every mutant, or those of `HEAPWRIGHT_MUTANTS`; all must be seen.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let chosen = mutant::chosen(MUTANTS)?;
    let copy = Copy::of(workspace)?;
    // Each run of a part begins with the tests that are about it, all of them with the suite.
    let first: BTreeSet<&str> = match chosen.len() {
        len if len == MUTANTS.len() => SUITE.iter().copied().collect(),
        _ => chosen.iter().flat_map(|mutant| mutant.tests).copied().collect(),
    };
    copy.run(&Vec::from_iter(first)).map_err(|error| format!("without any mutant: {error}"))?;
    let test = |mutant: &Mutant| copy.run(mutant.tests).and_then(|()| copy.run(SUITE));
    mutant::try_each(&copy.sources, &chosen, |mutant| copy.build(mutant.tests), test)
}

/// Where mutants are built and tried.
struct Copy {
    sources: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn of(workspace: &Workspace) -> Result<Self, String> {
        let copy = Self {
            sources: workspace.target.join("mutants"),
            target: workspace.target.join("mutants-target"),
        };
        mutant::copy_sources(&workspace.root, &copy.sources)?;
        Ok(copy)
    }

    fn build(&self, tests: &[&str]) -> Result<(), String> {
        mutant::build_tests(&self.sources, &self.target, PACKAGE, &arguments(tests))
    }

    fn run(&self, tests: &[&str]) -> Result<(), String> {
        let arguments = arguments(tests);
        mutant::run_tests(&self.sources, &self.target, PACKAGE, &arguments, RUN_SECONDS)
    }
}

/// The unit tests and these.
fn arguments<'a>(tests: &[&'a str]) -> Vec<&'a str> {
    ["--lib"].into_iter().chain(tests.iter().flat_map(|test| ["--test", test])).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_mutants_take_away_is_there() {
        crate::mutant::expect_in_sources(super::MUTANTS);
    }
}
