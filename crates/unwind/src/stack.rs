//! Which memory may be read: windows into the stack a thread runs on.
//!
//! # Invariants
//! - I3 (design/unwinding#I3): every address in a window was readable when the window was made
//!   and stays so while the capture runs: it lies between the running thread's stack pointer and
//!   the high end of its own stack, or was probed in this capture.
//! - I4: bounds of a window are multiples of 8, so that an aligned address inside it has its
//!   whole word inside it.

use heapwright_os::{process_id, raw_auxv, thread_id, thread_pointer};

use crate::resolver::is_frozen;

/// Probing goes by the smallest page any supported kernel has.
const PROBE_BYTES: usize = 4096;
/// No stack is larger; a distance above it means another stack.
const HOME_BYTES_MAX: usize = 1 << 30;
/// The most that a walk may jump ahead on a stack that is not the thread's own.
const JUMP_BYTES_MAX: usize = 1 << 20;
/// Type of the auxiliary entry that points to 16 bytes above the first thread's frames.
const AT_RANDOM: u64 = 25;

/// What is known of a thread's own stack. All zero: nothing yet.
#[derive(Debug)]
pub(crate) struct Home {
    /// End of the readable part that holds frames.
    top: usize,
    /// Start of the part known to be readable without a gap up to `top`.
    low: usize,
    /// The stack does not reach down to here: below this address lies something else.
    barrier: usize,
}

impl Home {
    pub(crate) const fn new() -> Self {
        Self { top: 0, low: 0, barrier: 0 }
    }

    /// The window for a walk that starts at stack pointer `sp`, which is in use.
    #[inline(always)]
    pub(crate) fn window(&mut self, sp: usize) -> Window {
        if sp.wrapping_sub(self.low) < self.top.wrapping_sub(self.low) {
            return Window { low: sp & !7, bytes: self.top - (sp & !7), home: true };
        }
        self.window_slow(sp)
    }

    /// Probes `bytes` below `sp`, which is in use, for walks that start there later.
    pub(crate) fn reach_down(&mut self, sp: usize, bytes: usize) {
        if self.window(sp).home {
            self.grow_down(sp.saturating_sub(bytes));
            // More may be readable later, as the first thread's stack grows.
            self.barrier = 0;
        }
    }

    #[cold]
    #[inline(never)]
    fn window_slow(&mut self, sp: usize) -> Window {
        if self.top == 0 {
            let first_thread = thread_id() == process_id();
            let top =
                if first_thread { raw_auxv(AT_RANDOM).unwrap_or(8) } else { thread_pointer() };
            *self = Self { top: top & !7, low: top & !(PROBE_BYTES - 1), barrier: 0 };
        }
        let low = sp & !7;
        if sp < self.top && sp >= self.barrier && self.top - sp <= HOME_BYTES_MAX {
            self.grow_down(sp);
            if sp >= self.low {
                return Window { low, bytes: self.top - low, home: true };
            }
        }
        // Some other stack: a signal's, a coroutine's. Its first page is in use, so readable.
        Window { low, bytes: PROBE_BYTES - low % PROBE_BYTES, home: false }
    }

    /// Moves `low` down to the page of `sp`, probing each page once in a thread's life; stops
    /// at a page that cannot be read, which is then the barrier.
    fn grow_down(&mut self, sp: usize) {
        while self.low > sp {
            let below = self.low - PROBE_BYTES;
            if !is_readable(below) {
                self.barrier = self.low;
                return;
            }
            self.low = below;
        }
    }
}

/// Whether the word at `address` can be read; no, once the kernel must not be asked any more.
fn is_readable(address: usize) -> bool {
    !is_frozen() && heapwright_os::is_readable(address)
}

/// A readable range of a stack (I3).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    low: usize,
    bytes: usize,
    home: bool,
}

impl Window {
    /// Whether `address` is a multiple of 8 and its word lies in the window.
    #[inline(always)]
    pub(crate) fn holds(&self, address: usize) -> bool {
        // Rotating puts the low three bits on top, where they make the value too large (I4).
        address.wrapping_sub(self.low).rotate_right(3) < self.bytes >> 3
    }

    /// Whether `address` is a multiple of 8 away from `sp`, not below it, and its word lies in
    /// the window, where `sp` lies too or at its end.
    #[inline(always)]
    pub(crate) fn holds_above(&self, address: usize, sp: usize) -> bool {
        debug_assert!(sp.wrapping_sub(self.low) <= self.bytes && sp.is_multiple_of(8));
        let left = (self.low + self.bytes).wrapping_sub(sp);
        address.wrapping_sub(sp).rotate_right(3) < left >> 3
    }

    /// The word at `address`, if that may be read.
    #[inline(always)]
    pub(crate) fn load(&self, address: usize) -> Option<usize> {
        // SAFETY: `holds` was asked.
        if self.holds(address) { Some(unsafe { self.load_unchecked(address) }) } else { None }
    }

    /// The word at `address`.
    ///
    /// # Safety
    /// - `holds(address)`, asked now or implied.
    #[inline(always)]
    pub(crate) unsafe fn load_unchecked(&self, address: usize) -> usize {
        debug_assert!(self.holds(address));
        let word = core::ptr::with_exposed_provenance::<usize>(address);
        // SAFETY: aligned and readable by the caller's promise and I3; volatile, since the word
        // belongs to some frame of this thread that is suspended and known to no Rust object.
        unsafe { word.read_volatile() }
    }

    /// Its first address.
    #[inline(always)]
    pub(crate) fn low(&self) -> usize {
        self.low
    }

    /// Whether the window reaches up to `end`, as it is.
    #[inline(always)]
    pub(crate) fn contains_up_to(&self, end: usize) -> bool {
        end.wrapping_sub(self.low) <= self.bytes
    }

    /// Whether all of `[start, end)` lies in the window, which is made to reach so far when the
    /// kernel says that it may.
    #[inline(always)]
    pub(crate) fn reaches(&mut self, end: usize) -> bool {
        self.contains_up_to(end) || self.reach_slow(end)
    }

    #[cold]
    #[inline(never)]
    fn reach_slow(&mut self, end: usize) -> bool {
        let known_end = self.low + self.bytes;
        if self.home || end <= known_end || end - known_end > JUMP_BYTES_MAX {
            return false;
        }
        while self.low + self.bytes < end {
            if !is_readable(self.low + self.bytes) {
                return false;
            }
            self.bytes += PROBE_BYTES;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Home, PROBE_BYTES};

    #[test]
    fn a_window_tells_aligned_words_inside_from_all_others() {
        let here = [0usize; 4];
        let sp = here.as_ptr().expose_provenance();
        let window = Home::new().window(sp);
        assert!(window.holds(sp));
        assert!(!window.holds(sp + 4));
        assert!(!window.holds(sp - 8));
        assert!(!window.holds(window.low + window.bytes));
        assert!(window.holds(window.low + window.bytes - 8));
        assert_eq!(window.load(sp), Some(0));
    }

    #[test]
    fn memory_that_is_not_the_stack_gets_a_window_of_its_own() {
        let mut home = Home::new();
        let words = std::vec![7usize; 4096];
        let sp = words.as_ptr().expose_provenance();
        let mut window = home.window(sp);
        assert!(!window.home);
        assert!(window.bytes <= PROBE_BYTES);
        assert!(window.reaches(sp + 2 * PROBE_BYTES));
        assert!(window.holds(sp + 2 * PROBE_BYTES - 8));
        assert!(!window.reaches(usize::MAX - 7));
    }
}
