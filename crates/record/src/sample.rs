//! Poisson sampling by bytes: each requested byte is a sampling point with the same small
//! probability, so a block of `size` bytes is taken with probability 1 - exp(-size / mean),
//! and its weight in every sum is the inverse of that. The distance between points is
//! exponential and has no memory: one countdown a thread does.
//!
//! Frees of blocks not taken must cost almost nothing: a process-wide table of the addresses
//! taken answers with one load.

use core::ptr::NonNull;

use heapwright_core::exponential::Exponential;
use heapwright_os::{Protection, reserve};
use heapwright_sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Slots of the table: at one sample in 512 KiB of live memory, 8 GiB fill a quarter of it.
const SLOTS: usize = 1 << 16;
/// Slots of a bucket, one cache line: an address is in its bucket or nowhere.
const BUCKET_SLOTS: usize = 8;

/// Countdown to the next sampling point of a thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sampler {
    left_bytes: i64,
    mean_bytes: u64,
    distances: Exponential,
}

impl Sampler {
    /// A sampler with a mean distance of `mean_bytes`; 0 takes everything.
    pub(crate) fn new(mean_bytes: u64, seed: u64) -> Self {
        let mut sampler = Self { left_bytes: 0, mean_bytes, distances: Exponential::new(seed) };
        sampler.left_bytes = sampler.distance();
        sampler
    }

    /// Whether everything is recorded.
    #[inline(always)]
    pub(crate) fn is_off(&self) -> bool {
        self.mean_bytes == 0
    }

    /// Whether a block of `size` bytes is taken.
    #[inline(always)]
    pub(crate) fn takes(&mut self, size: usize) -> bool {
        self.left_bytes = self.left_bytes.saturating_sub(size.min(1 << 60) as i64);
        self.left_bytes <= 0 && self.rearm()
    }

    #[cold]
    fn rearm(&mut self) -> bool {
        while self.left_bytes <= 0 {
            self.left_bytes += self.distance().max(1);
            if self.left_bytes <= 0 && self.left_bytes < -(self.mean_bytes as i64) * 64 {
                // A block of many means: the exponential has no memory, start afresh.
                self.left_bytes = self.distance().max(1);
            }
        }
        true
    }

    /// An exponential distance with the mean asked for.
    fn distance(&mut self) -> i64 {
        (self.distances.draw() * self.mean_bytes as f64) as i64
    }
}

static TABLE: AtomicPtr<AtomicU64> = AtomicPtr::new(core::ptr::null_mut());
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// Addresses of sampled live blocks.
pub(crate) struct SampledSet;

impl SampledSet {
    /// Forgets all: they belong to an earlier session. (The table stays for who still reads it.)
    pub(crate) fn forget() {
        TABLE.store(core::ptr::null_mut(), Ordering::Release);
        TAKEN.store(0, Ordering::Release);
    }

    /// Enters `address`; false when there is no room for it (the sample is then not taken).
    pub(crate) fn insert(address: u64) -> bool {
        let Some(table) = Self::table_or_new() else { return false };
        for slot in Self::slots(table, address) {
            let empty = slot.compare_exchange(0, address, Ordering::Relaxed, Ordering::Relaxed);
            if empty.is_ok() {
                TAKEN.fetch_add(1, Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    /// Takes `address` out; whether it was there.
    #[inline(always)]
    pub(crate) fn remove(address: u64) -> bool {
        let table = TABLE.load(Ordering::Relaxed);
        match NonNull::new(table) {
            Some(table) if TAKEN.load(Ordering::Relaxed) != 0 => Self::remove_slow(table, address),
            _ => false,
        }
    }

    #[inline]
    fn remove_slow(table: NonNull<AtomicU64>, address: u64) -> bool {
        for slot in Self::slots(table, address) {
            if slot.load(Ordering::Relaxed) == address {
                slot.store(0, Ordering::Relaxed);
                TAKEN.fetch_sub(1, Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    fn slots(table: NonNull<AtomicU64>, address: u64) -> impl Iterator<Item = &'static AtomicU64> {
        let mixed = (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize;
        let first = mixed & (SLOTS - 1) & !(BUCKET_SLOTS - 1);
        (first..first + BUCKET_SLOTS).map(move |index| {
            // SAFETY: the first slot of a bucket is masked to the table's length, a multiple of
            // the bucket's.
            let slot = unsafe { table.add(index) };
            // SAFETY: the table is never given back; its words are atomics, valid when zero.
            unsafe { slot.as_ref() }
        })
    }

    #[cold]
    fn table_or_new() -> Option<NonNull<AtomicU64>> {
        // Acquire and Release: the table's zero words are visible to who finds it.
        if let Some(table) = NonNull::new(TABLE.load(Ordering::Acquire)) {
            return Some(table);
        }
        let bytes = SLOTS * core::mem::size_of::<AtomicU64>();
        let fresh = reserve(bytes, Protection::ReadWrite).ok()?.cast::<AtomicU64>();
        let null = core::ptr::null_mut();
        match TABLE.compare_exchange(null, fresh.as_ptr(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Some(fresh),
            Err(other) => {
                // SAFETY: the mapping just made; nobody else knows it.
                let _ = unsafe { heapwright_os::release(fresh.cast(), bytes) };
                NonNull::new(other)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SampledSet, Sampler};

    #[test]
    fn weights_make_the_estimate_unbiased() {
        // Over many seeds the sum of weights must come near the true count for each size.
        let mean = 4096.0;
        for size in [16usize, 512, 4096, 60_000] {
            let (mut estimate, blocks) = (0.0, 200_000u64);
            for seed in 1..=4u64 {
                let mut sampler = Sampler::new(4096, seed * 0x1234_5677);
                let weight = 1.0 / (1.0 - (-(size as f64) / mean).exp2_e());
                let taken = (0..blocks).filter(|_| sampler.takes(size)).count();
                estimate += taken as f64 * weight;
            }
            let ratio = estimate / (4.0 * blocks as f64);
            assert!((ratio - 1.0).abs() < 0.05, "size {size}: {ratio}");
        }
    }

    trait Exp {
        fn exp2_e(self) -> f64;
    }

    impl Exp for f64 {
        fn exp2_e(self) -> f64 {
            extern crate std;
            f64::exp(self)
        }
    }

    #[test]
    fn a_sampled_address_is_found_once() {
        assert!(SampledSet::insert(0x1000));
        assert!(!SampledSet::remove(0x2000));
        assert!(SampledSet::remove(0x1000));
        assert!(!SampledSet::remove(0x1000));
    }
}
