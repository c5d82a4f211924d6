//! Pools: blocks of one size, each freed alone.

mod blocks;
mod handles;
mod typed;

pub use blocks::Pool;
pub use handles::{Handle, HandlePool, Iter};
pub use typed::{Pooled, TypedPool};
