//! The answers: reading, writing, doing.

use core::ffi::{CStr, c_char, c_int, c_void};

use heapwright_os::{Errno, page_bytes};
use heapwright_sync::atomic::{AtomicU64, Ordering};

use super::names::{DEPTH_MAX, mib_of, name_of};
use crate::{CAllocator, Usage};

/// Linux's number, the same on every machine that we build for.
const EFAULT: Errno = Errno(14);

/// As an arena's number: all arenas.
const ALL_ARENAS: usize = 4096;

/// There is one arena.
const ARENA_COUNT: u32 = 1;

/// How often `epoch` was written. The figures are always fresh; programs only expect it to move.
static EPOCH: AtomicU64 = AtomicU64::new(1);

/// What a name asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Version,
    Epoch,
    /// A switch that is off and stays off.
    Off,
    /// A switch that is on and stays on.
    On,
    /// A fact that does not hold, holds.
    IsOff,
    IsOn,
    /// The word `false`, no word.
    False,
    Empty,
    ThreadArena,
    ArenaCount,
    IsInitialized,
    PageBytes,
    QuantumBytes,
    Lookup,
    /// Gives memory back to the kernel.
    Trim,
    AllocatedBytes,
    ActiveBytes,
    MetadataBytes,
    ResidentBytes,
    MappedBytes,
    RetainedBytes,
    SmallBytes,
    LargeBytes,
    ActivePages,
    DirtyPages,
    NoPages,
}

/// Where a program wants an old value and has a new one; either may be absent.
struct Exchange {
    old: *mut c_void,
    old_bytes: *mut usize,
    new: *mut c_void,
    new_bytes: usize,
}

impl Exchange {
    /// Hands `value` out.
    ///
    /// # Safety
    /// - `old` and `old_bytes` are null, or as `mallctl` asks.
    unsafe fn give<T: Copy>(&self, value: T) -> Result<(), Errno> {
        if self.old.is_null() || self.old_bytes.is_null() {
            return Ok(());
        }
        // SAFETY: not null, and the caller's promise.
        let room_bytes = unsafe { self.old_bytes.read() };
        let bytes = size_of::<T>();
        let from = (&raw const value).cast::<u8>();
        // SAFETY: the caller's promise of `room_bytes` bytes; `value` holds the others.
        unsafe { self.old.cast::<u8>().copy_from_nonoverlapping(from, room_bytes.min(bytes)) };
        if room_bytes == bytes {
            return Ok(());
        }
        // SAFETY: not null, and the caller's promise.
        unsafe { self.old_bytes.write(room_bytes.min(bytes)) };
        Err(Errno::EINVAL)
    }

    /// The new value, if there is one.
    ///
    /// # Safety
    /// - `new` is null or may be read for `new_bytes`; every value of that many bytes is a `T`.
    unsafe fn take<T: Copy>(&self) -> Result<Option<T>, Errno> {
        if self.new.is_null() {
            return Ok(None);
        }
        if self.new_bytes != size_of::<T>() {
            return Err(Errno::EINVAL);
        }
        // SAFETY: the caller's promise; the sizes agree.
        Ok(Some(unsafe { self.new.cast::<T>().read_unaligned() }))
    }

