//! `test --tier mutants`: what the tests of the region allocators would miss, and those of the
//! general one's quick refills.
//!
//! Each soundness check is taken away in turn, in a copy of the sources; the tests must fail. A
//! mutant that lives is a promise that nothing watches over. `test --tier mutants-regions` is this
//! alone; with `HEAPWRIGHT_MUTANTS=L7,P2` only those invariants are broken.

use crate::mutant;
use crate::workspace::Workspace;
use std::path::Path;

type Mutant = mutant::Mutant<&'static [&'static str]>;

/// The package whose tests must see a mutant; the one of regions tests the core's buddy, too.
fn package(mutant: &Mutant) -> &'static str {
    if mutant.file.starts_with("malloc/") { "heapwright-malloc" } else { "heapwright-regions" }
}

const LIB: &[&str] = &["--lib"];
const MODELS: &[&str] = &["--test", "models"];

const MUTANTS: &[Mutant] = &[
    Mutant {
        promise: "L4, L5: a block from below the scope is not the last",
        file: "regions/src/linear/arena.rs",
        from: "&& start >= self.floor.get()",
        to: "",
        tests: LIB,
    },
    Mutant {
        promise: "L2: used memory is cleared for a zeroed block",
        file: "regions/src/linear/arena.rs",
        from: "self.high.get().saturating_sub(start).min(layout.size())",
        to: "0",
        tests: LIB,
    },
    Mutant {
        promise: "P1: a slot is free once",
        file: "regions/src/pool/blocks.rs",
        from: "if next == Some(slot) {",
        to: "if false {",
        tests: LIB,
    },
    Mutant {
        promise: "H1: a handle names its value only",
        file: "regions/src/pool/handles.rs",
        from: "if entry.header != handle.to_bits() {",
        to: "if false {",
        tests: MODELS,
    },
    Mutant {
        promise: "H2: a slot retires when its generation wraps",
        file: "regions/src/pool/handles.rs",
        from: "entry.header.checked_add(TO_HANDLE)?",
        to: "entry.header.wrapping_add(TO_HANDLE)",
        tests: LIB,
    },
    Mutant {
        promise: "a branded handle is of its pool",
        file: "regions/src/pool/branded.rs",
        from: "handle.pool == self.number",
        to: "true",
        tests: LIB,
    },
    Mutant {
        promise: "S2: out of order is an error",
        file: "regions/src/stack.rs",
        from: "} else if self.out_of_order == OutOfOrder::Refuse {",
        to: "} else if false {",
        tests: &["--test", "stack_buddy_model"],
    },
    Mutant {
        promise: "SL5: no two blocks share a line",
        file: "regions/src/slab/caches.rs",
        from: "if self.lines == Lines::Whole { LINE_BYTES } else { QUANTUM_BYTES }",
        to: "QUANTUM_BYTES",
        tests: MODELS,
    },
    Mutant {
        promise: "C1: canaries behind a block are looked at",
        file: "regions/src/checked.rs",
        from: "match first_other(back, BACK_BYTES, CANARY) {",
        to: "match None::<usize> {",
        tests: MODELS,
    },
    Mutant {
        promise: "C2: a dead block is told from a live one",
        file: "regions/src/checked.rs",
        from: "if tag.state == self.mixed(DEAD, block) {",
        to: "if false {",
        tests: MODELS,
    },
    Mutant {
        promise: "F1: a header with a wrong checksum is refused",
        file: "regions/src/file_heap/header.rs",
        from: "if stored != computed {",
        to: "if false {",
        tests: LIB,
    },
    Mutant {
        promise: "a quota holds",
        file: "regions/src/backing/limited.rs",
        from: "Some(sum) if sum <= self.limit_bytes => Ok(sum),",
        to: "Some(sum) => Ok(sum),",
        tests: LIB,
    },
    Mutant {
        promise: "L1: a block is aligned as its layout says",
        file: "regions/src/linear/arena.rs",
        from: "let skip = start.wrapping_neg() & (layout.align() - 1);",
        to: "let skip = 0;",
        tests: &["--test", "linear_model"],
    },
    Mutant {
        promise: "L6: a destructor is off the list before it runs",
        file: "regions/src/linear/destructors.rs",
        from: "            self.destructors.set(next);\n            // SAFETY: `at`",
        to: "            let _ = next;\n            // SAFETY: `at`",
        tests: &["--test", "linear_objects"],
    },
    Mutant {
        promise: "L9: a shared arena hands out what is committed",
        file: "regions/src/linear/shared.rs",
        from: "if end <= committed_bytes {",
        to: "if true {",
        tests: MODELS,
    },
    Mutant {
        promise: "P3: a bounded pool takes no more",
        file: "regions/src/pool/blocks.rs",
        from: "        pool.bounded = true;\n",
        to: "",
        tests: LIB,
    },
    Mutant {
        promise: "P5: a batch of the depot is whole",
        file: "regions/src/pool/shared.rs",
        from: "        self.batch_count += 1;\n",
        to: "",
        tests: MODELS,
    },
    Mutant {
        promise: "H3: a value that went is not counted",
        file: "regions/src/pool/handles.rs",
        from: "((tally & UPPER) - UPPER_ONE) | u64::from(handle.index())",
        to: "tally & UPPER | u64::from(handle.index())",
        tests: &["--test", "pool_model"],
    },
    Mutant {
        promise: "H4: what has a value has its bit",
        file: "regions/src/pool/handles.rs",
        from: "        self.set_live(index);\n        handle",
        to: "        handle",
        tests: &["--test", "pool_model"],
    },
    Mutant {
        promise: "S1: the low end stays below the high one",
        file: "regions/src/stack.rs",
        from: "(cursor >= low as usize).then_some(",
        to: "true.then_some(",
        tests: &["--test", "stack_buddy_model"],
    },
    Mutant {
        promise: "B2: buddies join",
        file: "core/src/buddy.rs",
        from: "while self.orders[order].get(self.table.as_ref(), index ^ 1) {",
        to: "while false {",
        tests: &["--test", "stack_buddy_model"],
    },
    Mutant {
        promise: "B4: free leaves are counted",
        file: "core/src/buddy.rs",
        from: "        self.free_leaves += 1 << order;\n",
        to: "",
        tests: &["--test", "stack_buddy_model"],
    },
    Mutant {
        promise: "B5: an address that is no block is refused",
        file: "regions/src/buddy.rs",
        from: "if *word & bit == 0 {",
        to: "if false {",
        tests: &["--test", "stack_buddy_model"],
    },
    Mutant {
        promise: "SL1: free runs join",
        file: "regions/src/slab/pages.rs",
        from: "            if run > 0 {\n                self.unlink(after);",
        to: "            if false {\n                self.unlink(after);",
        tests: MODELS,
    },
    Mutant {
        promise: "SL2: every page knows the first of its span",
        file: "regions/src/slab/pages.rs",
        from: "self.ground.header(first + back).back.set(back as u8);",
        to: "let _ = back;",
        tests: MODELS,
    },
    Mutant {
        promise: "SL3: slots that came back are not in use",
        file: "regions/src/slab/caches.rs",
        from: "    header.set_used(header.used() - 1);\n",
        to: "",
        tests: MODELS,
    },
    Mutant {
        promise: "SL4: a span without a slot is on no list",
        file: "regions/src/slab/caches.rs",
        from: "        if header.unused.get() == 0 {\n            self.unlink(class, page);",
        to: "        if false {\n            self.unlink(class, page);",
        tests: MODELS,
    },
    Mutant {
        promise: "SL6: a block of another's span goes to its owner",
        file: "regions/src/slab/caches.rs",
        from: "        if !home.is_mine(header) {",
        to: "        if false {",
        tests: MODELS,
    },
    Mutant {
        promise: "T1: free bytes are counted",
        file: "regions/src/tight/mod.rs",
        from: "        self.free_bytes.set(self.free_bytes.get() + length as usize);\n",
        to: "",
        tests: MODELS,
    },
    Mutant {
        promise: "T2: a block's start is marked when its neighbour in front is not free",
        file: "regions/src/tight/mod.rs",
        from: "        } else {\n            ground.set_bit(start, true);",
        to: "        } else {\n            ground.set_bit(start, false);",
        tests: MODELS,
    },
    Mutant {
        promise: "T3: the summary forgets an empty list",
        file: "regions/src/tight/mod.rs",
        from: "row.set(row.get() & !emptied.wrapping_shl(list.step as u32));",
        to: "let _ = (row, emptied);",
        tests: MODELS,
    },
    Mutant {
        promise: "T4: a freed block joins the one in front",
        file: "regions/src/tight/mod.rs",
        from: "if ground.bit_before(start) {",
        to: "if false {",
        tests: MODELS,
    },
    Mutant {
        promise: "G1: no more than a quarter comes in ahead",
        file: "regions/src/growth.rs",
        from: "from >> POPULATE_SHARE_LOG2",
        to: "from",
        tests: &["--test", "growth"],
    },
    Mutant {
        promise: "G1: what comes next is brought in",
        file: "regions/src/growth.rs",
        from: "InOrder || to < HUGE_FROM_BYTES {\n        ask(from, next, Prepare::Populate);",
        to: "InOrder || to < HUGE_FROM_BYTES {\n        let _ = next;",
        tests: &["--test", "growth"],
    },
    Mutant {
        promise: "C3: the poison of a dead block is looked at",
        file: "regions/src/checked.rs",
        from: "let written = first_other(block, layout.size(), POISON);",
        to: "let written: Option<usize> = None;",
        tests: MODELS,
    },
    Mutant {
        promise: "L3: a chunk of one block is spare only when its block has ended",
        file: "regions/src/linear/scope.rs",
        from: "self.spare_oversize(mark.oversize);",
        to: "self.spare_oversize(None);",
        tests: &["--test", "linear_model"],
    },
    Mutant {
        promise: "L7: a block of no bytes takes nothing",
        file: "regions/src/linear/arena.rs",
        from: "if layout.size() == 0 {\n            // L7",
        to: "if false {\n            // L7",
        tests: LIB,
    },
    Mutant {
        promise: "L10: a handle's piece is its alone",
        file: "regions/src/linear/shared.rs",
        from: "start.add(PIECE_BYTES)",
        to: "start.add(2 * PIECE_BYTES)",
        tests: MODELS,
    },
    Mutant {
        promise: "P2: a slot is aligned for a link",
        file: "regions/src/pool/blocks.rs",
        from: "let align = if layout.align() > link.align() { layout.align() } else { link.align() };",
        to: "let align = layout.align();",
        tests: &["--test", "pool_model"],
    },
    Mutant {
        promise: "P4: a batch that was taken is in the depot no more",
        file: "regions/src/pool/shared.rs",
        from: "{ first.read() }.next_batch;\n",
        to: "{ first.read() }.next_batch.or(Some(first));\n",
        tests: MODELS,
    },
    Mutant {
        promise: "D1: the last value moves into the gap",
        file: "regions/src/pool/dense.rs",
        from: "{ gap.copy_from_nonoverlapping(moved, 1) };",
        to: "{ gap.copy_from_nonoverlapping(moved, 0) };",
        tests: &["--test", "pool_model"],
    },
    Mutant {
        promise: "D2: its slot knows where it went",
        file: "regions/src/pool/dense.rs",
        from: "self.set_slot(owner, Slot { generation, place: place as u32 });",
        to: "let _ = generation;",
        tests: &["--test", "pool_model"],
    },
    Mutant {
        promise: "D3: a slot with a value is on the free list no more",
        file: "regions/src/pool/dense.rs",
        from: "            self.free = slot.place;\n",
        to: "",
        tests: &["--test", "pool_model"],
    },
    Mutant {
        promise: "B1: a block that is split is free no more",
        file: "core/src/buddy.rs",
        from: "        self.clear(at, index);\n        while at > order {",
        to: "        while at > order {",
        tests: &["--test", "stack_buddy_model"],
    },
    Mutant {
        promise: "B3: an order without a block is not occupied",
        file: "core/src/buddy.rs",
        from: "            self.occupied &= !(1 << order);\n",
        to: "",
        tests: &["--test", "stack_buddy_model"],
    },
    Mutant {
        promise: "B6: what came back lately is joined before a refusal",
        file: "regions/src/buddy.rs",
        from: "        self.settle(trim);\n        let whole",
        to: "        let whole",
        tests: &["--test", "stack_buddy_model"],
    },
    Mutant {
        promise: "SL4: an empty span is alone on its list",
        file: "regions/src/slab/caches.rs",
        from: "            self.give_empty(home, class);\n            self.link(class, page);",
        to: "            self.link(class, page);",
        tests: MODELS,
    },
    Mutant {
        promise: "M3: a stale handle names nothing",
        file: "regions/src/compacting/heap.rs",
        from: "if header.generation.get() != name.1 {",
        to: "if false {",
        tests: LIB,
    },
    Mutant {
        promise: "M5: holes before a pass are in no list",
        file: "regions/src/compacting/heap.rs",
        from: "if place >= self.sweep.from() {",
        to: "if false {",
        tests: LIB,
    },
    Mutant {
        promise: "M7: a pinned block is not moved",
        file: "regions/src/compacting/compaction.rs",
        from: "if state != 0 && !is_names {",
        to: "if false {",
        tests: LIB,
    },
    Mutant {
        promise: "M8: the gap is nobody's during a transit",
        file: "regions/src/compacting/compaction.rs",
        from: " || self.sweep.transit.get().is_some()",
        to: "",
        tests: LIB,
    },
    Mutant {
        promise: "M9: the directory is not given back",
        file: "regions/src/compacting/memory.rs",
        from: "self.low_bytes.get().min(self.ceiling.get()) & !",
        to: "self.low_bytes.get() & !",
        tests: LIB,
    },
    Mutant {
        promise: "nothing moves during a walk",
        file: "regions/src/compacting/compaction.rs",
        from: "if self.walk_count.get() > 0 {",
        to: "if false {",
        tests: LIB,
    },
    Mutant {
        promise: "malloc: a purger leaves the links of an owner inside a quick refill alone",
        file: "malloc/src/quick.rs",
        from: "spin_loop();\n            self.quick.is_seized()",
        to: "spin_loop();\n            self.quick.is_seized() || true",
        tests: LIB,
    },
    Mutant {
        promise: "malloc: a purger announces itself to the owner",
        file: "malloc/src/quick.rs",
        from: "        heap.quick.announce();\n",
        to: "",
        tests: LIB,
    },
    Mutant {
        promise: "malloc: who takes all locks waits for owners inside quick refills",
        file: "malloc/src/quick.rs",
        from: "if heap.quick.is_seized() {",
        to: "if heap.quick.is_seized() || true {",
        tests: LIB,
    },
    Mutant {
        promise: "malloc: who takes all locks keeps owners out of quick refills",
        file: "malloc/src/quick.rs",
        from: "others().for_each(|heap| heap.quick.announce());",
        to: "",
        tests: LIB,
    },
    Mutant {
        promise: "malloc: an owner that is wanted stays out of quick refills",
        file: "malloc/src/quick.rs",
        from: "if !self.quick.enter() {",
        to: "if !self.quick.enter() && false {",
        tests: LIB,
    },
];

/// Tries every mutant, or those of `HEAPWRIGHT_MUTANTS`; all must be seen.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let chosen = mutant::chosen(MUTANTS)?;
    let copy = workspace.target.join("mutants");
    mutant::copy_sources(&workspace.root, &copy)?;
    let target = workspace.target.join("mutants-target");
    let mut passed = Vec::new();
    for mutant in &chosen {
        let tests = (package(mutant), mutant.tests);
        if !passed.contains(&tests) {
            test(&copy, &target, tests)
                .map_err(|error| format!("{tests:?} fail without any mutant: {error}"))?;
            passed.push(tests);
        }
    }
    let run = |mutant: &Mutant| test(&copy, &target, (package(mutant), mutant.tests));
    let build =
        |mutant: &Mutant| mutant::build_tests(&copy, &target, package(mutant), mutant.tests);
    mutant::try_each(&copy, &chosen, build, run)
}

/// Runs tests of a package for at most two minutes.
fn test(copy: &Path, target: &Path, (package, tests): (&str, &[&str])) -> Result<(), String> {
    mutant::run_tests(copy, target, package, tests, 120)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_mutants_take_away_is_there() {
        crate::mutant::expect_in_sources(super::MUTANTS);
    }
}
