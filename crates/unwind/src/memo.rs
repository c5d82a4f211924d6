//! A thread's memo of its last stack, and the capture that uses it.
//!
//! # Invariants
//! - I7 (design/unwinding#I7): `frames[..depth]` is the last captured stack, outermost first;
//!   each frame but the first was stepped from to the one before it.
//! - I9 (design/unwinding#I9): a frame whose frame pointer matters holds the true one.
//!
//! What the memo stands on is in `words`, what is known of earlier stacks in `trails`.

use crate::frame::{Capture, Frame, FramePointerUse, StackEnd, Truncation};
use crate::path::PathHash;
use crate::registers::Registers;
use crate::resolver::rule_generation;
use crate::rule::{Kind, Rule};
use crate::stack::{Home, Window};
use crate::step::{Stepped, Stop, signal_words, step, step_fast};
use crate::trails::Trails;
use crate::words::Words;

/// The most frames of one stack that are kept.
pub const FRAME_COUNT_MAX: usize = 1024;
/// How far a stack that is not the thread's own is asked about anew for the memo's sake: so much
/// above the stack pointer, and so much below the last one.
const FOREIGN_BYTES_MAX: usize = 32 << 10;
const FOREIGN_DISTANCE_MAX: usize = 4 << 10;

/// The last stack of one thread, so that the next capture walks only what has changed.
///
/// 96 KiB, of which only what deep stacks reach is touched. All zero bytes are a valid empty
/// memo, so it may lie in memory fresh from the kernel. One thread uses it at a time; a signal
/// handler that may interrupt a capture needs a memo of its own.
#[derive(Debug)]
#[repr(C)]
pub struct Memo {
    depth: usize,
    end: End,
    rule_generation: u32,
    home: Home,
    guess_count: u64,
    words: Words,
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
    rule: [u32; FRAME_COUNT_MAX],
}

impl Fresh {
    const NONE: Self = Self {
        pc: [0; FRAME_COUNT_MAX],
        sp: [0; FRAME_COUNT_MAX],
        fp: [0; FRAME_COUNT_MAX],
        rule: [0; FRAME_COUNT_MAX],
    };

    #[inline(always)]
    fn set(&mut self, index: usize, at: Registers, rule: Rule) {
        self.pc[index] = at.pc;
        self.sp[index] = at.sp;
        self.fp[index] = at.fp;
        self.rule[index] = rule.bits() as u32;
    }

    fn get(&self, index: usize) -> (Registers, Rule) {
        let at = Registers { pc: self.pc[index], sp: self.sp[index], fp: self.fp[index] };
        (at, Rule::from_bits(u64::from(self.rule[index])))
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
            home: Home::new(),
            guess_count: 0,
            words: Words::NONE,
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

    /// The path of the whole stack of the last capture.
    #[inline(always)]
    pub fn path(&self) -> PathHash {
        self.frames().last().map_or(PathHash::ROOT, Frame::path)
    }

    /// How many frames were found by frame pointer because no unwind table covers their code.
    #[inline]
    pub fn guess_count(&self) -> u64 {
        self.guess_count
    }

    /// Forgets the last stack; the next capture walks all of it.
    pub fn forget(&mut self) {
        self.depth = 0;
        self.words.clear();
    }

    /// Asks the kernel now about `bytes` of the running thread's stack below the caller, for
    /// captures after [`crate::freeze_modules`], which cannot ask any more.
    pub fn reach_down(&mut self, bytes: usize) {
        self.home.reach_down(Registers::current().sp, bytes);
    }

    /// Forgets the last stack and the thread it was of: the next capture may be another's.
    pub fn change_thread(&mut self) {
        self.forget();
        self.home = Home::new();
    }

    /// Captures the stack of the frame with these registers, which becomes
    /// [`frames`](Self::frames).
    ///
    /// About 1 ns for a frame that is as it was and 10 to 14 ns for another; 1 to 2 us the first time
    /// that the process meets an address. Allocates nothing, and takes a lock only for such
    /// addresses, for a bounded time.
    ///
    /// # Safety
    /// - `registers` are the calling thread's: its caller's state at a call that has not returned
    ///   yet, as [`Registers`] says. `sp` is a multiple of 8.
    #[inline(always)]
    pub unsafe fn capture(&mut self, registers: Registers) -> Capture {
        // SAFETY: the caller's promise.
        let (unchanged, depth) =
            unsafe { self.capture_at(registers.pc, registers.sp, registers.fp) };
        Capture { unchanged, depth, end: self.end.get() }
    }

    /// [`capture`](Self::capture) with the registers in registers: as a structure they would go
    /// through memory, written by words and read by pairs, which stalls for some 10 ns. The answer
    /// is how many frames were kept, and the depth.
    ///
    /// # Safety
    /// - As for [`capture`](Self::capture).
    #[inline(never)]
    unsafe fn capture_at(&mut self, pc: usize, sp: usize, fp: usize) -> (usize, usize) {
        // SAFETY: the caller's promise.
        let captured = unsafe { self.capture_with(Registers { pc, sp, fp }, None) };
        captured.unwrap_or_default()
    }

    /// The path of the stack of the frame with these registers, and whether that is all of it, as
    /// [`capture`](Self::capture) would say; [`frames`](Self::frames) may be another's.
    ///
    /// Some 10 ns and 1 ns a frame where the program has been here not long ago, else as
    /// `capture`.
    ///
    /// # Safety
    /// - As for [`capture`](Self::capture).
    #[inline(always)]
    pub unsafe fn capture_path(
        &mut self,
        trails: &mut Trails,
        registers: Registers,
    ) -> (PathHash, StackEnd) {
        let Registers { pc, sp, fp } = registers;
        if trails.are_worth_it() {
            // SAFETY: the caller's promise.
            let path = unsafe { self.path_at(pc, sp, fp, trails) };
            if let Some(path) = path {
                return (path, StackEnd::Complete);
            }
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.capture_at(pc, sp, fp) };
        }
        (self.path(), self.end.get())
    }

