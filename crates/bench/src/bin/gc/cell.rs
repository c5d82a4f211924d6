//! One cell: one workload on one subject, in this process; prints one JSON object.

use crate::boehm::Boehm;
use crate::measure::{Ticks, cpu_s, status_kb};
use crate::ours::{self, Outcome};
use crate::raw::{self, Blocks, Malloc};
use crate::turns::Turns;
use crate::workload::{BinaryTrees, GcBench, Graph, Lru, Scale};
use heapwright_gc::{Collector, Config, PauseKind, minimum_utilisation, percentile_ns};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Runs `WORKLOAD SUBJECT VARIANT SCALE [KEY=VALUE...]`.
pub fn run(words: &[String]) -> Result<Value, String> {
    let [workload, subject, variant, scale, settings @ ..] = words else {
        return Err("cell WORKLOAD SUBJECT VARIANT SCALE [KEY=VALUE...]".into());
    };
    let scale = match scale.as_str() {
        "full" => Scale::Full,
        "middle" => Scale::Middle,
        "quick" => Scale::Quick,
        _ => Scale::Test,
    };
    let number = |key: &str| {
        let value = settings.iter().find_map(|one| one.strip_prefix(key)?.strip_prefix('='));
        let parsed = value.map(str::parse::<u64>).transpose();
        parsed.map_err(|_| format!("{key}= needs a number"))
    };
    // What is random in graph and lru, for ours; and how many milliseconds a turn takes, if the
    // process has to wait for its turns.
    let (seed, turn_ms) = (number("seed")?, number("turns")?);
    let is_config = |one: &&String| !one.starts_with("seed=") && !one.starts_with("turns=");
    let settings = &settings.iter().filter(is_config).cloned().collect::<Vec<_>>()[..];
    let mut ticks = Ticks::new(turn_ms.map(|ms| Turns::begin(Duration::from_millis(ms))));
    let (begin, begin_cpu) = (Instant::now(), cpu_s());
    let mut row = match subject.as_str() {
        "heapwright" => {
            let config = config(variant, settings)?;
            let outcome = match workload.as_str() {
                "gcbench" => ours::gcbench(config, GcBench::of(scale), &mut ticks),
                "binary_trees" => ours::binary_trees(config, BinaryTrees::of(scale), &mut ticks),
                "graph" => {
                    let size = Graph::of(scale);
                    let size = Graph { seed: seed.unwrap_or(size.seed), ..size };
                    ours::graph(config, size, &mut ticks)
                }
                "lru" => {
                    let size = Lru::of(scale);
                    let size = Lru { seed: seed.unwrap_or(size.seed), ..size };
                    ours::lru(config, size, &mut ticks)
                }
                "web" => ours::web(config, Graph::of(scale), &mut ticks),
                _ => return Err(format!("no workload `{workload}`")),
            };
            report(&outcome)
        }
        "handles" => {
            let config = config(variant, settings)?;
            match workload.as_str() {
                "gcbench" => {
                    report(&ours::gcbench_by_handles(config, GcBench::of(scale), &mut ticks))
                }
                _ => return Err(format!("`{workload}` is not written with handles")),
            }
        }
        "malloc" => json!({ "checksum": on_blocks(Malloc, workload, scale, &mut ticks)? }),
        "boehm" => {
            let boehm = Boehm::load()?;
            let sum = on_blocks(boehm, workload, scale, &mut ticks)?;
            json!({ "checksum": sum, "collections": boehm.collections() })
        }
        #[cfg(feature = "gc-peers")]
        name if crate::peers::NAMES.contains(&name) => {
            let sum = crate::peers::run(name, workload, scale, &mut ticks);
            json!({ "checksum": sum.ok_or("the peer has no such workload")? })
        }
        _ => return Err(format!("no subject `{subject}`")),
    };
    let time_s = begin.elapsed().as_secs_f64();
    row["workload"] = json!(workload);
    row["subject"] = json!(subject);
    row["variant"] = json!(variant);
    row["time_s"] = json!(time_s);
    row["cpu_s"] = json!(cpu_s() - begin_cpu);
    row["peak_rss_kb"] = json!(status_kb("VmHWM"));
    row["end_rss_kb"] = json!(status_kb("VmRSS"));
    row["gap_ms_max"] = json!(ticks.gap_ms_max());
    Ok(row)
}

fn on_blocks<B: Blocks>(
    blocks: B,
    workload: &str,
    scale: Scale,
    ticks: &mut Ticks,
) -> Result<u64, String> {
    match workload {
        "gcbench" => Ok(raw::gcbench(blocks, GcBench::of(scale), ticks)),
        "binary_trees" => Ok(raw::binary_trees(blocks, BinaryTrees::of(scale), ticks)),
        "graph" => Ok(raw::graph(blocks, Graph::of(scale), ticks)),
        "lru" => Ok(raw::lru(blocks, Lru::of(scale), ticks)),
        _ => Err(format!("no workload `{workload}`")),
    }
}

fn report(outcome: &Outcome) -> Value {
    let statistics = &outcome.statistics;
    let pauses_of = |is_meant: &dyn Fn(PauseKind) -> bool| {
        let meant = outcome.pauses.iter().filter(|pause| is_meant(pause.kind));
        let mut cpu_ns: Vec<u64> = meant.map(|pause| pause.cpu_ns).collect();
        let mut percentile = |percent| percentile_ns(&mut cpu_ns, percent) as f64 / 1e6;
        json!({ "p50": percentile(50.0), "p99": percentile(99.0), "max": percentile(100.0) })
    };
    let pauses = outcome.pauses.iter().map(|pause| (pause.begin_ns, pause.cpu_ns));
    let left = |ms: u64| minimum_utilisation(pauses.clone(), ms * 1_000_000);
    json!({
        "checksum": outcome.checksum,
        "collections": statistics.minor_collections + statistics.full_collections,
        "minor": statistics.minor_collections,
        "full": statistics.full_collections,
        "slices": statistics.slices,
        "hurried": statistics.hurried_cycles,
        "evacuated_mb": statistics.evacuated_bytes >> 20,
        "evacuated_blocks": statistics.evacuated_blocks,
        "live_mb": statistics.live_bytes >> 20,
        "pause_total_ms": statistics.pause_ns_total as f64 / 1e6,
        "pause_ms": pauses_of(&|_| true),
        "minor_pause_ms": pauses_of(&|kind| kind == PauseKind::Minor),
        "full_pause_ms": pauses_of(&|kind| kind == PauseKind::Full),
        "mmu": { "1": left(1), "5": left(5), "10": left(10), "20": left(20), "100": left(100) },
    })
}

fn config(variant: &str, settings: &[String]) -> Result<Config, String> {
    let collector: Collector = variant.parse().map_err(|_| format!("no collector `{variant}`"))?;
    let mut config = Config { record_pauses: true, ..Config::with(collector) };
    if collector == Collector::Null {
        config.limit_bytes = 64 << 30;
    }
    for setting in settings {
        let (key, value) = setting.split_once('=').ok_or("a setting is KEY=VALUE")?;
        config.set(key, value).map_err(|error| format!("{setting}: {error}"))?;
    }
    config.with_environment().map_err(|error| error.to_string())
}
