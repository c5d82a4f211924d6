//! From a made-up recording to `advice.json`, the page's data, diffs and exports.

use std::io::Read;

use heapwright_advise::pprof::{Profile, ProfileTimes};
use heapwright_advise::schema::{Advice, AllocatorRow, Flame, ReportData};
use heapwright_advise::{
    AdviceFacts, AllocatorResult, Analysis, Diff, Limit, OverheadFacts, SYSTEM, advice,
    report_data, text,
};
use heapwright_format::file::{Recording, SessionInfo};
use heapwright_format::{AllocKind, LeafKind};
use heapwright_symbols::Symbolizer;
use prost::Message;

use synthetic::Synthetic;

mod synthetic;

/// Two sites under main (0x900): 0x100 leaks a third, 0x200 is temporary.
fn program(rounds: u64) -> Synthetic {
    let session = SessionInfo { command: vec!["serve".into()], ..SessionInfo::default() };
    let mut program = Synthetic::with_session(session);
    program.set_exe("/usr/bin/python3.12");
    for round in 0..rounds {
        let kept = program.malloc(0, 1000, &[0x100, 0x900]);
        if round % 3 != 0 {
            program.free(0, kept);
        }
        let short = program.malloc(0, 10, &[0x200, 0x300, 0x900]);
        program.free(0, short);
    }
    program
}

fn analysed(program: Synthetic) -> (tempfile::TempDir, Recording, Analysis) {
    let (folder, recording) = program.finish();
    let analysis = Analysis::new(&recording, 0, &mut Symbolizer::new(), &mut |_, _| {});
    (folder, recording, analysis.expect("allocations"))
}

fn results() -> Vec<AllocatorResult> {
    let row = |name: &str, ns_per_op: f64, peak_rss_kb: u64| AllocatorResult {
        row: AllocatorRow {
            name: name.into(),
            ns_per_op,
            peak_rss_kb,
            spread: 0.01,
            ..AllocatorRow::default()
        },
        ..AllocatorResult::default()
    };
    let mut broken = row("broken", 0.0, 0);
    broken.row.failure = "it crashed with signal 11".into();
    vec![row("mimalloc", 20.0, 8000), row(SYSTEM, 40.0, 10_000), broken]
}

#[test]
fn advice_is_complete_and_survives_json() {
    let (_folder, recording, analysis) = analysed(program(300));
    let facts = AdviceFacts {
        heapwright_version: "9.9".into(),
        allocators: results(),
        replay_repeats: 5,
        overhead: OverheadFacts::Measured { native_s: 2.0 },
        ..AdviceFacts::default()
    };
    let advice = advice(&recording, 0, &analysis, &facts);
    assert_eq!((advice.schema, advice.command.as_slice()), (1, &["serve".to_string()][..]));
    assert_eq!(advice.overhead.native_s, 2.0);
    assert_eq!(advice.processes.len(), 1);
    assert!(advice.processes[0].chosen && advice.processes[0].share == 1.0);
    assert_eq!(advice.recording.events, 300 + 200 + 600);
    assert_eq!(advice.recording.bytes, recording.file_bytes());
    let names: Vec<&str> = advice.allocators.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, [SYSTEM, "mimalloc", "broken"], "the system's first");
    assert_eq!(advice.allocators[1].time_ratio, 0.5);
    assert!(advice.verdict.change, "20 % less memory");
    assert_eq!(advice.sites.len(), 2);
    assert_eq!(advice.leaks.len(), 1);
    assert_eq!((advice.leaks[0].live_at_end_blocks, advice.leaks[0].id), (100, 0));
    let functions: Vec<&str> =
        advice.temporaries.iter().map(|site| site.function.as_str()).collect();
    assert_eq!(functions, ["0x1ff", "0xff"], "300 temporaries, then 200");
    let has = |part: &str| advice.notes.iter().any(|note| note.contains(part));
    assert!(has("PYTHONMALLOC=malloc") && has("signal 11") && has("caches"), "{:?}", advice.notes);
    let json = serde_json::to_string(&advice).expect("plain data");
    let back: Advice = serde_json::from_str(&json).expect("plain data");
    assert_eq!(back, advice);
}

#[test]
fn notes_tell_what_figures_lack() {
    let mut program = Synthetic::new();
    let cut = LeafKind { truncated: true, ..LeafKind::default() };
    program.alloc(0, 8, &[0x100], cut);
    let map = LeafKind { kind: AllocKind::Mmap, ..LeafKind::default() };
    program.alloc_at(0, 0x1000_0000, 3 << 20, &[0x200], map);
    program.failed(0, 1 << 30, &[0x300]);
    program.free(0, synthetic::Block(0xdead_0000));
    let (_folder, recording, analysis) = analysed(program);
    let advice = advice(&recording, 0, &analysis, &AdviceFacts::default());
    let expected = [
        "100 % of the allocations have a stack whose outer frames are unknown.",
        "Frees of blocks that are older than this process's part of the recording (inherited by \
         fork), or were allocated out of its sight: 1.",
        "The program maps memory itself (mappings: 1, at most 3.0 MiB at once)",
        "Failed allocations: 1, the largest of 1.0 GiB.",
    ];
    assert_eq!(advice.notes.len(), expected.len(), "{:?}", advice.notes);
    for (note, expected) in advice.notes.iter().zip(expected) {
        assert!(note.starts_with(expected), "{note}");
    }
    assert!(!advice.verdict.change);
    assert_eq!(advice.verdict.allocator, SYSTEM);
}