    /// The path by a trail, or none when the stack was captured.
    ///
    /// # Safety
    /// - As for [`capture`](Self::capture).
    #[inline(never)]
    unsafe fn path_at(
        &mut self,
        pc: usize,
        sp: usize,
        fp: usize,
        trails: &mut Trails,
    ) -> Option<PathHash> {
        // SAFETY: the caller's promise.
        unsafe { self.capture_with(Registers { pc, sp, fp }, Some(trails)) }.err()
    }

    /// Captures, or says the path if there is a trail.
    ///
    /// # Safety
    /// - As for [`capture`](Self::capture).
    #[inline(always)]
    unsafe fn capture_with(
        &mut self,
        at: Registers,
        mut trails: Option<&mut Trails>,
    ) -> Result<(usize, usize), PathHash> {
        let generation = rule_generation();
        if self.rule_generation != generation {
            self.rule_generation = generation;
            self.forget();
        }
        let mut window = self.home.window(at.sp);
        let intact = if window.contains_up_to(self.frames[0].sp) {
            // SAFETY: just asked.
            unsafe { self.words.frames_intact(&window) }
        } else {
            self.frames_intact_elsewhere(&mut window)
        };
        if let Some(trails) = &mut trails
            && intact != 0
            && self.end == End::COMPLETE
        {
            // SAFETY: frames are intact only where the window reaches up to the outermost one's
            // stack pointer; it begins at `at.sp`.
            let path = unsafe { trails.find(at, generation, &self.frames, intact, &window) };
            if let Some(path) = path {
                return Err(path);
            }
        }
        let walked = walk_fast(self, at, window, intact, 0);
        // The usual case in locals: all new frames are common ones, and the rest is as it was.
        if walked.is_met
            && self.end == End::COMPLETE
            && walked.candidates + walked.fresh <= FRAME_COUNT_MAX
        {
            let (kept, depth) = splice_common(self, walked.candidates, walked.fresh);
            if let Some(trails) = trails
                && let Some(join) = kept.checked_sub(1)
            {
                let words = self.words.from(usize::from(self.frames[join].words_end));
                trails.keep(generation, self.frames(), join, words);
            }
            return Ok((kept, depth));
        }
        Ok(self.capture_slow(walked, window))
    }

    /// How many frames are intact, on a stack that is not the memo's or not the thread's own.
    #[cold]
    #[inline(never)]
    fn frames_intact_elsewhere(&self, window: &mut Window) -> usize {
        let Some((outermost, innermost)) = self.frames().first().zip(self.frames().last()) else {
            return 0;
        };
        let sp = window.low();
        let is_near = innermost.sp <= sp.saturating_add(FOREIGN_DISTANCE_MAX)
            && outermost.sp.saturating_sub(sp) <= FOREIGN_BYTES_MAX;
        if is_near && outermost.sp > sp && window.reaches(outermost.sp) {
            // SAFETY: just asked.
            unsafe { self.words.frames_intact(window) }
        } else {
            0
        }
    }

