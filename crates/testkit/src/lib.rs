//! What Heapwright's tests share: small C programs with known event counts, and a seeded
//! generator.
//!
//! # Not here
//! Anything a released crate needs: this crate is only ever a dev-dependency.

pub mod programs;
mod random;
pub mod site_mix;

pub use random::Random;