#[test]
fn overhead_is_estimated_from_the_events() {
    let (_folder, recording, analysis) = analysed(program(3));
    let facts = AdviceFacts {
        overhead: OverheadFacts::Estimated { ns_per_event: 30.0 },
        ..AdviceFacts::default()
    };
    let advice = advice(&recording, 0, &analysis, &facts);
    assert_eq!(advice.overhead.method, "estimated");
    assert!(advice.overhead.native_s <= advice.overhead.recorded_s);
}

fn children(flame: &Flame, parent: u32) -> Vec<(String, u64, u64, u64, u64)> {
    (1..flame.parent.len())
        .filter(|&node| flame.parent[node] == parent)
        .map(|node| {
            let name = flame.names[flame.name[node] as usize].clone();
            let (bytes, count) = (flame.bytes[node], flame.count[node]);
            (name, bytes, count, flame.peak[node], flame.temporary[node])
        })
        .collect()
}

#[test]
fn the_flame_graph_adds_up() {
    let (_folder, _recording, analysis) = analysed(program(300));
    let ReportData { flame, size_histogram, lifetime_histogram, .. } =
        report_data(Advice::default(), &analysis);
    assert_eq!((flame.parent[0], flame.pruned_share), (0, 0.0));
    let peak = analysis.totals.peak_live_bytes;
    assert_eq!(children(&flame, 0), [("0x8ff".into(), 303_000, 600, peak, 500)]);
    let mut below = children(&flame, 1);
    below.sort();
    let temporary_peak = peak - 100_000;
    assert_eq!(below[0], ("0x2ff".into(), 3_000, 300, temporary_peak % 1000, 300));
    assert_eq!((below[1].0.as_str(), below[1].1, below[1].2), ("0xff", 300_000, 300));
    assert!(
        flame.parent.iter().enumerate().skip(1).all(|(node, &parent)| (parent as usize) < node)
    );
    assert_eq!(size_histogram.iter().map(|bar| bar.count).sum::<u64>(), 600);
    assert_eq!(size_histogram.iter().map(|bar| bar.bytes).sum::<u64>(), 303_000);
    assert_eq!(lifetime_histogram.iter().map(|bar| bar.count).sum::<u64>(), 600);
}

#[test]
fn a_wide_flame_graph_is_pruned_and_says_so() {
    let mut program = Synthetic::new();
    for index in 0..60_000u64 {
        program.malloc(0, 16, &[0x10_0000 + index, 0x900]);
    }
    program.malloc(0, 16 * 60_000, &[0x200, 0x900]);
    let (_folder, _recording, analysis) = analysed(program);
    let flame = Flame::new(&analysis);
    assert!(flame.parent.len() <= 50_000);
    assert_eq!(flame.pruned_share, 0.5);
    assert!(flame.names.len() < 10, "names of left out nodes are left out");
}

#[test]
fn a_diff_names_what_grew_and_checks_limits() {
    let (_old_folder, _, old) = analysed(program(300));
    let (_new_folder, _, same) = analysed(program(300));
    let diff = Diff::new(&old, &same, &Limit::parse_list("peak+0%,allocs+0").expect("limits"));
    assert!(diff.is_within_limits() && diff.sites.is_empty());
    assert!(diff.totals.iter().all(|change| change.old == change.new));

    let mut grown = program(300);
    for _ in 0..50 {
        grown.malloc(1, 4000, &[0x400, 0x900]);
    }
    let (_folder, _, new) = analysed(grown);
    let limits = Limit::parse_list("peak+5%,allocs+10%,threads+1").expect("limits");
    let diff = Diff::new(&old, &new, &limits);
    // The temporary that was alive at the old peak is none at the new one's.
    assert_eq!(diff.sites_changed, 2);
    let site = &diff.sites[0];
    assert_eq!((site.function.as_str(), site.stack.len()), ("0x3ff", 2));
    assert_eq!((site.old.allocs, site.new.allocs, site.new.leaks), (0, 50, 200_000));
    assert_eq!(diff.failures.len(), 1, "{:?}", diff.failures);
    assert!(diff.failures[0].starts_with("peak grew from 98.6 KiB"), "{}", diff.failures[0]);
    let text = diff.text(10);
    assert!(text.contains("+195 KiB") && text.contains("0x3ff < 0x8ff"), "{text}");
    assert!(text.ends_with("allowed is 5 %.\n"), "{text}");
    let json = serde_json::to_string(&diff).expect("plain data");
    assert_eq!(serde_json::from_str::<Diff>(&json).expect("plain data"), diff);
}

