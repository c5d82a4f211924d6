//! The end of the program: all blocks are looked at, free slots too, if the user wants it.
//!
//! Only when the process has one thread then: another one could be in the middle of arming a slot,
//! and there must be no false alarm.

use crate::geometry::CLASS_COUNT;
use heapwright_os::thread_ids;
use heapwright_sync::atomic::Ordering;

use crate::class::{Class, class};
use crate::fill::first_set;
use crate::free::overwritten;
use crate::large::{broken, large, secret};
use crate::options::wants_sweep;
use crate::pool::pool;
use crate::report::{Misuse, Noticed, tell};
use crate::span::Span;
use crate::thread::is_started;
use crate::wait::hold;
use crate::word::{State, Word};

/// Looks at all blocks, if that was asked for. O(memory in use).
#[cold]
pub fn at_exit() {
    if wants_sweep() && thread_ids(&mut []) == 1 {
        look_at_all();
    }
}

#[cold]
#[inline(never)]
fn look_at_all() {
    if is_started() {
        for class_index in 0..CLASS_COUNT {
            let numbers = {
                let pool = hold(pool(class_index));
                pool.first..pool.frontier
            };
            for number in numbers {
                look_at_span(class_index, Span::at(class_index, number));
            }
        }
    }
    let large = hold(large());
    let secret = secret(&large);
    for record in large.table.iter() {
        let block = core::ptr::with_exposed_provenance(record.start);
        if let Some(at) = broken(secret, &record, block) {
            let misuse = Misuse::Overflow { bytes: record.bytes, family: record.family, at };
            tell(misuse, record.start, Noticed::Exit);
        }
    }
}

fn look_at_span(class_index: usize, span: Span) {
    for slot in 0..span.touched() {
        let word = span.word(slot);
        // Acquire: pairs with the Release in `class::store`.
        let state = Word(u32::from(word.load(Ordering::Acquire)));
        let start = span.slot_start(slot);
        match state.state() {
            State::Live(_) => look_at_live(class_index, start, state),
            State::Freed => look_at_zeroes(span.class, start, true),
            State::Fresh => look_at_zeroes(span.class, start, false),
            State::Retired => {}
        }
    }
}

/// A live block's canary must be whole, and the rest of its slot 0, as it was handed out.
fn look_at_live(class_index: usize, start: *mut u8, word: Word) {
    if cfg!(heapwright_hardened_without = "canary") {
        return;
    }
    let class = class(class_index);
    let end = start.wrapping_add(class.bytes(word));
    // SAFETY: a live block's canary lies behind it, in its slot.
    if unsafe { end.cast::<u64>().read_unaligned() } != class.canary(end) {
        overwritten(start, Noticed::Exit);
        return;
    }
    let rest = end.wrapping_add(size_of::<u64>());
    let known = start.wrapping_add(class.zeroed_bytes());
    if rest < known {
        // SAFETY: inside the slot.
        let set = unsafe { first_set(rest, known.addr() - rest.addr()) };
        if let Some(distance) = set
            && let State::Live(family) = word.state()
        {
            let bytes = class.bytes(word);
            let misuse = Misuse::Overflow { bytes, family, at: size_of::<u64>() + distance };
            tell(misuse, start.addr(), Noticed::Exit);
        }
    }
}

/// A slot that is free must be 0 as far as its class says, an unused one to its end.
fn look_at_zeroes(class: &Class, start: *mut u8, was_used: bool) {
    if cfg!(heapwright_hardened_without = "zero") {
        return;
    }
    let slot_bytes = class.slot_bytes();
    // What was never handed out is as the kernel gave it: 0 to its end.
    let known_bytes = if was_used { class.zeroed_bytes() } else { slot_bytes };
    // SAFETY: inside the slot, which is committed.
    if let Some(distance) = unsafe { first_set(start, known_bytes) } {
        let misuse = match was_used {
            true => Misuse::WriteToFree { distance, slot_bytes },
            false => Misuse::WriteToUnused { distance, slot_bytes },
        };
        tell(misuse, start.addr() + distance, Noticed::Exit);
    }
}
