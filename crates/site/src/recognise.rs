//! From a caller's state to whether this is the site.
//!
//! The direct caller tells most allocations; where it does not, the stack is captured as the
//! recorder does it, and what its path said once is kept.
//!
//! # Invariants
//! - I1: what is kept of an address or a path holds until code is unloaded, when all of it is
//!   forgotten.

use heapwright_sync::atomic::{AtomicU64, Ordering};
use heapwright_unwind::{
    Memo, PathHash, Registers, StackEnd, Trails, refresh_modules, visit_modules,
};

use crate::callers::{Callers, Known};
use crate::path::{FrameKey, SitePath};
use crate::table::{Table, Verdict};

const PATH_BITS: u32 = 12;
const KEY_BITS: u32 = 12;

/// What tells the site, for a process.
#[derive(Debug)]
pub(crate) struct Recognition {
    callers: Callers,
    /// Paths by their hash; the lowest bit says whether they are the site's.
    paths: [AtomicU64; 1 << PATH_BITS],
    keys: [KeyEntry; 1 << KEY_BITS],
}

/// The frame at an address. Torn by two writers it is told by the check.
#[derive(Debug)]
struct KeyEntry {
    /// Of the address and the key together.
    check: AtomicU64,
    key: AtomicU64,
}

impl Recognition {
    pub(crate) const fn new() -> Self {
        Self {
            callers: Callers::new(),
            paths: [const { AtomicU64::new(0) }; 1 << PATH_BITS],
            keys: [const { KeyEntry { check: AtomicU64::new(0), key: AtomicU64::new(0) } };
                1 << KEY_BITS],
        }
    }

    /// What the direct caller says.
    #[inline(always)]
    pub(crate) fn of_caller(&self, pc: usize, table: &Table<'_>) -> Verdict {
        match self.callers.get(pc) {
            Known::As(verdict) => verdict,
            Known::New => self.of_new_caller(pc, table),
        }
    }

    #[cold]
    #[inline(never)]
    fn of_new_caller(&self, pc: usize, table: &Table<'_>) -> Verdict {
        let Some(key) = key_of(pc) else { return Verdict::Other };
        let verdict = table.verdict(SitePath::NONE.outwards(key));
        self.callers.put(pc, verdict);
        verdict
    }

    /// Whether the whole stack is one of the site's.
    ///
    /// # Safety
    /// - `caller` is the state of a function of this thread that is still running, and `memo` and
    ///   `trails` are this thread's.
    pub(crate) unsafe fn of_stack(
        &self,
        caller: Registers,
        (memo, trails): (&mut Memo, &mut Trails),
        table: &Table<'_>,
    ) -> bool {
        // SAFETY: the caller's promise.
        let (path, end) = unsafe { memo.capture_path(trails, caller) };
        let known = self.paths[place_of(path)].load(Ordering::Relaxed);
        if end == StackEnd::Complete && (known ^ path.bits()) >> 1 == 0 {
            return known & 1 != 0;
        }
        // SAFETY: the caller's promise.
        unsafe { memo.capture(caller) };
        let verdict = self.of_frames(memo, table);
        if end == StackEnd::Complete
            && let Some(is_site) = verdict
        {
            let entry = path.bits() & !1 | u64::from(is_site);
            self.paths[place_of(path)].store(entry, Ordering::Relaxed);
        }
        verdict == Some(true)
    }

    /// What the frames of `memo` say; none where the list of modules could not be had.
    fn of_frames(&self, memo: &Memo, table: &Table<'_>) -> Option<bool> {
        let mut path = SitePath::NONE;
        for frame in memo.frames().iter().rev() {
            path = path.outwards(self.key_at(frame.return_address())?);
            match table.verdict(path) {
                Verdict::Other => return Some(false),
                Verdict::Site => return Some(true),
                Verdict::Deeper => {}
            }
        }
        Some(false)
    }

    /// [`key_of`], from what is known if it is.
    fn key_at(&self, pc: usize) -> Option<FrameKey> {
        let index = (pc as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - KEY_BITS);
        let entry = &self.keys[index as usize];
        let key = entry.key.load(Ordering::Relaxed);
        if entry.check.load(Ordering::Relaxed) == check_of(pc, key) {
            return Some(FrameKey::from_bits(key));
        }
        let key = key_of(pc)?;
        entry.key.store(key.bits(), Ordering::Relaxed);
        entry.check.store(check_of(pc, key.bits()), Ordering::Relaxed);
        Some(key)
    }

