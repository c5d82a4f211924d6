//! Backings that need no kernel: buffers, other allocators, and wrappers around backings.

mod bound;
mod buffer;
mod chained;
mod failing;
mod guarded;
mod limited;
mod pass_on;
mod upstream;

pub use bound::Bound;
pub use buffer::{Buffer, StaticBuffer};
pub use chained::Chained;
pub use failing::Failing;
pub use guarded::Guarded;
pub use limited::Limited;
pub use upstream::Upstream;
