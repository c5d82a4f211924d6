//! Failures on purpose, for tests: each step of a merge can be made to fail.

use heapwright_os::Errno;

/// The steps that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Step {
    /// Taking memory for the group.
    Memory = 1,
    /// Taking the window away.
    Take = 2,
    /// Mapping the group over the window, with the bytes copied and the window away.
    Map = 3,
}

#[cfg(any(test, feature = "merge-faults"))]
static FAILING: heapwright_sync::atomic::AtomicU32 = heapwright_sync::atomic::AtomicU32::new(0);

/// Lets `step` fail in every other window from now on; none: nothing fails any more.
#[cfg(any(test, feature = "merge-faults"))]
pub fn fail_merge_step(step: Option<Step>) {
    let value = step.map_or(0, |step| step as u32);
    FAILING.store(value, heapwright_sync::atomic::Ordering::Relaxed);
}

/// Fails when a test wants `step` to.
#[cfg(any(test, feature = "merge-faults"))]
pub(crate) fn inject(step: Step) -> Result<(), Errno> {
    use heapwright_sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let is_due = FAILING.load(Ordering::Relaxed) == step as u32
        && COUNT.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
    if is_due { Err(Errno::ENOMEM) } else { Ok(()) }
}

/// Nothing fails on purpose.
#[cfg(not(any(test, feature = "merge-faults")))]
#[inline(always)]
pub(crate) fn inject(_step: Step) -> Result<(), Errno> {
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::println;
    use std::vec::Vec;

    use heapwright_sync::atomic::Ordering;

    use super::{Step, fail_merge_step};
    use crate::merge::statistics::{MERGED, REFUSED};
    use crate::merge::{MergeState, allow_merging, merge_statistics};
    use crate::{alloc, free, trim};

    /// Blocks of which one in sixteen is left, each with its number in every byte.
    fn sparse(bytes: usize) -> Vec<(*mut u8, usize)> {
        let all: Vec<_> = (0..4096usize)
            .map(|number| {
                let block = alloc(bytes);
                assert!(!block.is_null());
                // SAFETY: just allocated.
                unsafe { block.write_bytes(number as u8, bytes) };
                (block, number)
            })
            .collect();
        let is_kept = |number: usize| (number * 7 + number / 64).is_multiple_of(16);
        for (block, _) in all.iter().filter(|(_, number)| !is_kept(*number)) {
            // SAFETY: live, and not kept.
            unsafe { free(*block) };
        }
        all.into_iter().filter(|(_, number)| is_kept(*number)).collect()
    }

    fn expect_whole(blocks: &[(*mut u8, usize)], step: Option<Step>) {
        for (block, number) in blocks {
            // SAFETY: live, of at least that length.
            let contents = unsafe { std::slice::from_raw_parts(*block, 300) };
            assert!(contents.iter().all(|byte| *byte == *number as u8), "{step:?}");
        }
    }

    #[test]
    fn a_merge_that_fails_at_any_step_leaves_every_byte() {
        allow_merging(true);
        let mut kept = Vec::new();
        for step in [Step::Memory, Step::Take, Step::Map] {
            let blocks = sparse(300 + step as usize * 100);
            let refused = REFUSED.load(Ordering::Relaxed);
            let merged = MERGED.load(Ordering::Relaxed);
            fail_merge_step(Some(step));
            trim();
            fail_merge_step(None);
            expect_whole(&blocks, Some(step));
            kept.extend(blocks);
            if merge_statistics().state == MergeState::Works {
                assert!(REFUSED.load(Ordering::Relaxed) > refused, "{step:?}");
                assert!(MERGED.load(Ordering::Relaxed) > merged, "{step:?}: every other one goes");
            } else {
                println!("merging {}", merge_statistics().state.name());
            }
        }
        // Everything is merged, thins out, and is merged again, which fails as well.
        trim();
        for step in [Step::Memory, Step::Take, Step::Map] {
            for (place, (block, _)) in kept.iter().enumerate() {
                if place % 3 != 0 {
                    // SAFETY: live, and forgotten below.
                    unsafe { free(*block) };
                }
            }
            kept = kept.into_iter().step_by(3).collect();
            let (refused, again) = (REFUSED.load(Ordering::Relaxed), again());
            fail_merge_step(Some(step));
            trim();
            fail_merge_step(None);
            expect_whole(&kept, Some(step));
            println!("{step:?}: {} refused", REFUSED.load(Ordering::Relaxed) - refused);
            println!("{step:?}: {} merged again", self::again() - again);
        }
        if merge_statistics().state == MergeState::Works {
            assert!(again() > 0, "{:?}", merge_statistics());
        }
        for (block, _) in kept {
            // SAFETY: live.
            unsafe { free(block) };
        }
        allow_merging(false);
    }

    fn again() -> u64 {
        merge_statistics().merged_again_count
    }
}