    /// Goes on where a first fast walk ended.
    #[inline(never)]
    fn capture_slow(&mut self, mut walked: Walked, mut window: Window) -> (usize, usize) {
        let mut leaps = false;
        loop {
            if walked.is_met {
                if self.still_ends(&walked, &mut window) {
                    return splice(self, walked.candidates, walked.fresh, leaps, self.end);
                }
                // More is to be known of the outer end than the memo has.
                walked.candidates = 0;
            }
            let stepped = step(walked.at, &mut window, &mut self.home);
            if let Some(end) = self.note(&mut walked, stepped, &mut leaps) {
                return splice(self, 0, walked.fresh, leaps, end);
            }
            walked = walk_fast(self, walked.at, window, walked.candidates, walked.fresh);
        }
    }

    /// Whether a stack that has met the memo's ends as that did.
    fn still_ends(&mut self, walked: &Walked, window: &mut Window) -> bool {
        let depth = walked.candidates + walked.fresh;
        match self.end {
            End::COMPLETE => depth <= FRAME_COUNT_MAX,
            End::LIMIT_REACHED => depth == FRAME_COUNT_MAX,
            // Its frame pointer is the true one: the step that found no end would take it (I9).
            end => {
                let stepped = step(self.frames[0].registers(), window, &mut self.home);
                depth <= FRAME_COUNT_MAX && stepped.is_err_and(|stop| End::of(stop) == end)
            }
        }
    }

    /// Keeps the frame that the walk is at and goes on to its caller; the end if there is none,
    /// or no room.
    #[inline(never)]
    fn note(
        &mut self,
        walked: &mut Walked,
        stepped: Result<Stepped, Stop>,
        leaps: &mut bool,
    ) -> Option<End> {
        let (rule, end) = match stepped {
            Ok(stepped) => (stepped.rule, None),
            Err(Stop::Null) => return Some(End::COMPLETE),
            Err(Stop::Outermost) => (Rule::OUTERMOST, Some(End::COMPLETE)),
            // A later walk may know more and go on from there by the frame pointer.
            Err(stop) => (Rule::GUESS, Some(End::of(stop))),
        };
        if walked.fresh >= FRAME_COUNT_MAX {
            return Some(End::LIMIT_REACHED);
        }
        let at = walked.at;
        self.fresh.set(walked.fresh, at, rule);
        walked.fresh += 1;
        if let Ok(Stepped { registers: outside, rule }) = stepped {
            self.guess_count += u64::from(rule.kind() == Kind::Guess);
            // From a signal's stack.
            *leaps |= outside.sp <= at.sp;
            walked.at = outside;
        }
        end
    }
}

/// Where a fast walk ended.
#[derive(Clone, Copy)]
struct Walked {
    /// The frame to go on from; not among the fresh ones.
    at: Registers,
    /// Frames of the memo that may still be met: the outermost so many, all intact.
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
            // A frame that has returned and whose words nobody has overwritten.
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
        memo.fresh.set(fresh, at, stepped.rule);
        fresh += 1;
        at = stepped.registers;
    };
    Walked { at, candidates, fresh, is_met }
}

/// [`splice`] for a stack that is whole and fresh frames that [`walk_fast`] alone has found, behind
/// at least one that was kept.
#[inline(never)]
fn splice_common(memo: &mut Memo, kept: usize, fresh_count: usize) -> (usize, usize) {
    let Memo { frames, words, fresh, .. } = memo;
    let depth = kept + fresh_count;
    let (pc, sp) = (&fresh.pc[..fresh_count], &fresh.sp[..fresh_count]);
    let (fp, rules) = (&fresh.fp[..fresh_count], &fresh.rule[..fresh_count]);
    let (outer, inner) = frames[..depth].split_at_mut(kept);
    let outermost_kept = outer.last().unwrap_or(&Frame::NONE);
    let mut count = usize::from(outermost_kept.words_end);
    if !Words::has_room_for(count, fresh_count) {
        return splice(memo, kept, fresh_count, false, End::COMPLETE);
    }
    let (mut at, mut path) = (outermost_kept.registers(), outermost_kept.path());
    let mut fp_matters = outermost_kept.fp_matters;
    for ((index, slot), owner) in (0..fresh_count).rev().zip(inner).zip(kept..) {
        let rule = Rule::from_bits(u64::from(rules[index]));
        let fp_use = FramePointerUse::of_common(rule);
        words.set(count, at.sp.wrapping_sub(8), at.pc, owner);
        // Overwritten by the next word when it does not count.
        words.set(count + 1, at.sp.wrapping_sub(rule.fp_words() * 8), at.fp, owner);
        count += 1 + usize::from(fp_use.checks(fp_matters));
        at = Registers { pc: pc[index], sp: sp[index], fp: fp[index] };
        path = path.child(at.pc as u64);
        fp_matters = fp_use.matters(fp_matters);
        *slot = Frame::new(at, path, count, fp_matters);
    }
    memo.depth = depth;
    memo.words.end(count, depth);
    memo.check();
    (kept, depth)
}

