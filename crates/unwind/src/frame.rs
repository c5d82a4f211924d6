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
    /// How many steps outward from here take no more than a return address each; fewer if there
    /// are not so many frames.
    plain_run: u16,
}

/// What a frame needs to know of the next one outward.
#[derive(Clone, Copy)]
pub(crate) struct Outside {
    /// Whether its frame pointer decides how the walk goes on.
    fp_matters: bool,
    plain_run: u16,
}

/// `Frame::bits` by whether the frame pointer matters outside and by the rule's low bits.
///
/// A table, so that there is no jump: the kinds of a program's frames follow no pattern that a
/// CPU could learn.
static BITS: [[u16; 256]; 2] = {
    let mut table = [[0; 256]; 2];
    let mut rule_bits = 0;
    while rule_bits < 256 {
        table[0][rule_bits] = bits_of(rule_bits as u8, false);
        table[1][rule_bits] = bits_of(rule_bits as u8, true);
        rule_bits += 1;
    }
    table
};

/// The bits of a frame that the rule with these low bits leads on from, or which is the last one.
const fn bits_of(rule_bits: u8, matters_outside: bool) -> u16 {
    let rule = Rule::from_bits(rule_bits as u64);
    let kind = rule.kind();
    // A signal's context or a realigned frame is stepped over by its rule each time, which loads
    // the frame pointer afresh.
    let by_rule = matches!(kind, Kind::Realigned | Kind::Signal);
    let uses_fp = matches!(kind, Kind::FramePointer | Kind::Realigned | Kind::Guess);
    let loads_fp = rule.fp_words() > FP_UNCHANGED;
    let passes_fp = !(loads_fp || by_rule);
    let mut bits = rule_bits as u16;
    if uses_fp || passes_fp && matters_outside {
        bits |= FP_MATTERS;
    }
    if loads_fp && matters_outside {
        bits |= CHECKS_FP;
    }
    if by_rule {
        bits |= BY_RULE;
    }
    bits
}

impl Frame {
    pub(crate) const NONE: Self = Self { pc: 0, sp: 0, fp: 0, tag: 0, bits: 0, plain_run: 0 };

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
    /// one; the tag stays. The answer is what the next frame inward needs to know of this one.
    #[inline(always)]
    pub(crate) fn set(&mut self, at: Registers, rule_bits: u8, outside: Outside) -> Outside {
        let bits = BITS[usize::from(outside.fp_matters)][usize::from(rule_bits)];
        let is_plain = bits & (CHECKS_FP | BY_RULE) == 0;
        let plain_run = if is_plain { outside.plain_run + 1 } else { 0 };
        (self.pc, self.sp, self.fp) = (at.pc, at.sp, at.fp);
        (self.bits, self.plain_run) = (bits, plain_run);
        Outside { fp_matters: bits & FP_MATTERS != 0, plain_run }
    }

    /// What the next frame inward needs to know of this one; of none for the outermost.
    #[inline(always)]
    pub(crate) fn outside(frame: Option<&Self>) -> Outside {
        frame.map_or(Outside { fp_matters: false, plain_run: 0 }, |frame| Outside {
            fp_matters: frame.fp_matters(),
            plain_run: frame.plain_run,
        })
    }

    /// How many steps outward from here take no more than a return address each; there may be
    /// fewer frames.
    #[inline(always)]
    pub(crate) fn plain_run(&self) -> usize {
        usize::from(self.plain_run)
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
