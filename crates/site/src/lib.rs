//! One call site of a running program on a region, everything else on the program's own allocator.
//!
//! `heapwright advise` measures so what a region would gain at a site: in the program itself, so
//! with all that it does with the blocks. What it is compared with is the same code with the site
//! left on the program's allocator ([`Served::Allocator`]): the difference is the region's, without
//! the cost of telling the site. The design page is `docs/design/advice.md`.
//!
//! A site is known by the inner part of its stacks, as far out as it takes to tell it from all
//! others that were recorded: frames as module and offset, so it holds in another run.
//!
//! # Not here
//! The symbols that a program calls: `heapwright-preload-sites`. What is measured: the command.
#![no_std]

#[cfg(test)]
extern crate std;

mod callers;
mod lane;
mod pages;
mod path;
mod recognise;
mod region;
mod service;
mod table;

pub use path::{FrameKey, SitePath};
pub use service::{
    Service, TABLE_VARIABLE, after_unloading, alloc, before_unloading, free, is_served, resize,
    start, usable_bytes,
};
pub use table::{
    LANE_COUNT, Served, SiteCounts, SiteFacts, Verdict, read_counts, table_words, write_table,
};
