//! What stands on the screen, line by line.

use super::{Panel, View};
use heapwright_monitor::{HeapLook, Look, NodeLook};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

/// The lines of a screen of that size.
fn drawn(view: &View, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
    terminal.draw(|frame| view.draw(frame)).expect("drawn");
    let cells = terminal.backend().buffer().content();
    let lines = cells.chunks(usize::from(width));
    lines.map(|line| line.iter().map(ratatui::buffer::Cell::symbol).collect()).collect()
}

/// The line that has all of `words`, in this order.
#[track_caller]
fn expect_line(screen: &[String], words: &[&str]) {
    let has_all = |line: &&String| {
        words
            .iter()
            .try_fold(line.as_str(), |rest, word| rest.split_once(word).map(|it| it.1))
            .is_some()
    };
    assert!(screen.iter().any(|line| has_all(&line)), "{words:?} in\n{}", screen.join("\n"));
}

fn heap(kind: &'static str, number: u64, name: &str, bytes: [u64; 3]) -> HeapLook {
    HeapLook {
        kind,
        number,
        name: name.to_owned(),
        span_bytes: bytes[0],
        used_bytes: bytes[1],
        large_bytes: bytes[2],
        external_fragmentation: 1.0 - bytes[1] as f64 / bytes[0] as f64,
        ..HeapLook::default()
    }
}

fn server() -> Look {
    let mut look = Look { pid: 4711, name: "server".to_owned(), ..Look::default() };
    (look.live, look.resident) = (10 << 20, 25 << 20);
    look.residence.free_in_spans = 12 << 20;
    look.map = "0123456789#_.".repeat(40);
    let cache =
        HeapLook { limit: Some(64 << 20), ..heap("zone", 3, "cache", [4 << 20, 1 << 20, 3 << 20]) };
    look.heaps = vec![
        heap("thread", 0x7f12, "", [8 << 20, 6 << 20, 0]),
        cache,
        heap("shared", 0, "", [1 << 20, 1 << 20, 0]),
    ];
    look.nodes = (0..2)
        .map(|node| NodeLook {
            node,
            span_bytes: (6 + node) << 20,
            used_bytes: 4 << 20,
            large_bytes: node << 20,
            free_bytes: (9 - node) << 20,
            external_fragmentation: 0.25 + 0.5 * node as f64,
        })
        .collect();
    look
}

#[test]
fn a_look_is_drawn_in_any_size() {
    let mut look = server();
    let mut view = View::new(look.clone());
    for step in 0..300 {
        look.resident += step << 12;
        view.take(look.clone());
    }
    let screen = drawn(&view, 120, 40);
    expect_line(&screen, &["server", "process 4711"]);
    expect_line(&screen, &["free inside spans", "12.0 MiB"]);
    expect_line(&screen, &["heap map"]);
    expect_line(&screen, &["cache", "4.0 MiB", "4.0 MiB"]);
    for panel in [Panel::Classes, Panel::Owners, Panel::Sites] {
        view.panel = panel;
        for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 100)] {
            drawn(&view, width, height);
        }
    }
}

#[test]
fn heaps_and_nodes_have_a_panel() {
    let mut view = View::new(server());
    view.panel = view.panel.next(false);
    assert_eq!(view.panel, Panel::Owners);
    let screen = drawn(&view, 130, 40);
    expect_line(&screen, &["heap", "kind", "spans", "used", "large", "limit", "free"]);
    expect_line(&screen, &["thread 7f12", "thread", "8.0 MiB", "6.0 MiB", "0 B", "-", "25 %"]);
    let cache = ["cache", "zone", "4.0 MiB", "1.0 MiB", "3.0 MiB", "64.0 MiB", "75 %"];
    expect_line(&screen, &cache);
    expect_line(&screen, &["no thread", "shared", "1.0 MiB", "1.0 MiB", "0 %"]);
    expect_line(&screen, &["NUMA nodes"]);
    expect_line(&screen, &["0 ", "6.0 MiB", "4.0 MiB", "0 B", "9.0 MiB", "25 %"]);
    expect_line(&screen, &["1 ", "7.0 MiB", "4.0 MiB", "1.0 MiB", "8.0 MiB", "75 %"]);
    // More heaps than lines: the nodes stay.
    let mut look = server();
    look.heaps = (0..200).map(|n| heap("thread", n, "", [1 << 20, 1 << 19, 0])).collect();
    view.take(look);
    expect_line(&drawn(&view, 130, 30), &["1 ", "7.0 MiB", "8.0 MiB", "75 %"]);
}

#[test]
fn tab_turns_over_and_shows_sites_only_with_a_profile() {
    assert_eq!(Panel::Classes.next(false), Panel::Owners);
    assert_eq!(Panel::Owners.next(false), Panel::Classes);
    assert_eq!(Panel::Owners.next(true), Panel::Sites);
    assert_eq!(Panel::Sites.next(true), Panel::Classes);
}
