//! The process-wide cache from return address to rule: one load a look-up, rarely two.
//!
//! An address has a place of its own and its neighbour's in the same pair. A new rule takes its own
//! place; what was there moves to the neighbour. So two addresses of one place do not put each
//! other out again and again, which is what misses were made of when each had one place.
//!
//! # Invariants
//! - I1 (design/unwinding#I1): address to (pair, tag) is a bijection on 47 bits, so an entry
//!   whose tag fits was stored for exactly this address.
//! - I2: entries are written only under the resolver's lock, so a rule made before code was
//!   unmapped cannot be stored after the cache was cleared for it.
//!
//! Source for multiplying by an odd constant: Knuth, TAOCP volume 3, section 6.4.

use heapwright_sync::atomic::{AtomicU64, Ordering};

use crate::rule::{RULE_BITS, Rule};

const PAIR_BITS: u32 = 15;
const INDEX_BITS: u32 = PAIR_BITS + 1;
const ENTRY_COUNT: usize = 1 << INDEX_BITS;
/// User-space addresses on x86_64 without five-level paging.
const ADDRESS_BITS: u32 = 47;
/// 2^47 divided by the golden ratio, made odd.
const SPREAD: u64 = 0x4f1b_bcdc_bfa5;

/// The cache: 512 KiB of zeroes, of which only what is used takes memory.
#[repr(align(4096))]
pub(crate) struct RuleCache {
    entries: [AtomicU64; ENTRY_COUNT],
}

impl RuleCache {
    pub(crate) const fn new() -> Self {
        Self { entries: [const { AtomicU64::new(0) }; ENTRY_COUNT] }
    }

    /// The product mod 2^47 in the upper 47 bits: pair above, tag below it. The first bit of the
    /// tag also says which of the pair is the address's own place.
    #[inline(always)]
    fn spread(pc: usize) -> u64 {
        (pc as u64).wrapping_mul(SPREAD << (64 - ADDRESS_BITS))
    }

    /// The rule stored for `pc`, or the empty one. One load from the table when it is in its own
    /// place.
    #[inline(always)]
    pub(crate) fn get(&self, pc: usize) -> Rule {
        let spread = Self::spread(pc);
        let index = (spread >> (64 - INDEX_BITS)) as usize;
        // Relaxed: an entry is whole in one word and publishes nothing else.
        let rule = self.entries[index].load(Ordering::Relaxed) ^ (spread << PAIR_BITS);
        // The second part keeps addresses of 48 bits and more from meeting their lower parts.
        let foreign = (rule | (pc as u64) >> (ADDRESS_BITS - RULE_BITS)) >> RULE_BITS;
        if foreign == 0 { Rule::from_bits(rule) } else { self.get_beside(pc) }
    }

    /// [`RuleCache::get`] from the neighbour's place.
    #[cold]
    #[inline(never)]
    fn get_beside(&self, pc: usize) -> Rule {
        let spread = Self::spread(pc);
        let index = (spread >> (64 - INDEX_BITS)) as usize ^ 1;
        // Relaxed: as in `get`.
        let rule = self.entries[index].load(Ordering::Relaxed) ^ (spread << PAIR_BITS);
        let foreign = rule >> RULE_BITS != 0 || pc as u64 >> ADDRESS_BITS != 0;
        if foreign { Rule::EMPTY } else { Rule::from_bits(rule) }
    }

    /// Stores the rule for `pc`, which has none, in its own place; what is there goes to the
    /// neighbour's, and what is there is forgotten. Only under the lock (I2).
    pub(crate) fn insert(&self, pc: usize, rule: Rule) {
        if pc as u64 >> ADDRESS_BITS != 0 {
            return;
        }
        let spread = Self::spread(pc);
        let index = (spread >> (64 - INDEX_BITS)) as usize;
        debug_assert!(rule.bits() >> RULE_BITS == 0);
        // Relaxed: as in `get`. Who looks for the old one in between finds it twice or, if it
        // looked beside before it was there, not at all, and asks the resolver.
        let old = self.entries[index].load(Ordering::Relaxed);
        if old != 0 {
            self.entries[index ^ 1].store(old, Ordering::Relaxed);
        }
        self.entries[index].store((spread << PAIR_BITS) | rule.bits(), Ordering::Relaxed);
        debug_assert_eq!(self.get(pc), rule, "I1");
    }

