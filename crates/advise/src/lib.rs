//! Call-site analysis, verdicts and `advice.json`.
//!
//! [`Analysis::new`] reads a recording into call sites and their patterns; [`decide`] weighs
//! the allocators' measurements; [`Advice`](schema::Advice) and
//! [`ReportData`](schema::ReportData) hold both, put together by [`advice()`] and
//! [`report_data`]. [`Diff`] compares two recordings, [`pprof`] and `parquet_export` export one.
//! `docs/design/advice.md` defines every figure.
//!
//! # Not here
//! Measuring allocators (`heapwright-replay`, `heapwright-compare`), drawing the page
//! (`heapwright-report`).

mod advice;
mod analysis;
mod blame;
mod diff;
mod fail_if;
mod flame;
mod grouping;
mod histogram;
mod live;
mod measure;
mod names;
mod notes;
mod own_allocator;
#[cfg(feature = "parquet")]
pub mod parquet_export;
pub mod pprof;
mod pprof_builder;
mod prove;
mod recommend;
pub mod schema;
mod site_paths;
mod survey;
pub mod text;
mod verdict;
mod walk;
mod weight;
mod wrappers;

pub use advice::{AdviceFacts, OverheadFacts, advice, report_data};
pub use analysis::{AnalyseError, Analysis, Mismatch, StackTotals, Totals};
pub use blame::{BlameShare, FragmentationFacts};
pub use diff::{Change, Diff, SiteChange, SiteFigures};
pub use fail_if::{Limit, LimitError, Metric};
pub use names::NamedStacks;
pub use pprof_builder::ProfileBuilder;
pub use prove::{SiteProof, SiteRun};
pub use verdict::{
    AllocatorResult, PEAK_LOSS_MAX, PEAK_WEIGHT, ProgramFigures, SYSTEM, TIME_LOSS_MAX, WORTH_PEAK,
    WORTH_TIME, decide,
};
pub use wrappers::{is_allocation_wrapper, is_toolchain_source};
