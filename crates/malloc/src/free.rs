//! Giving blocks back, and what an address tells about its block.

use core::cell::Cell;

use heapwright_core::size_class::class_bytes;
use heapwright_sync::atomic::Ordering;

use crate::block::{self, Block};
use crate::class_pool::{Freed, lock_class, may_be_taken_over};
use crate::descriptor::{Descriptor, INTERIOR, LARGE, ORPHANED, PASSIVE, THREAD_MIN, ZONE};
use crate::fatal::fatal;
use crate::heap::{Entered, Heap};
use crate::large;
use crate::life;
use crate::nodes;
use crate::outbox::Added;
use crate::pool::lock;
#[cfg(target_arch = "x86_64")]
use crate::region::SLICE_LOG2;
use crate::region::{descriptor, descriptor_of, index_of, slice_of};
use crate::sampling;
use crate::span::Span;
use crate::thread_block::{Life, ThreadBlock};
use crate::zone;

/// Frees the block at `ptr`; null is nothing.
///
/// The owner's own free is sixteen instructions. A pointer into the region that is no block ends
/// the process where that is noticed; a pointer of another allocator is ignored.
///
/// # Safety
/// - `ptr` is null or a live block of this allocator, and nobody uses it after the call.
#[inline(always)]
pub unsafe fn free(ptr: *mut u8) {
    // SAFETY: the caller's promise, passed on.
    unsafe { free_by(ptr, 0) }
}

/// [`free`] with a number for [`GuardHooks::free`](crate::GuardHooks): which function the program
/// called. A constant costs nothing where the block is no guarded one.
///
/// # Safety
/// - As for [`free`].
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub unsafe fn free_by(ptr: *mut u8, taker: u8) {
    if let Some(head) = descriptor_of(ptr)
        && head.owner.load(Ordering::Relaxed) == ThreadBlock::token()
    {
        // SAFETY: this thread owns the span; `ptr` is a block in it, given up by the caller.
        if unsafe { push_local(head, ptr.cast()) } {
            wake_span_of(ptr);
        }
        return;
    }
    // SAFETY: the caller's promise, passed on.
    unsafe { free_slow(ptr, taker) };
}

/// [`free`] with a number for [`GuardHooks::free`](crate::GuardHooks): which function the program
/// called. A constant costs nothing where the block is no guarded one.
///
/// # Safety
/// - As for [`free`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub unsafe fn free_by(ptr: *mut u8, taker: u8) {
    // In assembly, since the compiler folds no atomic load into a comparison and no decrement into
    // one instruction, which makes seven more. The same as for other processors above, by
    // `descriptor_of`, `token` and `push_local`; each store is one instruction, in that order.
    // SAFETY: as there: the descriptor is committed memory for an address inside the region; the
    // stores go to a block that the caller gave up and to a span that this thread owns.
    unsafe {
        core::arch::asm!(
            "mov rax, {ptr}",
            "sub rax, qword ptr [rip + {base}]",
            "cmp rax, qword ptr [rip + {bytes}]",
            "jae {slow}",
            "shr rax, {shift}",
            "and rax, -{descriptor_bytes}",
            "add rax, qword ptr [rip + {base}]",
            "mov rcx, qword ptr fs:[0]",
            "cmp qword ptr [rax + {owner}], rcx",
            "jne {slow}",
            "mov rcx, qword ptr [rax + {local_free}]",
            "mov qword ptr [{ptr}], rcx",
            "mov qword ptr [rax + {local_free}], {ptr}",
            "sub dword ptr [rax + {until_wake}], 1",
            "je {wake}",
            ptr = in(reg) ptr,
            base = sym crate::region::BASE,
            bytes = sym crate::region::BYTES,
            shift = const SLICE_LOG2 - size_of::<Descriptor>().ilog2(),
            descriptor_bytes = const size_of::<Descriptor>(),
            owner = const core::mem::offset_of!(Descriptor, owner),
            local_free = const core::mem::offset_of!(Descriptor, local_free),
            until_wake = const core::mem::offset_of!(Descriptor, until_wake),
            slow = label {
                // SAFETY: the caller's promise, passed on.
                unsafe { free_slow(ptr, taker) }
            },
            wake = label { wake_span_of(ptr) },
            out("rax") _,
            out("rcx") _,
            options(nostack),
        );
    }
}

