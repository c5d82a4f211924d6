//! Writes the recording of a program that never ran, to measure the engine itself:
//! `synthesize FILE [EVENTS] [THREADS] [LIVE]`. Threads free each other's blocks at times.

#[path = "../tests/synthetic/mod.rs"]
mod synthetic;

use std::path::Path;

use synthetic::{Block, Program, Random, size};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(file) = arguments.first() else {
        eprintln!("usage: synthesize FILE [EVENTS] [THREADS] [LIVE]");
        return;
    };
    let number = |index: usize, or: u64| {
        arguments.get(index).and_then(|text| text.parse().ok()).unwrap_or(or)
    };
    let (events, threads, live_max) = (number(1, 16_000_000), number(2, 1), number(3, 100_000));
    let mut random = Random(0x5eed);
    let mut program = Program::new(Path::new(file), 1 << 20);
    let mut live: Vec<Vec<Block>> = vec![Vec::new(); threads as usize];
    let mut thread = 0;
    for event in 0..events {
        // A thread works for a while before another goes on.
        if random.below(50) == 0 {
            thread = random.below(threads) as usize;
        }
        let wave = if event % (events / 4 + 1) < events / 8 { live_max } else { live_max / 3 };
        let grows = random.below(wave / threads + 1) as usize >= live[thread].len() / 2;
        if live[thread].is_empty() || grows {
            let block = program.malloc(thread as u32, size(&mut random));
            live[thread].push(block);
            continue;
        }
        let owner = match random.below(10) {
            0 => random.below(threads) as usize,
            _ => thread,
        };
        let count = live[owner].len();
        if count == 0 {
            continue;
        }
        // Young blocks die more often than old ones.
        let reach = 1 + random.below(count as u64);
        let recent = random.below(reach);
        let block = live[owner].swap_remove(count - 1 - recent as usize);
        if random.below(12) == 0 {
            let block = program.realloc(thread as u32, block, block.size * 3 / 2 + 8);
            live[thread].push(block);
        } else {
            program.free(thread as u32, block);
        }
    }
    eprintln!("{} operations, live peak {} bytes", program.operations, program.peak_bytes);
    program.finish();
}
