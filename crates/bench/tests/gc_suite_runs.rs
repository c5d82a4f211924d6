//! The collectors' suite runs once, small, with ours and the system's malloc only.

use heapwright_bench::gc_suite::{COLLECTORS, Options, WORKLOADS, run};
use std::path::PathBuf;

#[test]
fn every_collector_does_every_workload_as_malloc_does() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        cells: PathBuf::from(env!("CARGO_BIN_EXE_heapwright-bench-gc")),
        rounds: 1,
        scale: "test",
        only: None,
        against: vec!["malloc".into()],
        directory: directory.path().to_owned(),
    };
    let results = run(&options, &mut |_| {});
    // A checksum that is another is named as missing, too.
    assert!(results.missing.is_empty(), "{:?}", results.missing);
    // One workload is written with handles, too.
    assert_eq!(results.rows.len(), WORKLOADS.len() * (COLLECTORS.len() + 1) + 1);
    for row in &results.rows {
        assert!(row.time_s > 0.0 && row.peak_rss_kb > 0, "{} {}", row.workload, row.subject);
        assert!(row.malloc_ratio.is_some_and(|ratio| ratio > 0.0));
        let is_ours = row.subject != "malloc";
        assert_eq!(row.mmu.as_ref().map_or(0, |mmu| mmu.len()), if is_ours { 5 } else { 0 });
        assert_eq!(row.collections.is_some(), is_ours);
    }
    let json = serde_json::to_value(&results).unwrap();
    assert_eq!(json["suite"], "gc");
    assert!(json["rows"][0]["pause_ms"]["p99"].is_number());
    assert!(results.to_string().contains("| lru | malloc"));
}
