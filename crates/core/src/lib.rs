//! Arithmetic of memory management: what sizes become, where free runs are kept, how a buddy
//! splits; and the words that all allocators share: [`backing::Backing`], errors, statistics.
//! No operating system, no allocation: policy as numbers, so that it can be tested to the last
//! value. The only unsafe code is the contract of [`backing`].
//!
//! # Not here
//! Memory itself: `heapwright-malloc` and `heapwright-regions` turn offsets into pointers.
#![no_std]

pub mod backing;
pub mod bitmap;
pub mod buddy;
pub mod bump;
#[forbid(unsafe_code)]
pub mod exponential;
#[forbid(unsafe_code)]
pub mod family;
#[forbid(unsafe_code)]
pub mod live_page;
pub mod merge_state;
pub mod prefetch;
#[forbid(unsafe_code)]
pub mod recent;
pub mod region_error;
pub mod region_kind;
pub mod region_statistics;
#[forbid(unsafe_code)]
pub mod run_bins;
#[forbid(unsafe_code)]
pub mod size_class;
pub mod span_shape;
