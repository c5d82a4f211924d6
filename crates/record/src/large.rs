//! Large blocks alive, and which of their OS pages are resident: what the program really
//! touched of them. Asked of the kernel when such a block dies, when the process exits, and now
//! and then in between, within half a percent of the time.
//!
//! # Invariants
//! - I1: `lock` guards the entries; it is held for short, bounded work, never while writing
//!   into a ring.
//! - I2: a counter of `filter` is the number of entries whose address leads to it, or 255 for
//!   good; zero means "not here".
//! - I3: entry `n` below `count`, and no other, is in the index, at the first free place from its
//!   home on.

use core::cell::UnsafeCell;

use heapwright_format::TOUCH_RUNS_MAX;
use heapwright_os::{mincore, monotonic_ns, page_bytes};
use heapwright_sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::confined::{is_confined, pause};

/// Blocks watched at once; further ones are recorded without touched pages.
const ENTRY_COUNT: usize = 4096;
/// Twice the entries, so that a probe of the index is short.
const INDEX_SLOTS: usize = 2 * ENTRY_COUNT;
/// Counters of the filter. A hundred large blocks alive send every twentieth free of a small one
/// the slow way, which costs it some 20 ns.
const FILTER_COUNTERS: usize = 2048;
/// Above this a mapping is address space set aside, and asking for its pages takes too long.
const WATCHED_BYTES_MAX: u64 = 16 << 30;
/// Tries for the lock, some 30 ms.
const LOCK_TRIES_MAX: usize = 100_000;
/// A look at all blocks may take one 200th of the time.
const PAUSE_FACTOR: u64 = 200;
const PAUSE_NS_MIN: u64 = 2_000_000;

#[derive(Clone, Copy)]
struct Entry {
    address: u64,
    bytes: u64,
    resident_pages: u32,
}

/// The entries without gaps, and where each is: open addressing, 0 for an empty place, else the
/// entry's number plus one.
struct Table {
    entries: [Entry; ENTRY_COUNT],
    index: [u16; INDEX_SLOTS],
}

/// The table. All zero: empty.
pub(crate) struct LargeBlocks {
    lock: AtomicU32,
    count: AtomicU32,
    next_look_ns: AtomicU64,
    filter: [AtomicU8; FILTER_COUNTERS],
    table: UnsafeCell<Table>,
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
        if is_confined() {
            return None;
        }
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

impl Table {
    /// Where the index has `address`, or the empty place where it belongs.
    fn place(&self, address: u64) -> usize {
        let mut place = home(address);
        while let Some(number) = usize::from(self.index[place]).checked_sub(1) {
            if self.entries[number].address == address {
                break;
            }
            place = (place + 1) % INDEX_SLOTS;
        }
        place
    }

    fn number(&self, place: usize) -> Option<usize> {
        usize::from(self.index[place]).checked_sub(1)
    }

