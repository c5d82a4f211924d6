//! What Heapwright's tests share: small C programs with known event counts, and a seeded
//! generator.
//!
//! # Not here
//! Anything a released crate needs: this crate is only ever a dev-dependency.

mod built;
mod c_program;
pub mod culprits;
mod latency;
mod load;
pub mod programs;
mod random;
pub mod site_mix;

pub use built::heapwright;
pub use c_program::compile_c;
pub use latency::{Latencies, resident_kib};
pub use load::holds_what_it_held;
pub use random::Random;
