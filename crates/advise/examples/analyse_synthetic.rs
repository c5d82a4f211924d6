//! Makes up a recording of N million events, or opens one, and prints how long its analysis
//! takes.
//!
//!     cargo run --release --example analyse_synthetic -- 16
//!     cargo run --release --example analyse_synthetic -- FILE

use std::path::PathBuf;
use std::time::Instant;

use heapwright_advise::Analysis;
use heapwright_format::file::Recording;
use heapwright_symbols::Symbolizer;

#[path = "../tests/synthetic/mod.rs"]
mod synthetic;

fn made_up(millions: u64) -> PathBuf {
    let mut program = synthetic::Synthetic::new();
    let mut random = 88172645463325252u64;
    let mut live = Vec::new();
    for _ in 0..millions * 1_000_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let is_full = live.len() > 200_000;
        if live.is_empty() || (!is_full && random & 1 == 0) || (random & 0xfff == 0) {
            let site = 0x1000 + (random >> 20) % 3000;
            let stack = [site, 0x9000 + site % 50, 0xa000, 0xb000];
            live.push(program.malloc(
                (random >> 50) as usize % 3,
                16 + (random >> 34) % 500,
                &stack,
            ));
        } else {
            // Mostly young ones.
            let back = ((random >> 8) % 64).min((random >> 16) % live.len() as u64) as usize;
            let index = live.len() - 1 - back.min(live.len() - 1);
            let block = live.swap_remove(index);
            program.free((random >> 50) as usize % 3, block);
        }
    }
    program.write_to(&std::env::temp_dir().join("heapwright-synthetic.hwr"))
}

fn main() {
    let argument = std::env::args().nth(1).unwrap_or("16".into());
    let path = argument.parse().map_or_else(|_| PathBuf::from(&argument), made_up);
    let recording = Recording::open(&path).expect("a recording");
    let process = recording.main_process().expect("a process");
    let start = Instant::now();
    let mut symbolizer = Symbolizer::new();
    let analysis = Analysis::new(&recording, process, &mut symbolizer, &mut |_, _| {});
    let analysis = analysis.expect("allocations");
    println!("{:?}", analysis.totals);
    println!("{} sites, {:.2} s", analysis.sites.len(), start.elapsed().as_secs_f64());
    for site in analysis.sites.iter().take(12) {
        println!(
            "{:>12} bytes {:>9} allocs  {}:{} {} [{}] {}",
            site.bytes, site.allocs, site.function, site.line, site.file, site.recommend, site.why
        );
    }
}
