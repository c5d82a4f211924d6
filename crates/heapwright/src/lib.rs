//! Memory management for Rust programs: a global allocator and its instruments.

mod allocator;
pub mod numa;
mod recorded;
pub mod regions;

pub use allocator::Heapwright;
pub use recorded::Recorded;