    /// Forgets every rule, or only the negative ones, and says whether there were any. Only
    /// under the lock (I2).
    ///
    /// Some 20 to 60 us: it passes over all entries.
    pub(crate) fn clear(&self, negative_only: bool) -> bool {
        let mut any = false;
        for entry in &self.entries {
            // Relaxed: as in `get`.
            let bits = entry.load(Ordering::Relaxed);
            let rule = Rule::from_bits(bits & ((1 << RULE_BITS) - 1));
            if bits != 0 && (!negative_only || rule.is_negative()) {
                entry.store(0, Ordering::Relaxed);
                any = true;
            }
        }
        any
    }
}

const _: () = assert!(SPREAD % 2 == 1, "an odd factor is invertible, hence I1");
const _: () = assert!(SPREAD >> ADDRESS_BITS == 0);
const _: () = assert!(ADDRESS_BITS - PAIR_BITS + RULE_BITS == 64);

#[cfg(test)]
mod tests {
    use std::boxed::Box;

    use super::{INDEX_BITS, RuleCache};
    use crate::rule::{Kind, Rule};

    static CACHE: RuleCache = RuleCache::new();

    #[test]
    fn two_addresses_of_one_place_are_both_known() {
        let cache = Box::new(RuleCache::new());
        let rule = |n: i64| Rule::new(Kind::StackPointer, 8 * n, 0).expect("fits");
        let place = |pc: usize| RuleCache::spread(pc) >> (64 - INDEX_BITS);
        let first = 0x40_1000;
        let mut same = (first + 1..).filter(|&pc| place(pc) == place(first));
        let (second, third) = (same.next().expect("many"), same.next().expect("many"));
        cache.insert(first, rule(1));
        cache.insert(second, rule(2));
        assert_eq!((cache.get(first), cache.get(second)), (rule(1), rule(2)));
        cache.insert(third, rule(3));
        // The oldest one has gone.
        assert_eq!(cache.get(first), Rule::EMPTY);
        assert_eq!((cache.get(second), cache.get(third)), (rule(2), rule(3)));
        assert_eq!(cache.get(second + (1 << 47)), Rule::EMPTY, "48 bits");
    }

    #[test]
    fn an_address_finds_its_own_rule_only() {
        let rule = |n: usize| Rule::new(Kind::StackPointer, 8 * (n as i64 + 1), 0).expect("fits");
        let addresses = [0x7fff_1234_5678_usize, 0x5555_5555_0001, 0x40_1000, 0x7fff_1234_5679];
        for (n, &address) in addresses.iter().enumerate() {
            CACHE.insert(address, rule(n));
        }
        for (n, &address) in addresses.iter().enumerate() {
            assert_eq!(CACHE.get(address), rule(n));
            assert_eq!(CACHE.get(address + (1 << 47)), Rule::EMPTY, "48 bits");
            assert_eq!(CACHE.get(address ^ 0x10), Rule::EMPTY);
        }
        assert_eq!(CACHE.get(0), Rule::EMPTY);
        CACHE.insert(0x1000, Rule::GUESS);
        assert!(CACHE.clear(true));
        assert_eq!(CACHE.get(0x1000), Rule::EMPTY);
        assert_eq!(CACHE.get(addresses[0]), rule(0));
        assert!(CACHE.clear(false));
        assert_eq!(CACHE.get(addresses[0]), Rule::EMPTY);
    }
}
