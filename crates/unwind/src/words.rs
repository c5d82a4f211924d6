//! The words of the stack that a memo stands on: what the walk loaded, in the order of frames.
//!
//! # Invariants
//! - I10 (design/unwinding#I10): the words of `frames[..n]` are the first `frames[n - 1].words_end`
//!   ones; each lies at or above the stack pointer of the frame whose step loaded it and below the
//!   outermost frame's.
//! - I11: behind the last word there are [`STRIDE`] entries with address 0, and `owners` says of
//!   the first of them how many frames the words are of.

use core::hint::select_unpredictable;

use crate::frame::Frame;
use crate::stack::Window;

/// Words that are compared without a jump between them.
pub(crate) const STRIDE: usize = 4;
/// Words that are kept: those of 1,024 frames when every second one saves a frame pointer that
/// matters. Frames without room here are walked each time.
const WORD_COUNT_MAX: usize = 1536;
const PLACES: usize = WORD_COUNT_MAX + STRIDE;
/// The most words that one step loads.
const WORDS_PER_STEP_MAX: usize = 3;

/// A word of the stack.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Word {
    pub(crate) address: usize,
    pub(crate) value: usize,
}

impl Word {
    pub(crate) const NONE: Self = Self { address: 0, value: 0 };
}

/// The words and whose they are. All zero: none.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Words {
    count: usize,
    entries: [Word; PLACES],
    /// Index of the frame whose step outward loaded the word.
    owners: [u16; PLACES],
}

impl Words {
    pub(crate) const NONE: Self =
        Self { count: 0, entries: [Word::NONE; PLACES], owners: [0; PLACES] };

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.end(0, 0);
    }

    /// Whether `count` words leave room for those of so many steps more.
    #[inline(always)]
    pub(crate) fn has_room_for(count: usize, steps: usize) -> bool {
        count + steps * WORDS_PER_STEP_MAX <= WORD_COUNT_MAX
    }

    /// Sets word number `index`, which the step from frame `owner` loaded.
    #[inline(always)]
    pub(crate) fn set(&mut self, index: usize, address: usize, value: usize, owner: usize) {
        self.entries[index] = Word { address, value };
        self.owners[index] = owner as u16;
    }

    /// Says that there are `count` words, and that they are all of the first `frame_count` frames.
    #[inline(always)]
    pub(crate) fn end(&mut self, count: usize, frame_count: usize) {
        self.count = count;
        for place in &mut self.entries[count..count + STRIDE] {
            place.address = 0;
        }
        self.owners[count] = frame_count as u16;
    }

    /// The words from number `first` on.
    #[inline(always)]
    pub(crate) fn from(&self, first: usize) -> &[Word] {
        self.entries.get(first..self.count).unwrap_or_default()
    }

    /// How many frames, from the outermost one, lead outward as they did: all words that their
    /// steps loaded are as they were.
    ///
    /// What lies below the window is not looked at: those words are of frames that have returned,
    /// which the walk cannot meet.
    ///
    /// # Safety
    /// - The window reaches up to the outermost frame's stack pointer, or there are no words.
    #[inline(always)]
    pub(crate) unsafe fn frames_intact(&self, window: &Window) -> usize {
        let (low, mut found) = (window.low(), 0);
        while let Some(entries) = self.entries[found..].first_chunk::<STRIDE>() {
            let [a, b, c, d] = entries.each_ref().map(|word| {
                // Not a jump: how far the stack has shrunk since is not to be foreseen.
                let is_below = word.address < low;
                let address = select_unpredictable(is_below, low, word.address);
                // SAFETY: in the window: not below it now, and below its end by I10 and the
                // caller's promise, or at its start. Both are multiples of 8.
                unsafe { window.load_unchecked(address) ^ word.value }
            });
            if a | b | c | d != 0 {
                let same = u32::from(a == 0)
                    | u32::from(b == 0) << 1
                    | u32::from(c == 0) << 2
                    | u32::from(d == 0) << 3;
                found += same.trailing_ones() as usize;
                break;
            }
            found += STRIDE;
            if found >= self.count {
                break;
            }
        }
        usize::from(self.owners[found.min(self.count)])
    }

    /// Walks I10 and I11 over the memo's `frames`.
    pub(crate) fn check(&self, frames: &[Frame]) {
        let covered = usize::from(self.owners[self.count]);
        assert!(covered <= frames.len() && self.entries[self.count].address == 0, "I11");
        let mut first = 0;
        for (index, frame) in frames[..covered].iter().enumerate() {
            let end = usize::from(frame.words_end);
            for word in first..end {
                let address = self.entries[word].address;
                assert_eq!(usize::from(self.owners[word]), index, "I10");
                assert!(frame.sp <= address && address < frames[index - 1].sp, "I10");
            }
            first = end;
        }
        assert!(covered == 0 || first == self.count, "I10");
    }
}
