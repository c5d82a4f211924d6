//! A plan as a worker sees it: mapped, checked once, then trusted.
//!
//! # Invariants
//! - I1: every operation is whole, its slots are below the slot count, its touch list exists;
//!   checked by [`PlanView::map`] over all words, which also brings each OS page in.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::op;
use crate::plan::{
    HEAD_WORDS, PLAN_MAGIC, SITE_UNKNOWN, THREAD_ENDS, THREAD_MAIN, THREAD_WORDS, head,
};
use crate::sys;

/// A thread of a plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadView {
    /// Epoch in the low half, end of the words in the high half.
    pub(crate) segments: &'static [u64],
    /// Operations.
    pub(crate) words: &'static [u64],
    /// The program's main thread.
    pub(crate) is_main: bool,
    /// Whether it ends within the recording.
    pub(crate) ends: bool,
    /// The call sites of the blocks it makes, in order.
    pub(crate) births: Births,
}

impl ThreadView {
    /// Its first epoch.
    pub(crate) fn first_epoch(&self) -> u32 {
        self.segments.first().map_or(0, |&segment| op::low(segment))
    }
}

/// The call sites of the blocks that a thread makes: two a word, read one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Births {
    words: &'static [u64],
    count: usize,
    next: usize,
}

impl Births {
    /// The next block's call site; [`SITE_UNKNOWN`] when none are kept.
    pub(crate) fn take(&mut self) -> u32 {
        let at = self.next;
        self.next += 1;
        match self.words.get(at / 2) {
            Some(&word) if at < self.count => (word >> (32 * (at % 2))) as u32,
            _ => SITE_UNKNOWN,
        }
    }
}

/// A mapped plan. Mapped for the life of the process.
#[derive(Debug)]
pub(crate) struct PlanView {
    pub(crate) threads: Vec<ThreadView>,
    pub(crate) epoch_count: u32,
    pub(crate) slot_count: u32,
    pub(crate) window: u32,
    pub(crate) page_bytes: usize,
    pub(crate) marks: &'static [u64],
    /// The program's own time at each epoch's end, ns from the first event.
    pub(crate) times: &'static [u64],
    pub(crate) has_aligned: bool,
    lists: &'static [u64],
    runs: &'static [u64],
}

impl PlanView {
    /// Maps and checks the plan in `file`; with `is_copied` a copy of it, for a run beside which
    /// others run: pages that are shared count by halves, thirds and so on, and as those others
    /// end, they would count for more.
    ///
    /// # Errors
    /// What mapping and reading give; `InvalidData` for anything but a plan of this version.
    pub(crate) fn map(file: &File, is_copied: bool) -> io::Result<Self> {
        let bytes = file.metadata()?.len() as usize;
        if bytes < 8 * HEAD_WORDS {
            return Err(invalid("too short"));
        }
        let start = if is_copied {
            let start = sys::map(None, bytes, true)?;
            // SAFETY: a new mapping of that length, which nobody else knows.
            let copy = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), bytes) };
            file.read_exact_at(copy, 0)?;
            start
        } else {
            sys::map(Some(file), bytes, false)?
        };
        // SAFETY: the mapping is that long, page aligned, stays for good, and nobody writes to
        // it, nor to the file after the parent has laid it down.
        let all: &'static [u64] =
            unsafe { std::slice::from_raw_parts(start.cast::<u64>().as_ptr(), bytes / 8) };
        Self::new(all)
    }

    fn new(all: &'static [u64]) -> io::Result<Self> {
        if all[head::MAGIC] != PLAN_MAGIC || all[head::TOTAL_WORDS] != all.len() as u64 {
            return Err(invalid("not a plan of this version"));
        }
        let mut rest = &all[HEAD_WORDS..];
        let mut take = |count: u64| -> io::Result<&'static [u64]> {
            let (part, after) =
                rest.split_at_checked(count as usize).ok_or_else(|| invalid("cut off"))?;
            rest = after;
            Ok(part)
        };
        let threads = take(all[head::THREADS] * THREAD_WORDS as u64)?;
        let segments = take(all[head::SEGMENTS])?;
        let marks = take(all[head::MARKS])?;
        let times = take(all[head::EPOCHS])?;
        let lists = take(all[head::LISTS])?;
        let runs = take(2 * all[head::RUNS])?;
        let births = take(all[head::BIRTHS])?;
        let words = take(all[head::OP_WORDS])?;
        let part = |from: &'static [u64], start: u64, count: u64| {
            from.get(start as usize..(start + count) as usize).ok_or_else(|| invalid("torn"))
        };
        let threads = threads
            .chunks_exact(THREAD_WORDS)
            .map(|thread| {
                Ok(ThreadView {
                    segments: part(segments, thread[0], thread[1])?,
                    words: part(words, thread[2], thread[3])?,
                    is_main: thread[4] & THREAD_MAIN != 0,
                    ends: thread[4] & THREAD_ENDS != 0,
                    births: Births {
                        words: part(births, thread[5], thread[6].div_ceil(2))?,
                        count: thread[6] as usize,
                        next: 0,
                    },
                })
            })
            .collect::<io::Result<Vec<_>>>()?;
        let view = Self {
            threads,
            epoch_count: all[head::EPOCHS] as u32,
            slot_count: all[head::SLOTS] as u32,
            window: all[head::WINDOW] as u32,
            page_bytes: all[head::PAGE_BYTES].clamp(4096, 1 << 20) as usize,
            marks,
            times,
            has_aligned: all[head::ALIGNED] != 0,
            lists,
            runs,
        };
        view.check()?;
        Ok(view)
    }

    /// The runs of touch list `list`: first page and stride, then count.
    pub(crate) fn touch_runs(&self, list: u32) -> impl Iterator<Item = (u32, u32, u32)> + '_ {
        let start = self.lists[list as usize] as usize;
        let end =
            self.lists.get(list as usize + 1).map_or(self.runs.len() / 2, |&end| end as usize);
        let runs = self.runs.get(2 * start..2 * end).unwrap_or_default();
        runs.chunks_exact(2).map(|run| (op::low(run[0]), op::high(run[0]), run[1] as u32))
    }

    /// Walks I1, and the segments.
    fn check(&self) -> io::Result<()> {
        for thread in &self.threads {
            let mut word_end = 0;
            for &segment in thread.segments {
                if op::low(segment) >= self.epoch_count || op::high(segment) < word_end {
                    return Err(invalid("epochs in disorder"));
                }
                word_end = op::high(segment);
            }
            if word_end as usize != thread.words.len() {
                return Err(invalid("words without an epoch"));
            }
            let mut at = 0;
            while let Some(&word) = thread.words.get(at) {
                let count = op::word_count(op::code(word)).ok_or_else(|| invalid("operation"))?;
                let whole = thread.words.get(at..at + count).ok_or_else(|| invalid("torn end"))?;
                self.check_operation(whole)?;
                at += count;
            }
        }
        Ok(())
    }

    fn check_operation(&self, words: &[u64]) -> io::Result<()> {
        let code = op::code(words[0]);
        if op::slot(words[0]) >= self.slot_count {
            return Err(invalid("slot"));
        }
        if op::has_target(code) && op::low(words[1]) >= self.slot_count {
            return Err(invalid("target slot"));
        }
        if op::has_touch_list(code) {
            let list = op::high(words[1]);
            let is_known = matches!(list, op::TOUCH_ALL | op::TOUCH_NONE);
            if !is_known && list as usize >= self.lists.len() {
                return Err(invalid("touch list"));
            }
        }
        Ok(())
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the plan is damaged: {what}"))
}
