//! Mutants: each barrier, flush and hand-over removed in turn must fail the suite.
//!
//! `cargo test -p heapwright-gc --test mutants -- --ignored` copies the crate, changes one place
//! and runs the quick suite; a mutant that survives fails the test. Some minutes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file under `src`, what is taken out, and what comes in.
type Mutant = (&'static str, &'static str, &'static str);

const MUTANTS: [Mutant; 29] = [
    // The write barriers.
    ("mutation.rs", "if finder.found {", "if false && finder.found {"),
    ("mutation.rs", "self.show_overwritten(old);", ""),
    ("mutation.rs", "self.show_overwritten(value);", ""),
    ("mutator.rs", "marker.push(object);", "let _ = marker;"),
    // The borrow of a whole cell.
    (
        "mutation.rs",
        "self.core.log_cell(cell, copy_cell::<T>);\n                }\n            }\n            Barrier::Cycle => self.note_borrow(value)",
        "}\n            }\n            Barrier::Cycle => self.note_borrow(value)",
    ),
    // What waits in queues.
    ("plan/mark_compact.rs", "            self.slider.flush();\n", ""),
    (
        "plan/mark_compact.rs",
        "        self.slider.flush();\n        roots.settle(",
        "        roots.settle(",
    ),
    ("relocate.rs", "Some(field) => self.forward(field),\n", "Some(_) => {}\n"),
    ("mark.rs", "ahead.into_iter().flatten().for_each(|object| self.stack.push(object));", ""),
    ("mark.rs", "self.rests.push(Rest { array, from });", ""),
    // Young large objects, holes of a cycle, and what settling takes over.
    ("plan/generational.rs", "copier.scan(common.large.object(index));", "let _ = index;"),
    ("space/block.rs", "self.block_lines(block)[first..end].fill(cycle);", "let _ = cycle;"),
    ("plan/mod.rs", "self.finals.settle(all, visitor);", ""),
    ("plan/mod.rs", "self.identities.settle(all, visitor);", ""),
    // The layer for virtual machines: barriers and weak tables. Work that changes hands.
    ("vm.rs", "self.mutator.log_cell(place.cast(), copy_word::<L>);", ""),
    ("vm.rs", "= L::decode(old) {", "= L::decode(old).filter(|_| false) {"),
    ("plan/mod.rs", "roots.settle(&mut |object| visitor.settled(object));", ""),
    // What refers to blocks that are emptied: writes, borrows, new objects, objects and parts that
    // were marked, what has moved itself, and what has to stay.
    ("mutation.rs", "|marker| new.trace(marker));", "|_| {});"),
    (
        "vm.rs",
        "self.mutator.remember_write(place.cast()",
        "self.mutator.remember_write(NonNull::<u8>::dangling()",
    ),
    (
        "mutator.rs",
        "remembered.borrowed.push(BorrowedCell { cell, mark, copy });",
        "let _ = (remembered, mark, copy);",
    ),
    ("plan/incremental.rs", "self.marker.remember_object(object);", ""),
    ("plan/incremental.rs", "self.fresh.push(Fresh { start, end: None });", ""),
    (
        "plan/incremental.rs",
        "self.fresh.push(Fresh { start: *start, end });",
        "let _ = (start, end);",
    ),
    ("mark.rs", "self.set_unit(Some(Unit::Object(object)));", ""),
    ("mark.rs", "self.set_unit(Some(Unit::Part(array, from)));", ""),
    ("evacuate.rs", "let object = object.forwarded().unwrap_or(object);", ""),
    ("mark.rs", "self.fate(object).inspect(|object| self.pin(*object))", "self.fate(object)"),
    ("evacuate.rs", "common.trace_roots(roots, copier);", ""),
    ("parallel.rs", "stack.push(object);", "let _ = object;"),
];

#[test]
#[ignore = "mutants tier"]
fn every_mutant_fails_the_suite() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("lies in a workspace");
    let copy = std::env::temp_dir().join(format!("heapwright-gc-mutants-{}", std::process::id()));
    prepare(crates, &copy);
    assert!(passes(&copy), "the suite passes unchanged");
    let mut survivors = Vec::new();
    for (file, from, to) in MUTANTS {
        let path = copy.join("crates/gc/src").join(file);
        let text = fs::read_to_string(&path).expect("is readable");
        assert!(text.contains(from), "{file} has no `{from}`: bring the mutant up to date");
        fs::write(&path, text.replacen(from, to, 1)).expect("is writable");
        let survives = passes(&copy);
        println!("{}: {file}: {from}", if survives { "SURVIVES" } else { "seen" });
        if survives {
            survivors.push((file, from));
        }
        fs::write(&path, text).expect("is writable");
    }
    let _ = fs::remove_dir_all(&copy);
    assert!(survivors.is_empty(), "mutants that nothing notices: {survivors:#?}");
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

/// Whether the quick suite compiles and passes in the copy.
fn passes(copy: &Path) -> bool {
    let tests = [
        "derive",
        "evacuation",
        "finalise",
        "incremental",
        "model",
        "scheme",
        "scope",
        "threads",
        "vm_writes",
        "weak",
    ];
    // A mutant may wait for ever.
    let build = Command::new("timeout")
        .args(["300", env!("CARGO")])
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", copy.join("target"))
        .args(["test", "--quiet", "--offline", "-p", "heapwright-gc", "-j2"])
        .args(tests.iter().flat_map(|test| ["--test", test]))
        .output()
        .expect("cargo can be run");
    let text = String::from_utf8_lossy(&build.stderr);
    let runs = !text.contains("could not compile") && !text.contains("failed to load manifest");
    assert!(runs, "the copy does not compile: {text}");
    build.status.success()
}
