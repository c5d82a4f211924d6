//! Mode compact: windows of 16 KiB whose live bytes do not overlap share physical pages, and no
//! address changes.
//!
//! The life of a merge, by file:
//! 1. `worker`: when the heap has been quiet for a moment, when memory is short, or on request, a
//!    thread of ours (the purger), or the only thread of a process (`alone`), begins a pass.
//! 2. `pass`: collects the windows of passive spans that hold few live bytes (`collect`, `live`,
//!    `mask`), plans which go together (`plan`, in the memory of `scratch`), and merges them within
//!    the budget of time (`budget`) and the one of mappings (`mappings`).
//! 3. `step`: the window is taken away from the program (`barrier`), its live bytes are copied
//!    into the group's pages of a memfd (`segment`), and those are mapped in its place, privately:
//!    what is written there later is the window's own again, by the kernel's copy on write.
//! 4. A span with merged windows hands nothing out any more; when its last block is freed it
//!    becomes ordinary memory again (`step::thaw`).
//!
//! Since the mapping is private, forks of any kind, vfork, signals, futexes, system calls and
//! devices need nothing special after a step. What a step itself needs it asks the kernel for, and
//! says in [`MergeStatistics`] when that is refused; nothing is merged then.
//!
//! The design page is `docs/design/compact.md`.

mod alone;
mod barrier;
mod budget;
mod collect;
mod fault;
mod homes;
mod live;
mod mappings;
mod mask;
mod pass;
mod plan;
mod scratch;
mod segment;
mod statistics;
mod step;
mod worker;

pub(crate) use alone::round_alone;
#[cfg(feature = "merge-faults")]
pub use fault::{Step, fail_merge_step};
pub use heapwright_core::merge_state::MergeState;
pub use statistics::{MergeStatistics, merge_statistics};
pub(crate) use step::thaw;
pub(crate) use worker::{Merger, REQUESTS, after_fork, forced_interval, note_pressure};
pub use worker::{allow_merging, merge_now};
