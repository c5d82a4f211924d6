//! Merging by the only thread of a process, a stretch at a time between two of its own calls.
//!
//! Nothing else runs meanwhile, signals are blocked, and what is needed of the kernel is opened and
//! closed in each stretch: the program never sees a descriptor of ours.

use core::mem;

use heapwright_os::{FaultScope, SignalsHeld, page_bytes, process_id, thread_cpu_ns, thread_ids};
use heapwright_sync::Lock;

use crate::merge::MergeState;
use crate::merge::barrier::Barrier;
use crate::merge::budget::Budget;
use crate::merge::pass::{Done, Pass};
use crate::merge::statistics::{note_stretch, set_state};
use crate::merge::worker::{forced_interval, is_allowed_here, is_due, plan_next};
use crate::pool::Futex;
use crate::purger;
use crate::span::PAGE_UNIT_BYTES;
use crate::thread_block::ThreadBlock;

/// A pass that is under way, and the process that has its memory: a child does not.
struct Underway {
    pass: Option<Pass>,
    process: u32,
}

static UNDERWAY: Lock<Underway, Futex> = Lock::new(Underway { pass: None, process: 0 });

/// What a stretch did.
enum Stretch {
    /// Nothing: it cannot be done.
    Refused,
    /// A part of the pass.
    Part,
    /// The rest of it.
    Rest(Done),
}

/// Whether the calling thread is the only one in this memory. The child of a vfork, beside whose
/// memory its parent's threads run, has another process id and does not come here. Microseconds.
pub(crate) fn is_alone() -> bool {
    thread_ids(&mut []) == 1
}

/// Makes a whole pass, or the rest of the one that is under way; whether that was possible.
/// Signals are handled in between.
pub(crate) fn merge_everything() -> bool {
    // The rest of an old pass may have missed what was freed since.
    forget();
    loop {
        match stretch(&mut Budget::slice(), true) {
            Stretch::Refused => return false,
            Stretch::Part => {}
            Stretch::Rest(done) => {
                plan_next(done.merged);
                return true;
            }
        }
    }
}

/// In a slow path, without a lock: begins a pass if one is due, or goes on with it; whether to come
/// again in a moment. Where there are threads after all, which allocate nothing (a server's helpers,
/// ours that writes the statistics page), it is the purger's work.
pub(crate) fn round_alone() -> bool {
    let is_forced = forced_interval().is_some();
    if !is_allowed_here() || !(is_underway() || is_due()) {
        return is_forced;
    }
    if !is_alone() {
        if !purger::ensure() {
            set_state(MergeState::NoHelper);
        }
        return false;
    }
    match stretch(&mut Budget::slice(), is_forced) {
        Stretch::Refused => {
            plan_next(0);
            is_forced
        }
        Stretch::Part => true,
        Stretch::Rest(done) => {
            plan_next(done.merged);
            is_forced
        }
    }
}

/// Whether a pass is under way.
fn is_underway() -> bool {
    let underway = UNDERWAY.try_lock(ThreadBlock::token());
    underway.is_some_and(|underway| underway.pass.is_some() && underway.process == process_id())
}

/// In the child of a fork: who held the lock may not be here, and what it guards is not.
pub(crate) fn after_fork() {
    UNDERWAY.break_if_held_by_other(ThreadBlock::token());
    forget();
}

/// Ends a pass that is under way: there are threads now, or this is a child of who began it.
pub(crate) fn forget() {
    let Some(mut underway) = UNDERWAY.try_lock(ThreadBlock::token()) else { return };
    let pass = underway.pass.take();
    if underway.process != process_id() {
        // Its memory is not here.
        mem::forget(pass);
    }
}

/// Does a part of a pass, which somebody asked for or not.
fn stretch(budget: &mut Budget, is_asked: bool) -> Stretch {
    if page_bytes() != PAGE_UNIT_BYTES {
        set_state(MergeState::PageSize);
        return Stretch::Refused;
    }
    // A handler that touches a window that is away would wait for this thread.
    let signals = SignalsHeld::all();
    let cpu_start_ns = thread_cpu_ns();
    let stretch = go_on(budget, is_asked);
    note_stretch(thread_cpu_ns().saturating_sub(cpu_start_ns));
    drop(signals);
    stretch
}

