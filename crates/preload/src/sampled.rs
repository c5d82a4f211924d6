//! Sampled guarding: the variable `HEAPWRIGHT_CHECK` with the word `sample=N`.

use heapwright_capi::{Entry, FreeEntry};
use heapwright_guard::sampled::{
    free, replace, set_family, start, tell_free_of_no_block, usable_bytes,
};
use heapwright_guard::{Ending, Family, Return, at_exit};
use heapwright_malloc::{GuardHooks, SampleRate, set_guard};
use heapwright_os::cycle_counter;
use heapwright_sync::atomic::{AtomicBool, Ordering};

static HOOKS: GuardHooks = GuardHooks { replace, free: take_back, usable_bytes };
static IS_ON: AtomicBool = AtomicBool::new(false);

#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = at_start;

#[used]
#[unsafe(link_section = ".fini_array")]
static AT_END: extern "C" fn() = at_end;

extern "C" fn at_start() {
    if let Some(blocks) = start(at_start as *const () as usize) {
        IS_ON.store(true, Ordering::Relaxed);
        // Other blocks in each process: that is the point of a fleet.
        set_guard(&HOOKS, SampleRate::Blocks(blocks), cycle_counter());
    }
}

extern "C" fn at_end() {
    if IS_ON.load(Ordering::Relaxed) {
        at_exit(Ending::Exit);
    }
}

/// The number of a function for `heapwright_malloc::free_by`: that of its family.
#[inline(always)]
pub(crate) fn taker(entry: FreeEntry) -> u8 {
    entry.family() as u8
}

/// Notes who made a block, if it is a guarded one.
#[inline(always)]
pub(crate) fn note_maker(block: *mut u8, entry: Entry) {
    let family = entry.family();
    if family != Family::Malloc && IS_ON.load(Ordering::Relaxed) {
        set_family(block, family);
    }
}

fn take_back(block: *mut u8, taker: u8) -> bool {
    let how =
        Return { family: Family::from_number(u32::from(taker)), bytes: None, align_bytes: None };
    if free(block, how) {
        return true;
    }
    // SAFETY: any address may be asked about that is not inside the region, and the allocator
    // asks only about such.
    let is_block = unsafe { heapwright_malloc::usable_bytes(block) } != 0;
    if !is_block {
        tell_free_of_no_block(block, how);
    }
    !is_block
}
