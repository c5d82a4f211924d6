//! glibc's lock of its list of open files, around forks.

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::libc_hooks::weak;
use crate::probe::thread_pointer;

/// [`StdioList::holder`] when no fork has the lock.
const NOBODY: usize = 0;

/// What the handlers of one allocator's forks do with glibc's lock of its list of open files.
///
/// glibc's `fork` takes it after all handlers, and its `fflush(NULL)` before those of the files, in
/// which `getline` allocates. So a thread that takes an allocator's locks in a handler takes this one
/// before them. It does nothing where libc has no such lock.
///
/// A process with one thread leaves it alone, as glibc does: its `fork` may come out of a signal
/// handler that interrupted the very functions that take or free this lock.
#[derive(Debug)]
pub struct StdioList {
    /// Thread pointer of the thread that has it for a fork, or [`NOBODY`].
    holder: AtomicUsize,
}

impl StdioList {
    /// Held for no fork.
    pub const fn new() -> Self {
        Self { holder: AtomicUsize::new(NOBODY) }
    }

    /// Before a fork: takes the lock if there are other threads that may have it. A thread that has
    /// it may take it again. Call this and the next two with signals held
    /// ([`forks!`](crate::forks)): a handler's fork would wait for a lock half taken.
    pub fn before_fork(&self, has_other_threads: bool) {
        if has_other_threads {
            call(weak::list_lock());
            // Relaxed: only the thread that writes its own number acts on what it reads.
            self.holder.store(thread_pointer(), Ordering::Relaxed);
        }
    }

    /// After a fork, in the parent: frees the lock if this thread took it.
    pub fn after_fork_in_parent(&self) {
        if self.was_taken() {
            call(weak::list_unlock());
        }
    }

    /// After a fork, in the child, which has one thread: makes it a free lock if that took it.
    pub fn after_fork_in_child(&self) {
        if self.was_taken() {
            call(weak::list_reset());
        }
    }

    fn was_taken(&self) -> bool {
        let own = thread_pointer();
        self.holder.compare_exchange(own, NOBODY, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Default for StdioList {
    fn default() -> Self {
        Self::new()
    }
}

/// Calls the function at `address`, one of those above; nothing where libc has none.
fn call(address: *const ()) {
    if address.is_null() {
        return;
    }
    // SAFETY: the address of one of these functions of libc's, which have this type.
    let function = unsafe { core::mem::transmute::<*const (), unsafe extern "C" fn()>(address) };
    // SAFETY: they have no arguments; a lock more or less taken breaks no memory.
    unsafe { function() };
}

#[cfg(test)]
mod tests {
    use super::StdioList;

    extern crate std;

    fn flush_all() {
        // SAFETY: all files; it takes the list's lock.
        assert_eq!(unsafe { libc::fflush(core::ptr::null_mut()) }, 0);
    }

    #[test]
    fn who_has_the_list_of_files_may_use_it_and_others_afterwards() {
        let (list, another) = (StdioList::new(), StdioList::new());
        list.before_fork(true);
        flush_all();
        another.before_fork(true);
        another.after_fork_in_parent();
        list.after_fork_in_parent();
        std::thread::spawn(flush_all).join().expect("no panic");
    }

    #[test]
    fn a_thread_that_is_alone_leaves_it_alone() {
        let list = StdioList::new();
        list.before_fork(false);
        std::thread::spawn(flush_all).join().expect("nobody has it");
        // Freed once too often it would be held for ever.
        list.after_fork_in_parent();
        flush_all();
        std::thread::spawn(flush_all).join().expect("nobody has it");
    }
}
