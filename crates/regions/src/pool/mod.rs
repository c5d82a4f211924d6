//! Pools: blocks of one size, each freed alone.

mod blocks;
mod branded;
mod handles;
mod shared;
mod sizes;
mod typed;

pub use blocks::Pool;
pub use branded::{BrandedHandle, BrandedPool, HandleError};
pub use handles::{Handle, HandlePool, Iter, Values};
pub use shared::{PoolLocal, SharedPool};
pub use sizes::{Overflow, Pools};
pub use typed::{Pooled, TypedPool};
