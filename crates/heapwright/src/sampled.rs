//! Sampled guarding for Rust programs: a few blocks on pages of their own.

use heapwright_guard::sampled::{free, replace, start, usable_bytes};
use heapwright_guard::{Family, Return};
use heapwright_malloc::{GuardHooks, SampleRate, set_guard};
use heapwright_os::cycle_counter;

use crate::Heapwright;

static HOOKS: GuardHooks = GuardHooks { replace, free: take_back, usable_bytes };

fn take_back(block: *mut u8, _taker: u8) -> bool {
    free(block, Return { family: Family::Malloc, bytes: None, align_bytes: None })
}

impl Heapwright {
    /// Begins sampled guarding if the variable `HEAPWRIGHT_CHECK` has the word `sample=N`: about
    /// one small block in N lies on pages of its own from now on, and an access out of its bounds
    /// or after its free ends the program as a bad access does, after a report. `log=FILE` gives
    /// reports as lines of JSON with all three stacks. Whether it began; once, at the top of
    /// `main`, since the handler of `SIGSEGV` that stands then is called for other faults.
    ///
    /// At one in 2000 under one percent of instructions and a megabyte; nothing when it is off.
    ///
    /// ```
    /// // Nothing is asked for by the environment here.
    /// assert!(!heapwright::Heapwright.guard_samples());
    /// ```
    pub fn guard_samples(&self) -> bool {
        let Some(blocks) = start(0) else { return false };
        // Other blocks in each process: that is the point of a fleet.
        set_guard(&HOOKS, SampleRate::Blocks(blocks), cycle_counter());
        true
    }
}
