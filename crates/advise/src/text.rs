//! The advice for a terminal: a verdict in a few lines, tables. No colours; names of the
//! recorded program are made harmless.

use std::fmt::Write;

use crate::schema::{Advice, AllocatorRow, Blame, Fragmentation, Site};

/// Free memory that is told of on a terminal: so much, and such a share of what is resident.
const HELD_BYTES_MIN: u64 = 256 << 10;
const HELD_SHARE_MIN: f64 = 0.05;

/// The verdict and the figures behind it, a few lines, each ended by a newline.
pub fn verdict_text(advice: &Advice) -> String {
    let verdict = &advice.verdict;
    let mut text = String::new();
    let confidence = &verdict.confidence;
    if verdict.change {
        let (allocator, by) = (clean_name(&verdict.allocator), &verdict.confirmed_by);
        line(&mut text, &format!("Change to {allocator} (confidence {confidence}, by {by})."));
    } else if !advice.allocators.is_empty() {
        let kept = match &advice.recording.own_allocator {
            Some(own) => format!("the program's own {}", clean_name(own)),
            None => "the system's allocator".into(),
        };
        line(&mut text, &format!("Keep {kept} (confidence {confidence})."));
    }
    line(&mut text, &clean(&verdict.reason));
    let recording = &advice.recording;
    let chosen = advice.processes.iter().find(|process| process.chosen);
    let name = chosen.map_or("", |process| &process.name);
    line(
        &mut text,
        &format!(
            "{}: {} events in {:.1} s, {}; {} alive at the peak, {} at the end.",
            if name.is_empty() { "the program".into() } else { clean_name(name) },
            count_text(recording.events),
            recording.duration_s,
            if recording.threads == 1 {
                "1 thread".into()
            } else {
                format!("{} threads", recording.threads)
            },
            bytes_text(recording.peak_live_bytes),
            bytes_text(recording.end_live_bytes)
        ),
    );
    if let Some(site) = advice.leaks.first() {
        line(
            &mut text,
            &format!(
                "Largest alive at the end: {} in {} {} from {}.",
                bytes_text(site.live_at_end_bytes),
                count_text(site.live_at_end_blocks),
                if site.live_at_end_blocks == 1 { "block" } else { "blocks" },
                place(site)
            ),
        );
    }
    if let Some(site) = advice.temporaries.first() {
        let count = (site.temporary_share * site.allocs as f64).round() as u64;
        line(&mut text, &format!("Most temporaries: {} from {}.", count_text(count), place(site)));
    }
    text
}

/// The allocators' table; empty without rows.
pub fn allocators_table(advice: &Advice) -> String {
    if advice.allocators.is_empty() {
        return String::new();
    }
    let head =
        ["allocator", "ns/op", "spread", "time", "peak", "mean", "end", "int.frag", "ext.frag"];
    let mut rows = vec![head.map(String::from).to_vec()];
    for row in &advice.allocators {
        rows.push(allocator_cells(row));
    }
    table(&rows, 1)
}

fn allocator_cells(row: &AllocatorRow) -> Vec<String> {
    let name = if row.version.is_empty() {
        row.name.clone()
    } else {
        format!("{} {}", row.name, row.version)
    };
    if !row.failure.is_empty() {
        return vec![clean_name(&name), clean(&row.failure)];
    }
    let kib = |kib: u64| bytes_text(kib * 1024);
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    vec![
        clean_name(&name),
        format!("{:.1}", row.ns_per_op),
        percent(row.spread),
        format!("{:.2}x", row.time_ratio),
        kib(row.peak_rss_kb),
        kib(row.mean_rss_kb),
        kib(row.end_rss_kb),
        percent(row.internal_fragmentation),
        percent(row.external_fragmentation),
    ]
}