    /// Forgets all that it knows of addresses.
    pub(crate) fn forget(&self) {
        self.callers.clear();
        self.paths.iter().for_each(|path| path.store(0, Ordering::Relaxed));
        self.keys.iter().for_each(|entry| entry.check.store(0, Ordering::Relaxed));
    }
}

fn place_of(path: PathHash) -> usize {
    (path.bits() >> (u64::BITS - PATH_BITS)) as usize
}

fn check_of(pc: usize, key: u64) -> u64 {
    PathHash::ROOT.child(pc as u64).child(key).bits()
}

/// The frame that returns to `pc`; none when the list of modules cannot be had now.
fn key_of(pc: usize) -> Option<FrameKey> {
    match find(pc)? {
        FrameKey::NO_MODULE => {
            // Loaded since the list was read, or code without a file.
            refresh_modules();
            find(pc)
        }
        key => Some(key),
    }
}

fn find(pc: usize) -> Option<FrameKey> {
    let address = pc.wrapping_sub(1);
    let mut key = FrameKey::NO_MODULE;
    visit_modules(|module| {
        if (module.start..module.end).contains(&address) {
            key = FrameKey::new(module.path, address.wrapping_sub(module.bias) as u64);
        }
    })?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use heapwright_sync::atomic::AtomicU64;
    use heapwright_unwind::{Memo, Registers, Trails};
    use std::boxed::Box;
    use std::vec;
    use std::vec::Vec;

    use super::{Recognition, key_of};
    use crate::path::SitePath;
    use crate::table::{Served, SiteFacts, Table, Verdict, table_words, write_table};

    const FACTS: SiteFacts = SiteFacts {
        served: Served::Allocator,
        is_resized: false,
        capacity_bytes: 0,
        size_min: 0,
        size_max: 0,
        exe: 0,
    };

    #[inline(never)]
    fn innermost(see: &mut dyn FnMut(Registers)) {
        see(Registers::current());
        core::hint::black_box(());
    }

    #[inline(never)]
    fn one_way(see: &mut dyn FnMut(Registers)) {
        innermost(see);
        core::hint::black_box(());
    }

    #[inline(never)]
    fn other_way(see: &mut dyn FnMut(Registers)) {
        innermost(see);
        core::hint::black_box(());
    }

    #[test]
    fn a_site_is_told_by_its_stack_where_the_direct_caller_does_not() {
        // What `one_way` looks like, down to the frame where the ways part.
        let mut paths = Vec::new();
        one_way(&mut |at| {
            let mut memo = Box::new(Memo::new());
            // SAFETY: this thread's registers; `innermost` runs.
            unsafe { memo.capture(at) };
            let mut path = SitePath::NONE;
            for (depth, frame) in memo.frames().iter().rev().take(2).enumerate() {
                path = path.outwards(key_of(frame.return_address()).expect("the modules"));
                let verdict = if depth == 0 { Verdict::Deeper } else { Verdict::Site };
                paths.push((path.bits(), verdict));
            }
        });
        let mut words = vec![0; table_words(paths.len())];
        write_table(&mut words, &FACTS, &paths);
        let words: Vec<AtomicU64> = words.into_iter().map(AtomicU64::new).collect();
        let table = Table::of(&words).expect("a table");
        let recognition = Box::new(Recognition::new());
        let (mut memo, mut trails) = (Box::new(Memo::new()), Box::new(Trails::new()));
        let mut is_site = |at: Registers| {
            assert_eq!(recognition.of_caller(at.pc, &table), Verdict::Deeper);
            // SAFETY: as above.
            unsafe { recognition.of_stack(at, (&mut memo, &mut trails), &table) }
        };
        for round in 0..3000 {
            let mut seen = [false; 2];
            one_way(&mut |at| seen[0] = is_site(at));
            other_way(&mut |at| seen[1] = is_site(at));
            assert_eq!(seen, [true, false], "round {round}");
        }
        recognition.forget();
        one_way(&mut |at| {
            // SAFETY: as above.
            assert!(unsafe { recognition.of_stack(at, (&mut memo, &mut trails), &table) });
        });
    }

    #[test]
    fn code_without_a_file_has_the_key_of_none() {
        let stack = 0;
        let address = core::ptr::from_ref(&stack).addr();
        assert_eq!(key_of(address), Some(crate::FrameKey::NO_MODULE));
    }
}
