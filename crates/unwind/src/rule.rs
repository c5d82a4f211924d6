//! How to step from one frame to its caller, in 32 bits.
#![forbid(unsafe_code)]

/// Bits of a packed rule; the rest of a cache entry is the tag.
pub(crate) const RULE_BITS: u32 = 32;
const KIND_BITS: u32 = 3;
const FP_WORDS_BITS: u32 = 5;
const FP_WORDS_SHIFT: u32 = KIND_BITS;
const CFA_WORDS_SHIFT: u32 = KIND_BITS + FP_WORDS_BITS;
/// The value of `fp_words` for a frame pointer that is unchanged: the distance of the return
/// address, so that a load from there is always allowed.
pub(crate) const FP_UNCHANGED: usize = 1;
const CFA_WORDS_LIMIT: usize = 1 << (RULE_BITS - CFA_WORDS_SHIFT);

/// How the canonical frame address (CFA: the stack pointer after the return) is found. The
/// return address lies one word below it except where a kind says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Kind {
    /// No rule is stored.
    Empty = 0,
    /// CFA = stack pointer + `cfa_words`.
    StackPointer = 1,
    /// CFA = frame pointer + `cfa_words`.
    FramePointer = 2,
    /// CFA = the word `cfa_words` below the frame pointer, the caller's frame pointer is where
    /// the frame pointer points: what gcc writes for functions that realign their stack.
    Realigned = 3,
    /// The outermost frame: its return address is said to be undefined.
    Outermost = 4,
    /// A signal handler's return: the kernel's context lies at the stack pointer.
    Signal = 5,
    /// No unwind table covers the address: step by frame pointer. `cfa_words` is 1 inside a
    /// module, 0 in code without a file (JIT).
    Guess = 6,
    /// There is a table but the rule is of a kind that we do not evaluate.
    Unsupported = 7,
}

/// A packed rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule(u64);

impl Rule {
    pub(crate) const OUTERMOST: Self = Self(Kind::Outermost as u64);
    pub(crate) const SIGNAL: Self = Self(Kind::Signal as u64);
    pub(crate) const UNSUPPORTED: Self = Self(Kind::Unsupported as u64);
    pub(crate) const GUESS_IN_MODULE: Self =
        Self(Kind::Guess as u64 | 1 << CFA_WORDS_SHIFT | 2 << FP_WORDS_SHIFT);
    pub(crate) const GUESS: Self = Self(Kind::Guess as u64 | 2 << FP_WORDS_SHIFT);
    /// No rule.
    pub(crate) const EMPTY: Self = Self(Kind::Empty as u64);

    /// A rule of `kind` with the CFA `cfa_bytes` from its base, and the caller's frame pointer
    /// saved `fp_below_cfa_bytes` below the CFA (0: not saved). None when a number does not fit,
    /// is no multiple of 8, or points outside the frame.
    pub(crate) fn new(kind: Kind, cfa_bytes: i64, fp_below_cfa_bytes: i64) -> Option<Self> {
        let cfa_words = words(cfa_bytes, CFA_WORDS_LIMIT)?;
        let fp_words = match words(fp_below_cfa_bytes, 1 << FP_WORDS_BITS)? {
            0 => FP_UNCHANGED,
            // That slot holds the return address.
            1 => return None,
            fp_words => fp_words,
        };
        let sound = match kind {
            // The slots must lie at or above the stack pointer: at least the return address's.
            Kind::StackPointer => cfa_words >= 1 && fp_words <= cfa_words,
            Kind::FramePointer => true,
            Kind::Realigned => fp_words == FP_UNCHANGED,
            _ => false,
        };
        let bits = kind as u64
            | (fp_words as u64) << FP_WORDS_SHIFT
            | (cfa_words as u64) << CFA_WORDS_SHIFT;
        sound.then_some(Self(bits))
    }

    /// The rule with these bits, as [`Rule::bits`] gave them.
    #[inline(always)]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline(always)]
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub(crate) const fn kind(self) -> Kind {
        match self.0 & ((1 << KIND_BITS) - 1) {
            0 => Kind::Empty,
            1 => Kind::StackPointer,
            2 => Kind::FramePointer,
            3 => Kind::Realigned,
            4 => Kind::Outermost,
            5 => Kind::Signal,
            6 => Kind::Guess,
            _ => Kind::Unsupported,
        }
    }

    /// For the two common kinds, which register the CFA is counted from, as a mask: none of the
    /// bits for the stack pointer, all for the frame pointer.
    #[inline(always)]
    pub(crate) fn base_if_common(self) -> Option<usize> {
        let kind = self.0 & ((1 << KIND_BITS) - 1);
        let is_common = kind.wrapping_sub(Kind::StackPointer as u64) < 2;
        is_common.then(|| (kind as usize >> 1).wrapping_neg())
    }

    /// Words between the CFA and the slot of the caller's frame pointer; [`FP_UNCHANGED`] when
    /// the frame pointer is unchanged.
    #[inline(always)]
    pub(crate) const fn fp_words(self) -> usize {
        (self.0 >> FP_WORDS_SHIFT) as usize & ((1 << FP_WORDS_BITS) - 1)
    }

    #[inline(always)]
    pub(crate) fn cfa_words(self) -> usize {
        (self.0 >> CFA_WORDS_SHIFT) as usize
    }

    /// Whether this rule is only known to hold until new code is mapped.
    pub(crate) fn is_negative(self) -> bool {
        matches!(self.kind(), Kind::Guess | Kind::Unsupported)
    }
}

fn words(bytes: i64, limit: usize) -> Option<usize> {
    let bytes = usize::try_from(bytes).ok()?;
    (bytes.is_multiple_of(8) && bytes / 8 < limit).then_some(bytes / 8)
}

const _: () = assert!(Kind::StackPointer as u64 == 1 && Kind::FramePointer as u64 == 2);
const _: () = assert!(RULE_BITS + 32 == 64, "a tag of 32 bits fits beside a rule");

#[cfg(test)]
mod tests {
    use super::{Kind, RULE_BITS, Rule};

    #[test]
    fn packing_keeps_every_field() {
        let rule = Rule::new(Kind::StackPointer, 0x20_0000, 248).expect("fits");
        assert_eq!(rule.kind(), Kind::StackPointer);
        assert_eq!(rule.cfa_words(), 0x4_0000);
        assert_eq!(rule.fp_words(), 31);
        assert_eq!(rule.bits() >> RULE_BITS, 0);
        assert_eq!(Rule::from_bits(rule.bits()), rule);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Rule::new(Kind::StackPointer, 12, 0).is_none());
        assert!(Rule::new(Kind::StackPointer, 0, 0).is_none());
        assert!(Rule::new(Kind::StackPointer, 16, 24).is_none());
        assert!(Rule::new(Kind::StackPointer, 16, 8).is_none());
        assert!(Rule::new(Kind::FramePointer, 16, 256).is_none());
        assert!(Rule::new(Kind::StackPointer, 8 << 25, 0).is_none());
        assert!(Rule::new(Kind::FramePointer, -8, 0).is_none());
    }
}
