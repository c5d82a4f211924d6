//! Memory management for Rust programs: a global allocator and its instruments.

mod allocator;
mod checked;
pub mod heap;
mod line_aligned;
pub mod merging;
pub mod numa;
pub mod options;
pub mod profile;
mod recorded;
pub mod regions;
mod sampled;

pub use allocator::Heapwright;
pub use checked::Checked;
pub use heapwright_malloc::{Limits, Statistics, release};
pub use line_aligned::LineAligned;
pub use recorded::Recorded;
