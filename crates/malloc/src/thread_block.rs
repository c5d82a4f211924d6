//! What a thread keeps in thread-local storage: its free lists themselves, so that a malloc
//! reaches them without loading a heap pointer and without asking whether there is a heap (zeroed
//! storage is empty lists).
//!
//! `thread_local!` costs a call in a shared object and may allocate; here the storage is a
//! symbol of our own, addressed by the initial-exec model: one load from the global offset table.

use core::cell::Cell;

use heapwright_core::size_class::CLASS_COUNT;
use heapwright_sync::Link;
use heapwright_sync::atomic::AtomicPtr;
#[cfg(not(target_arch = "x86_64"))]
use heapwright_sync::atomic::Ordering;

use crate::block::Block;
use crate::heap::Heap;

/// A thread's place in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Life {
    /// Will get a heap when it needs one.
    Young = 0,
    /// Its last destructor has run; it borrows a heap for each allocation.
    Ended = 1,
}

/// The thread's own words, zero at first.
#[repr(C, align(64))]
pub(crate) struct ThreadBlock {
    /// First free block of each class.
    pub(crate) free: [Cell<Block>; CLASS_COUNT],
    /// The thread's heap; null when it has none.
    pub(crate) heap: Cell<*const Heap>,
    /// How often the end of the thread was put off.
    pub(crate) end_rounds: Cell<u32>,
    life: Cell<u32>,
    /// Where the caller of the `free` whose slow path runs goes on; 0 outside, or not known.
    pub(crate) free_caller: Cell<usize>,
    /// The process in which the thread called libc's `fork`, from our first handler to our last; else 0.
    pub(crate) forking_process: Cell<u32>,
}

/// Bytes of thread-local storage; small, since an object that is opened late finds little room.
const THREAD_BLOCK_BYTES: usize = 640;
const _: () = assert!(size_of::<ThreadBlock>() <= THREAD_BLOCK_BYTES);
// `pop` relies on it.
const _: () = assert!(core::mem::offset_of!(ThreadBlock, free) == 0);

core::arch::global_asm!(
    ".pushsection .tbss.heapwright_malloc_thread_0_1,\"awT\",@nobits",
    ".globl heapwright_malloc_thread_0_1",
    ".hidden heapwright_malloc_thread_0_1",
    ".type heapwright_malloc_thread_0_1, @object",
    ".size heapwright_malloc_thread_0_1, {bytes}",
    ".p2align 6",
    "heapwright_malloc_thread_0_1:",
    ".zero {bytes}",
    ".popsection",
    bytes = const THREAD_BLOCK_BYTES,
);

impl ThreadBlock {
    /// The calling thread's block. Valid while the thread lives; never sent elsewhere, since it
    /// is not `Sync`.
    #[inline(always)]
    pub(crate) fn current<'a>() -> &'a Self {
        let place: *const Self;
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the psABI's initial-exec sequence: the offset of the symbol from the thread
        // pointer, plus the thread pointer, which the word at fs:0 holds. Both are constant for
        // the thread.
        unsafe {
            core::arch::asm!(
                "mov {place}, qword ptr [rip + heapwright_malloc_thread_0_1@GOTTPOFF]",
                "add {place}, qword ptr fs:[0]",
                place = out(reg) place,
                options(pure, readonly, nostack),
            );
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above, with the thread pointer in tpidr_el0.
        unsafe {
            core::arch::asm!(
                "mrs {thread}, tpidr_el0",
                "adrp {place}, :gottprel:heapwright_malloc_thread_0_1",
                "ldr {place}, [{place}, :gottprel_lo12:heapwright_malloc_thread_0_1]",
                "add {place}, {place}, {thread}",
                place = out(reg) place,
                thread = out(reg) _,
                options(pure, readonly, nostack),
            );
        }
        // SAFETY: the symbol is large and aligned enough (asserted above), zeroed at the
        // thread's start, and only this thread reaches it.
        unsafe { &*place }
    }

    /// The first free block of `class_index`.
    #[inline(always)]
    pub(crate) fn list(&self, class_index: usize) -> &Cell<Block> {
        debug_assert!(class_index < CLASS_COUNT);
        // SAFETY: class indices come from `heapwright_core::size_class`, whose tests show that
        // all of them are below `CLASS_COUNT`.
        unsafe { self.free.get_unchecked(class_index) }
    }

    /// Takes the first block of the calling thread's list of `class_index`; null when it is empty.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn pop(class_index: usize) -> Block {
        debug_assert!(class_index < CLASS_COUNT);
        let offset: usize;
        // SAFETY: the first half of the initial-exec sequence, see `current`.
        unsafe {
            core::arch::asm!(
                "mov {offset}, qword ptr [rip + heapwright_malloc_thread_0_1@GOTTPOFF]",
                offset = out(reg) offset,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        let block: Block;
        // SAFETY: reads `free[class_index]` of this thread's block, which is its first field. By
        // the segment register, since adding the thread pointer would cost an instruction.
        unsafe {
            core::arch::asm!(
                "mov {block}, qword ptr fs:[{offset} + 8*{class}]",
                offset = in(reg) offset,
                class = in(reg) class_index,
                block = out(reg) block,
                options(readonly, nostack, preserves_flags),
            );
        }
        if !block.is_null() {
            // SAFETY: the head of the thread's own list.
            let next = unsafe { crate::block::next(block) };
            // SAFETY: writes the same word.
            unsafe {
                core::arch::asm!(
                    "mov qword ptr fs:[{offset} + 8*{class}], {next}",
                    offset = in(reg) offset,
                    class = in(reg) class_index,
                    next = in(reg) next,
                    options(nostack, preserves_flags),
                );
            }
        }
        block
    }

    /// Takes the first block of the calling thread's list of `class_index`; null when it is empty.
    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    pub(crate) fn pop(class_index: usize) -> Block {
        let list = Self::current().list(class_index).as_ptr();
        // Atomic, since a walk may be reading it. SAFETY: the thread's own word.
        let list = unsafe { AtomicPtr::from_ptr(list) };
        let block = list.load(Ordering::Relaxed);
        if !block.is_null() {
            // SAFETY: the head of the thread's own list.
            list.store(unsafe { crate::block::next(block) }, Ordering::Relaxed);
        }
        block
    }

    /// A number that no other living thread has, not 0: the thread pointer, which the hot path of
    /// `free` has in one instruction.
    #[inline(always)]
    pub(crate) fn token() -> usize {
        heapwright_os::thread_pointer()
    }

    /// The lists of the thread with that token, by class: its block is as far from its thread
    /// pointer as ours is from ours.
    pub(crate) fn lists_of(token: usize) -> *const AtomicPtr<Link> {
        let distance = core::ptr::from_ref(Self::current()).addr().wrapping_sub(Self::token());
        core::ptr::with_exposed_provenance(token.wrapping_add(distance))
    }

    /// Where the thread stands.
    pub(crate) fn life(&self) -> Life {
        if self.life.get() == 0 { Life::Young } else { Life::Ended }
    }

    /// Notes that the thread's last destructor has run.
    pub(crate) fn end(&self) {
        self.life.set(Life::Ended as u32);
    }
}
