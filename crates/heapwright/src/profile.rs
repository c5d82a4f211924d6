//! The sampling heap profile of this program, for those who begin and write it themselves; the
//! variables `HEAPWRIGHT_PROFILE` and `HEAPWRIGHT_WATCH` do so from outside.
//!
//! It sees what [`Heapwright`](crate::Heapwright) allocates as the global allocator. `heapwright
//! profile FILE` reads what [`write_profile`] writes: call sites by live and by pinned bytes, and
//! as pprof.
//!
//! ```no_run
//! use heapwright::profile::{start_profile, write_profile};
//!
//! #[global_allocator]
//! static GLOBAL: heapwright::Heapwright = heapwright::Heapwright;
//!
//! assert!(start_profile(0), "one sample in 512 KiB");
//! let kept: Vec<String> = (0..100_000).map(|number| number.to_string()).collect();
//! write_profile(c"heap.profile").expect("the directory can be written");
//! drop(kept);
//! ```

pub use heapwright_watch::{
    DEFAULT_RATE_BYTES, WriteError, start_profile, stop_profile, write_profile,
};
