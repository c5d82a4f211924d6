//! When huge pages pay: random steps through a list, before and after its memory became huge.
//!
//! `cargo run --release --example huge_pages [MEGABYTES]`. Says what it found; machines differ.

use std::time::{Duration, Instant};

use heapwright::options::set_option;

#[global_allocator]
static GLOBAL: heapwright::Heapwright = heapwright::Heapwright;

struct Node {
    next: usize,
    _rest: [u64; 7],
}

/// A figure of `/proc/self/smaps_rollup` in KiB.
fn kib_of(name: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Nanoseconds a step; the least of three rounds.
fn walk(nodes: &[Box<Node>], steps: usize) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        let mut at = 0;
        for _ in 0..steps {
            at = nodes[at].next;
        }
        assert!(at < nodes.len());
        least = least.min(start.elapsed().as_nanos() as f64 / steps as f64);
    }
    least
}

fn report(when: &str, nodes: &[Box<Node>], steps: usize) {
    println!(
        "{when}: {:.1} ns a step, {} MiB resident, {} MiB of it huge",
        walk(nodes, steps),
        kib_of("Rss:") / 1024,
        kib_of("AnonHugePages:") / 1024
    );
}

fn run(megabytes: usize, steps: usize, wait: Duration) {
    let count = megabytes << 20 >> 6;
    // One cycle through all nodes in random order (Sattolo's shuffle).
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = 88_172_645_463_325_252_u64;
    for last in (1..count).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(last, (state >> 11) as usize % last);
    }
    let mut nodes: Vec<Box<Node>> =
        (0..count).map(|_| Box::new(Node { next: 0, _rest: [0; 7] })).collect();
    for (number, next) in order.iter().enumerate() {
        nodes[number].next = *next;
    }
    drop(order);
    report("small pages", &nodes, steps);
    set_option("huge_pages", "1").expect("an option");
    // A second thread, so that the process has a purger, which does it.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            while start.elapsed() < wait {
                drop(vec![vec![0u8; 100]; 200]);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
    });
    report("after a while", &nodes, steps);
}

fn main() {
    let megabytes = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(256);
    run(megabytes, 5_000_000, Duration::from_secs(8));
}

#[test]
fn it_runs() {
    run(4, 10_000, Duration::from_millis(100));
}
