//! The log of a heap: one line when it is dropped, as text or as JSON, on standard error
//! or appended to the file that `HEAPWRIGHT_GC_LOG_FILE` names.

use core::fmt::{self, Write};

use crate::system::{Fd, OpenFlags, env_var, monotonic_ns, thread_cpu_ns, write_all};

use crate::config::LogFormat;
use crate::memory::Table;
use crate::model::Model;
use crate::pauses::{Pause, minimum_utilisation, percentile_ns};
use crate::plan::Common;

/// Windows of the utilisation in milliseconds.
const WINDOWS_MS: [u64; 5] = [1, 5, 10, 20, 100];

/// A line in the making; what there is no memory for is left out.
struct Line(Table<u8>);

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().try_for_each(|byte| self.0.try_push(byte)).map_err(|_| fmt::Error)
    }
}

/// Writes the line about a heap that was made at `begin_ns`, when its thread had used
/// `begin_cpu_ns`.
pub(crate) fn write<M: Model>(common: &Common<M>, begin_ns: u64, begin_cpu_ns: u64) {
    if common.config.log == LogFormat::Off {
        return;
    }
    let mut line = Line(Table::new());
    // A torn one is better than none.
    let _ = line_of(&mut line, common, begin_ns, begin_cpu_ns);
    // Nobody to tell when the file or standard error cannot be written.
    let bytes = line.0.as_slice();
    let _ = match env_var("HEAPWRIGHT_GC_LOG_FILE").map(|path| Fd::open(path, OpenFlags::Append)) {
        Some(Ok(file)) => write_all(&file, bytes),
        _ => write_all(&Fd::STDERR, bytes),
    };
}

fn line_of<M: Model>(
    line: &mut Line,
    common: &Common<M>,
    begin_ns: u64,
    begin_cpu_ns: u64,
) -> fmt::Result {
    let statistics = &common.statistics;
    let wall_s = (monotonic_ns() - begin_ns) as f64 / 1e9;
    let cpu_s = (thread_cpu_ns() - begin_cpu_ns) as f64 / 1e9;
    let paused_s = statistics.pause_cpu_ns_total as f64 / 1e9;
    let mut times = Table::new();
    let mut gap_ns = 0;
    for pause in common.pauses.as_slice() {
        gap_ns = gap_ns.max(pause.wall_ns);
        // Without memory for all, of those that fit.
        let _ = times.try_push(pause.cpu_ns);
    }
    let mut ms = |percent| percentile_ns(times.as_mut_slice(), percent) as f64 / 1e6;
    let (p50, p99, max) = (ms(50.0), ms(99.0), ms(100.0));
    let gap_ms = gap_ns as f64 / 1e6;
    let collections = statistics.minor_collections + statistics.full_collections;
    // The mutator alone would have taken at least the rest: Cai et al., ISPASS 2022.
    let lower_bound = cpu_s / (cpu_s - paused_s).max(1e-9);
    let peak_mib = statistics.occupied_bytes_max as f64 / (1 << 20) as f64;
    let name = common.config.collector.name();
    let has_timeline = common.config.log == LogFormat::Timeline;
    let is_json = has_timeline || common.config.log == LogFormat::Json;
    if is_json {
        write!(
            line,
            "{{\"gc\":\"{name}\",\"time_s\":{wall_s:.3},\"cpu_s\":{cpu_s:.3},\
             \"peak_mib\":{peak_mib:.1},\"collections\":{collections},\"slices\":{},\
             \"hurried\":{},\"refusals\":{},\"conflicts\":{},\
             \"pause_ms\":{{\"p50\":{p50:.3},\"p99\":{p99:.3},\"max\":{max:.3}}},\
             \"gap_ms_max\":{gap_ms:.3},\"overhead_at_least\":{lower_bound:.3},\"mmu\":{{",
            statistics.slices,
            statistics.hurried_cycles,
            statistics.refusals,
            statistics.goal_conflicts,
        )?;
    } else {
        write!(
            line,
            "heapwright-gc: {name}: {wall_s:.3} s, CPU {cpu_s:.3} s, peak {peak_mib:.1} MiB, \
             {collections} collections, {} slices, pauses p50/p99/max {p50:.3}/{p99:.3}/{max:.3} ms \
             CPU, gap {gap_ms:.3} ms, overhead at least {lower_bound:.3} x; left in",
            statistics.slices
        )?;
    }
    let pauses = common.pauses.as_slice().iter().map(|pause| (pause.begin_ns, pause.wall_ns));
    for (index, window) in WINDOWS_MS.into_iter().enumerate() {
        let left = minimum_utilisation(pauses.clone(), window * 1_000_000);
        let comma = if index > 0 { "," } else { "" };
        if is_json {
            write!(line, "{comma}\"{window}\":{left:.3}")?;
        } else {
            write!(line, "{comma} {window} ms {:.0} %", left * 100.0)?;
        }
    }
    if is_json {
        line.write_str("}")?;
        if has_timeline {
            write_timeline(line, common.pauses.as_slice(), begin_ns)?;
        }
        return line.write_str("}\n");
    }
    if statistics.goal_conflicts > 0 {
        let count = statistics.goal_conflicts;
        write!(line, "; the pause target won over the throughput goal {count} times")?;
    }
    line.write_str("\n")
}

/// Every pause: what ran, milliseconds from the making of the heap to its begin, and what it took of
/// wall and of CPU time.
fn write_timeline(line: &mut Line, pauses: &[Pause], begin_ns: u64) -> fmt::Result {
    let ms = |ns: u64| ns as f64 / 1e6;
    line.write_str(",\"timeline\":[")?;
    for (index, pause) in pauses.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let begin = ms(pause.begin_ns.saturating_sub(begin_ns));
        let (wall, cpu) = (ms(pause.wall_ns), ms(pause.cpu_ns));
        write!(line, "{comma}[\"{}\",{begin:.3},{wall:.3},{cpu:.3}]", pause.kind.name())?;
    }
    line.write_str("]")
}
