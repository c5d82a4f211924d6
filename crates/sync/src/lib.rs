//! Atomics, locks and queues between threads. no_std; sleeping is given from above
//! ([`Wait`]), so that this crate needs no operating system.
//!
//! # Not here
//! Policy: who may take what, and when.
#![no_std]

pub mod atomic;
mod bump_cursor;
mod lock;
mod quiescence;
mod remote_queue;
mod seizure;

pub use bump_cursor::{BumpCursor, NotClaimed};
pub use lock::{Guard, Lock, Reentered, Wait};
pub use quiescence::Quiescence;
pub use remote_queue::{Closed, Link, RemoteQueue};
pub use seizure::Seizure;
