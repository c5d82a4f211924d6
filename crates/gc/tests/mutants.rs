//! Mutants: each barrier, flush and hand-over removed in turn must fail the suite.
//!
//! `cargo test -p heapwright-gc --test mutants -- --ignored` copies the crate, changes one place
//! and runs the tests that are about it and, if those pass, the rest of the quick suite; a mutant
//! that survives fails the test. Some minutes. `HEAPWRIGHT_MUTANTS=3..9` runs some of them.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The tests that run first, by name; a file under `src`; what is taken out; what comes in.
type Mutant = (&'static str, &'static str, &'static str, &'static str);

const MUTANTS: [Mutant; 48] = [
    // The write barriers.
    ("model", "mutation.rs", "if finder.found {", "if false && finder.found {"),
    (
        "model",
        "mutation.rs",
        "&& !self.core.fields.try_push(entry) {",
        "&& self.core.barrier.get() == Barrier::Cycle {",
    ),
    (
        "barrier",
        "mutation.rs",
        "self.core.fields.push_slow(LoggedField(self.core.in_heap(cell)));",
        "let _ = cell;",
    ),
    ("model", "mutator.rs", "self.young_from.set(young_from(&state));", ""),
    ("barrier", "mutator.rs", "self.cells.swap(&mut logged.cells);", ""),
    ("model", "mutation.rs", "self.show_overwritten(old);", ""),
    ("model", "mutation.rs", "self.show_overwritten(value);", ""),
    ("weak", "mutator.rs", "marker.push(object);", "let _ = marker;"),
    // The log: what is in it, and what is a repetition.
    (
        "barrier",
        "mutator.rs",
        "        common.cursor = self.cursor.get();\n        self.swap_logs(&mut common.logged);",
        "        common.cursor = self.cursor.get();",
    ),
    (
        "barrier",
        "write_log.rs",
        "entries[kept - 1].cell() != entries[index].cell()",
        "entries[kept - 1].cell().addr().get() / 64 != entries[index].cell().addr().get() / 64",
    ),
    // The borrow of a whole cell.
    (
        "model",
        "mutation.rs",
        "return self.note_borrow(value);\n        }\n        self.core.cells.push(self.logged(cell, copy_cell::<T>));",
        "return self.note_borrow(value);\n        }",
    ),
    // What waits in queues.
    (
        "model",
        "plan/mark_compact.rs",
        "an object\");\n        self.slider.flush();\n",
        "an object\");\n",
    ),
    ("model", "plan/mark_compact.rs", "            object.claim_alone(mark);\n", ""),
    ("model", "relocate.rs", "Some(field) => self.forward(field),\n", "Some(_) => {}\n"),
    (
        "model",
        "mark.rs",
        "ahead.into_iter().flatten().for_each(|object| self.stack.push(object));",
        "",
    ),
    ("model", "mark.rs", "self.rests.push(Rest { array, from });", ""),
    // Young large objects, holes of a cycle, and what settling takes over.
    ("model", "plan/generational.rs", "copier.scan(common.large.object(index));", "let _ = index;"),
    (
        "model",
        "space/block.rs",
        "self.block_lines(block)[first..end].fill(cycle);",
        "let _ = cycle;",
    ),
    (
        "small_limit",
        "space/block.rs",
        "lines[first..first + length].fill(cycle);",
        "let _ = cycle;",
    ),
    // The room below which the old space is collected instead of ever smaller nurseries.
    (
        "small_limit",
        "plan/generational.rs",
        "common.is_full_due(self.old_bytes(), least_room(common))",
        "common.is_full_due(self.old_bytes(), 0 * least_room(common))",
    ),
    ("finalise", "plan/mod.rs", "self.finals.settle(all, visitor);", ""),
    ("weak", "plan/mod.rs", "self.identities.settle(all, visitor);", ""),
    // The layer for virtual machines: barriers and weak tables. Work that changes hands.
    (
        "scheme vm_writes",
        "vm.rs",
        "self.mutator.concerns(target) && !self.mutator.fields.try_push(entry)",
        "self.mutator.concerns(target) && self.mutator.barrier.get() == Barrier::Cycle",
    ),
    ("scheme vm_writes", "vm.rs", "return self.mutator.fields.push_slow(entry);", "return;"),
    ("scheme vm_writes", "vm.rs", "= L::decode(old) {", "= L::decode(old).filter(|_| false) {"),
    ("scheme", "plan/mod.rs", "roots.settle(&mut |object| visitor.settled(object));", ""),
    // What refers to blocks that are emptied: writes, borrows, new objects, objects and parts that
    // were marked, what has moved itself, and what has to stay.
    ("evacuation", "mutation.rs", "|marker| new.trace(marker));", "|_| {});"),
    (
        "vm_writes",
        "vm.rs",
        "self.mutator.remember_write(place.cast()",
        "self.mutator.remember_write(NonNull::<u8>::dangling()",
    ),
    (
        "evacuation",
        "mutator.rs",
        "remembered.borrowed.push(BorrowedCell { cell, mark, copy });",
        "let _ = (remembered, mark, copy);",
    ),
    ("evacuation", "plan/incremental.rs", "self.marker.remember_object(object);", ""),
    ("evacuation", "plan/incremental.rs", "self.fresh.push(Fresh { start, end: None });", ""),
    (
        "evacuation",
        "plan/incremental.rs",
        "self.fresh.push(Fresh { start: *start, end });",
        "let _ = (start, end);",
    ),
    ("evacuation", "mark.rs", "self.set_unit(Some(Unit::Object(object)));", ""),
    ("evacuation", "mark.rs", "self.set_unit(Some(Unit::Part(array, from)));", ""),
    ("evacuation", "evacuate.rs", "let object = object.forwarded().unwrap_or(object);", ""),
    ("evacuation", "mark.rs", "fate.inspect(|object| self.pin(*object))", "fate"),
    ("evacuation", "evacuate.rs", "common.trace_roots(roots, copier);", ""),
    // Work of several threads: what is taken over, the rest of an array, what was remembered.
    ("threads", "team.rs", "stack.push(item);", "let _ = item;"),
    ("threads", "copying.rs", "self.rests.push(Rest { array, from });", "let _ = from;"),
    (
        "evacuation evacuation_tables",
        "parallel.rs",
        "remembered.entries().iter().for_each(|entry| all.push(*entry));",
        "let _ = (remembered, &mut all);",
    ),
    // Tables whose objects move in one step; roots and tables that are looked at in slices.
    ("evacuation_tables", "plan/mod.rs", "self.pairs.relocate(place);", ""),
    (
        "sliced_tables",
        "dynamic_root.rs",
        "*slot = Slot::Leaving(object);\n            return;",
        "let _ = object;",
    ),
    ("sliced_tables", "mutator.rs", "self.locals.leave(len, &mut |object| self.show(object));", ""),
    ("sliced_tables", "mutator.rs", "!state.plan.is_settling()\n", "true\n"),
    ("sliced_tables", "finalise.rs", "self.found.push(entry);", ""),
    ("sliced_tables", "identity.rs", "slots[gap] = Some(entry);\n", ""),
    ("sliced_tables weak", "weak.rs", "self.marked = marked;\n            self.quiet = 0;", ""),
    (
        "sliced_tables evacuation",
        "plan/incremental.rs",
        "                marker.push(object);\n",
        "",
    ),
];

