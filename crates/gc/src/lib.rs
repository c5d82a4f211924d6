//! A garbage-collected heap with a safe API and several collectors behind it.
//!
//! A [`Heap`] belongs to one thread and has one root value. Inside [`Heap::mutate`] objects are
//! allocated and linked through [`Gc`] pointers, which are `Copy`, cost nothing and cannot leave:
//! their brand `'gc` is a lifetime that exists only in there. Collections happen between mutations,
//! so no stack is ever scanned and every object may move.
//!
//! ```
//! use heapwright_gc::{Config, Gc, GcCell, Heap, Trace, rootable};
//!
//! #[derive(Trace)]
//! struct Node<'gc> {
//!     value: u64,
//!     next: GcCell<Option<Gc<'gc, Node<'gc>>>>,
//! }
//!
//! type List = rootable!['gc => GcCell<Option<Gc<'gc, Node<'gc>>>>];
//! let mut heap = Heap::<List>::new(Config::default(), |_| GcCell::new(None))?;
//! for value in 0..100 {
//!     heap.mutate(|mu, head| {
//!         let node = mu.alloc(Node { value, next: GcCell::new(head.get()) }).expect("in the limit");
//!         head.set(mu, Some(node));
//!     });
//! }
//! heap.collect();
//! let sum = heap.mutate(|_, head| {
//!     core::iter::successors(head.get(), |node| node.next.get()).map(|node| node.value).sum::<u64>()
//! });
//! assert_eq!(sum, 4950);
//! # Ok::<(), heapwright_gc::HeapError>(())
//! ```
//!
//! # Not here
//! Threads that share a heap: a heap and its pointers stay on one thread. The heap's own tables
//! come from the operating system: this crate never calls malloc.
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;
// The derive names this crate by its outside name, in here too.
extern crate self as heapwright_gc;

mod cell;
mod config;
mod control;
mod copying;
mod desc;
mod dynamic_root;
mod error;
mod evacuate;
mod external;
mod finalise;
mod gc;
mod heap;
mod identity;
mod locals;
mod log;
mod mark;
mod memory;
mod model;
mod mutation;
mod mutator;
mod object;
mod parallel;
mod pauses;
mod plan;
mod relocate;
mod remember;
mod root;
mod scope;
mod settings;
#[cfg(feature = "alloc")]
mod snapshot;
mod space;
mod state;
mod stats;
mod system;
mod team;
mod trace;
mod verify;
pub mod vm;
mod weak;
mod weak_map;
mod write_log;

pub use cell::{GcCell, GcRef, GcRefCell, GcRefMut};
pub use config::{Collector, Config, LogFormat};
pub use dynamic_root::DynamicRoot;
pub use error::{HeapError, LimitReached, Refusal};
pub use external::External;
pub use finalise::Finalise;
pub use gc::Gc;
pub use heap::Heap;
pub use heapwright_gc_derive::Trace;
pub use mutation::Mutation;
pub use object::{Field, ObjectRef};
pub use pauses::{Pause, PauseKind, minimum_utilisation, percentile_ns};
pub use root::{Root, Rootable, RootableBy};
pub use scope::{HandleScope, Local, Locals};
pub use settings::SettingError;
#[cfg(feature = "alloc")]
pub use snapshot::{Snapshot, SnapshotObject, SnapshotType};
pub use stats::Statistics;
pub use trace::{Static, Trace, Visitor};
pub use weak::{Ephemeron, GcWeak};
pub use weak_map::WeakMap;
