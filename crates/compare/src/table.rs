//! The comparison as a table for a terminal, at most 100 columns wide.

use crate::comparison::{Comparison, Row};
use crate::statistics::RatioInterval;
use std::io::{self, Write};

const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Writes `comparison` as a table, with colours if `colour` is set.
///
/// A ratio is coloured only when its interval lies wholly below or above 1.
///
/// # Errors
/// Of writing.
pub fn write_table(comparison: &Comparison, colour: bool, out: &mut dyn Write) -> io::Result<()> {
    let paint = Paint(colour);
    let head = format!(
        "{:<12} {:>9} {:>5} {:<19} {:>9} {:>10} {:<19} {}",
        "allocator",
        "CPU s",
        "±",
        " against system",
        "wall s",
        "peak MiB",
        " against system",
        "output"
    );
    writeln!(out, "{}", paint.with(BOLD, &head))?;
    for row in &comparison.rows {
        write_row(row, comparison.load.is_some(), paint, out)?;
    }
    let rounds = comparison.rounds;
    let summary = format!(
        "{rounds} round{} in alternating order; medians, (max-min)/median, median of paired ratios \
         with 95 % interval",
        if rounds == 1 { "" } else { "s" }
    );
    writeln!(out, "{}", paint.with(DIM, &summary))?;
    for note in &comparison.notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
}

fn write_row(row: &Row, driven: bool, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    let Some(figures) = &row.figures else {
        return writeln!(
            out,
            "{:<12} {}",
            row.name,
            paint.with(RED, &format!("failed: {}", row.failure))
        );
    };
    let ratio = |interval: Option<RatioInterval>| paint.ratio(interval);
    let output = match row.same_output {
        Some(true) => "same".to_owned(),
        Some(false) => paint.with(RED, "different"),
        None if driven => "-".to_owned(),
        None => "varies".to_owned(),
    };
    writeln!(
        out,
        "{:<12} {:>9.3} {:>4.0}% {} {:>9.3} {:>10.1} {} {output}",
        row.name,
        figures.cpu_s.median,
        figures.cpu_s.spread * 100.0,
        ratio(row.ratios.and_then(|ratios| ratios.cpu)),
        figures.wall_s.median,
        figures.peak_rss_kb.median / 1024.0,
        ratio(row.ratios.and_then(|ratios| ratios.peak_rss)),
    )
}

/// Colours, or none.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("{code}{text}{PLAIN}") } else { text.to_owned() }
    }

    /// `0.891 (0.880-0.912)`, as wide as its column.
    fn ratio(self, interval: Option<RatioInterval>) -> String {
        let Some(ratio) = interval else {
            return format!("{:<19}", "");
        };
        let text = format!("{:.3} ({:.3}-{:.3})", ratio.median, ratio.low, ratio.high);
        let text = format!("{text:<19}");
        match ratio.differs() {
            true if ratio.median < 1.0 => self.with(GREEN, &text),
            true => self.with(RED, &text),
            false => text,
        }
    }
}
