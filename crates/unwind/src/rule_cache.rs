//! The process-wide cache from return address to rule: direct-mapped, one load a look-up.
//!
//! # Invariants
//! - I1 (design/unwinding#I1): address to (index, tag) is a bijection on 47 bits, so an entry
//!   whose tag fits was stored for exactly this address.
//! - I2: entries are written only under the resolver's lock, so a rule made before code was
//!   unmapped cannot be stored after the cache was cleared for it.
//!
//! Source for multiplying by an odd constant: Knuth, TAOCP volume 3, section 6.4.

use heapwright_sync::atomic::{AtomicU64, Ordering};

use crate::rule::{RULE_BITS, Rule};

const INDEX_BITS: u32 = 16;
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

    /// The product mod 2^47 in the upper 47 bits: index above, tag below it.
    #[inline(always)]
    fn spread(pc: usize) -> u64 {
        (pc as u64).wrapping_mul(SPREAD << (64 - ADDRESS_BITS))
    }

    /// The rule stored for `pc`, or the empty one. One load from the table.
    #[inline(always)]
    pub(crate) fn get(&self, pc: usize) -> Rule {
        let spread = Self::spread(pc);
        let index = (spread >> (64 - INDEX_BITS)) as usize;
        // Relaxed: an entry is whole in one word and publishes nothing else.
        let entry = self.entries[index].load(Ordering::Relaxed);
        let rule = entry ^ (spread << INDEX_BITS);
        // The second part keeps addresses of 48 bits and more from meeting their lower parts.
        let foreign = (rule | (pc as u64) >> (ADDRESS_BITS - RULE_BITS)) >> RULE_BITS;
        if foreign == 0 { Rule::from_bits(rule) } else { Rule::EMPTY }
    }

    /// Stores the rule for `pc`, in place of what the entry held. Only under the lock (I2).
    pub(crate) fn insert(&self, pc: usize, rule: Rule) {
        if pc as u64 >> ADDRESS_BITS != 0 {
            return;
        }
        let spread = Self::spread(pc);
        let index = (spread >> (64 - INDEX_BITS)) as usize;
        debug_assert!(rule.bits() >> RULE_BITS == 0);
        // Relaxed: as in `get`.
        self.entries[index].store((spread << INDEX_BITS) | rule.bits(), Ordering::Relaxed);
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
const _: () = assert!(ADDRESS_BITS - INDEX_BITS + RULE_BITS == 64);

#[cfg(test)]
mod tests {
    use super::RuleCache;
    use crate::rule::{Kind, Rule};

    static CACHE: RuleCache = RuleCache::new();

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
