//! A thread's memo of its last stack, and the capture that uses it.
//!
//! # Invariants
//! - I7 (design/unwinding#I7): `frames[..depth]` is the last captured stack, outermost first;
//!   each frame but the first was stepped from to the one before it.
//! - I8 (design/unwinding#I8): in a memo with `ascending`, stack pointers strictly rise from
//!   each frame to its caller, so the slots of all return addresses outward of a frame lie
//!   between its stack pointer and the outermost frame's.
//! - I9 (design/unwinding#I9): a frame whose frame pointer matters holds the true one.

use crate::frame::{Capture, Frame, StackEnd, Truncation};
use crate::registers::Registers;
use crate::resolver::rule_generation;
use crate::rule::Kind;
use crate::stack::{Home, Window};
use crate::step::{Stepped, Stop, step};

/// The most frames of one stack that are kept.
pub const FRAME_COUNT_MAX: usize = 1024;

/// The last stack of one thread, so that the next capture walks only what has changed.
///
/// 64 KiB, of which only what deep stacks reach is touched. All zero bytes are a valid empty
/// memo, so it may lie in memory fresh from the kernel. One thread uses it at a time; a signal
/// handler that may interrupt a capture needs a memo of its own.
#[derive(Debug)]
#[repr(C)]
pub struct Memo {
    depth: usize,
    end: End,
    rule_generation: u32,
    ascending: bool,
    home: Home,
    guess_count: u64,
    frames: [Frame; FRAME_COUNT_MAX],
    /// Frames of the walk being made, innermost first.
    fresh: [Frame; FRAME_COUNT_MAX],
}

/// [`StackEnd`] with zero as a valid value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
struct End(u8);

impl End {
    const COMPLETE: Self = Self(1);
    const LIMIT_REACHED: Self = Self(2);

    fn of(stop: Stop) -> Self {
        Self(match stop {
            Stop::Outermost | Stop::Null => return Self::COMPLETE,
            Stop::NoRule | Stop::NotCode => 3,
            Stop::OutOfStack => 4,
            Stop::Corrupt => 5,
            Stop::Busy => 6,
        })
    }

    fn get(self) -> StackEnd {
        StackEnd::Truncated(match self.0 {
            1 => return StackEnd::Complete,
            2 => Truncation::LimitReached,
            4 => Truncation::OutOfStack,
            5 => Truncation::Corrupt,
            6 => Truncation::Busy,
            _ => Truncation::NoRule,
        })
    }
}

impl Default for Memo {
    fn default() -> Self {
        Self::new()
    }
}

impl Memo {
    /// An empty memo.
    pub const fn new() -> Self {
        Self {
            depth: 0,
            end: End(0),
            rule_generation: 0,
            ascending: false,
            home: Home::new(),
            guess_count: 0,
            frames: [Frame::NONE; FRAME_COUNT_MAX],
            fresh: [Frame::NONE; FRAME_COUNT_MAX],
        }
    }

    /// The frames of the last capture, outermost first.
    #[inline]
    pub fn frames(&self) -> &[Frame] {
        &self.frames[..self.depth.min(FRAME_COUNT_MAX)]
    }

    /// The frames of the last capture, outermost first, to set their tags.
    #[inline]
    pub fn frames_mut(&mut self) -> &mut [Frame] {
        &mut self.frames[..self.depth.min(FRAME_COUNT_MAX)]
    }

    /// How many frames were found by frame pointer because no unwind table covers their code.
    #[inline]
    pub fn guess_count(&self) -> u64 {
        self.guess_count
    }

    /// Forgets the last stack; the next capture walks all of it.
    pub fn forget(&mut self) {
        self.depth = 0;
    }

    /// Forgets the last stack and the thread it was of: the next capture may be another's.
    pub fn change_thread(&mut self) {
        self.depth = 0;
        self.home = Home::new();
    }

    /// Captures the stack of the frame with these registers, which becomes
    /// [`frames`](Self::frames).
    ///
    /// About 1 ns for a frame that is as it was and 8 ns for another; 1 to 2 us the first time
    /// that the process meets an address. Allocates nothing, and takes a lock only for such
    /// addresses, for a bounded time.
    ///
    /// # Safety
    /// - `registers` are the calling thread's: its caller's state at a call that has not returned
    ///   yet, as [`Registers`] says.
    #[inline]
    pub unsafe fn capture(&mut self, registers: Registers) -> Capture {
        let generation = rule_generation();
        if self.rule_generation != generation {
            self.rule_generation = generation;
            self.depth = 0;
        }
        let window = self.home.window(registers.sp);
        Walk { at: registers, window, candidates: self.depth, fresh: 0, limited: false }.run(self)
    }
}

