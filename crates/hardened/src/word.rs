//! The word of a slot: 16 bits out of band.
//!
//! The low three bits are the state, the others how many bytes of the slot were not asked for.
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

/// A word as it lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u16);

/// Bits of the state.
const STATE_BITS: u32 = 3;
const STATE_MASK: u16 = (1 << STATE_BITS) - 1;
/// Most bytes of a slot that need not be asked for.
pub(crate) const SLACK_BYTES_MAX: usize = (u16::MAX >> STATE_BITS) as usize;

/// The state of a live block of `family`.
#[inline(always)]
fn live_state(family: Family) -> u16 {
    family as u16 + 1
}

const _: () = assert!(Family::ALL.len() < Word::RETIRED.0 as usize);

impl Word {
    /// Never handed out.
    pub(crate) const FRESH: Self = Self(0);
    /// Never handed out again.
    pub(crate) const RETIRED: Self = Self(6);
    /// Free.
    pub(crate) const FREED: Self = Self(STATE_MASK);

    /// A live block that leaves `slack_bytes` of its slot.
    #[inline(always)]
    pub(crate) fn live(family: Family, slack_bytes: usize) -> Self {
        debug_assert!(slack_bytes <= SLACK_BYTES_MAX);
        Self(live_state(family) | (slack_bytes as u16) << STATE_BITS)
    }

    /// Whether it is a live block of `family`.
    #[inline(always)]
    pub(crate) fn is_live_of(self, family: Family) -> bool {
        self.0 & STATE_MASK == live_state(family)
    }

    /// Bytes of the slot behind the block.
    #[inline(always)]
    pub(crate) fn slack_bytes(self) -> usize {
        usize::from(self.0 >> STATE_BITS)
    }

    /// What the slot is.
    pub(crate) fn state(self) -> State {
        match self.0 & STATE_MASK {
            0 => State::Fresh,
            6 => State::Retired,
            STATE_MASK => State::Freed,
            live => State::Live(Family::from_number(u32::from(live) - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use heapwright_core::family::Family;

    use super::{SLACK_BYTES_MAX, State, Word};

    #[test]
    fn a_word_keeps_family_and_slack() {
        let all = Family::ALL;
        for family in all {
            for slack in [8, 9, 23, 4096, SLACK_BYTES_MAX] {
                let word = Word::live(family, slack);
                assert_eq!((word.state(), word.slack_bytes()), (State::Live(family), slack));
                for other in all {
                    assert_eq!(word.is_live_of(other), other == family);
                }
            }
        }
        for (word, state) in [
            (Word::FRESH, State::Fresh),
            (Word::FREED, State::Freed),
            (Word::RETIRED, State::Retired),
        ] {
            assert_eq!(word.state(), state);
            assert!(all.iter().all(|family| !word.is_live_of(*family)));
        }
    }
}
