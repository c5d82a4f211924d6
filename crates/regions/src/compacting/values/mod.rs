//! Values of one type that may be moved.
//!
//! # Invariants
//! design/compacting-pool.md#V1 to design/compacting-pool.md#V6.

mod areas;
mod guard;
mod packed;
mod pass;
mod places;
mod pool;
mod spot;
mod table;
#[cfg(test)]
mod tests;
mod walk;

pub use guard::{PinnedValue, PinnedValueMut};
pub use pool::CompactingPool;
pub use walk::PoolValues;
