//! A frame as the memo keeps it, and what a capture answers.

use crate::registers::Registers;
use crate::rule::{Kind, Rule};

/// The frame pointer below this frame decides how the walk goes on outward.
const FP_MATTERS: u16 = 1 << 8;
/// Leaving this frame loads the caller's frame pointer, and the caller needs it.
const CHECKS_FP: u16 = 1 << 9;
/// Leaving this frame takes more than its return address: step by the rule each time.
const BY_RULE: u16 = 1 << 10;
/// The CFA of this frame comes from the frame pointer.
const USES_FP: u16 = 1 << 11;
const FP_WORDS: u16 = 0x1f;

/// One frame of a captured stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Frame {
    pub(crate) pc: usize,
    pub(crate) sp: usize,
    pub(crate) fp: usize,
    /// The caller's own number for the path from the outermost frame to this one, such as a node
    /// of a tree of stacks. Kept as long as that path is unchanged.
    pub tag: u32,
    bits: u16,
    unused: u16,
}

impl Frame {
    pub(crate) const NONE: Self = Self { pc: 0, sp: 0, fp: 0, tag: 0, bits: 0, unused: 0 };

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

    #[inline(always)]
    pub(crate) fn new(at: Registers, rule: Rule) -> Self {
        let kind = rule.kind();
        let by_rule = matches!(kind, Kind::Realigned | Kind::Signal);
        let uses_fp = matches!(kind, Kind::FramePointer | Kind::Realigned | Kind::Guess);
        let bits = rule.fp_words() as u16
            | if by_rule { BY_RULE } else { 0 }
            | if uses_fp { USES_FP } else { 0 };
        Self { pc: at.pc, sp: at.sp, fp: at.fp, tag: 0, bits, unused: 0 }
    }

    /// Where a walk ended: `at` has no caller that we know. Whether a later walk could go on
    /// from there by the frame pointer is `may_go_on`.
    pub(crate) fn last(at: Registers, may_go_on: bool) -> Self {
        let bits = if may_go_on { USES_FP } else { 0 };
        Self { pc: at.pc, sp: at.sp, fp: at.fp, tag: 0, bits, unused: 0 }
    }

    #[inline(always)]
    pub(crate) fn registers(&self) -> Registers {
        Registers { pc: self.pc, sp: self.sp, fp: self.fp }
    }

    /// Computes which frame pointers matter, knowing the caller's frame if there is one.
    #[inline(always)]
    pub(crate) fn settle(&mut self, caller: Option<&Self>) {
        let matters_outside = caller.is_some_and(|caller| caller.bits & FP_MATTERS != 0);
        let loads = self.fp_words() != 0;
        self.bits &= !(FP_MATTERS | CHECKS_FP);
        // A signal's context or a realigned frame is stepped over by its rule each time, which
        // loads the frame pointer afresh.
        let restores = loads || self.bits & BY_RULE != 0;
        if self.bits & USES_FP != 0 || (matters_outside && !restores) {
            self.bits |= FP_MATTERS;
        }
        if loads && matters_outside {
            self.bits |= CHECKS_FP;
        }
    }

    #[inline(always)]
    pub(crate) fn fp_words(&self) -> usize {
        usize::from(self.bits & FP_WORDS)
    }

    #[inline(always)]
    pub(crate) fn fp_matters(&self) -> bool {
        self.bits & FP_MATTERS != 0
    }

    #[inline(always)]
    pub(crate) fn needs_more_than_return_address(&self) -> bool {
        self.bits & (CHECKS_FP | BY_RULE) != 0
    }

    #[inline(always)]
    pub(crate) fn goes_by_rule(&self) -> bool {
        self.bits & BY_RULE != 0
    }

    /// Whether a walk that reached `at` continues as it did from this frame, if the stack
    /// outward is unchanged.
    #[inline(always)]
    pub(crate) fn is_at(&self, at: Registers) -> bool {
        self.pc == at.pc && self.sp == at.sp && (self.fp == at.fp || !self.fp_matters())
    }
}

const _: () = assert!(core::mem::size_of::<Frame>() == 32);

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
    /// How many frames, counted from the outermost, are the same as in the previous capture and
    /// keep their tags. `unchanged == depth` when no new frame was found.
    pub unchanged: usize,
    /// How many frames there are.
    pub depth: usize,
    /// Whether they are all.
    pub end: StackEnd,
}
