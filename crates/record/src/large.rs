//! Large blocks alive, and which of their OS pages are resident: what the program really
//! touched of them. Asked of the kernel when such a block dies, when the process exits, and now
//! and then in between, within half a percent of the time.
//!
//! # Invariants
//! - I1: `lock` guards the entries; it is held for short, bounded work, never while writing
//!   into a ring.
//! - I2: an address of a live entry has its bit in `filter`; a clear bit means "not here".

use core::cell::UnsafeCell;

use heapwright_format::TOUCH_RUNS_MAX;
use heapwright_os::{mincore, monotonic_ns, page_bytes, yield_now};
use heapwright_sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Blocks watched at once; further ones are recorded without touched pages.
const ENTRY_COUNT: usize = 4096;
const FILTER_WORDS: usize = 64;
/// A look at all blocks may take one 200th of the time.
const PAUSE_FACTOR: u64 = 200;
const PAUSE_NS_MIN: u64 = 2_000_000;

#[derive(Clone, Copy)]
struct Entry {
    address: u64,
    bytes: u64,
    resident_pages: u32,
}

/// The table. All zero: empty.
pub(crate) struct LargeBlocks {
    lock: AtomicU32,
    count: AtomicU32,
    next_look_ns: AtomicU64,
    filter: [AtomicU64; FILTER_WORDS],
    entries: UnsafeCell<[Entry; ENTRY_COUNT]>,
}

// SAFETY: the cell is only used under the lock (I1).
unsafe impl Sync for LargeBlocks {}

/// Which pages of a block are resident.
pub(crate) struct Touched {
    pub(crate) address: u64,
    pub(crate) resident_pages: u32,
    pub(crate) page_count: u32,
    runs: [(u32, u32); TOUCH_RUNS_MAX],
    run_count: usize,
}

impl Touched {
    /// The runs, empty when there are too many.
    pub(crate) fn runs(&self) -> &[(u32, u32)] {
        if self.run_count <= TOUCH_RUNS_MAX { &self.runs[..self.run_count] } else { &[] }
    }

    /// Asks the kernel about `bytes` from `address`.
    fn ask(address: u64, bytes: u64) -> Option<Self> {
        let page = page_bytes() as u64;
        let first = address & !(page - 1);
        let page_count = (address + bytes - first).div_ceil(page);
        let mut touched = Self {
            address,
            resident_pages: 0,
            page_count: u32::try_from(page_count).ok()?,
            runs: [(0, 0); TOUCH_RUNS_MAX],
            run_count: 0,
        };
        let mut gap = 0;
        let mut run = 0;
        let mut window = [0u8; 1024];
        let mut done = 0;
        while done < page_count {
            let count = (page_count - done).min(window.len() as u64);
            let pages = &mut window[..count as usize];
            mincore((first + done * page) as usize, pages).ok()?;
            for &byte in &*pages {
                if byte & 1 != 0 {
                    run += 1;
                } else {
                    if run != 0 {
                        touched.push(gap, run);
                        (gap, run) = (0, 0);
                    }
                    gap += 1;
                }
            }
            done += count;
        }
        if run != 0 {
            touched.push(gap, run);
        }
        Some(touched)
    }

    fn push(&mut self, gap: u32, run: u32) {
        if let Some(place) = self.runs.get_mut(self.run_count) {
            *place = (gap, run);
        }
        self.run_count += 1;
        self.resident_pages += run;
    }
}

impl LargeBlocks {
    /// Watches the block at `address`.
    #[cold]
    pub(crate) fn insert(&self, address: u64, bytes: u64) {
        self.locked(|entries| {
            let count = self.count.load(Ordering::Relaxed) as usize;
            if let Some(entry) = entries.get_mut(count) {
                *entry = Entry { address, bytes, resident_pages: 0 };
                self.count.store(count as u32 + 1, Ordering::Relaxed);
                let (word, bit) = filter_place(address);
                self.filter[word].fetch_or(bit, Ordering::Relaxed);
            }
        });
    }