    fn read_only(&self) -> Result<(), Errno> {
        if self.new.is_null() { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// A value that can only be read.
    ///
    /// # Safety
    /// - As for [`give`](Self::give).
    unsafe fn tell<T: Copy>(&self, value: T) -> Result<(), Errno> {
        self.read_only()?;
        // SAFETY: the caller's promise.
        unsafe { self.give(value) }
    }

    /// A switch that stays as it is: writing what it is succeeds.
    ///
    /// # Safety
    /// - As for [`give`](Self::give) and [`take`](Self::take).
    unsafe fn fixed_switch(&self, is_on: bool) -> Result<(), Errno> {
        // SAFETY: the caller's promise; any byte is a `u8`.
        let wanted = unsafe { self.take::<u8>() }?;
        if wanted.is_some_and(|wanted| (wanted != 0) != is_on) {
            return Err(Errno::ENOENT);
        }
        // SAFETY: the caller's promise.
        unsafe { self.give(is_on) }
    }
}

/// Answers the name that `mib` stands for.
///
/// # Safety
/// - The pointers of `exchange` are as `mallctl` asks.
unsafe fn answer<A: CAllocator>(mib: &[usize], exchange: &Exchange) -> Result<(), Errno> {
    let (name, argument) = name_of(mib).ok_or(Errno::ENOENT)?;
    let has_number = name.pattern.contains('*');
    let is_arena = argument <= ARENA_COUNT as usize || argument == ALL_ARENAS;
    if has_number && !is_arena {
        return Err(Errno::ENOENT);
    }
    let usage = || A::usage();
    let page = page_bytes();
    // SAFETY, of all below: the caller's promise about the pointers, passed on.
    match name.question {
        // SAFETY: as above.
        Question::Version => unsafe { exchange.tell(A::VERSION.as_ptr()) },
        Question::Epoch => {
            // SAFETY: as above; any eight bytes are a `u64`.
            if unsafe { exchange.take::<u64>() }?.is_some() {
                // Relaxed: a count that orders nothing.
                EPOCH.fetch_add(1, Ordering::Relaxed);
            }
            // SAFETY: as above.
            unsafe { exchange.give(EPOCH.load(Ordering::Relaxed)) }
        }
        // SAFETY: as above.
        Question::Off => unsafe { exchange.fixed_switch(false) },
        // SAFETY: as above.
        Question::On => unsafe { exchange.fixed_switch(true) },
        // SAFETY: as above.
        Question::IsOff => unsafe { exchange.tell(false) },
        // SAFETY: as above.
        Question::IsOn => unsafe { exchange.tell(true) },
        // SAFETY: as above.
        Question::False => unsafe { exchange.tell(c"false".as_ptr()) },
        // SAFETY: as above.
        Question::Empty => unsafe { exchange.tell(c"".as_ptr()) },
        Question::ThreadArena => {
            // SAFETY: as above; any four bytes are a `u32`.
            if unsafe { exchange.take::<u32>() }?.is_some_and(|wanted| wanted != 0) {
                return Err(EFAULT);
            }
            // SAFETY: as above.
            unsafe { exchange.give(0_u32) }
        }
        // SAFETY: as above.
        Question::ArenaCount => unsafe { exchange.tell(ARENA_COUNT) },
        // SAFETY: as above.
        Question::IsInitialized => unsafe { exchange.tell(argument != ARENA_COUNT as usize) },
        // SAFETY: as above.
        Question::PageBytes => unsafe { exchange.tell(page) },
        // SAFETY: as above. Blocks are aligned to it.
        Question::QuantumBytes => unsafe { exchange.tell(16_usize) },
        Question::Lookup => {
            // SAFETY: as above; any word is a `usize`.
            let ptr = unsafe { exchange.take::<usize>() }?.ok_or(Errno::EINVAL)?;
            if ptr == 0 {
                return Err(Errno::EINVAL);
            }
            // SAFETY: as above.
            unsafe { exchange.give(0_u32) }
        }
        Question::Trim => {
            if !exchange.old.is_null() || !exchange.new.is_null() {
                return Err(Errno::EPERM);
            }
            A::trim();
            Ok(())
        }
        // SAFETY: as above.
        Question::AllocatedBytes => unsafe { exchange.tell(usage().in_use_bytes) },
        // SAFETY: as above.
        Question::ActiveBytes => unsafe { exchange.tell(usage().active_bytes()) },
        // SAFETY: as above.
        Question::MetadataBytes => unsafe { exchange.tell(usage().metadata_bytes) },
        // SAFETY: as above.
        Question::ResidentBytes => unsafe { exchange.tell(usage().resident_bytes()) },
        // SAFETY: as above.
        Question::MappedBytes => unsafe { exchange.tell(usage().mapped_bytes()) },
        // SAFETY: as above. What was given back to the kernel is not counted as ours.
        Question::RetainedBytes => unsafe { exchange.tell(0_usize) },
        // SAFETY: as above.
        Question::SmallBytes => unsafe { exchange.tell(usage().small_bytes()) },
        // SAFETY: as above.
        Question::LargeBytes => unsafe { exchange.tell(usage().large_bytes) },
        // SAFETY: as above.
        Question::ActivePages => unsafe { exchange.tell(usage().active_bytes() / page) },
        // SAFETY: as above.
        Question::DirtyPages => unsafe { exchange.tell(usage().trimmable_bytes / page) },
        // SAFETY: as above.
        Question::NoPages => unsafe { exchange.tell(0_usize) },
    }
}

fn status(result: Result<(), Errno>) -> c_int {
    result.err().map_or(0, |errno| errno.0)
}

/// `mallctl`: 0, or an error number.
///
/// # Safety
/// - `name` is a C string.
/// - `old` is null or may be written for the number of bytes that `old_bytes` points to; `new` is
///   null or may be read for `new_bytes`.
pub unsafe fn mallctl<A: CAllocator>(
    name: *const c_char,
    old: *mut c_void,
    old_bytes: *mut usize,
    new: *mut c_void,
    new_bytes: usize,
) -> c_int {
    if name.is_null() {
        return Errno::EINVAL.0;
    }
    // SAFETY: not null, so a C string by the caller's promise.
    let name = unsafe { CStr::from_ptr(name) };
    let Some(mib) = mib_of(name.to_bytes()) else { return Errno::ENOENT.0 };
    let mib = mib.component.get(..mib.depth).unwrap_or(&[]);
    // SAFETY: the caller's promise about the pointers.
    status(unsafe { answer::<A>(mib, &Exchange { old, old_bytes, new, new_bytes }) })
}

/// `mallctlnametomib`: the numbers of a name or of its beginning.
///
/// # Safety
/// - `name` is a C string; `depth` may be read and written, and `mib` written for as many words as
///   `depth` says.
pub unsafe fn mallctlnametomib(name: *const c_char, mib: *mut usize, depth: *mut usize) -> c_int {
    if name.is_null() || mib.is_null() || depth.is_null() {
        return Errno::EINVAL.0;
    }
    // SAFETY: not null, so a C string by the caller's promise.
    let name = unsafe { CStr::from_ptr(name) };
    let Some(found) = mib_of(name.to_bytes()) else { return Errno::ENOENT.0 };
    // SAFETY: not null, and the caller's promise.
    let room = unsafe { depth.read() }.min(found.depth);
    // SAFETY: not null, and the caller's promise.
    unsafe { depth.write(room) };
    // SAFETY: the caller's promise of at least `room` words.
    unsafe { mib.copy_from_nonoverlapping(found.component.as_ptr(), room) };
    0
}

/// `mallctlbymib`: as [`mallctl`], by the numbers.
///
/// # Safety
/// - `mib` may be read for `depth` words; the others as for [`mallctl`].
pub unsafe fn mallctlbymib<A: CAllocator>(
    mib: *const usize,
    depth: usize,
    old: *mut c_void,
    old_bytes: *mut usize,
    new: *mut c_void,
    new_bytes: usize,
) -> c_int {
    if mib.is_null() || depth > DEPTH_MAX {
        return Errno::ENOENT.0;
    }
    // SAFETY: the caller's promise.
    let mib = unsafe { core::slice::from_raw_parts(mib, depth) };
    // SAFETY: the caller's promise about the pointers.
    status(unsafe { answer::<A>(mib, &Exchange { old, old_bytes, new, new_bytes }) })
}

impl Usage {
    /// jemalloc's "active": OS pages with blocks or with free slots between them.
    pub(super) fn active_bytes(&self) -> usize {
        self.mapped_bytes() - self.trimmable_bytes.min(self.arena_bytes)
    }

    /// Bytes taken from the kernel and not given back.
    pub(super) fn mapped_bytes(&self) -> usize {
        self.arena_bytes + self.large_bytes.next_multiple_of(page_bytes())
    }

    /// At most so many bytes are backed by memory, metadata included.
    pub(super) fn resident_bytes(&self) -> usize {
        self.mapped_bytes() + self.metadata_bytes
    }

    /// Bytes of blocks that are not large.
    pub(super) fn small_bytes(&self) -> usize {
        self.in_use_bytes - self.large_bytes.min(self.in_use_bytes)
    }
}
