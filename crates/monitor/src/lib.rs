//! Watching a live process of Heapwright's allocator, from beside it.
//!
//! - [`Watched`]: finds a process and its statistics page, reads figures, asks for things
//!   (`page`, `processes`, `error`).
//! - [`Residence`]: what each resident byte is for, adding up to the kernel's figure.
//! - [`RawProfile`], [`Blame`], [`pprof()`]: the sampling profile: which call sites' live blocks
//!   hold how much, and how much free memory they pin, with intervals.
//! - [`Look`]: all of that at one moment, as JSON; [`open_metrics`] the same for a scraper;
//!   [`Threshold`]: figures that alarm.
//! - [`Server`]: the same over HTTP, on the loopback or a Unix socket, and as a web page.
//!
//! The reader only ever writes one word of the page, the request. It attaches to nothing and
//! reads none of the process's memory. The design page is `docs/design/watching.md`.
#![forbid(unsafe_code)]

mod blame;
mod error;
mod estimate;
mod look;
mod metrics;
mod page;
mod pprof_export;
mod processes;
mod raw_profile;
mod residence;
mod serve;
mod smaps;
mod threshold;

pub use blame::{Blame, SiteBlame};
pub use error::MonitorError;
pub use estimate::{Estimate, Interval};
pub use look::{ClassLook, HeapLook, Look, NodeLook, Rates};
pub use metrics::open_metrics;
pub use page::{ClassFigures, HeapFigures, NodeFigures, Request, Snapshot, Watched};
pub use pprof_export::pprof;
pub use processes::{WatchedProcess, directories, watched_processes};
pub use raw_profile::{LiveSample, ProfileError, RawProfile, SampledSite};
pub use residence::Residence;
pub use serve::{Reach, ServeError, Server};
pub use threshold::{Quantity, Threshold, ThresholdError};
