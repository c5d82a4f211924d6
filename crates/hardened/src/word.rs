//! The word of a slot: 16 bits out of band.
//!
//! The low three bits are the state, the others how many bytes of the slot were not asked for.
//! Zeroed memory says that the slot was never handed out.
#![forbid(unsafe_code)]

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

/// Which functions a block belongs to: it may be given back by those of its family only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Family {
    /// `malloc` and its like; `free`.
    Malloc = 1,
    /// `operator new`; `operator delete`.
    New = 2,
    /// `operator new[]`; `operator delete[]`.
    NewArray = 3,
    /// `operator new` with an alignment.
    NewAligned = 4,
    /// `operator new[]` with an alignment.
    NewArrayAligned = 5,
}

/// A word as it lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u16);

/// Bits of the state.
const STATE_BITS: u32 = 3;
const STATE_MASK: u16 = (1 << STATE_BITS) - 1;
/// Most bytes of a slot that need not be asked for.
pub(crate) const SLACK_BYTES_MAX: usize = (u16::MAX >> STATE_BITS) as usize;

impl Family {
    /// The function that makes such blocks.
    pub(crate) fn maker(self) -> &'static str {
        match self {
            Self::Malloc => "malloc",
            Self::New => "new",
            Self::NewArray => "new[]",
            Self::NewAligned => "aligned new",
            Self::NewArrayAligned => "aligned new[]",
        }
    }

    /// The function that gives such blocks back.
    pub(crate) fn taker(self) -> &'static str {
        match self {
            Self::Malloc => "free",
            Self::New => "delete",
            Self::NewArray => "delete[]",
            Self::NewAligned => "aligned delete",
            Self::NewArrayAligned => "aligned delete[]",
        }
    }
}

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
        Self(family as u16 | (slack_bytes as u16) << STATE_BITS)
    }

    /// Whether it is a live block of `family`.
    #[inline(always)]
    pub(crate) fn is_live_of(self, family: Family) -> bool {
        self.0 & STATE_MASK == family as u16
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
            1 => State::Live(Family::Malloc),
            2 => State::Live(Family::New),
            3 => State::Live(Family::NewArray),
            4 => State::Live(Family::NewAligned),
            5 => State::Live(Family::NewArrayAligned),
            6 => State::Retired,
            _ => State::Freed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Family, SLACK_BYTES_MAX, State, Word};

    #[test]
    fn a_word_keeps_family_and_slack() {
        let all = [
            Family::Malloc,
            Family::New,
            Family::NewArray,
            Family::NewAligned,
            Family::NewArrayAligned,
        ];
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
