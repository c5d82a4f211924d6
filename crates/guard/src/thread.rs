//! What a thread has of its own: the memo of its last stack, and a stack for signals.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::NonNull;

use heapwright_os::{
    Protection, ThreadExit, drop_signal_stack, offer_signal_stack, release, reserve, thread_id,
    thread_pointer,
};
use heapwright_sync::atomic::{AtomicU32, Ordering};
use heapwright_unwind::{Memo, Registers};

use crate::depot::{Depot, StackId};
use crate::sites::SITE_FRAME_COUNT;
use crate::tls;

/// The handler, a report and the program's own handler run here.
const SIGNAL_STACK_BYTES: usize = 64 << 10;
/// Smallest real pointer.
const POINTER_LEAST: usize = 4096;
/// Rounds of thread-exit calls that libc grants; the block ends in the last one.
const EXIT_ROUNDS: u32 = 4;

/// A thread's block. All zero but for the id: fresh.
#[repr(C)]
pub(crate) struct ThreadBlock {
    id: AtomicU32,
    /// 1 while the memo is in use: a signal handler then finds no memo.
    busy: AtomicU32,
    exit_round: AtomicU32,
    memo: UnsafeCell<Memo>,
}

/// The process's call at a thread's end; -1: none.
static EXIT_KEY: AtomicU32 = AtomicU32::new(u32::MAX);
/// Addresses of our own code, whose frames are left out.
static OWN_START: heapwright_sync::atomic::AtomicUsize =
    heapwright_sync::atomic::AtomicUsize::new(0);
static OWN_END: heapwright_sync::atomic::AtomicUsize = heapwright_sync::atomic::AtomicUsize::new(0);

/// A stack as the heap keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) stack: StackId,
    /// Number of the call site.
    pub(crate) site: u64,
    pub(crate) thread: u32,
}

/// Registers the call at threads' ends.
pub(crate) fn begin() {
    if let Some(key) = ThreadExit::new(at_thread_exit) {
        EXIT_KEY.store(key.to_raw(), Ordering::Relaxed);
    }
}

/// Frames in this range are ours.
pub(crate) fn set_own_code(start: usize, end: usize) {
    OWN_START.store(start, Ordering::Relaxed);
    OWN_END.store(end, Ordering::Relaxed);
}

/// Whether a return address is in our own code.
pub(crate) fn is_own(pc: usize) -> bool {
    let start = OWN_START.load(Ordering::Relaxed);
    pc.wrapping_sub(start) < OWN_END.load(Ordering::Relaxed).wrapping_sub(start)
}

fn exit_key() -> Option<ThreadExit> {
    let raw = EXIT_KEY.load(Ordering::Relaxed);
    // SAFETY: stored by `begin` from `to_raw`.
    (raw != u32::MAX).then(|| unsafe { ThreadExit::from_raw(raw) })
}

fn mapped_bytes() -> usize {
    size_of::<ThreadBlock>().next_multiple_of(heapwright_os::page_bytes()) + SIGNAL_STACK_BYTES
}

fn signal_stack(block: NonNull<ThreadBlock>) -> NonNull<u8> {
    let offset = mapped_bytes() - SIGNAL_STACK_BYTES;
    // SAFETY: the signal stack is the last part of the block's mapping.
    unsafe { block.cast::<u8>().add(offset) }
}

/// The calling thread's block; made when there is none. None at a thread's very end, or without
/// memory.
fn current() -> Option<&'static ThreadBlock> {
    let pointer = tls::get();
    if pointer.addr() >= POINTER_LEAST {
        // SAFETY: a real pointer is this thread's block, mapped until the thread ends.
        return Some(unsafe { &*pointer });
    }
    if pointer == tls::ENDED {
        return None;
    }
    make()
}

#[cold]
fn make() -> Option<&'static ThreadBlock> {
    let memory = reserve(mapped_bytes(), Protection::ReadWrite).ok()?;
    let block = memory.cast::<ThreadBlock>();
    tls::set(block.as_ptr());
    // SAFETY: fresh memory, zero, large enough and aligned to a page.
    let this = unsafe { block.as_ref() };
    this.id.store(thread_id(), Ordering::Relaxed);
    // SAFETY: that part of the mapping is for this alone.
    unsafe { offer_signal_stack(signal_stack(block), SIGNAL_STACK_BYTES) };
    if let Some(key) = exit_key() {
        // May allocate: the block is there already.
        key.arm(block.as_ptr().cast());
    }
    Some(this)
}

unsafe extern "C" fn at_thread_exit(_value: *mut c_void) {
    let pointer = tls::get();
    if pointer.addr() < POINTER_LEAST {
        return;
    }
    // SAFETY: this thread's block.
    let block = unsafe { &*pointer };
    let round = block.exit_round.fetch_add(1, Ordering::Relaxed) + 1;
    if round < EXIT_ROUNDS
        && let Some(key) = exit_key()
        && key.arm(pointer.cast())
    {
        return;
    }
    let Some(pointer) = NonNull::new(pointer) else { return };
    tls::set(tls::ENDED);
    drop_signal_stack(signal_stack(pointer));
    // SAFETY: the thread's own mapping, which nothing points to any more.
    let _ = unsafe { release(pointer.cast(), mapped_bytes()) };
}

