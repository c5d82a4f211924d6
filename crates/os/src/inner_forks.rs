//! Forks out of a signal handler that interrupted the allocator.
//!
//! The thread that forks holds locks of ours then, for work that is half done. It goes on with that
//! work in both processes, as if nothing had happened: nothing may be taken, freed or put in order
//! for such a fork. A crash handler that starts a debugger is one.

/// Defines the module `inner_forks`: for each thread the count of its forks under way that found it
/// inside, kept behind the hidden symbol `$symbol` as for
/// [`thread_variable!`](crate::thread_variable). They end in the opposite order of their beginnings,
/// and before any fork that found the thread outside.
#[macro_export]
macro_rules! inner_forks {
    ($symbol:literal) => {
        mod inner_forks {
            $crate::thread_variable!($symbol, u8);

            /// Before a fork, first of all: whether it is an inner one. `is_inside`: the calling
            /// thread holds locks or is about to, for work of its own or for another fork.
            pub(crate) fn begins(is_inside: bool) -> bool {
                if is_inside {
                    set(get().wrapping_byte_add(1));
                }
                is_inside
            }

            /// After a fork, in each process: whether it was an inner one.
            pub(crate) fn ends() -> bool {
                let is_inner = !get().is_null();
                if is_inner {
                    set(get().wrapping_byte_sub(1));
                }
                is_inner
            }
        }
    };
}
