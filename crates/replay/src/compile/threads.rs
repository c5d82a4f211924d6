//! The operations of each thread while they are gathered, and how they lie in epochs.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::op;

/// The words of a thread up to `word_end` that belong to `epoch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The epoch.
    pub(crate) epoch: u32,
    /// Past the last word, from the thread's first.
    pub(crate) word_end: u32,
}

/// Where an operation's first word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) thread: u32,
    pub(super) word: u32,
}

/// One thread.
#[derive(Debug, Default)]
pub(crate) struct ThreadWords {
    /// Operations.
    pub(crate) words: Vec<u64>,
    /// Ascending by epoch; the last ends with the words.
    pub(crate) segments: Vec<Segment>,
    /// Whether the program's main thread.
    pub(crate) is_main: bool,
    /// Whether the thread's end is in the recording.
    pub(crate) ended: bool,
    /// The call site of each block that it makes, in order; empty unless asked for.
    pub(crate) births: Vec<u32>,
    peak_serial: u64,
    words_at_peak: u32,
}

/// All threads.
#[derive(Debug, Default)]
pub(super) struct Threads {
    pub(super) all: Vec<ThreadWords>,
    by_number: BTreeMap<u32, u32>,
    last: Option<(u32, u32)>,
    peak_serial: u64,
    pub(super) too_long: bool,
}

impl Threads {
    /// Enters the thread that numbers itself `number`.
    pub(super) fn enter(&mut self, number: u32, is_main: bool) {
        if self.by_number.contains_key(&number) {
            return;
        }
        self.by_number.insert(number, self.all.len() as u32);
        self.all.push(ThreadWords { is_main, ..ThreadWords::default() });
    }

    /// Position of the thread that numbers itself `number`; entered if new.
    pub(super) fn position(&mut self, number: u32) -> usize {
        if let Some((last, position)) = self.last
            && last == number
        {
            return position as usize;
        }
        self.enter(number, false);
        let position = self.by_number[&number];
        self.last = Some((number, position));
        position as usize
    }

    /// Appends an operation of `thread` in `epoch`; its place.
    pub(super) fn append(&mut self, thread: usize, epoch: u32, words: &[u64]) -> Place {
        let serial = self.peak_serial;
        let one = &mut self.all[thread];
        let word = one.words.len() as u32;
        if one.words.len() + words.len() > u32::MAX as usize {
            self.too_long = true;
            return Place { thread: thread as u32, word: 0 };
        }
        if one.peak_serial != serial {
            one.peak_serial = serial;
            one.words_at_peak = word;
        }
        one.words.extend_from_slice(words);
        let word_end = one.words.len() as u32;
        match one.segments.last_mut() {
            Some(segment) if segment.epoch == epoch => segment.word_end = word_end,
            _ => one.segments.push(Segment { epoch, word_end }),
        }
        Place { thread: thread as u32, word }
    }

    /// Everything appended so far lies at or before the highest live bytes.
    pub(super) fn mark_peak(&mut self) {
        self.peak_serial += 1;
    }

    /// Changes the slot that the operation at `place` fills.
    pub(super) fn set_target(&mut self, place: Place, slot: u32) {
        let words = &mut self.all[place.thread as usize].words;
        let first = place.word as usize;
        if op::has_target(op::code(words[first])) {
            words[first + 1] = op::halves(slot, op::high(words[first + 1]));
        } else {
            words[first] = op::with_slot(words[first], slot);
        }
    }

    /// The touch list of the operation at `place`.
    pub(super) fn touch_list(&self, place: Place) -> u32 {
        op::high(self.all[place.thread as usize].words[place.word as usize + 1])
    }

    /// Changes the touch list of the operation at `place`.
    pub(super) fn set_touch_list(&mut self, place: Place, list: u32) {
        let words = &mut self.all[place.thread as usize].words;
        let first = place.word as usize;
        debug_assert!(op::has_touch_list(op::code(words[first])));
        words[first + 1] = op::halves(op::low(words[first + 1]), list);
    }

    /// Ends epoch `epoch` right after the operation that brought the highest live bytes, so
    /// that what followed in it becomes an epoch of its own. Whether there was anything.
    pub(super) fn split_at_peak(&mut self, epoch: u32) -> bool {
        let serial = self.peak_serial;
        let mut anything_after = false;
        for one in &self.all {
            let Some(segment) = one.segments.iter().find(|segment| segment.epoch == epoch) else {
                continue;
            };
            anything_after |= one.peak_serial == serial && one.words_at_peak < segment.word_end;
        }
        if !anything_after {
            return false;
        }
        for one in &mut self.all {
            let first_after = one.segments.partition_point(|segment| segment.epoch < epoch);
            let here = one.segments.get(first_after).is_some_and(|found| found.epoch == epoch);
            for segment in &mut one.segments[first_after + usize::from(here)..] {
                segment.epoch += 1;
            }
            if !here || one.peak_serial != serial {
                continue;
            }
            let start = match first_after {
                0 => 0,
                _ => one.segments[first_after - 1].word_end,
            };
            let segment = one.segments[first_after];
            let cut = one.words_at_peak;
            if cut <= start {
                one.segments[first_after].epoch += 1;
            } else if cut < segment.word_end {
                one.segments[first_after].word_end = cut;
                one.segments.insert(first_after + 1, Segment { epoch: epoch + 1, ..segment });
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Segment, Threads};

    #[test]
    fn the_peak_cuts_its_epoch_in_two() {
        let mut threads = Threads::default();
        for number in 0..3 {
            threads.enter(number, number == 0);
        }
        threads.append(0, 0, &[1]);
        threads.append(1, 1, &[2]);
        threads.append(0, 1, &[3]);
        threads.mark_peak();
        threads.append(1, 1, &[4]);
        threads.append(2, 1, &[5]);
        threads.append(0, 2, &[6]);
        assert!(threads.split_at_peak(1));
        let segments = |thread: usize| threads.all[thread].segments.clone();
        let segment = |epoch, word_end| Segment { epoch, word_end };
        assert_eq!(segments(0), [segment(0, 1), segment(1, 2), segment(3, 3)]);
        assert_eq!(segments(1), [segment(1, 1), segment(2, 2)]);
        assert_eq!(segments(2), [segment(2, 1)]);
    }

    #[test]
    fn a_peak_at_the_end_of_its_epoch_cuts_nothing() {
        let mut threads = Threads::default();
        threads.enter(0, true);
        threads.append(0, 0, &[1]);
        threads.mark_peak();
        threads.append(0, 1, &[2]);
        assert!(!threads.split_at_peak(0));
    }
}