/// The quick suite.
const TESTS: [&str; 15] = [
    "barrier",
    "callbacks",
    "derive",
    "evacuation",
    "evacuation_tables",
    "finalise",
    "incremental",
    "model",
    "scheme",
    "scope",
    "sliced_tables",
    "small_limit",
    "threads",
    "vm_writes",
    "weak",
];

#[test]
#[ignore = "mutants tier"]
fn every_mutant_fails_the_suite() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("lies in a workspace");
    let copy = std::env::temp_dir().join(format!("heapwright-gc-mutants-{}", std::process::id()));
    prepare(crates, &copy);
    let chosen = chosen();
    // Once is enough where they are run bit by bit.
    assert!(chosen.start > 0 || passes(&copy, &TESTS), "the suite passes unchanged");
    let mut survivors = Vec::new();
    for (first, file, from, to) in &MUTANTS[chosen] {
        let path = copy.join("crates/gc/src").join(file);
        let text = fs::read_to_string(&path).expect("is readable");
        assert!(text.contains(from), "{file} has no `{from}`: bring the mutant up to date");
        fs::write(&path, text.replacen(from, to, 1)).expect("is writable");
        let first: Vec<&str> = first.split(' ').collect();
        let survives = passes(&copy, &first) && passes(&copy, &TESTS);
        println!("{}: {file}: {from}", if survives { "SURVIVES" } else { "seen" });
        if survives {
            survivors.push((file, from));
        }
        fs::write(&path, text).expect("is writable");
    }
    let _ = fs::remove_dir_all(&copy);
    assert!(survivors.is_empty(), "mutants that nothing notices: {survivors:#?}");
}

/// All mutants, or those that the environment names.
fn chosen() -> Range<usize> {
    let Ok(text) = std::env::var("HEAPWRIGHT_MUTANTS") else { return 0..MUTANTS.len() };
    let (from, to) = text.split_once("..").expect("FROM..TO");
    let number = |text: &str, default| text.parse().unwrap_or(default);
    number(from, 0)..number(to, MUTANTS.len()).min(MUTANTS.len())
}

/// A workspace with what the crate and its tests need.
fn prepare(crates: &Path, copy: &Path) {
    for name in ["core", "gc", "gc-derive", "os", "sync", "testkit"] {
        copy_all(&crates.join(name), &copy.join("crates").join(name));
    }
    let root = crates.parent().expect("lies in a workspace");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("is readable");
    let (before, rest) = manifest.split_once("default-members").expect("has default members");
    let (_, after) = rest.split_once("]\n").expect("the list ends");
    let manifest =
        format!("{before}{after}").replace(r#""crates/*", "examples/*""#, r#""crates/*""#);
    fs::write(copy.join("Cargo.toml"), manifest).expect("is writable");
    let _ = fs::copy(root.join("Cargo.lock"), copy.join("Cargo.lock"));
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("is writable");
    for entry in fs::read_dir(from).expect("is readable").flatten() {
        let target: PathBuf = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("is writable");
        }
    }
}

/// Whether the unit tests and these compile and pass in the copy.
fn passes(copy: &Path, tests: &[&str]) -> bool {
    // A mutant may wait for ever.
    let build = Command::new("timeout")
        .args(["240", env!("CARGO")])
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", copy.join("target"))
        .args(["test", "--quiet", "--offline", "-p", "heapwright-gc", "-j2", "--lib"])
        .args(tests.iter().flat_map(|test| ["--test", test]))
        .output()
        .expect("cargo can be run");
    let text = String::from_utf8_lossy(&build.stderr);
    let runs = !text.contains("could not compile") && !text.contains("failed to load manifest");
    assert!(runs, "the copy does not compile: {text}");
    build.status.success()
}
