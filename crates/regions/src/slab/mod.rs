//! Slabs: blocks of any size from spans of equal slots.

mod caches;
mod ground;
mod local;
mod pages;
mod shared;

pub use local::Slab;
pub use shared::{SharedSlab, SlabLocal};

/// Whether small blocks may share a cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lines {
    /// Slots of every size class, next to each other: least memory.
    #[default]
    Packed,
    /// Slots are whole lines of 64 bytes at line boundaries: no two blocks, so no two threads'
    /// blocks, ever share one. Small blocks take up to four times the memory.
    Whole,
}