/// The first `count` of `sites` as a table; empty without sites.
pub fn sites_table(sites: &[Site], count: usize) -> String {
    if sites.is_empty() || count == 0 {
        return String::new();
    }
    let head =
        ["bytes", "allocs", "at peak", "at end", "size", "lifetime", "temp", "kind", "call site"];
    let mut rows = vec![head.map(String::from).to_vec()];
    for site in sites.iter().take(count) {
        rows.push(vec![
            bytes_text(site.bytes),
            count_text(site.allocs),
            bytes_text(site.live_at_peak_bytes),
            bytes_text(site.live_at_end_bytes),
            bytes_text(site.sizes.median),
            bytes_text(site.lifetime_median_bytes),
            format!("{:.0} %", site.temporary_share * 100.0),
            kind_cell(site),
            place(site),
        ]);
    }
    table(&rows, usize::MAX)
}

/// The candidate, with what it gains where that was measured: `pool -3.0 % time`, with `(run)` behind it
/// where the program itself was; `pool (no gain)` or
/// `pool (unproven)` where not.
fn kind_cell(site: &Site) -> String {
    let Some(predicted) = &site.predicted else {
        let proof = match site.proof.as_str() {
            "no_gain" => " (no gain)",
            "not_measured" | "not_upheld" => " (unproven)",
            _ => "",
        };
        return format!("{}{proof}", site.recommend);
    };
    let gain = |ratio: f64, of: &str| match (ratio - 1.0) * 100.0 {
        change if change.abs() < 0.05 => String::new(),
        change => format!(" {change:+.1} % {of}"),
    };
    let (time, peak) = (gain(predicted.time_ratio, "time"), gain(predicted.peak_ratio, "peak"));
    // Where the program itself has shown it, and not only the replay.
    let source = if predicted.source == "run" { " (run)" } else { "" };
    format!("{}{time}{peak}{source}", site.recommend)
}

/// What resident memory is for, and the `count` call sites that hold most of what is free; empty
/// where nothing is known or nothing worth a word is held.
pub fn fragmentation_text(advice: &Advice, count: usize) -> String {
    let Some(found) = &advice.fragmentation else { return String::new() };
    let free = found.pinned_bytes + found.empty_bytes;
    if free < HELD_BYTES_MIN || (free as f64) < found.resident_bytes as f64 * HELD_SHARE_MIN {
        return String::new();
    }
    held_text(found, &advice.fragmentation_blame, count)
}

/// The same of any allocator, whatever it holds.
pub fn held_text(found: &Fragmentation, blame: &[Blame], count: usize) -> String {
    let mut text = String::new();
    let moment = match found.moment.as_str() {
        "worst" => "when most was retained".to_owned(),
        "peak" => "at the live peak".to_owned(),
        "end" => "at the end".to_owned(),
        _ => format!("after {:.1} s", found.time_s),
    };
    line(
        &mut text,
        &format!(
            "Resident under {} {moment} (event {}): {} = {} requested + {} slack + {} free beside \
             live blocks + {} without any{}.",
            clean_name(&found.allocator),
            count_text(found.events),
            bytes_text(found.resident_bytes),
            bytes_text(found.requested_bytes),
            bytes_text(found.slack_bytes),
            bytes_text(found.pinned_bytes),
            bytes_text(found.empty_bytes),
            match found.mapped_bytes {
                0 => String::new(),
                bytes => format!(" + {} mapped by the program", bytes_text(bytes)),
            }
        ),
    );
    text + &blame_table(blame, count)
}

/// The first `count` call sites that hold free memory, as a table; empty without any.
fn blame_table(blame: &[Blame], count: usize) -> String {
    if blame.is_empty() || count == 0 {
        return String::new();
    }
    let mut rows = vec![["call site", "pins", "live", "would free"].map(String::from).to_vec()];
    for one in blame.iter().take(count) {
        rows.push(vec![
            place(&one.site),
            bytes_text(one.pinned_bytes),
            bytes_text(one.live_bytes),
            bytes_text(one.releasable_bytes),
        ]);
    }
    table(&rows, 1)
}