#[test]
fn a_profile_can_be_read_back_and_adds_up() {
    let (_folder, _recording, analysis) = analysed(program(300));
    let profile = Profile::new(&analysis, ProfileTimes { started_unix_s: 7, sample_bytes: 0 });
    let mut packed = Vec::new();
    profile.write(&mut packed).expect("memory");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&*packed).read_to_end(&mut bytes).expect("gzip");
    let read = Profile::decode(&*bytes).expect("a profile");
    assert_eq!(read, profile);
    let text = |index: i64| read.string_table[index as usize].as_str();
    assert_eq!(text(0), "");
    let types: Vec<&str> = read.sample_type.iter().map(|kind| text(kind.r#type)).collect();
    assert_eq!(types[1], "alloc_space");
    let sum = |kind: usize| read.sample.iter().map(|sample| sample.value[kind]).sum::<i64>();
    assert_eq!((sum(0), sum(1)), (600, 303_000));
    assert_eq!(sum(3) as u64, analysis.totals.peak_live_bytes);
    assert_eq!((sum(4), sum(5)), (100, 100_000));
    for sample in &read.sample {
        assert_eq!(sample.value.len(), read.sample_type.len());
        for &id in &sample.location_id {
            let location = &read.location[id as usize - 1];
            assert_eq!(location.id, id);
            let function = &read.function[location.line[0].function_id as usize - 1];
            assert!(text(function.name).starts_with("0x"));
        }
    }
    let outermost = read.sample[0].location_id.last().expect("a stack");
    assert_eq!(read.location[*outermost as usize - 1].address, 0x8ff, "innermost first");
    assert_eq!((read.time_nanos, read.period), (7_000_000_000, 1));
}

#[test]
fn the_terminal_gets_a_verdict_and_tables() {
    let (_folder, recording, analysis) = analysed(program(300));
    let facts = AdviceFacts { allocators: results(), replay_repeats: 5, ..AdviceFacts::default() };
    let advice = advice(&recording, 0, &analysis, &facts);
    let verdict = text::verdict_text(&advice);
    let lines: Vec<&str> = verdict.lines().collect();
    assert_eq!(lines[0], "Change to mimalloc (confidence medium, by replay).");
    assert!(lines[1].contains("20 % less peak memory"), "{verdict}");
    assert!(lines[2].starts_with("python3.12: 1100 events in "), "{verdict}");
    assert_eq!(lines[3], "Largest alive at the end: 97.7 KiB in 100 blocks from 0xff.");
    assert_eq!(lines[4], "Most temporaries: 300 from 0x1ff.");
    let table = text::allocators_table(&advice);
    assert_eq!(table.lines().count(), 4);
    assert!(table.contains("it crashed with signal 11") && table.contains("0.50x"), "{table}");
    let table = text::sites_table(&advice.sites, 1);
    assert_eq!(table.lines().count(), 2);
    assert!(table.lines().all(|line| !line.ends_with(' ')), "{table}");
    assert_eq!(text::sites_table(&[], 5), "");
}

#[cfg(feature = "parquet")]
#[test]
fn events_as_parquet_have_a_row_each() {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    let mut program = program(30);
    let block = program.malloc(0, 10, &[0x500]);
    program.realloc(1, block, 99, &[0x600]);
    program.failed(1, 1 << 40, &[0x700]);
    let (folder, recording, analysis) = analysed(program);
    let path = folder.path().join("events.parquet");
    let file = std::fs::File::create(&path).expect("create");
    let mut calls = 0;
    heapwright_advise::parquet_export::write_events(&recording, 0, &analysis, file, &mut |_, _| {
        calls += 1;
    })
    .expect("written");
    assert!(calls > 0);
    let reader = SerializedFileReader::new(std::fs::File::open(&path).expect("open"));
    let reader = reader.expect("a Parquet file");
    let rows: Vec<_> =
        reader.get_row_iter(None).expect("rows").map(|row| row.expect("a row")).collect();
    assert_eq!(rows.len(), 30 + 20 + 60 + 3);
    let columns: Vec<&str> = rows[0].get_column_iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        columns.join(" "),
        "time_ns thread event object size old_size align kind weight \
        stack site function"
    );
    let event = |row: usize| rows[row].get_string(2).expect("text").as_str();
    assert_eq!((event(0), rows[0].get_long(4).expect("a number")), ("alloc", 1000));
    assert_eq!(rows[0].get_string(11).expect("text"), "0xff");
    assert_eq!(rows[0].get_double(8).expect("a number"), 1.0);
    let resize = rows.len() - 2;
    assert_eq!((event(resize), event(resize + 1)), ("resize", "failed"));
    assert_eq!(rows[resize].get_long(5).expect("a number"), 10);
    assert_eq!(rows[resize].get_int(1).expect("a number"), 1);
    assert!(rows[resize + 1].get_long(3).is_err(), "a failed allocation has no object");
    assert!(rows.is_sorted_by_key(|row| row.get_long(0).expect("a number")));
}
