//! The tuner: runs a program under many settings of its collector and finds those that no other
//! beats in time, memory and pauses at once.
//!
//! The program uses `heapwright-gc` and takes its configuration through
//! `Config::with_environment`. Each run is a process of its own.
//!
//! # Not here
//! Changing settings while a program runs: that is the heap's own controller.
#![forbid(unsafe_code)]

mod page;
mod run;
mod search;
mod setting;
mod table;

pub use page::html;
pub use run::{Measured, RunError, measure};
pub use search::{Goal, Options, Results, Trial, search};
pub use setting::Setting;
