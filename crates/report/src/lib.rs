//! The self-contained HTML report: one file that opens from disk and asks nobody for anything.
//!
//! [`render`] writes the page (`assets/report.html`, bundled from `web/` and committed) with the
//! report's data inside it as gzip in base64. The page inflates and draws it. No byte of the
//! data stands in the file as markup, whatever a recorded program calls its functions.
//!
//! # Building the page
//! `npm ci && npm run build` in `crates/report/web` writes `assets/report.html` and
//! `assets/THIRD_PARTY.md`; building this crate needs neither npm nor a network.
//!
//! [`CollectorReport`] is another page, drawn here: what heaps of `heapwright-gc` hold, and their
//! pauses.
//!
//! # Not here
//! What the figures mean and how they were measured (`heapwright-advise`), files and paths
//! (the command line).

mod collector;
mod page_data;
mod render;
mod style;
mod text;

pub use collector::{CollectorError, CollectorReport, HeapLog, Holder, SnapshotSummary, TypeRow};
pub use render::render;
pub use style::STYLE_SHEETS;
