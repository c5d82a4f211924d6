//! The child of a fork that libc does not know of (the system call itself), under load, can
//! allocate, free what it inherited, and end.

mod children;
mod fork_under_load;

#[test]
fn a_child_of_a_raw_fork_under_load_can_allocate() {
    fork_under_load::expect_children_allocate(100, || {
        // SAFETY: the child calls the allocator and `_exit` only.
        unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as i32 }
    });
}
