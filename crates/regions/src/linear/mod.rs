//! The linear arena: blocks that die together.

mod arena;
mod builder;
mod destructors;
mod inspect;
mod objects;
mod owned;
mod reset;
mod scope;
mod shared;
#[cfg(test)]
mod tests;

pub use arena::Linear;
pub use objects::FormatError;
pub use owned::Owned;
pub use scope::{Mark, MarkError, Scope};
pub use shared::{LinearLocal, SharedLinear};
