//! The worker's engine: the program's threads, replayed in order on one heap, and measured.
//!
//! # Not here
//! Choosing and checking the allocator (`worker`), starting workers (`run`), compiling.

mod board;
mod crew;
mod growth;
mod heap;
mod lane;
mod ledger;
mod operate;
mod order;
mod own_region;
mod pace;
mod resident_pages;
mod shared_region;
mod stocktaker;
mod view;

pub(crate) use board::Board;
pub(crate) use crew::Engine;
pub(crate) use heap::{Heap, NullHeap, ProcessHeap};
pub(crate) use stocktaker::Stocktaker;
pub(crate) use view::PlanView;
