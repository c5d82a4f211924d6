//! Sampled guarding: the variable `HEAPWRIGHT_CHECK` with the word `sample=N`.

use heapwright_guard::{Ending, Return, sampled};
use heapwright_hardened::{Family, GuardHooks, set_guard};
use heapwright_sync::atomic::{AtomicBool, Ordering};

static HOOKS: GuardHooks =
    GuardHooks { replace: sampled::replace_of, free, usable_bytes: sampled::usable_bytes };
static IS_ON: AtomicBool = AtomicBool::new(false);

#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = at_start;

extern "C" fn at_start() {
    if let Some(blocks) = sampled::start(at_start as *const () as usize) {
        IS_ON.store(true, Ordering::Relaxed);
        set_guard(&HOOKS, blocks);
    }
}

/// The program ends in good order.
pub(crate) fn at_end() {
    if IS_ON.load(Ordering::Relaxed) {
        heapwright_guard::at_exit(Ending::Exit);
    }
}

fn free(block: *mut u8, family: Family, told: Option<usize>) -> bool {
    let how = Return { family, bytes: told, align_bytes: None };
    sampled::free(block, how)
}
