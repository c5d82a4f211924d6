//! Starting a program with an object preloaded, and knowing beforehand whether that can work.
//!
//! [`Program::find`] looks a command up as a shell would and reads its headers;
//! [`Program::reach`] says whether `LD_PRELOAD` gets into it. [`Objects`] finds Heapwright's
//! own shared objects, [`PreloadObject`] checks any. [`Running`] is a child with what it used.
//! [`server`] waits until a server listens and stops it.
//!
//! # Not here
//! What is done with a running program: recording (`heapwright-collect`), comparing
//! (`heapwright-compare`).
#![forbid(unsafe_code)]

mod elf;
mod machine;
mod objects;
mod preload;
mod program;
mod running;
pub mod server;
mod status;

pub use machine::{CycleCounter, Machine};
pub use objects::{MissingObject, OPTIONAL_PEER, Objects, PEERS};
pub use preload::{ObjectError, PreloadObject};
pub use program::{Program, ProgramError, Reach};
pub use running::{Ended, Running, Stdin};
pub use status::{NOT_EXECUTABLE, NOT_FOUND, OURS_FAILED, describe_status, shell_status};
