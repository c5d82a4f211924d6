//! A thread's recorder: from a hook's facts to events in the thread's ring.
//!
//! # Invariants
//! - I1: a block of a thread is private memory that a fork wipes; `armed` is ARMED when the rest
//!   is valid and of the current session, STALE when it is of one that is over, else 0.
//! - I2: `busy` is FREE outside hooks, IN_HOOK while the real allocator runs (calls from inside
//!   it belong to the call being recorded), WRITING while an event is written. Only a call
//!   that finds it FREE uses the recorder, so there is one `&mut` at a time.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::mem::size_of;
use core::ptr::NonNull;

use heapwright_format::spool::SLOT_BYTES;
use heapwright_format::{AllocKind, FreeKind, LeafKind, MODULE_EVENT_BYTES_MAX};
use heapwright_os::{
    Advice, Protection, advise, page_bytes, release, reserve, thread_id, thread_pointer,
};
use heapwright_sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use heapwright_unwind::Registers;

use crate::confined::{is_confined, pause};
use crate::nodes::Nodes;
use crate::process::process;
use crate::ring::Ring;
use crate::sample::SampledSet;
use crate::session::{Mode, exit_key, mode, session, start};
use crate::tls;
use crate::writer::Writer;

const FREE: u32 = 0;
const IN_HOOK: u32 = 1;
const WRITING: u32 = 2;

const ARMED: u32 = 1;
const STALE: u32 = 2;

/// What [`leave`] has to see to: the recorder is the late one; its session is over.
const ATTENTION_LATE: u32 = 1;
pub(crate) const ATTENTION_OVER: u32 = 2;

/// Pointer values of threads that cannot record now: one that is setting its recorder up, and
/// one that got no slot.
const STARTING: *mut ThreadRecorder = core::ptr::without_provenance_mut(2);
const REFUSED: *mut ThreadRecorder = core::ptr::without_provenance_mut(3);
/// Smallest real pointer.
const POINTER_LEAST: usize = 4096;

/// Rounds of thread-exit calls that libc grants; the recorder ends in the last one, since other
/// libraries' destructors free memory before.
const EXIT_ROUNDS: u32 = 4;

/// A block that a hook allocated.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// First byte.
    pub address: usize,
    /// Bytes requested.
    pub size: usize,
    /// The operation.
    pub kind: AllocKind,
    /// log2 of the alignment asked for; 0 when none was.
    pub align_log2: u8,
}

/// The block of a thread.
#[repr(C, align(64))]
pub(crate) struct ThreadRecorder {
    armed: AtomicU32,
    busy: AtomicU32,
    exit_round: AtomicU32,
    attention: AtomicU32,
    inner: UnsafeCell<Writer>,
}

/// The recorder for threads whose own has ended (libc frees some memory after the last
/// destructor): one for the process, under a lock.
pub(crate) struct LateRecorder {
    /// Thread pointer of the user, 0 for none.
    user: AtomicUsize,
    recorder: AtomicPtr<ThreadRecorder>,
}

/// Tries for the late recorder, some 10 ms.
const LATE_TRIES_MAX: usize = 10_000;

/// A resizing that has begun.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Resize {
    pub(crate) old: u64,
    pub(crate) start_time: u64,
    /// Length of the old block if its pages were watched, else 0.
    pub(crate) watched_bytes: u64,
    /// Whether the old block is recorded.
    pub(crate) is_taken: bool,
}

