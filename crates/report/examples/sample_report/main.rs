//! Writes a report of invented figures, to look at the page without recording a program.
//!
//! `cargo run --example sample_report -- FILE [SITES [FLAME_NODES]]`

mod sample;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::Instant;

fn main() -> std::io::Result<()> {
    let mut words = std::env::args().skip(1);
    let path = words.next().unwrap_or_else(|| "report.html".into());
    let mut number = |otherwise| words.next().and_then(|w| w.parse().ok()).unwrap_or(otherwise);
    let site_count = number(300);
    let data = sample::report(site_count, number(6000));
    let started = Instant::now();
    let mut out = BufWriter::new(File::create(&path)?);
    heapwright_report::render(&data, &mut out)?;
    out.flush()?;
    println!("{path}: {} bytes in {:?}", std::fs::metadata(&path)?.len(), started.elapsed());
    Ok(())
}