/// The calling thread's block and signal stack, whose words are not the program's.
pub(crate) fn own_memory() -> (usize, usize) {
    let start = tls::get().addr();
    if start < POINTER_LEAST { (0, 0) } else { (start, start + mapped_bytes()) }
}

/// Whether the calling thread is taking its stack.
pub(crate) fn is_busy() -> bool {
    let pointer = tls::get();
    // SAFETY: this thread's block.
    pointer.addr() >= POINTER_LEAST && unsafe { &*pointer }.busy.load(Ordering::Relaxed) != 0
}

/// In a child after fork: the one thread has another id.
pub(crate) fn after_fork() {
    let pointer = tls::get();
    if pointer.addr() >= POINTER_LEAST {
        // SAFETY: this thread's block.
        unsafe { &*pointer }.id.store(thread_id(), Ordering::Relaxed);
    }
}

/// Where the part of the calling thread's stack begins that the program still needs.
///
/// After the return of `main` that is above all frames: what lies below is left over, and would
/// hide leaks. When the program called `exit` itself, its frames count, and all below them.
#[inline(never)]
pub(crate) fn live_stack_start() -> usize {
    let registers = Registers::current();
    let Some(block) = current() else { return registers.sp };
    if block.busy.swap(1, Ordering::Relaxed) != 0 {
        return registers.sp;
    }
    // SAFETY: this thread's block, and `busy` was 0: nobody else uses the memo.
    let memo = unsafe { &mut *block.memo.get() };
    // The tags of this walk are not stacks.
    memo.forget();
    // SAFETY: these are this thread's own registers, and this function goes on running.
    unsafe { memo.capture(registers) };
    let frames = memo.frames();
    let start = match frames.first() {
        Some(outermost) if frames[1..].iter().all(|frame| is_of_libc(frame.return_address())) => {
            outermost.stack_pointer()
        }
        _ => registers.sp,
    };
    memo.forget();
    block.busy.store(0, Ordering::Relaxed);
    start
}

/// Whether an address is our own code's, or that of libc or the loader.
fn is_of_libc(pc: usize) -> bool {
    let mut found = is_own(pc);
    heapwright_unwind::visit_modules(|module| {
        let name = module.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let is_libc = name.starts_with(b"libc.") || name.starts_with(b"libc-");
        let is_loader = name.starts_with(b"ld-") || name.starts_with(b"ld.");
        found |= (is_libc || is_loader) && (module.start..module.end).contains(&pc);
    });
    found
}

/// A number of the calling thread's own, for locks.
#[inline(always)]
pub(crate) fn me() -> usize {
    thread_pointer()
}

/// The id of the calling thread.
pub(crate) fn id() -> u32 {
    current().map_or_else(thread_id, |block| block.id.load(Ordering::Relaxed))
}

/// The calling thread's stack outside our own code. Without frames in a signal handler that
/// interrupted the same work, or at a thread's very end.
#[inline(never)]
pub(crate) fn trace(depot: &Depot) -> Trace {
    let Some(block) = current() else { return Trace::default() };
    let thread = block.id.load(Ordering::Relaxed);
    if block.busy.swap(1, Ordering::Relaxed) != 0 {
        return Trace { thread, ..Trace::default() };
    }
    // SAFETY: this thread's block, and `busy` was 0: nobody else uses the memo.
    let memo = unsafe { &mut *block.memo.get() };
    // SAFETY: these are this thread's own registers, and this function goes on running.
    let trace = unsafe { trace_from(memo, Registers::current(), depot) };
    block.busy.store(0, Ordering::Relaxed);
    Trace { thread, ..trace }
}

/// The stack from `registers` on, with `memo`, which may be another thread's last one.
///
/// # Safety
/// - As for [`Memo::capture`].
pub(crate) unsafe fn trace_from(memo: &mut Memo, registers: Registers, depot: &Depot) -> Trace {
    // SAFETY: the caller's promise.
    let capture = unsafe { memo.capture(registers) };
    let frames = memo.frames_mut();
    let mut stack = match capture.unchanged.checked_sub(1) {
        Some(last) => frames[last].tag,
        None => 0,
    };
    let me = me();
    for frame in &mut frames[capture.unchanged..] {
        let pc = frame.return_address();
        // Our own frames are innermost; their tags are the stack outside them.
        if !is_own(pc) {
            stack = depot.push(stack, pc, me);
        }
        frame.tag = stack;
    }
    let mut site = 0xcbf2_9ce4_8422_2325u64;
    let program = frames.iter().rev().map(|frame| frame.return_address());
    for pc in program.filter(|pc| !is_own(*pc)).take(SITE_FRAME_COUNT) {
        site = (site ^ pc as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        site ^= site >> 32;
    }
    Trace { stack, site, thread: 0 }
}
