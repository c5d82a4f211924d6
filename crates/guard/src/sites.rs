//! Which blocks get pages of their own: a reservoir for each call site, within a memory budget.
//!
//! A site is the innermost frames of the stack. The first blocks of a site are all guarded, of
//! later ones a falling share; so a bug that belongs to a site is met early however hot another
//! site is.

use heapwright_sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::depot::StackId;
use crate::table::{Table, Zeroed};

/// Frames that make a site: a wrapper or two around `malloc`, and who called them.
pub(crate) const SITE_FRAME_COUNT: usize = 4;
const SITE_COUNT_MAX: usize = 1 << 18;
const SITE_COUNT_SMALL: usize = 1 << 12;
/// Probes before a site shares the entry of another.
const PROBE_COUNT_MAX: usize = 32;

/// The entry of a site.
#[repr(C)]
pub(crate) struct Site {
    /// Its number: the same in each run with the same addresses; 0 when free.
    pub(crate) hash: AtomicU64,
    /// Blocks so far.
    pub(crate) count: AtomicU32,
    /// Guarded blocks alive.
    pub(crate) guarded: AtomicU32,
    /// A stack of it.
    pub(crate) stack: AtomicU32,
    unused: AtomicU32,
}

// SAFETY: atomics only; zero is a free entry.
unsafe impl Zeroed for Site {}

/// All sites.
pub(crate) struct Sites {
    entries: Table<Site>,
    pub(crate) overflow_count: AtomicUsize,
}

/// How much may be guarded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Blocks of a site that are guarded whatever the share.
    pub(crate) first_count: u32,
    /// Least share later, as one in so many.
    pub(crate) one_in_max: u32,
}

impl Sites {
    pub(crate) const fn new() -> Self {
        Self { entries: Table::new(), overflow_count: AtomicUsize::new(0) }
    }

    /// Takes memory for many sites, or for a few thousand when that must be little.
    pub(crate) fn begin(&self, is_small: bool) -> bool {
        self.entries.reserve(if is_small { SITE_COUNT_SMALL } else { SITE_COUNT_MAX })
    }

    /// The site with this hash, counted once more; its index and how many blocks it had before.
    pub(crate) fn count(&self, hash: u64, stack: StackId) -> (u32, u32) {
        let hash = hash.max(1);
        // A power of two; 0 before the memory is there.
        let mask = self.entries.len().wrapping_sub(1);
        let mut at = (hash ^ hash >> 29) as usize & mask;
        for _ in 0..PROBE_COUNT_MAX {
            let Some(site) = self.entries.get(at) else { return (0, 0) };
            let found = site.hash.load(Ordering::Relaxed);
            let order = Ordering::Relaxed;
            let is_ours = found == hash
                || found == 0 && {
                    match site.hash.compare_exchange(0, hash, order, order) {
                        Ok(_) => {
                            site.stack.store(stack, Ordering::Relaxed);
                            true
                        }
                        Err(other) => other == hash,
                    }
                };
            if is_ours {
                return (at as u32, site.count.fetch_add(1, Ordering::Relaxed));
            }
            at = (at + 1) & mask;
        }
        self.overflow_count.fetch_add(1, Ordering::Relaxed);
        let count =
            self.get(at as u32).map_or(0, |site| site.count.fetch_add(1, Ordering::Relaxed));
        (at as u32, count)
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Site> {
        self.entries.get(index as usize)
    }

    /// The sites met so far.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Site> {
        (0..self.entries.len())
            .filter_map(|index| self.entries.get(index))
            .filter(|site| site.hash.load(Ordering::Relaxed) != 0)
    }
}

impl Policy {
    /// Whether block number `before` (from 0) of a site is guarded, by the share alone: all of
    /// the first ones, then one in `before / first_count`, rounded up, up to the least share.
    /// The same in each run: no clock, no random source but the site's own number.
    pub(crate) fn wants(self, hash: u64, before: u32) -> bool {
        if before < self.first_count {
            return true;
        }
        let one_in = (before / self.first_count + 1).min(self.one_in_max);
        // Weyl's sequence: spread evenly, in step with no loop of the program's.
        let mixed = hash.wrapping_add(u64::from(before).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let high = (mixed ^ mixed >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32;
        (high * u64::from(one_in)) >> 32 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Policy, Sites};

    #[test]
    fn a_site_keeps_its_count_among_others() {
        let sites = Sites::new();
        assert!(sites.begin(false));
        for round in 0..5 {
            for hash in 1..2000u64 {
                let hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                assert_eq!(sites.count(hash, 3).1, round);
            }
        }
        assert_eq!(sites.all().count(), 1999);
    }

    #[test]
    fn the_first_are_all_guarded_and_then_a_share() {
        let policy = Policy { first_count: 100, one_in_max: 16 };
        assert!((0..100).all(|block| policy.wants(5, block)));
        let late = (1_000_000..1_160_000).filter(|&block| policy.wants(5, block)).count();
        assert!((9_000..11_000).contains(&late), "{late}");
        let middle = (200..300).filter(|&block| policy.wants(5, block)).count();
        assert!((20..50).contains(&middle), "{middle}");
    }
}