/// Rows as columns: the first `left` and the last flush left, the others flush right.
pub(crate) fn table(rows: &[Vec<String>], left: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let is_left =
        |column: usize| if left == usize::MAX { column + 2 >= columns } else { column < left };
    let width = |column: usize| {
        // A short row's last cell is a sentence and sets no width.
        let cells =
            rows.iter().filter(|row| row.len() == columns).filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        let first =
            if column == 0 { rows.iter().map(|row| row[0].chars().count()).max() } else { None };
        widest.max(first.unwrap_or(0))
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut cells = String::new();
        for (column, cell) in row.iter().enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            let is_last = column + 1 == row.len();
            let width = widths[column];
            let _ = match (is_left(column) || is_last && row.len() < columns, is_last) {
                (true, true) => write!(cells, "{gap}{cell}"),
                (true, false) => write!(cells, "{gap}{cell:<width$}"),
                (false, _) => write!(cells, "{gap}{cell:>width$}"),
            };
        }
        line(&mut text, cells.trim_end());
    }
    text
}

fn place(site: &Site) -> String {
    let function = if site.function.is_empty() { "an unknown place" } else { &site.function };
    let file = site.file.rsplit('/').next().unwrap_or_default();
    let text = match (file.is_empty(), site.line) {
        (true, _) => function.to_owned(),
        (false, 0) => format!("{function} ({file})"),
        (false, line) => format!("{function} ({file}:{line})"),
    };
    clean_name(&text)
}

fn line(text: &mut String, content: &str) {
    text.push_str(content);
    text.push('\n');
}

/// Longest name printed; the middle of a longer one is left out.
const NAME_CHARS_MAX: usize = 100;

/// `text` without control characters: names come from the recorded program.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// [`clean`], and no longer than a line can bear.
pub(crate) fn clean_name(name: &str) -> String {
    let name = clean(name);
    let count = name.chars().count();
    if count <= NAME_CHARS_MAX {
        return name;
    }
    let half = NAME_CHARS_MAX / 2;
    let start: String = name.chars().take(half).collect();
    let end: String = name.chars().skip(count - half).collect();
    format!("{start}…{end}")
}

/// Bytes with a binary unit: `512 B`, `1.5 KiB`, `12 MiB`.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(value < 99.95);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// A count with a decimal unit: `950`, `12.3 k`, `16.0 M`.
pub(crate) fn count_text(count: u64) -> String {
    const UNITS: [&str; 5] = ["k", "M", "G", "T", "P"];
    if count < 10_000 {
        return count.to_string();
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(value < 99.95);
    format!("{value:.decimals$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::{bytes_text, clean, clean_name, count_text, table};

    #[test]
    fn quantities_have_three_digits_or_so() {
        assert_eq!(bytes_text(0), "0 B");
        assert_eq!(bytes_text(1023), "1023 B");
        assert_eq!(bytes_text(1536), "1.5 KiB");
        assert_eq!(bytes_text(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(bytes_text(500 << 20), "500 MiB");
        assert_eq!(bytes_text(u64::MAX), "16.0 EiB");
        assert_eq!(count_text(9999), "9999");
        assert_eq!(count_text(16_000_000), "16.0 M");
        assert_eq!(count_text(999_999), "1.0 M");
    }

    #[test]
    fn names_cannot_write_to_the_terminal() {
        assert_eq!(clean("a\x1b[31mb"), "a\u{fffd}[31mb");
        assert_eq!(clean_name(&"x".repeat(500)).chars().count(), 101);
    }

    #[test]
    fn columns_line_up() {
        let rows = [["name", "n", "place"], ["a", "100", "here"], ["long name", "2", "there"]];
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| cell.to_string()).collect()).collect();
        assert_eq!(
            table(&rows, 1),
            "name         n  place\na          100   here\nlong name    2  there\n"
        );
        let mut failed = rows.clone();
        failed.push(vec!["broken".into(), "it crashed with signal 11".into()]);
        let text = table(&failed, 1);
        assert!(text.ends_with("broken     it crashed with signal 11\n"), "{text}");
    }
}
