//! The calling thread's block.

use core::ptr;

use crate::thread::ThreadBlock;

heapwright_os::thread_variable!("heapwright_guard_thread_0_1", ThreadBlock);

/// What the pointer says of a thread that has no block any more.
pub(crate) const ENDED: *mut ThreadBlock = ptr::without_provenance_mut(1);
