//! The word of a slot: 16 bits out of band.
//!
//! The high three bits are the state, the others how many bytes were asked for above the least that
//! the class's blocks may have: above none where slots are small. So what is left of a live block's
//! word without its state is that number, and one comparison tells both.
//! Zeroed memory says that the slot was never handed out.
#![forbid(unsafe_code)]

use heapwright_core::family::Family;

/// What a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Never handed out since its pages came from the kernel: they were not touched.
    Fresh,
    /// A live block.
    Live(Family),
    /// Never handed out again, since something is wrong with it.
    Retired,
    /// Free, and zeroed as far as its class says.
    Freed,
}

/// A word, of which the low 16 bits lie in memory; the others are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u32);

/// Where the state begins.
const STATE_SHIFT: u32 = 13;
/// The states of slots that are no blocks.
const RETIRED: u32 = 6;
const FREED: u32 = 7;
/// The most that a word can tell of a block's bytes.
pub(crate) const BYTES_TOLD_MAX: usize = (1 << STATE_SHIFT) - 1;

/// The word of a live block of `family` that has no bytes above its class's least.
#[inline(always)]
fn live_state(family: Family) -> u32 {
    (family as u32 + 1) << STATE_SHIFT
}

const _: () = assert!(Family::ALL.len() < RETIRED as usize);
const _: () = assert!(FREED << STATE_SHIFT <= u16::MAX as u32);

impl Word {
    /// Never handed out.
    pub(crate) const FRESH: Self = Self(0);
    /// Never handed out again.
    pub(crate) const RETIRED: Self = Self(RETIRED << STATE_SHIFT);
    /// Free.
    pub(crate) const FREED: Self = Self(FREED << STATE_SHIFT);

    /// A live block of so many bytes above its class's least.
    #[inline(always)]
    pub(crate) fn live(family: Family, bytes_told: usize) -> Self {
        debug_assert!(bytes_told <= BYTES_TOLD_MAX);
        Self(live_state(family) + bytes_told as u32)
    }

    /// What [`bytes_told`](Self::bytes_told) says, if it is a live block of `family`.
    #[inline(always)]
    pub(crate) fn told_if_live_of(self, family: Family) -> Option<usize> {
        let told = self.0.wrapping_sub(live_state(family)) as usize;
        (told <= BYTES_TOLD_MAX).then_some(told)
    }

    /// Bytes of a live block above its class's least.
    #[inline(always)]
    pub(crate) fn bytes_told(self) -> usize {
        self.0 as usize & BYTES_TOLD_MAX
    }

    /// What the slot is.
    pub(crate) fn state(self) -> State {
        match self.0 >> STATE_SHIFT {
            0 => State::Fresh,
            RETIRED => State::Retired,
            FREED => State::Freed,
            live => State::Live(Family::from_number(live - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use heapwright_core::family::Family;

    use super::{BYTES_TOLD_MAX, State, Word};

    #[test]
    fn a_word_keeps_family_and_bytes() {
        let all = Family::ALL;
        for family in all {
            for bytes in [0, 1, 23, 4096, BYTES_TOLD_MAX] {
                let word = Word::live(family, bytes);
                assert_eq!((word.state(), word.bytes_told()), (State::Live(family), bytes));
                for other in all {
                    let told = (other == family).then_some(bytes);
                    assert_eq!(word.told_if_live_of(other), told);
                }
            }
        }
        for (word, state) in [
            (Word::FRESH, State::Fresh),
            (Word::FREED, State::Freed),
            (Word::RETIRED, State::Retired),
        ] {
            assert_eq!(word.state(), state);
            assert!(all.iter().all(|family| word.told_if_live_of(*family).is_none()));
        }
    }
}