/// A function that passes on, as one argument more, where its caller goes on: to be jumped to as the
/// last thing that a function of the C face does, whose own caller that is then. The number says which
/// argument the address becomes, from 0.
macro_rules! with_caller {
    (1, $to:path) => {
        with_caller!(@ "mov rsi, qword ptr [rsp]", "mov x1, x30", $to)
    };
    (2, $to:path) => {
        with_caller!(@ "mov rdx, qword ptr [rsp]", "mov x2, x30", $to)
    };
    (@ $x86_64:literal, $aarch64:literal, $to:path) => {{
        #[cfg(target_arch = "x86_64")]
        core::arch::naked_asm!($x86_64, "jmp {to}", to = sym $to);
        #[cfg(target_arch = "aarch64")]
        core::arch::naked_asm!($aarch64, "b {to}", to = sym $to);
    }};
}

/// [`wake`] for the span that `ptr` lies in; as [`free_slow`].
#[cold]
#[unsafe(naked)]
extern "C" fn wake_span_of(ptr: *mut u8) {
    with_caller!(1, wake_span_from)
}

/// [`wake_span_of`] by who goes on at `caller`.
#[cold]
#[inline(never)]
extern "C" fn wake_span_from(ptr: *mut u8, caller: usize) {
    let _caller = Caller::noted(caller);
    if let Some(head) = descriptor_of(ptr) {
        wake(head);
    }
}

/// Who called the `free` whose slow path runs, while this lives.
struct Caller<'a> {
    place: &'a Cell<usize>,
    before: usize,
}

impl Caller<'_> {
    fn noted(caller: usize) -> Self {
        let place = &ThreadBlock::current().free_caller;
        Self { place, before: place.replace(caller) }
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.place.set(self.before);
    }
}

/// Whether this thread is in a slow path of a [`free`] that the dynamic loader calls.
///
/// The loader frees the storage of ended threads under the lock of libc's thread stacks
/// (`__nptl_free_stacks`), which starting a thread would wait for: for ever, in the thread that
/// holds it. It is known where the C face's `free` jumps to its slow path, which its optimised
/// builds do (on x86_64 gated by `crates/capi/tests/disassembly.rs`).
pub fn is_freeing_for_the_loader() -> bool {
    let caller = ThreadBlock::current().free_caller.get();
    caller != 0 && heapwright_os::is_in_loader(caller)
}

/// Links `block` into the span of `head`; whether the span has to be looked at then.
///
/// A purger may make the span passive between any two of these instructions; see
/// design/malloc.md#pending.
///
/// # Safety
/// - The calling thread owns the span; `block` is one of its slots, given up.
#[inline(always)]
pub(crate) unsafe fn push_local(head: &Descriptor, block: Block) -> bool {
    // SAFETY: the slot is given up by the caller.
    unsafe { block::set_next(block, head.local_free.load(Ordering::Relaxed)) };
    // Release: pairs with the Acquire in `Span::links_to_bits`; publishes the link. An ordinary
    // store on x86_64.
    head.local_free.store(block, Ordering::Release);
    let until_wake = head.until_wake.load(Ordering::Relaxed) - 1;
    head.until_wake.store(until_wake, Ordering::Relaxed);
    until_wake == 0
}

/// Links a batch of `count` blocks from `first` to `last` into the span of `head`; whether the
/// span has to be looked at then, for which its `until_wake` is 0 like after a single free.
///
/// # Safety
/// - The calling thread owns the span, is in a slow path with its heap's lock, and the blocks are
///   slots of the span, linked and given up.
pub(crate) unsafe fn push_batch(head: &Descriptor, first: Block, last: Block, count: u32) -> bool {
    // SAFETY: given up by the caller.
    unsafe { block::set_next(last, head.local_free.load(Ordering::Relaxed)) };
    // Release: as in `push_local`.
    head.local_free.store(first, Ordering::Release);
    let until_wake = head.until_wake.load(Ordering::Relaxed) - count as i32;
    if until_wake <= 0 {
        // Fewer are used than the span waited for; their sum stays the number used (I2).
        let wake_at = head.wake_at.load(Ordering::Relaxed) + until_wake;
        head.wake_at.store(wake_at, Ordering::Relaxed);
    }
    head.until_wake.store(until_wake.max(0), Ordering::Relaxed);
    until_wake <= 0
}

