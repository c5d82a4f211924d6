//! A frame as the memo keeps it, and what a capture answers.

use crate::path::PathHash;
use crate::registers::Registers;
use crate::rule::{FP_UNCHANGED, Kind, Rule};

/// One frame of a captured stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Frame {
    pub(crate) pc: usize,
    pub(crate) sp: usize,
    pub(crate) fp: usize,
    path: PathHash,
    /// The caller's own number for this path, such as a node of a tree of stacks: 0 in a new
    /// frame, kept as long as the frame is.
    pub tag: u32,
    /// Words of the stack that the steps from this frame and those outward loaded.
    pub(crate) words_end: u16,
    /// Whether the frame pointer of this frame decides how the walk goes on outward.
    pub(crate) fp_matters: bool,
}

/// What a rule means for the frame pointers of a frame and its caller.
#[derive(Clone, Copy)]
pub(crate) struct FramePointerUse {
    /// The step takes the frame pointer.
    uses: bool,
    /// The step loads the caller's one.
    loads: bool,
    /// The step loads more than a return address and a saved frame pointer.
    pub(crate) loads_more: bool,
}

impl FramePointerUse {
    /// By any rule.
    pub(crate) fn of(rule: Rule) -> Self {
        let kind = rule.kind();
        let loads_more = matches!(kind, Kind::Realigned | Kind::Signal);
        Self {
            uses: matches!(kind, Kind::FramePointer | Kind::Realigned | Kind::Guess),
            loads: loads_more || rule.fp_words() > FP_UNCHANGED,
            loads_more,
        }
    }

    /// By a rule of the two common kinds. Without a jump: the kinds of a program's frames follow no
    /// pattern that a CPU could learn.
    #[inline(always)]
    pub(crate) fn of_common(rule: Rule) -> Self {
        debug_assert!(rule.base_if_common().is_some());
        Self {
            uses: rule.bits() & Kind::FramePointer as u64 != 0,
            loads: rule.fp_words() != FP_UNCHANGED,
            loads_more: false,
        }
    }

    /// Whether the caller's frame pointer is one of the words that the walk outward depends on.
    #[inline(always)]
    pub(crate) fn checks(self, matters_outside: bool) -> bool {
        self.loads & matters_outside
    }

    /// Whether the frame's own frame pointer decides how the walk goes on.
    #[inline(always)]
    pub(crate) fn matters(self, matters_outside: bool) -> bool {
        self.uses | (!self.loads & matters_outside)
    }
}

const _: () = assert!(Kind::StackPointer as u64 & Kind::FramePointer as u64 == 0);

impl Frame {
    pub(crate) const NONE: Self =
        Self { pc: 0, sp: 0, fp: 0, path: PathHash::ROOT, tag: 0, words_end: 0, fp_matters: false };

    /// The frame at `at`, the innermost one of `path`; the steps from it and outward loaded
    /// `words` words.
    #[inline(always)]
    pub(crate) fn new(at: Registers, path: PathHash, words: usize, fp_matters: bool) -> Self {
        let Registers { pc, sp, fp } = at;
        Self { pc, sp, fp, path, tag: 0, words_end: words as u16, fp_matters }
    }

    /// The address that execution continues at. The byte before it belongs to the instruction
    /// that was being executed (the call), so look up symbols by `return_address() - 1`.
    #[inline]
    pub fn return_address(&self) -> usize {
        self.pc
    }

    /// The stack pointer when execution continues there: the end of the callee's frame.
    #[inline]
    pub fn stack_pointer(&self) -> usize {
        self.sp
    }

    /// The path of return addresses from the outermost frame to this one, both included.
    #[inline]
    pub fn path(&self) -> PathHash {
        self.path
    }

    #[inline(always)]
    pub(crate) fn registers(&self) -> Registers {
        Registers { pc: self.pc, sp: self.sp, fp: self.fp }
    }

    /// Whether a walk that reached `at` continues as it did from this frame, if the stack
    /// outward is unchanged.
    #[inline(always)]
    pub(crate) fn is_at(&self, at: Registers) -> bool {
        self.pc == at.pc && self.sp == at.sp && (self.fp == at.fp || !self.fp_matters)
    }
}

const _: () = assert!(core::mem::size_of::<Frame>() == 40);

/// Why a stack is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Truncation {
    /// No unwind table covers an address, and the frame pointer did not lead further.
    NoRule,
    /// There are more frames than [`FRAME_COUNT_MAX`](crate::FRAME_COUNT_MAX); the innermost
    /// ones were kept.
    LimitReached,
    /// A frame points out of the stack.
    OutOfStack,
    /// A frame's caller does not lie above it.
    Corrupt,
    /// An address was met for the first time while another thread held the module list for long
    /// (it is unloading modules), or inside a signal that interrupted the same work.
    Busy,
}

/// How the outer end of a stack was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackEnd {
    /// The last frame is the outermost: the start of the program, a thread or a coroutine.
    Complete,
    /// There are more frames.
    Truncated(Truncation),
}

/// What [`Memo::capture`](crate::Memo::capture) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capture {
    /// How many frames, counted from the outermost, were met again as they were in the previous
    /// capture. `unchanged == depth` when no new frame was found.
    pub unchanged: usize,
    /// How many frames there are.
    pub depth: usize,
    /// Whether they are all.
    pub end: StackEnd,
}
