//! Guards: ranges where every access is a fault, within the budget of mappings.
//!
//! Guard markers (`guard_marker`, Linux 6.13) cost no mapping; before them
//! `mprotect` does the same and splits one mapping into three. The kernel allows a process
//! `vm.max_map_count` of them, and then refuses `mmap` to everybody, so the second way is taken
//! only while no more than half are in use.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::guard_marker::{install_guards, remove_guards};
use crate::memory::protect;
use crate::{Errno, Fd, OpenFlags, Protection};

/// The kernel's own default of `vm.max_map_count`.
const MAX_MAP_COUNT_USUAL: usize = 65_530;
/// A range made inaccessible inside a mapping leaves three where one was.
const MAPPINGS_OF_A_SPLIT: usize = 2;

/// A guard was installed by advice in this process: whoever makes a range accessible then also
/// removes such guards. A thread that commits a guarded range knows of the guard, so it also sees
/// this.
static GUARDS_INSTALLED: AtomicBool = AtomicBool::new(false);
static MAX_MAP_COUNT: AtomicUsize = AtomicUsize::new(0);
/// At least the mappings in use when they were last counted, and those of splits since.
static IN_USE_GUESS: AtomicUsize = AtomicUsize::new(0);

/// How a guard was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardKind {
    /// By advice: no mapping of the budget is used.
    Installed,
    /// By protection: two mappings more.
    Protected,
}

/// The most mappings that the kernel lets this process have (`vm.max_map_count`), read once; its
/// usual value when that cannot be read.
pub fn max_mapping_count() -> usize {
    let known = MAX_MAP_COUNT.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let read = crate::pseudo_file::read_number(c"/proc/sys/vm/max_map_count");
    let count = read.map_or(MAX_MAP_COUNT_USUAL, |count| count as usize).max(1);
    MAX_MAP_COUNT.store(count, Ordering::Relaxed);
    count
}

/// How many mappings this process has now, counted by reading `/proc/self/maps`: some 100 ns a
/// mapping. None where that cannot be read.
pub fn mappings_now() -> Option<usize> {
    let file = Fd::open(c"/proc/self/maps", OpenFlags::Read).ok()?;
    let mut buffer = [0; 4096];
    let mut count = 0;
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(count),
            length => count += buffer[..length].iter().filter(|byte| **byte == b'\n').count(),
        }
    }
}

/// Whether a mapping may be split for a guard. Guesses upwards, and counts when the guess reaches
/// half of the budget.
fn may_split() -> bool {
    let limit = max_mapping_count() / 2;
    // Relaxed: a guess; two threads that both pass the limit are two mappings over a half.
    let guess = IN_USE_GUESS.fetch_add(MAPPINGS_OF_A_SPLIT, Ordering::Relaxed);
    if guess != 0 && guess + MAPPINGS_OF_A_SPLIT <= limit {
        return true;
    }
    let counted = mappings_now().unwrap_or(crate::mapping_count()) + MAPPINGS_OF_A_SPLIT;
    IN_USE_GUESS.store(counted, Ordering::Relaxed);
    counted <= limit
}

/// Makes every access to `bytes` from `start` a fault, the cheapest way that this kernel has.
///
/// # Safety
/// - The range is whole OS pages of a mapping that the caller owns, anonymous or of a file, and
///   nobody uses it or needs its contents.
///
/// # Errors
/// `ENOMEM` when only a mapping could do it and half of the budget is used; else the kernel's.
/// Nothing has changed then.
pub unsafe fn guard(start: NonNull<u8>, bytes: usize) -> Result<GuardKind, Errno> {
    // SAFETY: whole pages of the caller's that nobody uses.
    if unsafe { install_guards(start, bytes) }.is_ok() {
        GUARDS_INSTALLED.store(true, Ordering::Relaxed);
        return Ok(GuardKind::Installed);
    }
    if !may_split() {
        return Err(Errno::ENOMEM);
    }
    // SAFETY: likewise.
    unsafe { protect(start, bytes, Protection::None) }?;
    Ok(GuardKind::Protected)
}

/// Takes a guard away: the range reads as zero if it was installed, and as it was if it was
/// protected.
///
/// # Safety
/// - The range is the one given to [`guard`], which returned `kind`.
///
/// # Errors
/// The kernel's; `ENOMEM` when it cannot split a mapping.
pub unsafe fn unguard(start: NonNull<u8>, bytes: usize, kind: GuardKind) -> Result<(), Errno> {
    match kind {
        // SAFETY: the caller's promise; only guards go.
        GuardKind::Installed => unsafe { remove_guards(start, bytes) },
        GuardKind::Protected => {
            // SAFETY: the caller owns the range.
            unsafe { protect(start, bytes, Protection::ReadWrite) }
        }
    }
}

/// Takes away guards by advice in a range that has just been made accessible, if this process
/// ever installed one.
///
/// # Safety
/// - The range is whole OS pages of a mapping that the caller owns.
pub(crate) unsafe fn clear_installed(start: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
    if !GUARDS_INSTALLED.load(Ordering::Relaxed) {
        return Ok(());
    }
    // SAFETY: only guards go.
    unsafe { remove_guards(start, bytes) }
}

#[cfg(test)]
mod tests {
    use super::{guard, mappings_now, max_mapping_count, may_split, unguard};
    use crate::{Protection, is_readable, page_bytes, protect, release, reserve};

    #[test]
    fn a_guard_is_put_up_and_taken_away() {
        let page = page_bytes();
        let start = reserve(3 * page, Protection::ReadWrite).expect("address space");
        // SAFETY: inside the mapping.
        let second = unsafe { start.add(page) };
        // SAFETY: a page of ours, unused.
        let kind = unsafe { guard(second, page) }.expect("a guard");
        let address = second.as_ptr().addr();
        assert!(is_readable(address - 8) && !is_readable(address) && is_readable(address + page));
        // SAFETY: the guard just made.
        unsafe { unguard(second, page, kind) }.expect("taken away");
        assert!(is_readable(address));
        // SAFETY: the whole mapping, unused.
        unsafe { release(start, 3 * page) }.expect("release");
    }

    #[test]
    fn mappings_are_counted() {
        let before = mappings_now().expect("proc is there");
        assert!(before >= 2 && max_mapping_count() >= 1);
        let page = page_bytes();
        let start = reserve(65 * page, Protection::ReadWrite).expect("address space");
        for index in (1..65).step_by(2) {
            // SAFETY: inside the mapping.
            let at = unsafe { start.add(index * page) };
            // SAFETY: a page of ours, unused.
            unsafe { protect(at, page, Protection::None) }.expect("protect");
        }
        let split = mappings_now().expect("proc is there");
        assert!(split >= before + 60, "{before} mappings, then {split}");
        assert_eq!(may_split(), split + 2 <= max_mapping_count() / 2);
        // SAFETY: the whole mapping, unused.
        unsafe { release(start, 65 * page) }.expect("release");
    }
}
