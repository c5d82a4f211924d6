//! The allocator's heartbeats: where the helper thread runs, one test; else two more loads and a
//! look at the cycle counter, as a rule.

use heapwright_core::live_page::{
    REQUEST_PROFILE, REQUEST_PROFILE_OFF, REQUEST_PROFILE_ON, REQUEST_RELEASE, WORD_ANSWERED,
    WORD_REQUEST, WORD_RESULT, request_kind,
};
use heapwright_malloc::{HeartbeatHook, is_freeing_for_the_loader, trim};
use heapwright_os::cycle_counter;
use heapwright_sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::raw_profile::write_profile;
use crate::state::{State, state};
use crate::{end, figures, helper, page_file, profile};

/// Cycles between two writings of the page that nobody asked for, where heartbeats write it: a
/// tenth to a third of a second.
const CYCLES: u64 = 1 << 29;
/// The same where the helper thread does, which answers whoever asks at its next look: four to ten
/// seconds. Readers ask before they read; this is for those that cannot.
const CYCLES_OF_HELPER: u64 = 1 << 34;
/// And so many times what the last one took: at most 1/256 of one processor's time.
const COST_FACTOR: u64 = 256;

pub(crate) static HOOK: HeartbeatHook = HeartbeatHook { beat };

/// 1 when a signal has asked for the profile.
pub(crate) static IS_SIGNALLED: AtomicU32 = AtomicU32::new(0);

fn beat() {
    if let Some(state) = state()
        && state.has_helper.load(Ordering::Relaxed) == 0
    {
        look(state);
    }
}

/// Does what is due.
pub(crate) fn look(state: &State) {
    let page = state.page.load(Ordering::Relaxed);
    if IS_SIGNALLED.load(Ordering::Relaxed) != 0 {
        end::write_at_signal();
    }
    if page.is_null() {
        reopen(state);
        return;
    }
    let words = page_file::words(page);
    let request = words[WORD_REQUEST].load(Ordering::Relaxed);
    let is_asked = request != words[WORD_ANSWERED].load(Ordering::Relaxed);
    if is_asked || cycle_counter() >= state.next_cycles.load(Ordering::Relaxed) {
        turn(state, words);
    }
}

/// Opens the page in the child of a fork, once.
#[cold]
fn reopen(state: &State) {
    // It starts a thread: by the next heartbeat where the loader is freeing.
    if is_freeing_for_the_loader() {
        return;
    }
    if end::is_watched() && state.is_tried.swap(1, Ordering::Relaxed) == 0 {
        open(state);
    }
}

/// Opens the page; whether there is one.
pub(crate) fn open(state: &State) -> bool {
    state.is_tried.store(1, Ordering::Relaxed);
    let Some(page) = page_file::open() else { return false };
    figures::write(page_file::words(page), false);
    // Release: pairs with nothing in this process but the address dependency of whoever uses it.
    state.page.store(page, Ordering::Release);
    if !end::is_passive() {
        helper::start(state);
    }
    true
}

/// Answers a request and writes the page, unless another thread is at it.
#[cold]
#[inline(never)]
fn turn(state: &State, words: &[AtomicU64]) {
    if state.is_busy.swap(1, Ordering::Acquire) != 0 {
        return;
    }
    let start = cycle_counter();
    // Acquire: pairs with the reader's Release.
    let request = words[WORD_REQUEST].load(Ordering::Acquire);
    let is_asked = request != words[WORD_ANSWERED].load(Ordering::Relaxed);
    let result = if is_asked { answer(request) } else { 0 };
    // The helper holds no lock; a heartbeat may come from inside a heap.
    let has_helper = state.has_helper.load(Ordering::Relaxed) != 0;
    figures::write(words, has_helper);
    if is_asked {
        words[WORD_RESULT].store(result, Ordering::Relaxed);
        // Release: pairs with the reader's Acquire; it sees the result and the figures.
        words[WORD_ANSWERED].store(request, Ordering::Release);
    }
    let now = cycle_counter();
    let cost = now.saturating_sub(start).saturating_mul(COST_FACTOR);
    let pause = cost.max(if has_helper { CYCLES_OF_HELPER } else { CYCLES });
    state.next_cycles.store(now.saturating_add(pause), Ordering::Relaxed);
    // Release: pairs with the Acquire above.
    state.is_busy.store(0, Ordering::Release);
}

/// Does what is asked; 0, or the error's number.
fn answer(request: u64) -> u64 {
    match request_kind(request) {
        REQUEST_RELEASE => {
            trim();
            0
        }
        REQUEST_PROFILE => page_file::path(b".profile")
            .as_c_str()
            .ok_or(crate::WriteError::Path)
            .and_then(write_profile)
            .map_or_else(crate::WriteError::number, |()| 0),
        REQUEST_PROFILE_ON => u64::from(!profile::start_profile(0)),
        REQUEST_PROFILE_OFF => {
            profile::stop_profile();
            0
        }
        _ => 0,
    }
}