fn go_on(budget: &mut Budget, is_asked: bool) -> Stretch {
    let barrier =
        Barrier::new(FaultScope::Everybody).or_else(|_| Barrier::new(FaultScope::UserCode));
    let Ok(barrier) = barrier else {
        set_state(MergeState::NoUserFaults);
        return Stretch::Refused;
    };
    // Held by a handler's interrupted call at most, or by nobody who is here.
    let Some(mut underway) = UNDERWAY.try_lock(ThreadBlock::token()) else {
        return Stretch::Refused;
    };
    if underway.process != process_id() {
        mem::forget(underway.pass.take());
        underway.process = process_id();
    }
    if underway.pass.is_none() {
        underway.pass = Pass::new(is_asked);
    }
    let Some(pass) = &mut underway.pass else { return Stretch::Refused };
    set_state(MergeState::Works);
    match pass.advance(&barrier, budget) {
        None => Stretch::Part,
        Some(done) => {
            underway.pass = None;
            Stretch::Rest(done)
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{eprintln, vec::Vec};

    use heapwright_sync::atomic::Ordering;

    use super::{forget, is_alone, merge_everything, round_alone};
    use crate::merge::budget::{Budget, SLICE_WINDOWS};
    use crate::merge::plan::MEMBER_COUNT_MAX;
    use crate::merge::statistics::{MERGED, PASSES, REFUSED};
    use crate::merge::worker::plan_now;
    use crate::merge::{MergeState, allow_merging, merge_statistics};
    use crate::purge::Eagerness;
    use crate::purger::round_of_owner;
    use crate::{alloc, free};

    const BLOCK_BYTES: usize = 200;

    fn is_whole(block: *mut u8, number: usize) -> bool {
        // SAFETY: a live block of that length.
        let contents = unsafe { std::slice::from_raw_parts(block, BLOCK_BYTES) };
        contents.iter().all(|byte| *byte == number as u8)
    }

    /// In a child, which has one thread. 0 when all is well.
    fn merge_in_stretches() -> i32 {
        if !is_alone() {
            if cfg!(not(target_arch = "x86_64")) {
                eprintln!("an emulator has threads of its own: not tested");
                return 0;
            }
            return 1;
        }
        let all: Vec<*mut u8> = (0..40_000).map(|_| alloc(BLOCK_BYTES)).collect();
        for (number, block) in all.iter().enumerate() {
            // SAFETY: just allocated.
            unsafe { block.write_bytes(number as u8, BLOCK_BYTES) };
        }
        let is_kept: fn(usize) -> bool = |number| (number * 7 + number / 64).is_multiple_of(16);
        for (number, block) in all.iter().enumerate().filter(|(number, _)| !is_kept(*number)) {
            debug_assert!(is_whole(*block, number));
            // SAFETY: live, and not kept.
            unsafe { free(*block) };
        }
        round_of_owner(Eagerness::All);
        allow_merging(true);
        let passes = PASSES.load(Ordering::Relaxed);
        let mut stretch_count = 0;
        loop {
            let tried = MERGED.load(Ordering::Relaxed) + REFUSED.load(Ordering::Relaxed);
            let is_more = round_alone();
            let now = MERGED.load(Ordering::Relaxed) + REFUSED.load(Ordering::Relaxed);
            if now - tried > u64::from(SLICE_WINDOWS + MEMBER_COUNT_MAX) {
                return 2;
            }
            // The program goes on in between.
            let block = alloc(BLOCK_BYTES);
            // SAFETY: just allocated.
            unsafe { free(block) };
            if !all
                .iter()
                .enumerate()
                .all(|(number, block)| !is_kept(number) || is_whole(*block, number))
            {
                return 3;
            }
            stretch_count += 1;
            if !is_more {
                break;
            }
        }
        let statistics = merge_statistics();
        if statistics.state != MergeState::Works {
            eprintln!("merging {}", statistics.state.name());
            return 0;
        }
        if PASSES.load(Ordering::Relaxed) != passes + 1 {
            return 4;
        }
        // 8 MB of one block in 16 are 500 windows.
        if statistics.merged_count < 100 || stretch_count < 3 {
            eprintln!("{stretch_count} stretches, {statistics:?}");
            return 5;
        }
        what_is_written_again_stops_merging(&all, is_kept)
    }

    /// Every survivor is written: what becomes sparse after that is merged on request only.
    fn what_is_written_again_stops_merging(all: &[*mut u8], is_kept: fn(usize) -> bool) -> i32 {
        for (number, block) in all.iter().enumerate().filter(|(number, _)| is_kept(*number)) {
            // SAFETY: live.
            unsafe { block.write_bytes(number as u8, BLOCK_BYTES) };
        }
        let more: Vec<*mut u8> = (0..20_000).map(|_| alloc(BLOCK_BYTES)).collect();
        for block in more.iter().enumerate().filter(|(number, _)| !is_kept(*number)) {
            // SAFETY: live, and not kept.
            unsafe { free(*block.1) };
        }
        round_of_owner(Eagerness::All);
        let before = MERGED.load(Ordering::Relaxed);
        plan_now();
        while round_alone() {}
        if MERGED.load(Ordering::Relaxed) != before
            || merge_statistics().state != MergeState::WrittenAgain
        {
            eprintln!("{:?}", merge_statistics());
            return 6;
        }
        if !merge_everything() || MERGED.load(Ordering::Relaxed) == before {
            return 7;
        }
        0
    }

    #[test]
    fn the_only_thread_of_a_process_merges_a_few_windows_at_a_stretch() {
        // SAFETY: the child calls the allocator, and libc's, which is ready for that.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let result = merge_in_stretches();
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(result) };
        }
        let mut status = 0;
        // SAFETY: our child, and room for its status.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert!(libc::WIFEXITED(status), "status {status:x}");
        assert_eq!(libc::WEXITSTATUS(status), 0);
        forget();
    }

    #[test]
    fn a_budget_of_windows_is_used_up() {
        let mut budget = Budget::slice();
        budget.use_windows(SLICE_WINDOWS as usize - 1);
        budget.use_windows(MEMBER_COUNT_MAX as usize);
        assert!(budget.is_spent());
        let mut unlimited = Budget::unlimited();
        unlimited.use_windows(usize::MAX);
        assert!(!unlimited.is_spent());
    }
}
