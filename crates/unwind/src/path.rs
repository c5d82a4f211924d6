//! The hash of a call path, which names it for as long as the process runs.
#![forbid(unsafe_code)]

/// A hash of the words of a path, outermost first: the return addresses of a stack, and what a
/// caller adds to them.
///
/// 64 bits without a key: two paths of one process are equal when their hashes are, but for one
/// chance in 2^64 a pair; nobody may rely on it against an adversary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct PathHash(u64);

impl PathHash {
    /// The path without words.
    pub const ROOT: Self = Self(0x243f_6a88_85a3_08d3);

    /// The path with `word` added inside. Two multiplications.
    ///
    /// ```
    /// use heapwright_unwind::PathHash;
    ///
    /// let outer = PathHash::ROOT.child(1);
    /// assert_ne!(outer.child(2), PathHash::ROOT.child(2).child(1));
    /// ```
    #[inline(always)]
    pub const fn child(self, word: u64) -> Self {
        // The product of a 64-bit multiplication folded by its high half: every bit of both
        // inputs reaches every bit (Moremur, wyhash).
        let word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let product = (self.0 ^ word) as u128 * 0xa076_1d64_78bd_642f;
        Self(product as u64 ^ (product >> 64) as u64)
    }

    /// The hash.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.0
    }
}
