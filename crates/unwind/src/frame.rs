//! A frame as the memo keeps it, and what a capture answers.

use crate::registers::Registers;
use crate::rule::{FP_UNCHANGED, Kind, Rule};

/// Beside the kind and `fp_words` of the rule that leads on from the frame (the lower byte):
/// the frame pointer of this frame decides how the walk goes on outward.
const FP_MATTERS: u16 = 1 << 8;
/// Leaving this frame loads the caller's frame pointer, and the caller needs it.
const CHECKS_FP: u16 = 1 << 9;
/// Leaving this frame takes more than its return address: step by the rule each time.
const BY_RULE: u16 = 1 << 10;

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

    /// Makes this the frame at `at`, which the rule with these low bits led on from, or the last
    /// one; the tag stays. `matters_outside` says of the next frame outward whether its frame
    /// pointer matters; the answer says it of this one.
    ///
    /// Without a jump: the kinds of a program's frames follow no pattern that a CPU could learn.
    #[inline(always)]
    pub(crate) fn set(&mut self, at: Registers, rule_bits: u8, matters_outside: bool) -> bool {
        let kind = u32::from(Rule::from_bits(u64::from(rule_bits)).kind_bits());
        let matters_outside = u32::from(matters_outside);
        // A signal's context or a realigned frame is stepped over by its rule each time, which
        // loads the frame pointer afresh.
        let by_rule = (1 << Kind::Realigned as u32 | 1 << Kind::Signal as u32) >> kind & 1;
        let uses_fp = (1 << Kind::FramePointer as u32
            | 1 << Kind::Realigned as u32
            | 1 << Kind::Guess as u32)
            >> kind
            & 1;
        let fp_words = Rule::from_bits(u64::from(rule_bits)).fp_words();
        let loads_fp = u32::from(fp_words > FP_UNCHANGED);
        let passes_fp = (loads_fp | by_rule) ^ 1;
        let fp_matters = uses_fp | passes_fp & matters_outside;
        let bits = u32::from(rule_bits)
            | fp_matters << FP_MATTERS.trailing_zeros()
            | (loads_fp & matters_outside) << CHECKS_FP.trailing_zeros()
            | by_rule << BY_RULE.trailing_zeros();
        (self.pc, self.sp, self.fp, self.bits) = (at.pc, at.sp, at.fp, bits as u16);
        fp_matters != 0
    }

    /// The rule that led on from here, without its CFA.
    #[inline(always)]
    pub(crate) fn rule_bits(&self) -> u8 {
        self.bits as u8
    }

    #[inline(always)]
    pub(crate) fn registers(&self) -> Registers {
        Registers { pc: self.pc, sp: self.sp, fp: self.fp }
    }

    #[inline(always)]
    pub(crate) fn fp_words(&self) -> usize {
        Rule::from_bits(u64::from(self.rule_bits())).fp_words()
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