    /// Whether `address` may be a watched block; false is certain.
    #[inline(always)]
    pub(crate) fn may_hold(&self, address: u64) -> bool {
        let (word, bit) = filter_place(address);
        self.filter[word].load(Ordering::Relaxed) & bit != 0
    }

    /// Ends the watch on `address`; which of its pages are resident, if it was watched.
    #[cold]
    pub(crate) fn remove(&self, address: u64) -> Option<Touched> {
        let entry = self.locked(|entries| {
            let count = self.count.load(Ordering::Relaxed) as usize;
            let index = entries[..count].iter().position(|entry| entry.address == address)?;
            let entry = entries[index];
            entries[index] = entries[count - 1];
            self.count.store(count as u32 - 1, Ordering::Relaxed);
            if count == 1 {
                self.filter.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            }
            Some(entry)
        })??;
        Touched::ask(entry.address, entry.bytes)
    }

    /// Looks at all watched blocks if it is time (or `now`): passes those that changed by a
    /// sixteenth or more to `report`.
    #[cold]
    pub(crate) fn look(&self, now: bool, mut report: impl FnMut(&Touched)) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let start_ns = monotonic_ns();
        let due_ns = self.next_look_ns.load(Ordering::Relaxed);
        if start_ns < due_ns && !now {
            return;
        }
        // One thread looks: the deadline is moved before the work and set after it.
        let claim = self.next_look_ns.compare_exchange(
            due_ns,
            u64::MAX,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        if claim.is_err() {
            return;
        }
        let mut index = 0;
        while let Some(Some(entry)) = self.locked(|entries| {
            let count = self.count.load(Ordering::Relaxed) as usize;
            entries[..count].get(index).copied()
        }) {
            if let Some(touched) = Touched::ask(entry.address, entry.bytes) {
                let change = touched.resident_pages.abs_diff(entry.resident_pages);
                if change * 16 > touched.page_count || (now && change != 0) {
                    self.note(&entry, touched.resident_pages);
                    report(&touched);
                }
            }
            index += 1;
        }
        let spent_ns = monotonic_ns() - start_ns;
        let pause_ns = (spent_ns * PAUSE_FACTOR).max(PAUSE_NS_MIN);
        self.next_look_ns.store(start_ns + spent_ns + pause_ns, Ordering::Release);
    }

    fn note(&self, looked_at: &Entry, resident_pages: u32) {
        self.locked(|entries| {
            let count = self.count.load(Ordering::Relaxed) as usize;
            let same = |entry: &&mut Entry| entry.address == looked_at.address;
            if let Some(entry) = entries[..count].iter_mut().find(same) {
                entry.resident_pages = resident_pages;
            }
        });
    }

    /// Runs `work` on the entries under the lock; none when the lock cannot be had for long
    /// (its holder lost the CPU, or is the thread that a signal interrupted here).
    fn locked<T>(&self, work: impl FnOnce(&mut [Entry; ENTRY_COUNT]) -> T) -> Option<T> {
        for _ in 0..100_000 {
            // Acquire: pairs with the Release below.
            if self.lock.swap(1, Ordering::Acquire) == 0 {
                // SAFETY: the lock is ours (I1), and plain words are valid when zero.
                let entries = unsafe { &mut *self.entries.get() };
                let result = work(entries);
                self.lock.store(0, Ordering::Release);
                return Some(result);
            }
            yield_now();
        }
        None
    }
}

fn filter_place(address: u64) -> (usize, u64) {
    let mixed = address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
    ((mixed >> 6) as usize & (FILTER_WORDS - 1), 1 << (mixed & 63))
}

/// Reports the touched pages of all large blocks alive: for the end of the process.
pub fn flush_touched() {
    if let Some(guard) = crate::thread::enter() {
        guard.look_at_large_blocks();
    }
}
