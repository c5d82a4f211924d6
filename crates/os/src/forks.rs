//! What a thread's fork meets: its own signals, and its own work when a handler of them forks.
//!
//! A fork out of a signal handler that interrupted the allocator finds the thread with locks of ours,
//! for work that is half done. The thread goes on with that work in both processes, as if nothing had
//! happened: nothing may be taken, freed or put in order for such an inner fork. A crash handler that
//! starts a debugger is one.
//!
//! From our handler before any other fork to those after it signals wait. So no inner fork meets
//! libc in the middle of taking its own locks for the outer one: with two threads, of which one may
//! be ours, it would wait for them for ever.

/// Defines the module `forks`: for each thread the count of its inner forks under way, kept behind the
/// hidden symbol `$inner` as for [`thread_variable!`](crate::thread_variable), and what signals it
/// held back before its outer one, behind `$signals`. Inner ones end in the opposite order of
/// their beginnings, and before the outer one.
#[macro_export]
macro_rules! forks {
    ($inner:literal, $signals:literal) => {
        mod forks {
            use $crate::SignalsHeld;

            mod inner {
                $crate::thread_variable!($inner, u8);
            }
            mod signals {
                $crate::thread_variable!($signals, u8);
            }

            /// Before a fork, first of all: whether it is an inner one. `is_inside`: the calling
            /// thread holds locks or is about to, for work of its own or for another fork. Signals
            /// wait from here on, unless it is.
            pub(crate) fn begins(is_inside: bool) -> bool {
                if is_inside {
                    inner::set(inner::get().wrapping_byte_add(1));
                } else {
                    let held = SignalsHeld::of_the_program().into_raw();
                    signals::set(::core::ptr::without_provenance_mut(held as usize));
                }
                is_inside
            }

            /// After a fork, in each process: none when it was an inner one, or did not begin.
            /// Signals wait until what it returns is dropped.
            pub(crate) fn ends() -> Option<SignalsHeld> {
                if !inner::get().is_null() {
                    inner::set(inner::get().wrapping_byte_sub(1));
                    return None;
                }
                let held = signals::get().addr() as u64;
                signals::set(::core::ptr::null_mut());
                SignalsHeld::from_raw(held)
            }
        }
    };
}
