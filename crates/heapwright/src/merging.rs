//! Mode compact for a Rust program: blocks whose pages are mostly free share pages, and no address
//! changes. Memory that is never merged costs nothing.
//!
//! ```
//! use heapwright::merging::{MergeState, allow_merging, merge_statistics};
//!
//! #[global_allocator]
//! static GLOBAL: heapwright::Heapwright = heapwright::Heapwright;
//!
//! // In the background from now on, once the heap is quiet; and now.
//! allow_merging(true);
//! let given_back_bytes = heapwright::release();
//! if merge_statistics().state != MergeState::Works {
//!     // It says why: this is mode fast then.
//!     println!("{}", merge_statistics().state.name());
//! }
//! # let _ = given_back_bytes;
//! ```
//!
//! What it needs of the kernel and what it is worth: `docs/design/compact.md`.

pub use heapwright_malloc::{MergeState, MergeStatistics, allow_merging, merge_statistics};
