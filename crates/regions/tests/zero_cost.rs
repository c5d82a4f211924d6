//! Statistics and checks that are off cost nothing: equal instruction counts, by callgrind.
//!
//! `cargo test --release -p heapwright-regions --test zero_cost -- --ignored`

use std::alloc::Layout;
use std::env;
use std::hint::black_box;
use std::process::Command;

use heapwright_regions::{
    AnonymousPages, Checked, Counts, Linear, NoCounts, Off, Pool, Region, RegionStatistics,
};

const VARIABLE: &str = "HEAPWRIGHT_ZERO_COST";
const COUNTS: [u64; 2] = [100_000, 1_100_000];

/// Counts nothing in another way than the crate's own.
#[derive(Default)]
struct Nothing;

impl Counts for Nothing {
    fn on_alloc(&self, _: usize, _: usize) {}
    fn on_free(&self, _: usize, _: usize) {}
    fn on_failure(&self) {}
    fn on_reset(&self) {}
    fn report(&self, _: &mut RegionStatistics) {}
}

#[inline(never)]
fn pairs(region: &impl Region, count: u64) {
    let layout = Layout::new::<[u64; 8]>();
    for _ in 0..count {
        let block = region.try_alloc_block(layout).expect("memory");
        let block = black_box(block);
        // SAFETY: live, unused from here.
        unsafe { region.free_block(block, layout) };
    }
}

fn pool<C: Counts>(counts: C) -> Pool<AnonymousPages, C> {
    Pool::counted_in(AnonymousPages, Layout::new::<[u64; 8]>(), counts)
}

fn run(name: &str, count: u64) {
    match name {
        "pool" => pairs(&pool(NoCounts), count),
        "pool, checks off" => pairs(&Checked::<_, Off>::new(pool(NoCounts)), count),
        "pool, counts off" => pairs(&pool(Nothing), count),
        "linear" => pairs(&Linear::<AnonymousPages>::new(), count),
        "linear, checks off" => {
            pairs(&Checked::<_, Off>::new(Linear::<AnonymousPages>::new()), count);
        }
        other => panic!("{other}"),
    }
}

/// Instructions of one pair, by the difference of two runs under callgrind.
fn instructions(name: &str) -> f64 {
    let collected = |count: u64| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(env::current_exe().expect("a path"))
            .args(["--exact", "off_costs_nothing_release_tier", "--ignored", "--test-threads=1"])
            .env(VARIABLE, format!("{count} {name}"))
            .output()
            .expect("valgrind is installed");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let number =
            text.split("Collected :").nth(1).and_then(|rest| rest.split_whitespace().next());
        number.and_then(|number| number.parse::<f64>().ok()).unwrap_or_else(|| panic!("{text}"))
    };
    (collected(COUNTS[1]) - collected(COUNTS[0])) / (COUNTS[1] - COUNTS[0]) as f64
}

#[test]
#[ignore = "release tier: needs valgrind and an optimised build"]
fn off_costs_nothing_release_tier() {
    if let Ok(order) = env::var(VARIABLE) {
        let (count, name) = order.split_once(' ').expect("a count and a name");
        return run(name, count.parse().expect("a count"));
    }
    for (with, without) in [
        ("pool, checks off", "pool"),
        ("pool, counts off", "pool"),
        ("linear, checks off", "linear"),
    ] {
        let (with_count, without_count) = (instructions(with), instructions(without));
        println!("{with}: {with_count:.2}; {without}: {without_count:.2}");
        // Two processes differ by some thousand instructions of their start.
        assert!((with_count - without_count).abs() < 0.05, "{with}: {with_count} {without_count}");
    }
}
