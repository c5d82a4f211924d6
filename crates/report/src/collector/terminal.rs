//! The report as text.

use super::{CollectorReport, HeapLog, SnapshotSummary};
use std::fmt;

/// Rows of each table.
const ROWS_MAX: usize = 15;
const COLUMNS: usize = 72;
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

impl fmt::Display for CollectorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.heaps.iter().try_for_each(|heap| write_heap(f, heap))?;
        self.snapshots.iter().try_for_each(|snapshot| write_snapshot(f, snapshot))
    }
}

fn write_heap(f: &mut fmt::Formatter<'_>, heap: &HeapLog) -> fmt::Result {
    let ms = |name: &str| heap.pause_ms.get(name).copied().unwrap_or(0.0);
    writeln!(
        f,
        "{}: {:.3} s, CPU {:.3} s, peak {:.1} MiB, {} collections, {} slices",
        heap.gc, heap.time_s, heap.cpu_s, heap.peak_mib, heap.collections, heap.slices
    )?;
    writeln!(
        f,
        "  pauses p50 {:.3}, p99 {:.3}, max {:.3} ms CPU; longest gap {:.3} ms",
        ms("p50"),
        ms("p99"),
        ms("max"),
        heap.gap_ms_max
    )?;
    if heap.timeline.is_empty() {
        return writeln!(f, "  no timeline: set HEAPWRIGHT_GC_LOG=timeline");
    }
    let parts = heap.parts(COLUMNS);
    let longest_ms = parts.iter().map(|part| part.longest_ms).fold(f64::MIN_POSITIVE, f64::max);
    let column = |part: &super::heap_log::Part| match part.count {
        0 => ' ',
        _ => HEIGHTS[((part.longest_ms / longest_ms * 7.0).round() as usize).min(7)],
    };
    let line: String = parts.iter().map(column).collect();
    writeln!(f, "  longest pause in each 72nd of the time, up to {longest_ms:.3} ms:")?;
    writeln!(f, "  |{line}|")
}

fn write_snapshot(f: &mut fmt::Formatter<'_>, snapshot: &SnapshotSummary) -> fmt::Result {
    let SnapshotSummary { name, objects, bytes, .. } = snapshot;
    writeln!(f, "{name}: {objects} objects, {bytes} bytes")?;
    writeln!(f, "{:>14} {:>14} {:>10}  type", "retained", "bytes", "count")?;
    for row in snapshot.types.iter().take(ROWS_MAX) {
        writeln!(
            f,
            "{:>14} {:>14} {:>10}  {}",
            row.retained_bytes, row.bytes, row.count, row.name
        )?;
    }
    writeln!(f, "{:>14} {:>14}  object, and who dominates it", "retained", "bytes")?;
    for one in snapshot.largest.iter().take(ROWS_MAX) {
        write!(f, "{:>14} {:>14}  {}", one.retained_bytes, one.bytes, one.name)?;
        one.dominators.iter().try_for_each(|name| write!(f, " < {name}"))?;
        writeln!(f)?;
    }
    Ok(())
}
