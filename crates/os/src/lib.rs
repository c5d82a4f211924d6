//! The only place of Heapwright that talks to the kernel or names libc.
//!
//! System calls are made directly, not through libc's wrappers: an interposed `mmap` or `write`
//! (a recorder's, a sandbox's) can then never call back into an allocator that is in the middle
//! of its work, and `errno` stays as the program left it. Linux on x86_64 and aarch64.
//!
//! # Not here
//! Policy of any kind: what to map, when to purge, how to lay memory out is arithmetic in
//! `heapwright-core` and the crates above.
#![no_std]

mod anonymous;
mod children;
mod dynamic;
mod errno;
mod fd;
mod futex;
mod libc_hooks;
mod mapping;
mod memory;
mod probe;
mod process;
mod robust_lock;
mod space;
mod syscall;
mod terminal;
mod time;

pub use anonymous::AnonymousPages;
pub use children::{
    ChildState, EndedChild, Usage, await_end, look_at_child, own_usage, send_signal, wait_child,
};
pub use dynamic::{any_symbol, forget_loader_error, next_symbol};
pub use errno::Errno;
pub use fd::{
    Fd, OpenFlags, Stat, file_size_limit_bytes, mkdir, read_link, rename, unlink, write_all,
};
pub use futex::{futex_wait, futex_wake};
pub use libc_hooks::{ThreadExit, address_space_limit_bytes, at_fork, set_errno};
pub use mapping::{MapError, Mapping, map_shared, map_shared_at};
pub use memory::{
    Advice, Protection, advise, commit, mapping_count, mincore, move_pages, page_bytes, protect,
    release, remap, reserve,
};
pub use probe::{is_readable, thread_pointer};
pub use process::{
    abort, effective_user_id, env_var, has_environment, is_secure, libc_version, parent_process_id,
    process_alive, process_id, raw_auxv, thread_id, yield_now,
};
pub use robust_lock::{ROBUST_LOCK_WORDS, hold_robust_lock, release_robust_lock};
pub use space::{Space, file_system_space};
pub use terminal::{give_terminal_to, is_signal_ignored, own_process_group, stdin_is_terminal};
pub use time::{cycle_counter, has_invariant_cycle_counter, monotonic_ns};
