//! A game's frame loop: entities with components, particles, draw commands, assets.
//!
//! `game --malloc` makes everything with `Box` and `Vec`, as a first version does; `game --ours`
//! gives each kind of memory its allocator: a frame arena, pools under handles, a compacting
//! heap for assets, which has a little of each frame. Both play the same seeded game and print the same check sum.

mod malloc;
mod ours;
mod rules;

use heapwright_testkit::{Latencies, resident_kib};
use std::process::ExitCode;

/// What a game does in a frame; the two variants differ in where its memory comes from.
trait Game {
    /// Plays one frame and returns its check sum.
    fn frame(&mut self, number: u64) -> u64;
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (variant, frames) = match words[..] {
        [variant] => (variant, Ok(2000)),
        [variant, "--frames", count] => (variant, count.parse::<u64>()),
        _ => ("", Ok(0)),
    };
    let (Ok(frames), true) = (frames, ["--malloc", "--ours"].contains(&variant)) else {
        eprintln!("usage: game --malloc|--ours [--frames N]");
        return ExitCode::from(2);
    };
    let mut game: Box<dyn Game> = match variant {
        "--malloc" => Box::new(malloc::MallocGame::new()),
        _ => match ours::OurGame::new() {
            Ok(game) => Box::new(game),
            Err(error) => {
                eprintln!("game: {error}");
                return ExitCode::FAILURE;
            }
        },
    };
    let mut times = Latencies::default();
    let mut sum = 0u64;
    for number in 0..frames {
        sum = sum.rotate_left(1) ^ times.time(|| game.frame(number));
    }
    println!("frames: {frames}, {}", times.summary());
    println!("resident: {} KiB", resident_kib().unwrap_or(0));
    println!("check sum: {sum:016x}");
    ExitCode::SUCCESS
}
