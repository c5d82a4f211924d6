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
use crate::rule::{FP_UNCHANGED, Kind, Rule};
use crate::stack::{Home, Window};
use crate::step::{Stepped, Stop, step, step_fast};

/// The most frames of one stack that are kept.
pub const FRAME_COUNT_MAX: usize = 1024;

/// The last stack of one thread, so that the next capture walks only what has changed.
///
/// 57 KiB, of which only what deep stacks reach is touched. All zero bytes are a valid empty
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
    fresh: Fresh,
}

/// Frames of the walk being made, innermost first. By columns: a frame that is written in words
/// and read back as a whole right after that would wait for the store buffer.
#[derive(Debug)]
#[repr(C)]
struct Fresh {
    pc: [usize; FRAME_COUNT_MAX],
    sp: [usize; FRAME_COUNT_MAX],
    fp: [usize; FRAME_COUNT_MAX],
    rule_bits: [u8; FRAME_COUNT_MAX],
}

impl Fresh {
    const NONE: Self = Self {
        pc: [0; FRAME_COUNT_MAX],
        sp: [0; FRAME_COUNT_MAX],
        fp: [0; FRAME_COUNT_MAX],
        rule_bits: [0; FRAME_COUNT_MAX],
    };

    #[inline(always)]
    fn set(&mut self, index: usize, at: Registers, rule_bits: u8) {
        self.pc[index] = at.pc;
        self.sp[index] = at.sp;
        self.fp[index] = at.fp;
        self.rule_bits[index] = rule_bits;
    }
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
            fresh: Fresh::NONE,
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

    /// Asks the kernel now about `bytes` of the running thread's stack below the caller, for
    /// captures after [`crate::freeze_modules`], which cannot ask any more.
    pub fn reach_down(&mut self, bytes: usize) {
        self.home.reach_down(Registers::current().sp, bytes);
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
    ///   yet, as [`Registers`] says. `sp` is a multiple of 8.
    #[inline(always)]
    pub unsafe fn capture(&mut self, registers: Registers) -> Capture {
        // SAFETY: the caller's promise.
        unsafe { self.capture_at(registers.pc, registers.sp, registers.fp) }
    }

    /// [`capture`](Self::capture) with the registers in registers: as a structure they would go
    /// through memory, written by words and read by pairs, which stalls for some 10 ns.
    ///
    /// # Safety
    /// - As for [`capture`](Self::capture).
    #[inline(never)]
    unsafe fn capture_at(&mut self, pc: usize, sp: usize, fp: usize) -> Capture {
        let generation = rule_generation();
        if self.rule_generation != generation {
            self.rule_generation = generation;
            self.depth = 0;
        }
        let window = self.home.window(sp);
        // The usual case in locals: all new frames are common ones, and the rest is as it was.
        let walked = walk_fast(self, Registers { pc, sp, fp }, window, self.depth, 0);
        if walked.is_met && self.end == End::COMPLETE && self.is_within(&window) {
            let join = walked.candidates - 1;
            self.frames[join].fp = walked.at.fp;
            if self.verify_within(join, &window) == 0 {
                return splice(self, walked.candidates, walked.fresh, false, End::COMPLETE);
            }
        }
        self.capture_slow(walked, window)
    }

    /// Goes on where a first fast walk ended.
    #[inline(never)]
    fn capture_slow(&mut self, walked: Walked, window: Window) -> Capture {
        let Walked { at, candidates, fresh, is_met } = walked;
        Walk { at, window, candidates, fresh, leaps: false }.run(self, is_met)
    }

    /// Whether the slots of all return addresses outward of a frame lie in the window.
    #[inline(always)]
    fn is_within(&self, window: &Window) -> bool {
        self.ascending && window.contains_up_to(self.frames[0].sp)
    }

    /// [`verify`] from `join` outward, where [`Memo::is_within`] holds.
    #[inline(always)]
    fn verify_within(&self, join: usize, window: &Window) -> usize {
        debug_assert!(self.is_within(window));
        verify(&self.frames[..=join], window, |frame| {
            // SAFETY: a return-address slot: one word below a caller's stack pointer, so aligned
            // (`step_to` loaded it); above this frame's stack pointer, where the window starts at
            // the latest, and below the outermost one's (I8), up to which it reaches.
            let word = unsafe { window.load_unchecked(frame.sp.wrapping_sub(8)) };
            word ^ frame.pc
        })
    }
}

/// Where a fast walk ended.
#[derive(Clone, Copy)]
struct Walked {
    /// The frame to go on from; not among the fresh ones.
    at: Registers,
    /// Frames of the memo that may still be met.
    candidates: usize,
    /// How many fresh frames there are.
    fresh: usize,
    /// Whether a frame of the memo, `candidates - 1`, is met.
    is_met: bool,
}

/// Steps outward from `at` as long as the steps are of the common kinds and lead to no frame of
/// the memo.
#[inline(always)]
fn walk_fast(
    memo: &mut Memo,
    mut at: Registers,
    window: Window,
    mut candidates: usize,
    mut fresh: usize,
) -> Walked {
    let mut candidate_sp = candidate_sp(memo, candidates);
    let is_met = loop {
        if at.sp >= candidate_sp {
            // The memo is sorted by stack pointer, but for signals on other stacks, where
            // passing over a frame only costs time.
            while candidate_sp < at.sp {
                candidates -= 1;
                candidate_sp = self::candidate_sp(memo, candidates);
            }
            if candidates > 0 && memo.frames[candidates - 1].is_at(at) {
                break true;
            }
        }
        let Some(stepped) = step_fast(at, &window) else { break false };
        if fresh >= FRAME_COUNT_MAX {
            break false;
        }
        memo.fresh.set(fresh, at, stepped.rule.low_bits());
        fresh += 1;
        at = stepped.registers;
    };
    Walked { at, candidates, fresh, is_met }
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
    /// Whether a step led to a stack pointer that is no higher: from a signal's stack.
    leaps: bool,
}

impl Walk {
    fn run(mut self, memo: &mut Memo, mut is_met: bool) -> Capture {
        loop {
            let end = if is_met {
                self.follow(memo)
            } else {
                let stepped = step(self.at, &mut self.window, &mut memo.home);
                self.note(memo, stepped)
            };
            if let Some(end) = end {
                return splice(memo, self.candidates, self.fresh, self.leaps, end);
            }
            let walked = walk_fast(memo, self.at, self.window, self.candidates, self.fresh);
            (self.at, self.candidates, self.fresh) = (walked.at, walked.candidates, walked.fresh);
            is_met = walked.is_met;
        }
    }

