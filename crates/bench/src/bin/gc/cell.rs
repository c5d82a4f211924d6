//! One cell: one workload on one subject, in this process; prints one JSON object.

use crate::measure::{Ticks, cpu_s, status_kb};
use crate::ours::{self, Outcome};
use crate::raw::{self, Malloc};
use crate::workload::{BinaryTrees, GcBench, Graph, Lru, Scale};
use heapwright_gc::{Collector, Config};
use serde_json::{Value, json};
use std::time::Instant;

/// Runs `WORKLOAD SUBJECT VARIANT SCALE [KEY=VALUE...]`.
pub fn run(words: &[String]) -> Result<Value, String> {
    let [workload, subject, variant, scale, settings @ ..] = words else {
        return Err("cell WORKLOAD SUBJECT VARIANT SCALE [KEY=VALUE...]".into());
    };
    let scale = match scale.as_str() {
        "full" => Scale::Full,
        "quick" => Scale::Quick,
        _ => Scale::Test,
    };
    let mut ticks = Ticks::new();
    let (begin, begin_cpu) = (Instant::now(), cpu_s());
    let mut row = match subject.as_str() {
        "heapwright" => {
            let config = config(variant, settings)?;
            let outcome = match workload.as_str() {
                "gcbench" => ours::gcbench(config, GcBench::of(scale), &mut ticks),
                "binary_trees" => ours::binary_trees(config, BinaryTrees::of(scale), &mut ticks),
                "graph" => ours::graph(config, Graph::of(scale), &mut ticks),
                "lru" => ours::lru(config, Lru::of(scale), &mut ticks),
                _ => return Err(format!("no workload `{workload}`")),
            };
            report(&outcome)
        }
        "malloc" => {
            let sum = match workload.as_str() {
                "gcbench" => raw::gcbench(Malloc, GcBench::of(scale), &mut ticks),
                "binary_trees" => raw::binary_trees(Malloc, BinaryTrees::of(scale), &mut ticks),
                "graph" => raw::graph(Malloc, Graph::of(scale), &mut ticks),
                "lru" => raw::lru(Malloc, Lru::of(scale), &mut ticks),
                _ => return Err(format!("no workload `{workload}`")),
            };
            json!({ "checksum": sum })
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

fn report(outcome: &Outcome) -> Value {
    let statistics = &outcome.statistics;
    json!({
        "checksum": outcome.checksum,
        "collections": statistics.minor_collections + statistics.full_collections,
        "minor": statistics.minor_collections,
        "full": statistics.full_collections,
        "slices": statistics.slices,
        "live_mb": statistics.live_bytes >> 20,
        "cpu_max": statistics.pause_cpu_ns_max as f64 / 1e6, "hurried": statistics.hurried_cycles,
        "pause_total_ms": statistics.pause_ns_total as f64 / 1e6,
        "pause_ms": {
            "p50": statistics.pause_ns_percentile(50.0) as f64 / 1e6,
            "p99": statistics.pause_ns_percentile(99.0) as f64 / 1e6,
            "max": statistics.pause_ns_max as f64 / 1e6,
        },
    })
}

fn config(variant: &str, settings: &[String]) -> Result<Config, String> {
    let collector = match variant {
        "null" => Collector::Null,
        "mark_sweep" => Collector::MarkSweep,
        "mark_compact" => Collector::MarkCompact,
        "copying" => Collector::Semispace,
        "generational" => Collector::Generational,
        "incremental" => Collector::Incremental,
        _ => return Err(format!("no collector `{variant}`")),
    };
    let mut config = Config::with(collector);
    if collector == Collector::Null {
        config.limit_bytes = 64 << 30;
    }
    for setting in settings {
        let (key, value) = setting.split_once('=').ok_or("a setting is KEY=VALUE")?;
        let number: usize = value.parse().map_err(|_| format!("{key}: no number: {value}"))?;
        match key {
            "limit_mb" => config.limit_bytes = number << 20,
            "growth" => config.growth_percent = number,
            "trigger_mb" => config.trigger_bytes_min = number << 20,
            "nursery_kb" => config.nursery_bytes = number << 10,
            "slice_us" => config.slice_us = number as u64,
            _ => return Err(format!("no setting `{key}`")),
        }
    }
    Ok(config)
}
