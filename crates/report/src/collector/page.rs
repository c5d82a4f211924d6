//! The report as a page: pauses over time, types, and the tree of dominators.

use super::snapshot::Branch;
use super::{CollectorReport, HeapLog, SnapshotSummary};
use std::fmt::Write;

const WIDTH: usize = 900;
const HEIGHT: f64 = 160.0;
const STYLE: &str = "body{font:15px system-ui;margin:2em;max-width:64em}\
table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .8em;text-align:right}\
td:last-child,th:last-child{text-align:left}svg{background:#f6f6f6}.minor{stroke:#2468b0}\
.full{stroke:#c03020}.slice{stroke:#309050}details{margin-left:1.2em}code{font-size:90%}";

pub(super) fn html(report: &CollectorReport) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Collected heaps</title>\
         <style>{STYLE}</style><h1>Collected heaps</h1>"
    );
    report.heaps.iter().for_each(|heap| add_heap(&mut page, heap));
    report.snapshots.iter().for_each(|snapshot| add_snapshot(&mut page, snapshot));
    page.push_str("</html>\n");
    page
}

/// A string takes everything that is written to it.
macro_rules! add {
    ($page:expr, $($words:tt)*) => { let _ = write!($page, $($words)*); };
}

fn add_heap(page: &mut String, heap: &HeapLog) {
    let ms = |name: &str| heap.pause_ms.get(name).copied().unwrap_or(0.0);
    add!(
        page,
        "<h2>{}</h2><p>{:.3} s, CPU {:.3} s, peak {:.1} MiB, {} collections, {} slices; pauses \
         p50 {:.3}, p99 {:.3}, max {:.3} ms of CPU, longest gap {:.3} ms</p>",
        escape(&heap.gc),
        heap.time_s,
        heap.cpu_s,
        heap.peak_mib,
        heap.collections,
        heap.slices,
        ms("p50"),
        ms("p99"),
        ms("max"),
        heap.gap_ms_max
    );
    let mut windows: Vec<_> = heap.mmu.iter().collect();
    windows.sort_by_key(|(window, _)| window.parse::<u64>().unwrap_or(u64::MAX));
    page.push_str("<p>Left to the program, at the least, in any ");
    for (index, (window, left)) in windows.into_iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        add!(page, "{comma}{} ms: {:.0} %", escape(window), left * 100.0);
    }
    page.push_str("</p>");
    if heap.timeline.is_empty() {
        page.push_str("<p>No timeline: set <code>HEAPWRIGHT_GC_LOG=timeline</code>.</p>");
        return;
    }
    let parts = heap.parts(WIDTH);
    let longest_ms = parts.iter().map(|part| part.longest_ms).fold(f64::MIN_POSITIVE, f64::max);
    add!(
        page,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Pauses over time\">"
    );
    for (x, part) in parts.iter().enumerate().filter(|(_, part)| part.count > 0) {
        let y = HEIGHT * (1.0 - part.longest_ms / longest_ms);
        add!(
            page,
            "<line class=\"{}\" x1=\"{x}\" x2=\"{x}\" y1=\"{HEIGHT}\" y2=\"{y:.1}\"><title>{} \
             pauses from {:.1} ms on, longest {:.3} ms, {:.3} ms in all</title></line>",
            escape(&part.kind),
            part.count,
            heap.time_s * 1e3 * x as f64 / WIDTH as f64,
            part.longest_ms,
            part.sum_ms
        );
    }
    add!(
        page,
        "</svg><p>{} pauses over {:.3} s; the height is the longest that began there, up to \
         {longest_ms:.3} ms of wall time. Blue: minor, red: full, green: slices.</p>",
        heap.timeline.len(),
        heap.time_s
    );
}

fn add_snapshot(page: &mut String, snapshot: &SnapshotSummary) {
    add!(
        page,
        "<h2>{}</h2><p>{} objects, {} bytes</p><table><tr><th>retained</th><th>bytes</th>\
         <th>count</th><th>type</th></tr>",
        escape(&snapshot.name),
        snapshot.objects,
        snapshot.bytes
    );
    for row in &snapshot.types {
        add!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td></tr>",
            row.retained_bytes,
            row.bytes,
            row.count,
            escape(&row.name)
        );
    }
    page.push_str(
        "</table><h3>Largest holders</h3><table><tr><th>retained</th><th>bytes</th>\
         <th>object, and who dominates it</th></tr>",
    );
    for one in &snapshot.largest {
        add!(page, "<tr><td>{}</td><td>{}</td><td>", one.retained_bytes, one.bytes);
        add!(page, "<code>{}</code>", escape(&one.name));
        for name in &one.dominators {
            add!(page, " &lt; <code>{}</code>", escape(name));
        }
        page.push_str("</td></tr>");
    }
    page.push_str("</table><h3>Dominators</h3><p>What would go with each object.</p>");
    add_branch(page, &snapshot.tree);
}

/// As deep as the summary keeps it.
fn add_branch(page: &mut String, branch: &Branch) {
    let name = escape(&branch.name);
    add!(page, "<details open><summary>{} <code>{name}</code></summary>", branch.retained_bytes);
    branch.branches.iter().for_each(|one| add_branch(page, one));
    if branch.others > 0 {
        add!(page, "<p>{} others</p>", branch.others);
    }
    page.push_str("</details>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