#[cold]
#[inline(never)]
fn wake(head: &'static Descriptor) {
    // SAFETY: heaps live for ever; an active span has one.
    if let Some(heap) = unsafe { head.heap.load(Ordering::Relaxed).as_ref() } {
        let mut entered = heap.enter();
        entered.wake(Span::of(head));
        // A thread that only frees has no refill in which it would, and owns spans, too.
        entered.collect_remote();
        drop(entered);
        life::heartbeat();
    }
}

/// [`free`] of what is not in the first slice of a span of this thread.
///
/// [`free`] jumps here where the compiler makes a jump of the call, so that whoever called `free`
/// goes on where this returns to.
///
/// # Safety
/// - As for [`free`].
#[cold]
#[unsafe(naked)]
unsafe extern "C" fn free_slow(ptr: *mut u8, taker: u8) {
    with_caller!(2, free_slow_from)
}

/// [`free_slow`] by who goes on at `caller`. A block of another thread's that goes the way of the one
/// before needs no more than this: no frame, no helper.
///
/// # Safety
/// - As for [`free`].
#[cold]
#[inline(never)]
unsafe extern "C" fn free_slow_from(ptr: *mut u8, taker: u8, caller: usize) {
    if !free_into_batch(ptr) {
        // SAFETY: the caller's promise, passed on.
        unsafe { free_slow_by(ptr, taker, caller) };
    }
}

/// Frees `ptr`, given up by everybody, if it is a block of another thread's that joins others in
/// this thread's outbox.
#[inline(always)]
fn free_into_batch(ptr: *mut u8) -> bool {
    let Some(index) = slice_of(ptr) else { return false };
    let head = descriptor(index);
    // Acquire: pairs with the Release of whoever made it its own; then `heap` is right.
    let owner = head.owner.load(Ordering::Acquire);
    if owner < THREAD_MIN || owner == ThreadBlock::token() {
        return false;
    }
    // SAFETY: the thread's heap lives for ever; null when it has none.
    let own = unsafe { ThreadBlock::current().heap.get().as_ref() };
    let heap = head.heap.load(Ordering::Relaxed);
    own.is_some_and(|own| own.outbox.add_to_batch(heap, ptr.cast(), index))
}

/// [`free_slow_from`] of everything else.
///
/// # Safety
/// - As for [`free`].
#[cold]
#[inline(never)]
unsafe fn free_slow_by(ptr: *mut u8, taker: u8, caller: usize) {
    let _caller = Caller::noted(caller);
    let Some(head) = head_of(ptr) else {
        if !ptr.is_null() {
            if sampling::guard().is_some_and(|guard| (guard.free)(ptr, taker)) {
                return;
            }
            // Whether it was ours or another allocator's, there is nothing more to do.
            lock().direct.free(ptr);
        }
        return;
    };
    let owner = head.owner.load(Ordering::Acquire);
    if owner == LARGE {
        large::free(index_of(head));
        life::heartbeat();
        return;
    }
    if owner == ThreadBlock::token() {
        // SAFETY: this thread owns the span; `ptr` is a block in it, given up by the caller.
        if unsafe { push_local(head, ptr.cast()) } {
            wake(head);
        }
        return;
    }
    if owner == ZONE {
        zone::free_small(head, ptr.cast());
        return;
    }
    let block: Block = ptr.cast();
    let thread = ThreadBlock::current();
    let own = if owner >= THREAD_MIN && thread.life() == Life::Young {
        // A thread that only frees needs an outbox, too.
        life::heap_of(thread)
    } else {
        // SAFETY: the thread's heap lives for ever; null when it has none.
        unsafe { thread.heap.get().as_ref() }
    };
    if let Some(own) = own
        && owner >= THREAD_MIN
    {
        // SAFETY: heaps live for ever; null when the span has changed hands meanwhile.
        if let Some(heap) = unsafe { head.heap.load(Ordering::Relaxed).as_ref() } {
            match own.outbox.add(heap, block, Span::of(head)) {
                Added::Kept => return,
                // A thread that only frees has no other slow path.
                Added::Sent => return life::heartbeat(),
                Added::Refused => {}
            }
        }
    }
    if owner == PASSIVE
        && let Some(own) = own
    {
        free_passive_of_thread(head, block, own);
        return;
    }
    free_redirected(head, block, None);
    life::heartbeat();
}

