//! A look as lines of text.

use heapwright_monitor::{Blame, Look};
use std::fmt::Write;

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
/// Classes and sites shown.
const ROWS: usize = 10;
/// Cells of the map in a line of text.
const MAP_COLUMNS: usize = 96;

/// `bytes` with a unit: `12.3 MiB`.
pub(crate) fn size(bytes: f64) -> String {
    let mut value = bytes;
    let mut unit = 0;
    while value.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `cells` as at most `columns` letters, each the letter that is most frequent in its part.
pub(crate) fn squeeze(cells: &str, columns: usize) -> String {
    let cells = cells.as_bytes();
    if cells.len() <= columns || columns == 0 {
        return String::from_utf8_lossy(cells).into_owned();
    }
    (0..columns)
        .map(|column| {
            let part = &cells[column * cells.len() / columns..(column + 1) * cells.len() / columns];
            let mut counts = [0u32; 128];
            for cell in part {
                counts[usize::from(*cell) & 127] += 1;
            }
            let most = counts.iter().enumerate().max_by_key(|(_, count)| **count);
            most.map_or('.', |(letter, _)| letter as u8 as char)
        })
        .collect()
}

/// Whether pages are merged, and what that gave and cost.
fn merging(look: &Look) -> String {
    if look.merged_windows == 0 && look.merged_pages == 0 {
        return look.merge_state.to_owned();
    }
    format!(
        "{}; {} saved so far, {} windows share pages, {:.3} s of CPU, {} refused by the kernel",
        look.merge_state,
        size(look.merged_pages as f64 * 4096.0),
        look.merged_windows,
        look.merge_cpu_s,
        look.merge_refused
    )
}

/// A look.
pub(crate) fn look(look: &Look) -> String {
    let mut text = String::new();
    let mut line = |left: &str, right: String| {
        let _ = writeln!(text, "{left:<24}{right}");
    };
    line("process", format!("{} ({}), figures {:.1} s old", look.pid, look.name, look.age_s));
    line("live", size(look.live as f64));
    line(
        "resident",
        format!(
            "{}, of which the allocator {} ({:.2} x live)",
            size(look.resident as f64),
            size(look.resident_of_allocator as f64),
            look.resident_over_live
        ),
    );
    line("retained", size(look.retained as f64));
    line(
        "committed",
        format!(
            "{}, external fragmentation {:.1} %",
            size(look.committed as f64),
            look.external_fragmentation * 100.0
        ),
    );
    line("largest free", size(look.largest_free as f64));
    if let Some(headroom) = look.headroom {
        line("under the limit", format!("{} left", size(headroom as f64)));
    }
    line("given back", size(look.purged as f64));
    line("threads", format!("{} with blocks of their own", look.threads));
    line("mappings", format!("{} of the allocator's", look.mappings));
    if !look.merge_state.is_empty() {
        line("merging", merging(look));
    }
    line("reading", look.reading());
    let _ = writeln!(text, "\nwhat each resident byte is for");
    if !look.residence_problem.is_empty() {
        let _ = writeln!(text, "  not known: {}", look.residence_problem);
    }
    for (name, bytes) in look.residence.parts() {
        let share = bytes as f64 / look.resident.max(1) as f64 * 100.0;
        let _ = writeln!(text, "  {name:<26}{:>12} {share:>6.1} %", size(bytes as f64));
    }
    let _ = writeln!(text, "\n  slot size       spans        used        free");
    for class in look.classes.iter().take(ROWS) {
        let _ = writeln!(
            text,
            "  {:>9} {:>11} {:>11} {:>11}",
            class.slot_bytes,
            size(class.span_bytes as f64),
            size(class.used_bytes as f64),
            size(class.free_bytes as f64)
        );
    }
    let mut owners = |title: &str, rows: Vec<(String, u64, u64, u64)>| {
        let _ = writeln!(text, "\n  {title:<32} {:>11} {:>11} {:>11}", "spans", "used", "large");
        for (name, spans, used, large) in rows {
            let bytes = [spans, used, large].map(|bytes| size(bytes as f64));
            let _ =
                writeln!(text, "  {name:<32} {:>11} {:>11} {:>11}", bytes[0], bytes[1], bytes[2]);
        }
    };
    let heaps = look.heaps.iter().take(ROWS);
    owners(
        "heap",
        heaps
            .map(|heap| (heap.label(), heap.span_bytes, heap.used_bytes, heap.large_bytes))
            .collect(),
    );
    if look.nodes.len() > 1 {
        let nodes = look.nodes.iter();
        owners(
            "NUMA node",
            nodes
                .map(|node| {
                    (node.node.to_string(), node.span_bytes, node.used_bytes, node.large_bytes)
                })
                .collect(),
        );
    }
    let _ = writeln!(text, "\nheap map (0-9 small blocks by fill, # large, _ free, . given back)");
    for row in squeeze(&look.map, MAP_COLUMNS * 8).as_bytes().chunks(MAP_COLUMNS) {
        let _ = writeln!(text, "  {}", String::from_utf8_lossy(row));
    }
    text
}

/// A profile's call sites.
pub(crate) fn blame(blame: &Blame) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "live {} ({} to {}), free on pages with live blocks {} (samples say {} to {})",
        size(blame.live_estimate),
        size(blame.live_interval.low),
        size(blame.live_interval.high),
        size(blame.pinned_bytes as f64),
        size(blame.pinned_interval.low),
        size(blame.pinned_interval.high),
    );
    let _ = writeln!(text, "\n     pinned       95 % interval          live   allocated  site");
    for site in blame.sites.iter().take(ROWS * 2) {
        let place = if site.line == 0 {
            site.function.clone()
        } else {
            let file = site.file.rsplit('/').next().unwrap_or_default();
            format!("{} ({file}:{})", site.function, site.line)
        };
        let _ = writeln!(
            text,
            "{:>11} {:>21} {:>13} {:>11}  {place}",
            size(site.pinned_bytes),
            format!("{}-{}", size(site.pinned_interval.low), size(site.pinned_interval.high)),
            size(site.live_bytes),
            size(site.allocated_bytes),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{size, squeeze};

    #[test]
    fn sizes_have_units() {
        assert_eq!(size(0.0), "0 B");
        assert_eq!(size(1536.0), "1.5 KiB");
        assert_eq!(size(3.0 * 1024.0 * 1024.0), "3.0 MiB");
    }

    #[test]
    fn a_long_map_is_squeezed() {
        assert_eq!(squeeze("0123", 8), "0123");
        let long = "#".repeat(1000) + &".".repeat(1000);
        assert_eq!(squeeze(&long, 4), "##..");
    }
}