/// The calling thread's recorder, busy with this call until it is passed to [`leave`].
#[derive(Clone, Copy)]
pub struct Guard(&'static ThreadRecorder);

/// Begins a hook: the thread's recorder, or none when the call is not to be recorded (recording
/// is off, or this is a call from inside another hook).
#[inline(always)]
pub fn enter() -> Option<Guard> {
    let pointer = tls::get();
    if pointer.addr() >= POINTER_LEAST {
        // SAFETY: a real pointer is this thread's block, mapped until the thread ends.
        let recorder = unsafe { &*pointer };
        // Relaxed: both words are written by this thread only, and by the kernel's wiping.
        if recorder.armed.load(Ordering::Relaxed) == ARMED
            && recorder.busy.load(Ordering::Relaxed) == FREE
        {
            recorder.busy.store(IN_HOOK, Ordering::Relaxed);
            return Some(Guard(recorder));
        }
    }
    enter_slow(pointer)
}

/// Ends a hook.
#[inline(always)]
pub fn leave(guard: Guard) {
    guard.0.busy.store(FREE, Ordering::Relaxed);
    if guard.0.attention.load(Ordering::Relaxed) != 0 {
        leave_slow(guard);
    }
}

#[cold]
#[inline(never)]
fn enter_slow(pointer: *mut ThreadRecorder) -> Option<Guard> {
    if pointer.addr() >= POINTER_LEAST {
        // SAFETY: a real pointer is this thread's block, mapped until the thread ends.
        let recorder = unsafe { &*pointer };
        if recorder.armed.load(Ordering::Relaxed) == ARMED {
            if recorder.busy.load(Ordering::Relaxed) == WRITING {
                // A signal handler that allocates, in the middle of our own work.
                count_unrecorded();
            }
            return None;
        }
    }
    if mode() != Mode::On && start(false) != Mode::On {
        return None;
    }
    if session()?.stop.load(Ordering::Relaxed) != 0 {
        crate::dormant::rest();
        return None;
    }
    if pointer == tls::ENDED {
        return enter_late();
    }
    if pointer == STARTING {
        return None;
    }
    if pointer == REFUSED {
        count_unrecorded();
        return None;
    }
    tls::set(STARTING);
    let old = (pointer.addr() >= POINTER_LEAST).then_some(pointer).and_then(NonNull::new);
    let made = ThreadRecorder::make(old);
    tls::set(made.map_or(REFUSED, NonNull::as_ptr));
    if made.is_none() {
        count_unrecorded();
    }
    // SAFETY: made just now, mapped until the thread ends.
    let recorder: &'static ThreadRecorder = unsafe { made?.as_ref() };
    // Busy first: arming may allocate.
    recorder.busy.store(IN_HOOK, Ordering::Relaxed);
    if let Some(key) = exit_key() {
        key.arm(core::ptr::from_ref(recorder).cast());
    }
    Some(Guard(recorder))
}

/// Counts an event that is not recorded.
fn count_unrecorded() {
    if let Some(process) = process() {
        process.header().unrecorded.fetch_add(1, Ordering::Relaxed);
    }
}

/// Libc's call at a thread's end.
pub(crate) unsafe extern "C" fn at_thread_exit(_value: *mut c_void) {
    let pointer = tls::get();
    if pointer.addr() < POINTER_LEAST {
        return;
    }
    // SAFETY: a real pointer is this thread's block.
    let recorder = unsafe { &*pointer };
    if recorder.armed.load(Ordering::Relaxed) == STALE {
        tls::set(tls::ENDED);
        // SAFETY: the thread's own block, which nothing points to any more.
        unsafe { ThreadRecorder::strip(NonNull::from(recorder)) };
        // SAFETY: as above; the mapping made for it.
        let _ = unsafe { release(NonNull::from(recorder).cast(), ThreadRecorder::mapped_bytes()) };
        return;
    }
    if recorder.armed.load(Ordering::Relaxed) != ARMED {
        return;
    }
    let round = recorder.exit_round.fetch_add(1, Ordering::Relaxed) + 1;
    if round < EXIT_ROUNDS
        && let Some(key) = exit_key()
        && key.arm(pointer.cast())
    {
        return;
    }
    tls::set(tls::ENDED);
    // SAFETY: the thread's own block, which nothing points to any more.
    unsafe { ThreadRecorder::end(NonNull::from(recorder)) };
}

impl ThreadRecorder {
    /// Makes the calling thread's recorder, in the wiped memory of a parent's one if there is
    /// such.
    fn make(old: Option<NonNull<Self>>) -> Option<NonNull<Self>> {
        let (session, process) = (session()?, process()?);
        if is_confined() {
            return None;
        }
        let slot = process.take_slot()?;
        let place = match old {
            Some(place) => {
                // SAFETY: the thread's own block; its control words are atomics.
                let armed = unsafe { &place.as_ref().armed };
                if armed.load(Ordering::Relaxed) == STALE {
                    // SAFETY: as above, and no guard of this thread is out: hooks do not nest.
                    unsafe { Self::strip(place) };
                }
                place
            }
            None => Self::memory()?,
        };
        // SAFETY: the slot was taken by this thread, has memory and stays mapped.
        let ring = unsafe { Ring::new(session, slot.start, slot.index) };
        let thread_id = thread_id();
        ring.slot().thread_id.store(thread_id, Ordering::Relaxed);
        ring.slot().thread.store(slot.thread, Ordering::Relaxed);
        // SAFETY: the inner cell of this thread's own, still unarmed block.
        let writer = unsafe { &raw const (*place.as_ptr()).inner };
        let writer = UnsafeCell::raw_get(writer);
        // SAFETY: the control words are atomics, valid when zero; mapped until the thread ends.
        let recorder: &'static Self = unsafe { place.as_ref() };
        let attention = &recorder.attention;
        // SAFETY: the memory is this thread's own, large enough, aligned to a page, and zero,
        // which `begin` asks for.
        unsafe { Writer::begin(writer, session, process, ring, thread_id, attention) };
        recorder.busy.store(FREE, Ordering::Relaxed);
        recorder.exit_round.store(0, Ordering::Relaxed);
        recorder.armed.store(ARMED, Ordering::Relaxed);
        Some(place)
    }

    fn memory() -> Option<NonNull<Self>> {
        let bytes = Self::mapped_bytes();
        let memory = reserve(bytes, Protection::ReadWrite).ok()?;
        // SAFETY: the mapping just made, whole pages, nobody else knows it.
        unsafe { advise(memory, bytes, Advice::WipeOnFork) }.ok()?;
        Some(memory.cast())
    }

    /// Gives back what belonged to a session that is over, and leaves the block zero.
    ///
    /// # Safety
    /// - `this` is the calling thread's stale block, not in use.
    unsafe fn strip(this: NonNull<Self>) {
        // SAFETY: stale (I1): valid, and ours.
        let recorder = unsafe { this.as_ref() };
        // SAFETY: not in use (the caller), so this is the only reference (I2).
        let writer = unsafe { &mut *recorder.inner.get() };
        core::mem::replace(&mut writer.nodes, Nodes::new()).give_back();
        core::mem::replace(&mut writer.stacks, Nodes::new()).give_back();
        // SAFETY: the slot's mapping in this process; only its thread used it, which is here.
        let _ = unsafe { release(writer.ring.start(), SLOT_BYTES) };
        // SAFETY: the block's own mapping, whose contents were given up above.
        let _ = unsafe { advise(this.cast(), Self::mapped_bytes(), Advice::DontNeed) };
    }

    fn mapped_bytes() -> usize {
        size_of::<Self>().next_multiple_of(page_bytes())
    }

    /// Ends the stream and gives the memory back.
    ///
    /// # Safety
    /// - `this` is the calling thread's armed block, not in use, and is not used afterwards.
    unsafe fn end(this: NonNull<Self>) {
        // SAFETY: armed (I1) and ours.
        let recorder = unsafe { this.as_ref() };
        recorder.busy.store(WRITING, Ordering::Relaxed);
        // SAFETY: not in use (the caller), so this is the only reference (I2).
        let writer = unsafe { &mut *recorder.inner.get() };
        writer.finish();
        core::mem::replace(&mut writer.nodes, Nodes::new()).give_back();
        core::mem::replace(&mut writer.stacks, Nodes::new()).give_back();
        // SAFETY: the block's own mapping, used no more.
        let _ = unsafe { release(this.cast(), Self::mapped_bytes()) };
    }
}

impl Guard {
    /// The guard as a pointer, for C.
    pub(crate) fn into_token(self) -> *const () {
        core::ptr::from_ref(self.0).cast()
    }

    /// The guard behind a token.
    ///
    /// # Safety
    /// - The token is of this thread, and the guard has not been passed to [`leave`].
    pub(crate) unsafe fn from_token(token: *const ()) -> Self {
        // SAFETY: a thread's block is mapped until the thread ends.
        Self(unsafe { &*token.cast::<ThreadRecorder>() })
    }

    /// The writer, for this call until [`Guard::end`].
    #[inline(always)]
    fn begin(self) -> &'static mut Writer {
        debug_assert_eq!(self.0.busy.load(Ordering::Relaxed), IN_HOOK, "I2");
        self.0.busy.store(WRITING, Ordering::Relaxed);
        // SAFETY: this guard is the one user of an armed recorder (I1, I2), and `busy` keeps
        // signal handlers out until `end`; no method keeps the reference beyond that.
        unsafe { &mut *self.0.inner.get() }
    }

    #[inline(always)]
    fn end(self) {
        self.0.busy.store(IN_HOOK, Ordering::Relaxed);
    }

    /// The block was allocated by the function that `caller` is the caller's state of.
    ///
    /// # Safety
    /// - `caller` is the state of a function of this thread that is still running.
    #[inline(always)]
    pub unsafe fn alloc(self, block: Block, caller: Registers) {
        let writer = self.begin();
        if writer.wants(block.size) {
            // SAFETY: the caller's promise.
            unsafe { writer.alloc(block, caller) };
        }
        self.end();
    }

    /// An allocation of `size` bytes failed.
    ///
    /// # Safety
    /// - As for [`Guard::alloc`].
    #[cold]
    pub unsafe fn failed(self, size: usize, kind: AllocKind, caller: Registers) {
        let writer = self.begin();
        let leaf = LeafKind { kind, ..LeafKind::default() };
        // SAFETY: the caller's promise.
        let node = unsafe { writer.stack(leaf, caller) };
        let time = writer.clock.now(&writer.process.order);
        writer.write_rare(|encoder, cursor| encoder.failed(cursor, time, size as u64, node));
        self.end();
    }

    /// The block at `address` is about to be freed.
    #[inline(always)]
    pub fn free(self, address: usize, kind: FreeKind) {
        let writer = self.begin();
        if writer.sampler.is_off() || SampledSet::remove(address as u64) {
            writer.free(address as u64, kind);
        }
        self.end();
    }

    /// The block at `old` is about to be resized; go on with [`Guard::resized`] or
    /// [`Guard::resize_failed`].
    #[inline]
    pub fn resize_begins(self, old: usize) -> Resize {
        let writer = self.begin();
        let old = old as u64;
        // Before the real call: another thread may get the address, and be sampled, during it.
        let is_taken = writer.sampler.is_off() || SampledSet::remove(old);
        let watched_bytes = writer.report_if_large(old);
        let start_time = writer.clock.now(&writer.process.order);
        self.end();
        Resize { old, start_time, watched_bytes, is_taken }
    }

    /// The block became `block`.
    ///
    /// # Safety
    /// - As for [`Guard::alloc`].
    #[inline]
    pub unsafe fn resized(self, resize: Resize, block: Block, caller: Registers) {
        let writer = self.begin();
        if writer.sampler.is_off() {
            // SAFETY: the caller's promise.
            unsafe { writer.resized(resize, block, caller) };
        } else {
            // Sampled: a death and a birth, so that the new size has its own chance.
            if resize.is_taken {
                writer.free_at(resize.start_time, resize.old, FreeKind::Free);
            }
            if writer.wants(block.size) {
                // SAFETY: the caller's promise.
                unsafe { writer.alloc(block, caller) };
            }
        }
        self.end();
    }

    /// The block stays as it is, since there is no memory for `size` bytes.
    ///
    /// # Safety
    /// - As for [`Guard::alloc`].
    #[cold]
    pub unsafe fn resize_failed(
        self,
        resize: Resize,
        size: usize,
        kind: AllocKind,
        caller: Registers,
    ) {
        let writer = self.begin();
        if !writer.sampler.is_off() && resize.is_taken {
            SampledSet::insert(resize.old);
        }
        if resize.watched_bytes != 0 {
            writer.process.large.insert(resize.old, resize.watched_bytes);
        }
        self.end();
        // SAFETY: the caller's promise.
        unsafe { self.failed(size, kind, caller) };
    }

    /// The program is about to unmap `bytes` from `address`.
    pub fn unmap(self, address: usize, bytes: usize) {
        let writer = self.begin();
        writer.cut_large(address as u64, bytes as u64);
        let time = writer.clock.now(&writer.process.order);
        let (address, bytes) = (address as u64, bytes as u64);
        writer.write_rare(|encoder, cursor| encoder.unmap(cursor, time, address, bytes));
        self.end();
    }

    /// Asks about `bytes` of the stack while the kernel may still be asked.
    pub(crate) fn prepare_stack(self, bytes: usize) {
        self.begin().memo.reach_down(bytes);
        self.end();
        leave(self);
    }

    /// Reports touched pages of all large blocks now.
    pub(crate) fn look_at_large_blocks(self) {
        self.begin().look(true);
        self.end();
        leave(self);
    }
}

