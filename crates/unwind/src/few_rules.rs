//! A small table from return address to rule, for programs whose stacks are walked seldom.
//!
//! The process-wide cache spreads its entries over 512 KiB, so that some hundred rules touch nearly
//! all of its pages; here they lie in 16 KiB. An entry is two words, so a look-up costs a little
//! more, and takes the walk's slower way.
//!
//! # Invariants
//! - An entry's rule is that of its address whenever its address is not 0. Written only under the
//!   resolver's lock (I2 of `rule_cache`).

use heapwright_sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use crate::rule::Rule;

const INDEX_BITS: u32 = 10;
/// 2^64 divided by the golden ratio, made odd.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// An address, 0 while the rule changes, and its rule.
struct Entry {
    pc: AtomicUsize,
    rule: AtomicU64,
}

impl Entry {
    const fn new() -> Self {
        Self { pc: AtomicUsize::new(0), rule: AtomicU64::new(0) }
    }
}

/// The table; all zeroes at the start.
pub(crate) struct FewRules {
    entries: [Entry; 1 << INDEX_BITS],
}

impl FewRules {
    pub(crate) const fn new() -> Self {
        Self { entries: [const { Entry::new() }; 1 << INDEX_BITS] }
    }

    fn entry(&self, pc: usize) -> &Entry {
        let index = (pc as u64).wrapping_mul(SPREAD) >> (u64::BITS - INDEX_BITS);
        &self.entries[index as usize]
    }

    /// The rule stored for `pc`, or the empty one.
    pub(crate) fn get(&self, pc: usize) -> Rule {
        let entry = self.entry(pc);
        // Acquire: pairs with the Release in `set`; the rule is this address's or a later one's.
        if entry.pc.load(Ordering::Acquire) != pc {
            return Rule::EMPTY;
        }
        let bits = entry.rule.load(Ordering::Relaxed);
        // Acquire: if the rule is a later one's, the address that was taken away before is seen.
        fence(Ordering::Acquire);
        if entry.pc.load(Ordering::Relaxed) == pc { Rule::from_bits(bits) } else { Rule::EMPTY }
    }

    /// Stores the rule for `pc` in place of another address's. Only under the lock.
    pub(crate) fn insert(&self, pc: usize, rule: Rule) {
        Self::set(self.entry(pc), pc, rule.bits());
    }

    fn set(entry: &Entry, pc: usize, bits: u64) {
        entry.pc.store(0, Ordering::Relaxed);
        // Release: pairs with the fence in `get`: who sees the new rule sees that the old address
        // is gone.
        fence(Ordering::Release);
        entry.rule.store(bits, Ordering::Relaxed);
        // Release: pairs with the Acquire in `get`.
        entry.pc.store(pc, Ordering::Release);
    }

    /// Forgets every rule, or only the negative ones, and says whether there were any. Only under
    /// the lock.
    pub(crate) fn clear(&self, negative_only: bool) -> bool {
        let mut any = false;
        for entry in &self.entries {
            let is_meant = || Rule::from_bits(entry.rule.load(Ordering::Relaxed)).is_negative();
            if entry.pc.load(Ordering::Relaxed) != 0 && (!negative_only || is_meant()) {
                entry.pc.store(0, Ordering::Relaxed);
                any = true;
            }
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;

    use super::FewRules;
    use crate::rule::{Kind, Rule};

    #[test]
    fn an_address_finds_its_own_rule_until_it_is_forgotten() {
        let few = Box::new(FewRules::new());
        let rule = |n: i64| Rule::new(Kind::StackPointer, 8 * n, 0).expect("fits");
        assert!(!few.clear(false));
        assert_eq!(few.get(0x40_1000), Rule::EMPTY);
        few.insert(0x40_1000, rule(1));
        few.insert(0x7fff_1234_5678, Rule::GUESS);
        assert_eq!((few.get(0x40_1000), few.get(0x7fff_1234_5678)), (rule(1), Rule::GUESS));
        assert_eq!(few.get(0x40_1001), Rule::EMPTY);
        let mut same =
            (0x40_1001..).filter(|&pc| core::ptr::eq(few.entry(pc), few.entry(0x40_1000)));
        let other = same.next().expect("many");
        few.insert(other, rule(2));
        assert_eq!((few.get(0x40_1000), few.get(other)), (Rule::EMPTY, rule(2)));
        assert!(few.clear(true));
        assert_eq!((few.get(0x7fff_1234_5678), few.get(other)), (Rule::EMPTY, rule(2)));
        assert!(few.clear(false));
        assert_eq!(few.get(other), Rule::EMPTY);
    }
}
