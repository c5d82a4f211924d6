//! Backings that need no kernel: buffers, other allocators, and wrappers around backings.

mod buffer;
mod chained;
mod failing;
mod limited;
mod upstream;

pub use buffer::{Buffer, StaticBuffer};
pub use chained::Chained;
pub use failing::Failing;
pub use limited::Limited;
pub use upstream::Upstream;
