//! Replays a recording on any allocator, thread by thread, and measures it.
//!
//! [`replay`] compiles one process of a recording into a [`Plan`], then carries it out in a
//! fresh process for each run: with the program's own threads, in the recorded order across
//! them, on each allocator in turn. It tells CPU time per operation (a null run taken off),
//! resident memory over time, and fragmentation. `docs/design/replay.md` has the reasons.
//!
//! A program that calls [`replay`] must call [`worker_main`] when its first argument is
//! [`WORKER_ARGUMENT`], since workers are this program again, with an allocator preloaded:
//!
//! ```no_run
//! use heapwright_replay::{AllocatorSpec, ReplayOptions, WORKER_ARGUMENT, replay, worker_main};
//!
//! let arguments: Vec<_> = std::env::args_os().skip(1).collect();
//! if arguments.first().is_some_and(|first| first == WORKER_ARGUMENT) {
//!     worker_main(&arguments[1..]);
//! }
//! let recording = heapwright_format::file::Recording::open("recording.hwr".as_ref())?;
//! let mut options = ReplayOptions::default();
//! options.allocators.push(AllocatorSpec::object("libfoo.so".as_ref()));
//! let report = replay(&recording, &options, &mut |progress| eprintln!("{}", progress.what))?;
//! for row in &report.allocators {
//!     println!("{}: {:.1} ns", row.name, row.ns_per_op);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What replay cannot see
//! The program's own accesses, so neither cache and TLB effects of where blocks lie nor the
//! time between events: purging by the clock comes late. `heapwright compare` runs the program.

mod blame;
mod compile;
mod engine;
mod error;
mod figures;
mod op;
mod plan;
mod progress;
mod replay;
mod report;
mod resident;
mod result;
mod site;
mod spec;
mod stock;
mod stock_record;
mod supervise;
mod sys;
mod worker;

pub use blame::{ClassShare, SiteShare};
pub use compile::{PlanBuilder, Shape, compile, compile_with_births, compile_with_sites};
pub use error::ReplayError;
pub use heapwright_regions::RegionKind;
pub use plan::{Plan, PlanFacts, SITE_UNKNOWN, SamplePoint, SiteFacts};
pub use progress::{Phase, Progress};
pub use replay::{replay, replay_plan};
pub use report::{AllocatorFigures, MemoryFigures, MemoryPoint, NullFigures, ReplayReport};
pub use resident::{Resident, ResidentMeter};
pub use site::{SiteFigures, measure_sites};
pub use spec::{AllocatorSpec, ReplayOptions, WorkerProgram};
pub use stock::{Stock, stock_count_max, take_stock};
pub use worker::{WORKER_ARGUMENT, worker_main};
