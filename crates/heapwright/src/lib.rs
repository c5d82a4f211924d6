//! Memory management for Rust programs: a global allocator and its instruments.

mod allocator;
mod recorded;
pub mod regions;

pub use allocator::Heapwright;
pub use recorded::Recorded;
