//! The tables of the live view: classes, heaps, NUMA nodes, call sites.

use crate::top_text::size;
use crate::top_view::dim;
use heapwright_monitor::{Blame, HeapLook, Look};
use ratatui::layout::Constraint;
use ratatui::style::{Color, Style};
use ratatui::widgets::{Block, Borders, Row, Table};

/// What the tables show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Panel {
    /// Size classes, and heaps in short.
    Classes,
    /// Heaps and NUMA nodes, with all that is known of them.
    Owners,
    /// Call sites whose blocks pin free memory; only with a profile.
    Sites,
}

impl Panel {
    /// The next one when the user turns over.
    pub(crate) fn next(self, has_sites: bool) -> Self {
        match self {
            Self::Classes => Self::Owners,
            Self::Owners if has_sites => Self::Sites,
            Self::Owners | Self::Sites => Self::Classes,
        }
    }
}

/// Memory of which more than half is free stands out.
fn by_free(free_share: f64) -> Style {
    if free_share > 0.5 { Style::new().fg(Color::Red) } else { Style::new() }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn framed(title: &'static str) -> Block<'static> {
    Block::new().borders(Borders::ALL).title(title)
}

fn table<'a, const N: usize>(
    title: &'static str,
    header: [&'static str; N],
    widths: [Constraint; N],
    rows: impl Iterator<Item = Row<'a>>,
) -> Table<'a> {
    Table::new(rows, widths).header(Row::new(header).style(dim())).block(framed(title))
}

/// Size classes, those with most free bytes first.
pub(crate) fn classes(look: &Look) -> Table<'_> {
    let rows = look.classes.iter().map(|class| {
        let free = class.free_bytes as f64 / class.span_bytes.max(1) as f64;
        Row::new([
            class.slot_bytes.to_string(),
            size(class.span_bytes as f64),
            size(class.used_bytes as f64),
            percent(free),
        ])
        .style(by_free(free))
    });
    let widths = [
        Constraint::Length(6),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(6),
    ];
    table(" classes ", ["slot", "spans", "used", "free"], widths, rows)
}

/// Heaps with what they hold.
pub(crate) fn heaps_in_short(look: &Look) -> Table<'_> {
    let rows = look.heaps.iter().map(|heap| {
        Row::new([
            heap.label(),
            size(heap.span_bytes as f64),
            size((heap.used_bytes + heap.large_bytes) as f64),
        ])
    });
    let widths = [Constraint::Min(12), Constraint::Length(10), Constraint::Length(10)];
    table(" heaps ", ["heap", "spans", "used"], widths, rows)
}

/// Heaps with their kind, large blocks, limit and fragmentation.
pub(crate) fn heaps(look: &Look) -> Table<'_> {
    let limit = |heap: &HeapLook| heap.limit.map_or("-".to_owned(), |bytes| size(bytes as f64));
    let rows = look.heaps.iter().map(move |heap| {
        Row::new([
            heap.label(),
            heap.kind.to_owned(),
            size(heap.span_bytes as f64),
            size(heap.used_bytes as f64),
            size(heap.large_bytes as f64),
            limit(heap),
            percent(heap.external_fragmentation),
        ])
        .style(by_free(heap.external_fragmentation))
    });
    let widths = [
        Constraint::Min(12),
        Constraint::Length(6),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(5),
    ];
    let header = ["heap", "kind", "spans", "used", "large", "limit", "free"];
    table(" heaps ", header, widths, rows)
}

/// NUMA nodes: spans, what is used of them, large blocks, free runs.
pub(crate) fn nodes(look: &Look) -> Table<'_> {
    let rows = look.nodes.iter().map(|node| {
        Row::new([
            node.node.to_string(),
            size(node.span_bytes as f64),
            size(node.used_bytes as f64),
            size(node.large_bytes as f64),
            size(node.free_bytes as f64),
            percent(node.external_fragmentation),
        ])
        .style(by_free(node.external_fragmentation))
    });
    let widths = [
        Constraint::Min(6),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(5),
    ];
    let header = ["node", "spans", "used", "large", "free runs", "free"];
    table(" NUMA nodes ", header, widths, rows)
}

/// Call sites, those that pin most first.
pub(crate) fn sites(blame: Option<&Blame>) -> Table<'_> {
    let rows = blame.into_iter().flat_map(|blame| &blame.sites).map(|site| {
        let interval = &site.pinned_interval;
        Row::new([
            size(site.pinned_bytes),
            format!("{} to {}", size(interval.low), size(interval.high)),
            size(site.live_bytes),
            site.function.clone(),
        ])
    });
    let widths = [
        Constraint::Length(10),
        Constraint::Length(22),
        Constraint::Length(10),
        Constraint::Min(10),
    ];
    let header = ["pins", "95 % interval", "live", "site"];
    table(" whose blocks pin free memory ", header, widths, rows)
}