/// Frees `block` of a passive span in a thread that has a heap: takes the span over when it is
/// well used.
fn free_passive_of_thread(head: &'static Descriptor, block: Block, own: &'static Heap) {
    let span = Span::of(head);
    let is_listed = span.place().is_adoptable() && nodes::is_near(span.part());
    if is_listed && may_be_taken_over(span, own) {
        let mut entered = own.enter();
        free_redirected(head, block, Some(&mut entered));
        entered.collect_remote();
    } else {
        free_redirected(head, block, None);
    }
    life::heartbeat();
}

/// Frees `block`, given up by everybody, of the small span of `head`, whoever owns it now. With
/// `adopter` a passive span becomes that thread's.
pub(crate) fn free_redirected(
    head: &'static Descriptor,
    block: Block,
    mut adopter: Option<&mut Entered>,
) {
    let span = Span::of(head);
    loop {
        // Acquire: pairs with the Release of whoever made it its own; then `heap` is right.
        let owner = head.owner.load(Ordering::Acquire);
        if owner >= THREAD_MIN {
            // SAFETY: heaps live for ever; null when the span changes hands right now.
            let Some(heap) = (unsafe { head.heap.load(Ordering::Relaxed).as_ref() }) else {
                core::hint::spin_loop();
                continue;
            };
            // SAFETY: the block was given up and is in no list.
            unsafe { block::set_batch(block, block, 1) };
            // SAFETY: as above. A closed queue means that the owner has changed: look again.
            if unsafe { heap.remote.push(block, block) }.is_ok() {
                return;
            }
        } else if owner == PASSIVE {
            let mut pool = lock_class(span.class_index());
            if let Some(entered) = adopter.as_deref_mut()
                && head.owner.load(Ordering::Relaxed) == PASSIVE
                && span.place().is_adoptable()
            {
                pool.activate(span, entered.heap, entered.owner);
                drop(pool);
                entered.shelve(span);
                // SAFETY: the span is this thread's own since the lines above.
                if unsafe { push_local(head, block) } {
                    entered.wake(span);
                }
                return;
            }
            match pool.free(span, block) {
                Freed::Taken => {}
                Freed::Kept => return,
                Freed::Emptied => {
                    lock().give_span(span);
                    return;
                }
            }
        } else if owner == ORPHANED {
            life::adopt_orphans_of(head);
        } else {
            fatal(b"heapwright: free of an address that is no live block\n");
        }
    }
}

/// Frees the blocks of `list`, taken from a queue that is closed by now.
pub(crate) fn free_all_redirected(mut list: Block) {
    while !list.is_null() {
        let block = list;
        // SAFETY: the list is this thread's alone since the queue was closed.
        list = unsafe { block::next(block) };
        if let Some(head) = head_of(block.cast()) {
            free_redirected(head, block, None);
        }
    }
}

/// How many bytes of the block at `ptr` the program may touch; 0 for null and for pointers that
/// are not ours. O(1).
///
/// # Safety
/// - `ptr` is null or a live block.
#[inline]
pub unsafe fn usable_bytes(ptr: *mut u8) -> usize {
    let Some(head) = head_of(ptr) else {
        return if ptr.is_null() { 0 } else { usable_bytes_outside(ptr) };
    };
    if head.owner.load(Ordering::Relaxed) == LARGE {
        return head.extra.load(Ordering::Relaxed) as usize;
    }
    class_bytes(usize::from(head.class_index.load(Ordering::Relaxed)))
}

#[cold]
fn usable_bytes_outside(ptr: *mut u8) -> usize {
    sampling::guard()
        .and_then(|guard| (guard.usable_bytes)(ptr))
        .or_else(|| lock().direct.usable_bytes(ptr))
        .unwrap_or(0)
}

/// Descriptor of the run that `ptr` lies in; none outside the region.
#[inline]
pub(crate) fn head_of(ptr: *mut u8) -> Option<&'static Descriptor> {
    let slice = descriptor_of(ptr)?;
    if slice.owner.load(Ordering::Relaxed) != INTERIOR {
        return Some(slice);
    }
    let distance = slice.run_slices.load(Ordering::Relaxed);
    Some(descriptor(slice_of(ptr)?.checked_sub(distance)?))
}

/// Whether `ptr` lies in the region.
pub(crate) fn is_in_region(ptr: *mut u8) -> bool {
    slice_of(ptr).is_some()
}