    /// Keeps the frame `at` and goes on to its caller; the end if there is none.
    #[inline(never)]
    fn note(&mut self, memo: &mut Memo, stepped: Result<Stepped, Stop>) -> Option<End> {
        let (rule_bits, end) = match stepped {
            Ok(stepped) => (stepped.rule.low_bits(), None),
            Err(Stop::Null) => {
                self.candidates = 0;
                return Some(End::COMPLETE);
            }
            Err(Stop::Outermost) => (Rule::OUTERMOST.low_bits(), Some(End::COMPLETE)),
            // A later walk may know more and go on from there by the frame pointer.
            Err(stop) => (Rule::GUESS.low_bits(), Some(End::of(stop))),
        };
        if !self.push(memo, self.at, rule_bits) {
            return Some(End::LIMIT_REACHED);
        }
        if end.is_some() {
            self.candidates = 0;
        }
        if let Ok(stepped) = stepped {
            memo.guess_count += u64::from(stepped.rule.kind() == Kind::Guess);
            self.leaps |= stepped.registers.sp <= self.at.sp;
            self.at = stepped.registers;
        }
        end
    }

    /// Adds a fresh frame; false, with no frame of the memo met any more, without room for it.
    #[inline(always)]
    fn push(&mut self, memo: &mut Memo, at: Registers, rule_bits: u8) -> bool {
        if self.fresh >= FRAME_COUNT_MAX {
            self.candidates = 0;
            return false;
        }
        memo.fresh.set(self.fresh, at, rule_bits);
        self.fresh += 1;
        true
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
            index = if in_window {
                memo.verify_within(index, &self.window)
            } else {
                let window = &self.window;
                verify(&memo.frames[..=index], window, |frame| {
                    window.load(frame.sp.wrapping_sub(8)).map_or(1, |word| word ^ frame.pc)
                })
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
            if !self.push(memo, frame.registers(), frame.rule_bits()) {
                return Some(Some(End::LIMIT_REACHED));
            }
        }
        self.candidates = from;
        self.at = memo.frames[from].registers();
        Some(self.note(memo, stepped))
    }
}

/// Puts the `fresh` frames behind the `kept` outermost ones of the memo, which were met again.
///
/// The counts come by themselves, not in the [`Walk`]: copying that would read by pairs what was
/// written by words, which stalls.
#[inline(never)]
fn splice(memo: &mut Memo, kept: usize, fresh_count: usize, leaps: bool, end: End) -> Capture {
    let depth = kept + fresh_count;
    if depth > FRAME_COUNT_MAX {
        return splice_limited(memo, kept, fresh_count, leaps);
    }
    let mut unchanged = kept;
    // The path of return addresses may be the same though something else differs.
    while unchanged < depth.min(memo.depth)
        && memo.frames[unchanged].pc == memo.fresh.pc[depth - 1 - unchanged]
    {
        unchanged += 1;
    }
    let (outer, inner) = memo.frames[..depth].split_at_mut(kept);
    let mut outside = Frame::outside(outer.last());
    let (pc, sp) = (&memo.fresh.pc[..fresh_count], &memo.fresh.sp[..fresh_count]);
    let (fp, rule_bits) = (&memo.fresh.fp[..fresh_count], &memo.fresh.rule_bits[..fresh_count]);
    for (index, slot) in (0..fresh_count).rev().zip(inner) {
        let at = Registers { pc: pc[index], sp: sp[index], fp: fp[index] };
        outside = slot.set(at, rule_bits[index], outside);
    }
    memo.depth = depth;
    memo.end = end;
    memo.ascending = !leaps
        && (memo.ascending
            || memo.frames[..depth].is_sorted_by(|outer, inner| outer.sp > inner.sp));
    memo.check();
    Capture { unchanged, depth, end: end.get() }
}

/// [`splice`] for a stack with more frames than there is room for: drops the outermost ones.
#[cold]
#[inline(never)]
fn splice_limited(memo: &mut Memo, kept: usize, fresh_count: usize, leaps: bool) -> Capture {
    let dropped = kept + fresh_count - FRAME_COUNT_MAX;
    memo.frames.copy_within(dropped..kept, 0);
    // The frames that the kept paths started with are gone, and with them the tags' meaning.
    memo.depth = 0;
    let capture = splice(memo, kept - dropped, fresh_count, leaps, End::LIMIT_REACHED);
    Capture { unchanged: 0, ..capture }
}

/// The stack pointer of the innermost frame that may still be met, above all others without one.
#[inline(always)]
fn candidate_sp(memo: &Memo, candidates: usize) -> usize {
    match candidates.checked_sub(1) {
        Some(index) => memo.frames[index].sp,
        None => usize::MAX,
    }
}

/// The outermost frame of `frames` up to which, from the innermost one, the stack holds the
/// words that the walk loaded when it made them. `differs` compares the return address that leads
/// to a frame: 0 if it is as it was.
#[inline(always)]
fn verify(frames: &[Frame], window: &Window, differs: impl Fn(&Frame) -> usize) -> usize {
    let mut index = frames.len() - 1;
    while index > 0 {
        let run = frames[index].plain_run().min(index);
        let unchanged = unchanged_run(&frames[index - run..index], &differs);
        index -= unchanged;
        if unchanged < run || index == 0 {
            break;
        }
        // The run is over because this frame needs more.
        let (outer, inner) = (&frames[index - 1], &frames[index]);
        let fp_slot = outer.sp.wrapping_sub(inner.fp_words() * 8);
        if inner.goes_by_rule() || window.load(fp_slot) != Some(outer.fp) || differs(outer) != 0 {
            break;
        }
        index -= 1;
    }
    index
}

/// How many of `frames`, from the innermost one, are still returned to.
#[inline(always)]
fn unchanged_run(frames: &[Frame], differs: &impl Fn(&Frame) -> usize) -> usize {
    let mut rest = frames;
    // Four at a time, without a jump between them.
    while let Some((outer, [a, b, c, d])) = rest.split_last_chunk()
        && differs(a) | differs(b) | differs(c) | differs(d) == 0
    {
        rest = outer;
    }
    while let Some((last, outer)) = rest.split_last()
        && differs(last) == 0
    {
        rest = outer;
    }
    frames.len() - rest.len()
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
        if inner.fp_words() != FP_UNCHANGED {
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