/// One capture under way: the frames reached so far are `fresh[..fresh]`.
struct Walk {
    /// The frame to go on from; not among the fresh ones yet.
    at: Registers,
    window: Window,
    /// Frames of the memo that may still be met: the outermost so many.
    candidates: usize,
    /// How many fresh frames there are.
    fresh: usize,
    /// No room for another one.
    limited: bool,
}

impl Walk {
    #[inline(always)]
    fn run(mut self, memo: &mut Memo) -> Capture {
        loop {
            // The memo is sorted by stack pointer, but for signals on other stacks, where
            // passing over a frame only costs time.
            while self.candidates > 0 && memo.frames[self.candidates - 1].sp < self.at.sp {
                self.candidates -= 1;
            }
            if self.candidates > 0 && memo.frames[self.candidates - 1].is_at(self.at) {
                match self.follow(memo) {
                    Some(end) => return self.splice(memo, end),
                    None if self.limited => return self.splice(memo, End::LIMIT_REACHED),
                    None => continue,
                }
            }
            let stepped = step(self.at, &mut self.window, &mut memo.home);
            match self.note(memo, stepped) {
                None => {}
                Some(end) => return self.splice(memo, end),
            }
        }
    }

    /// Keeps the frame `at` and goes on to its caller; the end if there is none.
    #[inline(always)]
    fn note(&mut self, memo: &mut Memo, stepped: Result<Stepped, Stop>) -> Option<End> {
        match stepped {
            Ok(stepped) => {
                let kind = stepped.rule.kind();
                if kind == Kind::Guess {
                    memo.guess_count += 1;
                }
                self.push(memo, Frame::new(self.at, stepped.rule));
                self.at = stepped.registers;
                self.limited.then_some(End::LIMIT_REACHED)
            }
            Err(stop) => {
                self.candidates = 0;
                if stop != Stop::Null {
                    let may_go_on = stop != Stop::Outermost;
                    self.push(memo, Frame::last(self.at, may_go_on));
                }
                Some(if self.limited { End::LIMIT_REACHED } else { End::of(stop) })
            }
        }
    }

    #[inline(always)]
    fn push(&mut self, memo: &mut Memo, frame: Frame) {
        if self.fresh < FRAME_COUNT_MAX {
            memo.fresh[self.fresh] = frame;
            self.fresh += 1;
        } else {
            self.limited = true;
            self.candidates = 0;
        }
    }

    /// From a memo frame that equals `at`: goes outward along the memo as long as the stack
    /// holds the words that were loaded then. The end if all is unchanged to the outermost
    /// frame; else the memo's frames so far are fresh, and `at` is where they lead now.
    #[inline(always)]
    fn follow(&mut self, memo: &mut Memo) -> Option<End> {
        let join = self.candidates - 1;
        memo.frames[join].fp = self.at.fp;
        let mut index = join;
        loop {
            // Asked anew each time, since a step over a signal's frame moves the window.
            let in_window = memo.ascending && self.window.reaches(memo.frames[0].sp);
            let frames = &memo.frames[..=index];
            index = if in_window {
                // SAFETY: all return-address slots are words below a caller's stack pointer, so
                // aligned (`step_to` loaded them), and lie above this frame's stack pointer, where
                // the window starts at the latest, and below the outermost one's (I8), up to
                // which it reaches.
                verify(frames, &self.window, |slot| {
                    Some(unsafe { self.window.load_unchecked(slot) })
                })
            } else {
                verify(frames, &self.window, |slot| self.window.load(slot))
            };
            if index == 0 && (memo.end == End::COMPLETE || self.is_at_limit(memo)) {
                return Some(memo.end);
            }
            if let Some(end) = self.step_from_memo(memo, join, &mut index) {
                return end;
            }
        }
    }

    /// Whether the memo's frames up to the join and the fresh ones fill the memo again.
    fn is_at_limit(&self, memo: &Memo) -> bool {
        memo.end == End::LIMIT_REACHED && self.candidates + self.fresh >= FRAME_COUNT_MAX
    }

