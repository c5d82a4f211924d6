//! Call-site analysis, verdicts and `advice.json`.
//!
//! [`Analysis::new`] reads a recording into call sites and their patterns; [`decide`] weighs
//! the allocators' measurements; [`Advice`](schema::Advice) and
//! [`ReportData`](schema::ReportData) hold both, put together by [`advice()`] and
//! [`report_data`]. [`Diff`] compares two recordings, [`pprof`] and `parquet` export one.
//! `docs/design/advice.md` defines every figure.
//!
//! # Not here
//! Measuring allocators (`heapwright-replay`, `heapwright-compare`), drawing the page
//! (`heapwright-report`).

mod analysis;
mod grouping;
mod histogram;
mod live;
mod measure;
mod names;
mod recommend;
pub mod schema;
mod survey;
mod walk;
mod weight;
mod wrappers;

pub use analysis::{AnalyseError, Analysis, Mismatch, StackTotals, Totals};
pub use names::NamedStacks;
