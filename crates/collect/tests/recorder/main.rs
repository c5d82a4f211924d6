//! Real programs under the built recorder: what was recorded is held against what the programs
//! say they did. `HEAPWRIGHT_LIB_DIR` names the directory with `libheapwright_recorder.so`.

mod collector_ends;
mod damaged;
mod dormant;
mod entry_points;
mod hostile;
mod large;
mod lives;
mod processes;
mod recorded;
mod rust_programs;
mod sampled;
mod stacks;
mod stops;
mod threads;