    /// Empties `place`; those that were put behind it for its sake move up.
    fn unindex(&mut self, mut place: usize) {
        let mut next = place;
        loop {
            self.index[place] = 0;
            loop {
                next = (next + 1) % INDEX_SLOTS;
                let Some(number) = self.number(next) else { return };
                let home = home(self.entries[number].address);
                // Does the way from its home to where it is lead over the empty place?
                let way = (next + INDEX_SLOTS - home) % INDEX_SLOTS;
                if (next + INDEX_SLOTS - place) % INDEX_SLOTS <= way {
                    break;
                }
            }
            self.index[place] = self.index[next];
            place = next;
        }
    }
}

fn home(address: u64) -> usize {
    (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % INDEX_SLOTS
}

impl LargeBlocks {
    /// Watches the block at `address`.
    #[cold]
    pub(crate) fn insert(&self, address: u64, bytes: u64) {
        if bytes <= WATCHED_BYTES_MAX {
            self.locked(|table| self.insert_in(table, Entry { address, bytes, resident_pages: 0 }));
        }
    }

    fn insert_in(&self, table: &mut Table, entry: Entry) {
        let place = table.place(entry.address);
        if let Some(number) = table.number(place) {
            table.entries[number] = entry;
            return;
        }
        let count = self.count.load(Ordering::Relaxed) as usize;
        if count == ENTRY_COUNT {
            return;
        }
        table.entries[count] = entry;
        table.index[place] = count as u16 + 1;
        self.count.store(count as u32 + 1, Ordering::Relaxed);
        let counter = self.counter(entry.address);
        // A counter at its end stays there: it no longer knows how many it stands for.
        let next = counter.load(Ordering::Relaxed).saturating_add(1);
        counter.store(next, Ordering::Relaxed);
        debug_assert!(table.number(table.place(entry.address)) == Some(count), "I3");
    }

    fn remove_in(&self, table: &mut Table, address: u64) -> Option<Entry> {
        let place = table.place(address);
        let number = table.number(place)?;
        let entry = table.entries[number];
        let last = self.count.load(Ordering::Relaxed) as usize - 1;
        // The last entry fills the gap; its place in the index is found while both are there.
        let last_place = table.place(table.entries[last].address);
        table.index[last_place] = number as u16 + 1;
        let last_entry = table.entries[last];
        if number != last {
            table.index[place] = last as u16 + 1;
            table.entries[last] = entry;
            table.entries[number] = last_entry;
        }
        table.unindex(place);
        self.count.store(last as u32, Ordering::Relaxed);
        let counter = self.counter(address);
        let value = counter.load(Ordering::Relaxed);
        if value != u8::MAX {
            counter.store(value.saturating_sub(1), Ordering::Relaxed);
        }
        debug_assert!(table.number(table.place(address)).is_none(), "I3");
        Some(entry)
    }

    /// Whether `address` may be a watched block; false is certain.
    #[inline(always)]
    pub(crate) fn may_hold(&self, address: u64) -> bool {
        self.counter(address).load(Ordering::Relaxed) != 0
    }

    #[inline(always)]
    fn counter(&self, address: u64) -> &AtomicU8 {
        let mixed = address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53;
        &self.filter[mixed as usize & (FILTER_COUNTERS - 1)]
    }

    /// Ends the watch on `address`: its length, and which of its pages are resident, if it was
    /// watched.
    #[cold]
    pub(crate) fn remove(&self, address: u64) -> Option<(u64, Option<Touched>)> {
        let entry = self.locked(|table| self.remove_in(table, address))??;
        Some((entry.bytes, Touched::ask(entry.address, entry.bytes)))
    }

    /// `bytes` from `address` are about to be unmapped or mapped anew: reports the blocks there,
    /// and goes on watching what is left in front.
    #[cold]
    pub(crate) fn cut(&self, address: u64, bytes: u64, mut report: impl FnMut(&Touched)) {
        let end = address.saturating_add(bytes);
        while self.count.load(Ordering::Relaxed) != 0
            && let Some(Some(entry)) = self.locked(|table| {
                let count = self.count.load(Ordering::Relaxed) as usize;
                let meets =
                    |entry: &&Entry| entry.address < end && entry.address + entry.bytes > address;
                let met = *table.entries[..count].iter().find(meets)?;
                self.remove_in(table, met.address);
                if met.address < address {
                    let left = Entry { bytes: address - met.address, resident_pages: 0, ..met };
                    self.insert_in(table, left);
                }
                Some(met)
            })
        {
            if let Some(touched) = Touched::ask(entry.address, entry.bytes) {
                report(&touched);
            }
        }
    }

    /// Looks at all watched blocks if it is time (or `now`): passes those that changed by a
    /// sixteenth or more to `report`.
    #[cold]
    pub(crate) fn look(&self, now: bool, mut report: impl FnMut(&Touched)) {
        if self.count.load(Ordering::Relaxed) == 0 || is_confined() {
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
        let mut number = 0;
        while let Some(Some(entry)) = self.locked(|table| {
            let count = self.count.load(Ordering::Relaxed) as usize;
            table.entries[..count].get(number).copied()
        }) {
            if let Some(touched) = Touched::ask(entry.address, entry.bytes) {
                let change = touched.resident_pages.abs_diff(entry.resident_pages);
                if u64::from(change) * 16 > u64::from(touched.page_count) || (now && change != 0) {
                    self.note(&entry, touched.resident_pages);
                    report(&touched);
                }
            }
            number += 1;
        }
        let spent_ns = monotonic_ns() - start_ns;
        let pause_ns = (spent_ns * PAUSE_FACTOR).max(PAUSE_NS_MIN);
        self.next_look_ns.store(start_ns + spent_ns + pause_ns, Ordering::Release);
    }

    fn note(&self, looked_at: &Entry, resident_pages: u32) {
        self.locked(|table| {
            if let Some(number) = table.number(table.place(looked_at.address)) {
                table.entries[number].resident_pages = resident_pages;
            }
        });
    }

    /// Runs `work` on the table under the lock; none when the lock cannot be had for long (its
    /// holder lost the CPU, or is the thread that a signal interrupted here).
    fn locked<T>(&self, work: impl FnOnce(&mut Table) -> T) -> Option<T> {
        for _ in 0..LOCK_TRIES_MAX {
            // Acquire: pairs with the Release below.
            if self.lock.swap(1, Ordering::Acquire) == 0 {
                // SAFETY: the lock is ours (I1), and plain words are valid when zero.
                let table = unsafe { &mut *self.table.get() };
                let result = work(table);
                self.lock.store(0, Ordering::Release);
                return Some(result);
            }
            pause();
        }
        None
    }
}

/// Reports the touched pages of all large blocks alive: for the end of the process.
pub fn flush_touched() {
    if let Some(guard) = crate::thread::enter() {
        guard.look_at_large_blocks();
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::boxed::Box;
    use std::collections::HashMap;
    use std::vec::Vec;

    use super::{ENTRY_COUNT, LargeBlocks, Ordering};

    fn empty() -> Box<LargeBlocks> {
        // SAFETY: all zero is an empty table.
        unsafe { Box::<LargeBlocks>::new_zeroed().assume_init() }
    }

    fn contents(blocks: &LargeBlocks) -> HashMap<u64, u64> {
        let count = blocks.count.load(Ordering::Relaxed) as usize;
        let entries = blocks.locked(|table| table.entries[..count].to_vec()).expect("the lock");
        entries.iter().map(|entry| (entry.address, entry.bytes)).collect()
    }

    #[test]
    fn the_table_agrees_with_a_map() {
        let (blocks, mut model) = (empty(), HashMap::new());
        let mut seed = 5u64;
        for round in 0..60_000u64 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let address = 0x7f00_0000_0010 + (seed >> 40) % 9000 * 4096;
            if round % 20_000 < 12_000 {
                blocks.insert(address, round + 1);
                if model.len() < ENTRY_COUNT || model.contains_key(&address) {
                    model.insert(address, round + 1);
                }
            } else {
                let gone = blocks.remove(address).map(|(bytes, _)| bytes);
                assert_eq!(gone, model.remove(&address), "round {round}");
            }
            assert!(!model.contains_key(&address) || blocks.may_hold(address));
        }
        assert_eq!(contents(&blocks), model);
        let addresses: Vec<u64> = model.keys().copied().collect();
        addresses.iter().for_each(|&address| assert!(blocks.remove(address).is_some()));
        assert_eq!(blocks.count.load(Ordering::Relaxed), 0);
        let stuck = (0..9000).filter(|n| blocks.may_hold(0x7f00_0000_0010 + n * 4096)).count();
        assert_eq!(stuck, 0, "the filter is empty again");
    }

    #[test]
    fn an_unmapping_shortens_or_ends_what_it_meets() {
        let blocks = empty();
        for start in [0x10_0000, 0x20_0000, 0x30_0000] {
            blocks.insert(start, 0x8_0000);
        }
        blocks.cut(0x14_0000, 0x1000, |_| {});
        blocks.cut(0x1f_0000, 0x2_0000, |_| {});
        let left = HashMap::from([(0x10_0000, 0x4_0000), (0x30_0000, 0x8_0000)]);
        assert_eq!(contents(&blocks), left);
    }

    #[test]
    fn address_space_set_aside_is_not_watched() {
        let blocks = empty();
        blocks.insert(0x10_0000, 1 << 40);
        assert_eq!(contents(&blocks), HashMap::new());
    }
}
