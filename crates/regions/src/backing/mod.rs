//! Backings that need no kernel: buffers, other allocators, and wrappers around backings.

mod bound;
mod buffer;
mod chained;
mod failing;
mod guarded;
mod kept;
mod lazy;
mod limited;
mod pass_on;
#[cfg(feature = "os")]
mod prefaulted;
mod upstream;

pub use bound::Bound;
pub use buffer::{Buffer, StaticBuffer};
pub use chained::Chained;
pub use failing::Failing;
pub use guarded::Guarded;
pub use kept::Kept;
pub use lazy::Lazy;
pub use limited::Limited;
#[cfg(feature = "os")]
pub use prefaulted::Prefaulted;
pub use upstream::Upstream;