/// Puts the `fresh` frames behind the `kept` outermost ones of the memo, which were met again;
/// together they are at most [`FRAME_COUNT_MAX`]. The answer is `kept` and the depth.
///
/// The counts come by themselves, not in the [`Walked`]: copying that would read by pairs what was
/// written by words, which stalls.
#[inline(never)]
fn splice(
    memo: &mut Memo,
    kept: usize,
    fresh_count: usize,
    mut leaps: bool,
    end: End,
) -> (usize, usize) {
    let depth = kept + fresh_count;
    let mut outside = memo.frames[..kept].last().copied().unwrap_or(Frame::NONE);
    let mut count = usize::from(outside.words_end);
    // Frames whose words are all kept.
    let mut covered = depth;
    for (index, owner) in (0..fresh_count).rev().zip(kept..) {
        let (at, rule) = memo.fresh.get(index);
        if owner != 0 {
            match set_words(&mut memo.words, count, (at, rule), &outside, owner) {
                Ok(next) => count = next,
                Err(NoRoom) => covered = covered.min(owner),
                Err(Outside) => leaps = true,
            }
        }
        let path = outside.path().child(at.pc as u64);
        let fp_matters = FramePointerUse::of(rule).matters(outside.fp_matters);
        outside = Frame::new(at, path, count, fp_matters);
        memo.frames[owner] = outside;
    }
    (memo.depth, memo.end) = (depth, end);
    if leaps {
        memo.words.clear()
    } else {
        memo.words.end(count, covered)
    }
    memo.check();
    (kept, depth)
}

/// Why a frame's words are not kept.
enum NotKept {
    /// There are too many.
    NoRoom,
    /// They do not lie inside the frame.
    Outside,
}
use NotKept::{NoRoom, Outside};

/// Keeps the words, from number `count` on, that the step from `at` to `outside` loaded; how many
/// there are then.
fn set_words(
    words: &mut Words,
    count: usize,
    (at, rule): (Registers, Rule),
    outside: &Frame,
    owner: usize,
) -> Result<usize, NotKept> {
    if !Words::has_room_for(count, 1) {
        return Err(NoRoom);
    }
    let return_address = (outside.sp.wrapping_sub(8), outside.pc);
    // The frame pointer's comes last.
    let all = match rule.kind() {
        Kind::Signal => signal_words(at, outside.registers()),
        Kind::Realigned => [
            (at.fp.wrapping_sub(rule.cfa_words() * 8), outside.sp),
            return_address,
            (at.fp, outside.fp),
        ],
        _ => {
            let fp_slot = outside.sp.wrapping_sub(rule.fp_words() * 8);
            [return_address, return_address, (fp_slot, outside.fp)]
        }
    };
    let fp_use = FramePointerUse::of(rule);
    let first = usize::from(!fp_use.loads_more);
    let end = 2 + usize::from(fp_use.checks(outside.fp_matters));
    for (index, &(address, value)) in (count..).zip(&all[first..end]) {
        if address < at.sp || address >= outside.sp {
            return Err(Outside);
        }
        words.set(index, address, value, owner);
    }
    Ok(count + end - first)
}

/// The stack pointer of the innermost frame that may still be met, above all others without one.
#[inline(always)]
fn candidate_sp(memo: &Memo, candidates: usize) -> usize {
    match candidates.checked_sub(1) {
        Some(index) => memo.frames[index].sp,
        None => usize::MAX,
    }
}

impl Memo {
    /// Walks the invariants; empty in release builds.
    #[inline(always)]
    fn check(&self) {
        if cfg!(debug_assertions) {
            assert!(self.depth <= FRAME_COUNT_MAX, "I7");
            self.words.check(self.frames());
        }
    }
}
