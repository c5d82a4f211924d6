//! Blocks and values that are named by handles and may be moved: fragmentation is cured by
//! sliding what is live together and giving the rest back, a little at a time.
//!
//! # Invariants
//! design/compacting-pool.md#M1 to design/compacting-pool.md#M9, of values
//! design/compacting-pool.md#V1 to design/compacting-pool.md#V6.
//!
//! # Not here
//! Moving what pointers point to: that is the collectors' business (`heapwright-gc`).

mod access;
mod addresses;
mod compaction;
mod guard;
mod header;
mod heap;
mod holes;
mod memory;
mod names;
mod pacing;
#[cfg(test)]
mod tests;
mod values;
mod walk;

pub use access::{AccessError, ResizeError};
pub use compaction::{Compaction, Moved};
pub use guard::{PinnedBlock, PinnedBlockMut};
pub use heap::CompactingHeap;
pub use values::{CompactingPool, PinnedValue, PinnedValueMut, PoolValues};
pub use walk::Blocks;