fn enter_late() -> Option<Guard> {
    let late = &process()?.late;
    let me = thread_pointer();
    for _ in 0..LATE_TRIES_MAX {
        // Acquire: pairs with the Release in `leave_late`.
        match late.user.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return begin_late(late),
            // A call from inside a hook.
            Err(user) if user == me => return None,
            Err(_) => pause(),
        }
    }
    count_unrecorded();
    None
}

/// The late recorder for the calling thread, which has just become its user.
fn begin_late(late: &LateRecorder) -> Option<Guard> {
    let known = NonNull::new(late.recorder.load(Ordering::Relaxed));
    let Some(recorder) = known.or_else(|| ThreadRecorder::make(None)) else {
        late.user.store(0, Ordering::Release);
        count_unrecorded();
        return None;
    };
    late.recorder.store(recorder.as_ptr(), Ordering::Relaxed);
    // SAFETY: made once, never given back; its only user is this thread.
    let recorder: &'static ThreadRecorder = unsafe { recorder.as_ref() };
    recorder.attention.fetch_or(ATTENTION_LATE, Ordering::Relaxed);
    recorder.busy.store(IN_HOOK, Ordering::Relaxed);
    let guard = Guard(recorder);
    // Each user has a stack of its own.
    guard.begin().memo.change_thread();
    guard.end();
    Some(guard)
}

/// Sees to what [`ThreadRecorder::attention`] says.
#[cold]
fn leave_slow(guard: Guard) {
    let attention = guard.0.attention.load(Ordering::Relaxed);
    if attention & ATTENTION_OVER != 0 && crate::dormant::is_controlled() {
        guard.0.armed.store(STALE, Ordering::Relaxed);
    }
    if attention & ATTENTION_LATE != 0
        && let Some(process) = process()
    {
        // Release: pairs with the Acquire in `enter_late`; the next user sees what we wrote.
        process.late.user.store(0, Ordering::Release);
    }
}

const _: () = assert!(SLOT_BYTES > MODULE_EVENT_BYTES_MAX);
