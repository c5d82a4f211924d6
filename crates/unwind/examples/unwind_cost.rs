//! What a capture costs, beside libgcc's unwinder, on C code with and without frame pointers.
//!
//! Question: how many ns a capture and a frame, when the stack is the same as last time
//! (`same`), when the 7 innermost calls change each time (`varied`), and with no memo (`table`)?
//! Expected: memo about 1 ns a frame, table 14 (of which 5 are for what the next capture compares
//! with), libgcc 100.
//!
//! Run with `cargo run --release -p heapwright-unwind --example unwind_cost`.

use std::time::Instant;

use heapwright_unwind::{Memo, Registers};

#[path = "../tests/shapes/mod.rs"]
mod shapes;

use shapes::{RunScript, SAMPLE, compile, libgcc_backtrace, open, play_with, run_script, shape};

const ROUNDS: usize = 400;
const REPEATS: usize = 15;

/// Least mean ns of a capture, and how many frames the last one had.
fn measure(run: RunScript, script: &[u8], mut one: impl FnMut() -> usize) -> (f64, usize) {
    let (mut best, mut frames) = (f64::MAX, 0);
    for _ in 0..REPEATS {
        let (mut ns, mut captures) = (0, 0);
        play_with(run, script, &mut || {
            let start = Instant::now();
            frames = std::hint::black_box(one());
            ns += start.elapsed().as_nanos();
            captures += 1;
        });
        best = best.min(ns as f64 / f64::from(captures));
    }
    (best, frames)
}

/// What the two readings of the clock cost.
fn clock_ns() -> f64 {
    let mut best = f64::MAX;
    for _ in 0..20 {
        let mut ns = 0;
        for _ in 0..1000 {
            let start = Instant::now();
            ns += std::hint::black_box(start).elapsed().as_nanos();
        }
        best = best.min(ns as f64 / 1000.0);
    }
    best
}

/// The calls of one measurement.
fn script(outer_count: usize, pattern: &str) -> Vec<u8> {
    let outer = ["plain", "busy", "variable", "twin", "arguments", "large"];
    let inner = ["plain", "variable", "twin", "arguments", "large"];
    let mut script: Vec<u8> = (0..outer_count).map(|n| shape(outer[n % outer.len()])).collect();
    for round in 0..ROUNDS {
        if pattern == "same" {
            script.push(SAMPLE);
        } else {
            script.extend((0..7).map(|n| shape(inner[(n + round) % inner.len()])));
            script.push(SAMPLE);
            script.extend([0; 7]);
        }
    }
    script
}

fn main() {
    let clock_ns = clock_ns();
    println!("clock {clock_ns:.1} ns, already subtracted; least mean of {REPEATS} runs");
    println!(
        "frames  pattern  frame pointers         memo                 table                libgcc"
    );
    for (build, options) in [
        ("no", ["-fomit-frame-pointer"].as_slice()),
        ("yes", ["-fno-omit-frame-pointer"].as_slice()),
    ] {
        let object = compile(build, options);
        let run = run_script(open(&object));
        std::fs::remove_file(&object).expect("was made");
        for (outer_count, pattern) in
            [10, 30, 60].into_iter().flat_map(|count| [(count, "same"), (count, "varied")])
        {
            let script = script(outer_count, pattern);
            let mut memo = Box::new(Memo::new());
            let (with_memo, frames) = measure(run, &script, || {
                // SAFETY: this thread's registers, taken in the function that samples.
                unsafe { memo.capture(Registers::current()) }.depth
            });
            let (table, _) = measure(run, &script, || {
                memo.forget();
                // SAFETY: as above.
                unsafe { memo.capture(Registers::current()) }.depth
            });
            let few = &script[..script.len().min(outer_count + 15 * 20)];
            let (libgcc, _) = measure(run, few, || libgcc_backtrace().len());
            let cell = |ns: f64| {
                let ns = ns - clock_ns;
                format!("{ns:7.0} ns {:6.2}/frame", ns / frames as f64)
            };
            let (memo, table, libgcc) = (cell(with_memo), cell(table), cell(libgcc));
            println!("{frames:6}  {pattern:7}  {build:14}  {memo}  {table}  {libgcc}");
        }
    }
}
