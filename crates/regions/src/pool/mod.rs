//! Pools: blocks of one size, each freed alone.

mod blocks;
mod branded;
mod column;
mod dense;
mod handles;
mod scoped;
mod shared;
mod sizes;
mod typed;

pub use blocks::Pool;
pub use branded::{BrandedHandle, BrandedPool, HandleError};
pub use dense::DensePool;
pub use handles::{Handle, HandlePool, Iter, Values};
pub use scoped::{Brand, ScopedHandle, ScopedPool, with_brand};
pub use shared::{PoolLocal, SharedPool};
pub use sizes::{Overflow, Pools};
pub use typed::{Pooled, TypedPool};
