//! A child of a threaded process can allocate, free what it inherited, and end.

mod children;
mod fork_under_load;

#[test]
fn a_child_forked_under_load_can_allocate() {
    fork_under_load::expect_children_allocate(200, || {
        // SAFETY: the child calls the allocator and `_exit` only.
        unsafe { libc::fork() }
    });
}
