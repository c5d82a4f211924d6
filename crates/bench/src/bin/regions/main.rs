//! Region allocators beside their peers, a floor written by hand, and the system's `malloc`.
//!
//! Question: are ours the fastest of their kind, at the median and at p99.9, and which lose?
//! Expected: linear ties with the floor, as the best peers do; pools tie with the floor and the
//! others do not; keyed pools, buddy, slab and the thread-safe forms lead.
//!
//! Subjects of a workload run alternately; a row is the median of the rounds, its spread the
//! distance of the outer ones as a share of it. Latencies are of single operations, by the cycle
//! counter, whose own cost is taken off.
//!
//! `heapwright-bench-regions [regions|fragmentation] [--json] [--quick] [--only WORKLOAD]
//! [--against PEER,...] [--instructions]`

mod creep;
mod floor;
mod fragmentation;
mod heaps;
mod keys;
mod linear;
mod measure;
mod pools;
mod rows;
mod survivors;
mod threads;

use std::env;
use std::process::ExitCode;

use measure::Workload;
use rows::Options;

fn workloads() -> Vec<Workload> {
    let mut all = linear::workloads();
    all.extend(pools::workloads());
    all.extend(keys::workloads());
    all.extend(heaps::workloads());
    all.extend(threads::workloads());
    all
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [flag, workload, subject, count] = arguments.as_slice()
        && ["--run-once", "--note-once"].contains(&flag.as_str())
    {
        return rows::run_once(&workloads(), flag, [workload, subject, count]);
    }
    if let [run, workload, subject] = arguments.as_slice()
        && run == "--fragment-once"
    {
        return fragmentation::run_once(workload, subject);
    }
    let mut options = Options::default();
    let mut suite = "regions";
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "regions" => suite = "regions",
            "fragmentation" => suite = "fragmentation",
            "--json" => options.json = true,
            "--quick" => options.quick = true,
            "--instructions" => options.instructions = true,
            "--only" => options.only = rest.next().cloned(),
            "--against" => {
                let names = rest.next().map(String::as_str).unwrap_or_default();
                options.against = Some(names.split(',').map(str::to_owned).collect());
            }
            other => {
                eprintln!("heapwright-bench-regions: {other} is no option of this program");
                return ExitCode::from(125);
            }
        }
    }
    let rows = match suite {
        "fragmentation" => fragmentation::rows(&options),
        _ => rows::measure(&workloads(), &options),
    };
    rows::print(suite, &rows, &options);
    ExitCode::SUCCESS
}
