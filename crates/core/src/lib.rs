//! Arithmetic of memory management: what sizes become, where free runs are kept. No operating
//! system, no pointers, no allocation: policy as numbers, so that it can be tested to the last
//! value.
//!
//! # Not here
//! Memory itself: `heapwright-malloc` turns offsets into pointers.
#![no_std]
#![forbid(unsafe_code)]

pub mod run_bins;
pub mod size_class;
