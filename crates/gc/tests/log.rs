//! What a heap tells of itself when it goes, and that it is set by the environment and by a file.

mod collecting;
mod list;

use collecting::COLLECTORS;
use heapwright_gc::{Config, Gc, GcCell, Heap, rootable};
use list::Node;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

type List = rootable!['gc => GcCell<Option<Gc<'gc, Node<'gc>>>>];

/// Tells the test below that it is the child.
const CHILD: &str = "HEAPWRIGHT_GC_TEST_CHILD";

#[test]
fn child_with_a_heap() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let config = Config { nursery_bytes: 128 << 10, ..Config::default() };
    let config = config.with_environment().expect("settings of the test");
    println!("limit: {}", config.limit_bytes);
    let mut heap = Heap::<List>::new(config, |_| GcCell::new(None)).expect("addresses");
    for value in 0..20_000 {
        heap.mutate(|mu, head| {
            let next = GcCell::new(head.get().filter(|_| value % 100 > 0));
            head.set(mu, mu.alloc(Node { value, next }).ok());
        });
    }
    heap.collect();
}

/// Runs the child with these variables; what it wrote to both streams.
fn run(variables: &[(&str, &str)]) -> (String, String) {
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child_with_a_heap", "--test-threads", "1", "--nocapture"])
        .env(CHILD, "1")
        .envs(variables.iter().copied())
        .output()
        .expect("runs");
    let [out, errors] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
    assert!(output.status.success(), "{out}{errors}");
    (out, errors)
}

/// A file of this test's own.
fn file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("heapwright-gc-{name}-{}", std::process::id()))
}

#[test]
fn every_collector_tells_time_memory_pauses_and_what_was_left_to_the_program() {
    for collector in COLLECTORS {
        let name = collector.name();
        let variables = [("HEAPWRIGHT_GC_COLLECTOR", name), ("HEAPWRIGHT_GC_LOG", "text")];
        let (_, text) = run(&variables);
        let line = text.lines().find(|line| line.starts_with("heapwright-gc: ")).expect("a line");
        let parts = [name, " s, CPU ", "peak ", "collections", "pauses p50/p99/max", "gap "];
        for part in parts.into_iter().chain(["overhead at least", "left in 1 ms", "100 ms"]) {
            assert!(line.contains(part), "{part:?} in {line:?}");
        }
        let variables = [("HEAPWRIGHT_GC_COLLECTOR", name), ("HEAPWRIGHT_GC_LOG", "timeline")];
        let (_, text) = run(&variables);
        let line = text.lines().find(|line| line.starts_with("{\"gc\":")).expect("a line");
        let keys =
            ["time_s", "cpu_s", "peak_mib", "collections", "slices", "refusals", "conflicts"];
        let more = ["p50", "p99", "max", "gap_ms_max", "overhead_at_least", "1", "5", "10", "20"];
        for key in keys.into_iter().chain(more) {
            assert!(line.contains(&format!("\"{key}\":")), "{key:?} in {line:?}");
        }
        let (_, pauses) = line.split_once("\"timeline\":[[").expect("the last collection at least");
        let kinds = ["\"minor\",", "\"full\",", "\"slice\","];
        let of_a_kind = |pause: &str| kinds.iter().any(|kind| pause.starts_with(kind));
        assert!(pauses.split("],[").all(of_a_kind), "{pauses:?}");
        assert!(line.ends_with("]]}"), "{line:?}");
    }
}

#[test]
fn where_pause_and_throughput_conflict_the_pause_wins_and_the_log_says_so() {
    let variables = [
        ("HEAPWRIGHT_GC_COLLECTOR", "generational"),
        ("HEAPWRIGHT_GC_PAUSE_US", "1"),
        ("HEAPWRIGHT_GC_THROUGHPUT", "99"),
        ("HEAPWRIGHT_GC_STRESS", "1"),
        ("HEAPWRIGHT_GC_LOG", "text"),
    ];
    let (_, text) = run(&variables);
    assert!(text.contains("; the pause target won over the throughput goal "), "{text:?}");
    let goal_alone = variables.iter().filter(|(name, _)| !name.ends_with("PAUSE_US"));
    let (_, text) = run(&goal_alone.copied().collect::<Vec<_>>());
    assert!(!text.contains("; the pause target won"), "{text:?}");
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_program() {
    let (conf, log) = (file("conf"), file("log"));
    fs::write(&conf, "limit = 32m # a comment\ncollector = mark_compact\nlog = json\n")
        .expect("is writable");
    let _ = fs::remove_file(&log);
    let path = |path: &PathBuf| path.to_str().expect("a path of ours").to_owned();
    let (conf_path, log_path) = (path(&conf), path(&log));
    let variables =
        [("HEAPWRIGHT_GC_CONFIG", conf_path.as_str()), ("HEAPWRIGHT_GC_LOG_FILE", &log_path)];
    let (out, _) = run(&variables);
    assert!(out.contains(&format!("limit: {}", 32 << 20)), "the file's: {out:?}");
    let (out, _) = run(&[&variables[..], &[("HEAPWRIGHT_GC_LIMIT", "48m")]].concat());
    assert!(out.contains(&format!("limit: {}", 48 << 20)), "the environment's: {out:?}");
    // Appended, by the first and by the second.
    let lines = fs::read_to_string(&log).expect("was written");
    assert_eq!(lines.matches("{\"gc\":\"mark_compact\"").count(), 2, "{lines:?}");
    for path in [conf, log] {
        fs::remove_file(path).expect("is there");
    }
}
