//! Heapwright's recording: the events, their wire form, the shared-memory spool between a
//! recorded program and the collector, and the file.
//!
//! The path of an event: the recorder's [`Encoder`] writes it into a chunk of the thread's ring
//! in the [`spool`]; the collector compresses full chunks into a file by
//! [`file::FileWriter`]; [`file::Recording`] reads them back, in order of time across threads.
//! `docs/design/recording.md` describes each byte.
//!
//! # Not here
//! Hooks and stack walking (`heapwright-record`), symbols (`heapwright-symbols`).
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "std")]
mod address_map;
pub mod chunk;
mod decode;
pub mod dormant;
mod encode;
mod kind;
#[cfg(feature = "std")]
pub mod layout;
pub mod spool;
mod wire;

#[cfg(feature = "std")]
pub mod file;
#[cfg(feature = "std")]
pub mod merge;
#[cfg(feature = "std")]
pub mod objects;
#[cfg(feature = "std")]
pub mod stacks;

pub use chunk::ChunkCursor;
pub use decode::{ChunkDecoder, DecodeError, Event, Timed, TouchRuns};
pub use encode::{Encoder, TouchReport};
pub use kind::{AllocKind, FreeKind, LeafKind};
pub use wire::{EVENT_BYTES_MAX, MODULE_EVENT_BYTES_MAX, NodeId, ROOT_NODE, TOUCH_RUNS_MAX};
