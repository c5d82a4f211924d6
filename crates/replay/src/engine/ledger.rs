//! Whose block is in which slot, for runs in which stock is taken.
//!
//! # Invariants
//! - I1: an entry is written before its slot is filled and read after it was emptied, or while
//!   nobody operates; so the slot's Release and Acquire order it (design/replay#I2).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// For each slot the requested bytes of its block, and its call site.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ledger {
    size_bytes: &'static [AtomicU64],
    site: &'static [AtomicU32],
}

impl Ledger {
    /// A ledger over one entry a slot in both tables; without entries none is kept.
    pub(super) fn new(size_bytes: &'static [AtomicU64], site: &'static [AtomicU32]) -> Self {
        debug_assert_eq!(size_bytes.len(), site.len());
        Self { size_bytes, site }
    }

    /// Whether there are entries.
    #[inline(always)]
    pub(super) fn is_kept(&self) -> bool {
        !self.site.is_empty()
    }

    /// A block of `size` bytes of call site `site` comes into `slot`.
    pub(super) fn enter(&self, slot: u32, size: usize, site: u32) {
        if self.is_kept() {
            // Relaxed: see I1.
            self.size_bytes[slot as usize].store(size as u64, Ordering::Relaxed);
            self.site[slot as usize].store(site, Ordering::Relaxed);
        }
    }

    /// The block of `from` goes to `to`, with `size` bytes if that is given.
    pub(super) fn transfer(&self, from: u32, to: u32, size: Option<usize>) {
        let (old_bytes, site) = self.entry(from);
        self.enter(to, size.unwrap_or(old_bytes as usize), site);
    }

    /// Requested bytes and call site of the block in `slot`.
    pub(super) fn entry(&self, slot: u32) -> (u64, u32) {
        // Relaxed: see I1.
        let bytes = self.size_bytes[slot as usize].load(Ordering::Relaxed);
        (bytes, self.site[slot as usize].load(Ordering::Relaxed))
    }
}
