//! Memory management for Rust programs: a global allocator and its instruments.

mod allocator;
pub mod regions;

pub use allocator::Heapwright;
