//! What a capture costs, beside libgcc's unwinder, on C code without frame pointers.
//!
//! Question: how many ns and per frame, when the stack is the same as last time (`same`), when the
//! 7 innermost calls change each time (`varied`), and with no memo at all (`table`)? Expected: memo
//! about 1 ns a frame, table 5 to 10, libgcc some hundreds.
//!
//! Run with `cargo run --release -p heapwright-unwind --example unwind_cost`.

use std::time::Instant;

use heapwright_unwind::{Memo, Registers};

#[path = "../tests/shapes/mod.rs"]
mod shapes;

use shapes::{SAMPLE, libgcc_backtrace, play, shape};

const ROUNDS: usize = 400;

/// Least ns per capture over the rounds of each method, and the frames of one.
fn measure(script: &[u8], mut one: impl FnMut() -> usize) -> (f64, usize) {
    let (mut best, mut frames) = (f64::MAX, 0);
    for _ in 0..15 {
        let (mut ns, mut captures) = (0, 0);
        play(script, || {
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

fn main() {
    let names = ["plain", "busy", "variable", "twin", "arguments", "large"];
    let inner = ["plain", "variable", "twin", "arguments", "large"];
    let clock = clock_ns();
    println!("clock {clock:.1} ns, already subtracted");
    println!(
        "{:8} {:6} {:>7} {:>18} {:>18} {:>18}",
        "pattern", "frames", "", "memo", "table", "libgcc"
    );
    for outer in [10, 30, 60] {
        for pattern in ["same", "varied"] {
            let mut script: Vec<u8> = (0..outer).map(|n| shape(names[n % names.len()])).collect();
            for round in 0..ROUNDS {
                if pattern == "same" {
                    script.push(SAMPLE);
                } else {
                    script.extend((0..7).map(|n| shape(inner[(n + round) % inner.len()])));
                    script.push(SAMPLE);
                    script.extend([0; 7]);
                }
            }
            let mut memo = Box::new(Memo::new());
            // SAFETY: this thread's registers, taken in the function that samples.
            let (with_memo, frames) =
                measure(&script, || unsafe { memo.capture(Registers::current()) }.depth);
            let (table, _) = measure(&script, || {
                memo.forget();
                // SAFETY: as above.
                unsafe { memo.capture(Registers::current()) }.depth
            });
            let (libgcc, _) =
                measure(&script[..script.len().min(outer + 15 * 20)], || libgcc_backtrace().len());
            let cell = |ns: f64| {
                let ns = ns - clock;
                format!("{ns:8.1} {:6.2}/frame", ns / frames as f64)
            };
            println!(
                "{pattern:8} {frames:6} {:>7} {:>18} {:>18} {:>18}",
                "ns",
                cell(with_memo),
                cell(table),
                cell(libgcc)
            );
        }
    }
}