    /// Steps from the memo's frame `index` by its rule. None when that led to the memo's next
    /// frame, after all, which is then `index`.
    #[inline(never)]
    fn step_from_memo(
        &mut self,
        memo: &mut Memo,
        join: usize,
        index: &mut usize,
    ) -> Option<Option<End>> {
        let from = *index;
        memo.frames[from].fp = fp_at(&memo.frames[..=join], from, &self.window);
        let stepped = step(memo.frames[from].registers(), &mut self.window, &mut memo.home);
        match stepped {
            Ok(stepped) if from > 0 && memo.frames[from - 1].is_at(stepped.registers) => {
                memo.frames[from - 1].fp = stepped.registers.fp;
                *index = from - 1;
                return None;
            }
            // The stack was not whole and still ends where it did.
            Err(stop) if from == 0 && End::of(stop) == memo.end => return Some(Some(memo.end)),
            _ => {}
        }
        for index in (from + 1..=join).rev() {
            let frame = memo.frames[index];
            self.push(memo, frame);
        }
        self.candidates = from;
        self.at = memo.frames[from].registers();
        if self.limited {
            self.candidates = 0;
            return Some(Some(End::LIMIT_REACHED));
        }
        Some(self.note(memo, stepped))
    }

    /// Puts the fresh frames behind those of the memo that were met again.
    #[inline(always)]
    fn splice(self, memo: &mut Memo, end: End) -> Capture {
        if self.candidates + self.fresh > FRAME_COUNT_MAX {
            return self.splice_limited(memo);
        }
        let mut unchanged = self.candidates;
        let depth = self.candidates + self.fresh;
        let mut same_path = true;
        let mut ascending = true;
        for index in self.candidates..depth {
            let mut frame = memo.fresh[depth - 1 - index];
            let (outer, inner) = memo.frames.split_at_mut(index);
            let caller = outer.last();
            frame.settle(caller);
            ascending &= caller.is_none_or(|caller| caller.sp > frame.sp);
            // The path of return addresses may be the same though something else differs.
            same_path &= index < memo.depth && inner[0].pc == frame.pc;
            if same_path {
                frame.tag = inner[0].tag;
                unchanged = index + 1;
            }
            inner[0] = frame;
        }
        memo.depth = depth;
        memo.end = end;
        memo.ascending = ascending
            && (memo.ascending
                || memo.frames[..depth].is_sorted_by(|outer, inner| outer.sp > inner.sp));
        memo.check();
        Capture { unchanged, depth, end: end.get() }
    }

    /// [`splice`](Self::splice) for a stack with more frames than there is room for: drops the
    /// outermost ones.
    #[cold]
    #[inline(never)]
    fn splice_limited(mut self, memo: &mut Memo) -> Capture {
        let dropped = self.candidates + self.fresh - FRAME_COUNT_MAX;
        memo.frames.copy_within(dropped..self.candidates, 0);
        self.candidates -= dropped;
        // The frames that the kept paths started with are gone, and with them the tags' meaning.
        memo.depth = 0;
        let capture = self.splice(memo, End::LIMIT_REACHED);
        Capture { unchanged: 0, ..capture }
    }
}

/// The outermost frame of `frames` up to which, from the innermost one, the stack holds the
/// words that the walk loaded when it made them. `load` gives a return address.
#[inline(always)]
fn verify(frames: &[Frame], window: &Window, load: impl Fn(usize) -> Option<usize>) -> usize {
    let mut index = frames.len() - 1;
    let mut inner = &frames[index];
    for outer in frames[..index].iter().rev() {
        if inner.needs_more_than_return_address() {
            let fp_slot = outer.sp.wrapping_sub(inner.fp_words() * 8);
            if inner.goes_by_rule() || window.load(fp_slot) != Some(outer.fp) {
                break;
            }
        }
        if load(outer.sp.wrapping_sub(8)) != Some(outer.pc) {
            break;
        }
        index -= 1;
        inner = outer;
    }
    index
}

/// The true frame pointer at `frames[index]`, where the innermost frame's is true and the stack
/// is as it was in between.
fn fp_at(frames: &[Frame], index: usize, window: &Window) -> usize {
    let mut at = index;
    while let Some(inner) = frames.get(at + 1) {
        let frame = &frames[at];
        // True by I9, or loaded by the rule in this capture.
        if frame.fp_matters() || inner.goes_by_rule() {
            break;
        }
        if inner.fp_words() != 0 {
            let slot = frame.sp.wrapping_sub(inner.fp_words() * 8);
            return window.load(slot).unwrap_or(frame.fp);
        }
        at += 1;
    }
    frames[at].fp
}

impl Memo {
    /// Walks the invariants; empty in release builds.
    #[inline(always)]
    fn check(&self) {
        if cfg!(debug_assertions) {
            assert!(self.depth <= FRAME_COUNT_MAX, "I7");
            let is_sorted = self.frames().is_sorted_by(|outer, inner| outer.sp > inner.sp);
            assert!(!self.ascending || is_sorted, "I8");
        }
    }
}
