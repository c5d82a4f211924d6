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

#[cfg(test)]
extern crate std;

mod anonymous;
mod barrier;
mod c_heap;
mod capability;
mod children;
mod current_node;
mod dirty;
mod dynamic;
mod errno;
mod fd;
mod file;
mod file_mapping;
mod file_pages;
mod forks;
mod futex;
mod guard;
mod guard_marker;
mod helper_thread;
mod huge;
mod huge_pages;
mod jump_after;
mod libc_hooks;
mod loader;
mod mapping;
mod memory;
mod memory_group;
mod node_pages;
mod page_scan;
mod peek;
mod placement;
mod probe;
mod process;
mod pseudo_file;
mod robust_lock;
mod signal_mask;
mod signals;
mod space;
mod stdio_list;
mod symbol_table;
mod syscall;
mod terminal;
mod thread_variable;
mod threads;
mod time;
mod topology;
mod user_faults;
mod userfaultfd;

pub use anonymous::AnonymousPages;
pub use barrier::{barrier_on_all_threads, register_barriers};
pub use c_heap::{c_allocate, c_free};
pub use capability::{Capability, Found};
pub use children::{
    ChildState, EndedChild, Usage, await_end, look_at_child, own_usage, send_signal, wait_child,
};
pub use current_node::{Place, current_node, current_place, has_fast_current_place};
pub use dirty::{DirtyMethod, DirtyPages};
pub use dynamic::{any_symbol, next_symbol};
pub use errno::Errno;
pub use fd::{
    Fd, OpenFlags, Stat, file_size_limit_bytes, mkdir, read_link, rename, unlink, write_all,
};
pub use file::{open_existing_shared_memory, open_shared_memory, unlink_shared_memory};
pub use file_mapping::{Access, FileMapping};
pub use file_pages::{FilePages, FilePagesError};
pub use futex::{Futex, futex_wait, futex_wake};
pub use guard::{GuardKind, guard, mappings_now, max_mapping_count, unguard};
pub use guard_marker::{install_guards, remove_guards, renew};
pub use helper_thread::{ThreadMain, spawn_helper, spawn_helper_with};
pub use huge::{
    HugePage, advise_huge, collapse, free_huge_pages, huge_bytes, map_huge,
    transparent_huge_page_bytes,
};
pub use huge_pages::{HugeGot, HugePages, HugeWish};
pub use libc_hooks::{
    LibcFunctions, ThreadExit, address_space_limit_bytes, at_fork, last_error_is_fault, set_errno,
};
pub use loader::is_in_loader;
pub use mapping::{MapError, Mapping, map_shared, map_shared_at};
pub use memory::{
    Advice, Protection, advise, commit, mapping_count, mincore, move_pages, page_bytes, protect,
    release, remap, reserve,
};
pub use memory_group::{GroupMemory, MemoryGroup, machine_stalled_percent};
pub use node_pages::{NodeError, NodePages, alloc_local, alloc_on_node};
pub use page_scan::ResidentPages;
pub use peek::peek;
pub use placement::{Placement, allowed_nodes, bind, bind_thread, migrate, placement};
pub use probe::{is_readable, thread_pointer};
pub use process::{
    abort, effective_user_id, env_var, exit_now, fix_addresses_of_children, has_environment,
    is_secure, libc_version, parent_process_id, process_alive, process_id, raw_auxv, thread_id,
    yield_now,
};
pub use robust_lock::{ROBUST_LOCK_WORDS, hold_robust_lock, release_robust_lock};
pub use signal_mask::SignalsHeld;
pub use signals::{
    CODE_KERNEL, DEFAULT_ACTION, IGNORE_ACTION, Interrupted, REGISTER_COUNT, SIGBUS, SIGSEGV,
    SignalAction, drop_signal_stack, interrupted, offer_signal_stack, set_signal_action,
    signal_thread,
};
pub use space::{Space, file_system_space};
pub use stdio_list::StdioList;
pub use terminal::{give_terminal_to, is_signal_ignored, own_process_group, stdin_is_terminal};
pub use threads::thread_ids;
pub use time::{cycle_counter, has_invariant_cycle_counter, monotonic_ns, thread_cpu_ns};
pub use topology::{DISTANCE_LOCAL, NODE_COUNT_MAX, NodeSet, Topology, node_free_bytes};
pub use user_faults::{FaultScope, UserFaults, leave_descriptors, map_private_at, map_zeroed_at};
