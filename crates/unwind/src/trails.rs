//! Trails: the inner parts of earlier stacks, for programs that return to the same ones.
//!
//! A memo has one stack, the last; a program that allocates from a few places in turn walks and
//! renews the memo each time. A trail keeps what such a walk found: from a state (pc, sp, fp) by
//! these words to a frame of the memo's, which had this path. When all of that is so again, the
//! whole path is known without a step by a rule.
//!
//! # Invariants
//! - I12 (design/unwinding#I12): the words of a trail are all that the steps from its state to its
//!   join loaded and that matter, and lie between the two stack pointers; places behind the last
//!   word repeat it.
//! - I13: which words matter depends on the rules outward of the join only, hence, within a
//!   generation of rules, on the path of the join.

use crate::frame::Frame;
use crate::path::PathHash;
use crate::registers::Registers;
use crate::stack::Window;
use crate::words::{STRIDE, Word};

const TRAIL_BITS: u32 = 8;
const TRAIL_COUNT: usize = 1 << TRAIL_BITS;
/// Words of a trail; a longer way is not kept. Three quarters of a trail's 256 bytes.
const WORD_COUNT_MAX: usize = 12;
const _: () = assert!(WORD_COUNT_MAX.is_multiple_of(STRIDE));

/// Captures by which it is judged whether trails pay.
const TRIAL: u32 = 1024;
/// Captures without trails after a trial that says no.
const PAUSE: u32 = 128 * TRIAL;

/// The way from a state to a frame of the memo.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Trail {
    pc: usize,
    sp: usize,
    fp: usize,
    join_sp: usize,
    join_fp: usize,
    join_path: PathHash,
    path: PathHash,
    rule_generation: u32,
    join: u16,
    strides: u8,
    fp_matters: bool,
    words: [Word; WORD_COUNT_MAX],
}

const _: () = assert!(core::mem::size_of::<Trail>() == 256);

/// The trails of one thread.
///
/// 64 KiB, of which only what is used is touched. All zero bytes are valid: no trails. Where fewer
/// than half of the captures find one, no more is looked for until much later.
#[derive(Debug)]
#[repr(C)]
pub struct Trails {
    /// Captures until the next judgement.
    left: u32,
    /// How many of the trial's captures found a trail.
    found: u32,
    /// Whether trails are looked for; if not, this is a pause, as at first.
    is_trial: bool,
    trails: [Trail; TRAIL_COUNT],
}

impl Trails {
    /// No trails.
    pub const fn new() -> Self {
        const NONE: Trail = Trail {
            pc: 0,
            sp: 0,
            fp: 0,
            join_sp: 0,
            join_fp: 0,
            join_path: PathHash::ROOT,
            path: PathHash::ROOT,
            rule_generation: 0,
            join: 0,
            strides: 0,
            fp_matters: false,
            words: [Word::NONE; WORD_COUNT_MAX],
        };
        Self { left: 0, found: 0, is_trial: false, trails: [NONE; TRAIL_COUNT] }
    }

    /// Whether this capture is to look for a trail, and to keep one when it finds none.
    #[inline(always)]
    pub(crate) fn are_worth_it(&mut self) -> bool {
        if self.left == 0 {
            self.judge();
        }
        self.left -= 1;
        self.is_trial
    }

    #[cold]
    #[inline(never)]
    fn judge(&mut self) {
        self.is_trial = !self.is_trial || self.found * 2 >= TRIAL;
        self.left = if self.is_trial { TRIAL } else { PAUSE };
        self.found = 0;
    }

    #[inline(always)]
    fn place(pc: usize, sp: usize) -> usize {
        let mixed = (pc ^ sp.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed >> (usize::BITS - TRAIL_BITS)
    }

    /// The path of the whole stack at `at`, when there is a trail from there to one of `frames`, of
    /// which the first `intact` are as they were.
    ///
    /// # Safety
    /// - `window` reaches up to the outermost frame's stack pointer; `at.sp` lies in it.
    #[inline(always)]
    pub(crate) unsafe fn find(
        &mut self,
        at: Registers,
        rule_generation: u32,
        frames: &[Frame],
        intact: usize,
        window: &Window,
    ) -> Option<PathHash> {
        let trail = &self.trails[Self::place(at.pc, at.sp)];
        let is_here = trail.pc == at.pc
            && trail.sp == at.sp
            && trail.rule_generation == rule_generation
            && (trail.fp == at.fp || !trail.fp_matters);
        let join = usize::from(trail.join);
        if !is_here || join >= intact {
            return None;
        }
        let frame = frames.get(join)?;
        let meets = frame.path() == trail.join_path
            && frame.sp == trail.join_sp
            && (frame.fp == trail.join_fp || !frame.fp_matters);
        if !meets {
            return None;
        }
        let mut differs = 0;
        for words in trail.words.chunks_exact(STRIDE).take(usize::from(trail.strides)) {
            for word in words {
                // SAFETY: between the two stack pointers (I12), of which one is that of `at`, the
                // other one of a frame that lies no further outward than the outermost one.
                differs |= unsafe { window.load_unchecked(word.address) } ^ word.value;
            }
        }
        if differs != 0 {
            return None;
        }
        self.found += 1;
        Some(trail.path)
    }

    /// Keeps the way from the innermost of `frames`, which has this frame pointer, to number
    /// `join`, which loaded `words`.
    #[inline(always)]
    pub(crate) fn keep(
        &mut self,
        rule_generation: u32,
        frames: &[Frame],
        join: usize,
        words: &[Word],
    ) {
        let (Some(from), Some(to)) = (frames.last(), frames.get(join)) else { return };
        let Some(&last) = words.last() else { return };
        if words.len() > WORD_COUNT_MAX {
            return;
        }
        let trail = &mut self.trails[Self::place(from.pc, from.sp)];
        (trail.pc, trail.sp, trail.fp) = (from.pc, from.sp, from.fp);
        (trail.join_sp, trail.join_fp) = (to.sp, to.fp);
        (trail.join_path, trail.path) = (to.path(), from.path());
        trail.rule_generation = rule_generation;
        trail.join = join as u16;
        trail.strides = words.len().div_ceil(STRIDE) as u8;
        trail.fp_matters = from.fp_matters;
        trail.words[..words.len()].copy_from_slice(words);
        let end = words.len().next_multiple_of(STRIDE);
        trail.words[words.len()..end].fill(last);
    }
}

impl Default for Trails {
    fn default() -> Self {
        Self::new()
    }
}
