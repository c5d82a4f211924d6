//! A walk over every live block of every heap.
//!
//! All locks are taken, in the order of a fork, so no slow path is under way: no span changes
//! hands, no run is taken or given. What is free then stands in the bitmap, in the links of spans
//! and zones, in queues, and in the threads' own lists and outboxes, which are read where they are.
//! It is noted in a snapshot; the locks are freed; live is what is left of the slots ever handed
//! out. The caller looks at the snapshot, and may allocate and free meanwhile.
//!
//! The hot paths of other threads go on: a `malloc` takes the first block of its thread's list, and
//! a `free` adds to a span's links or to an outbox. Since the rest of a list stays as it is until
//! its thread enters a slow path, and that waits for us, a list only ever loses its first blocks:
//! what was read of it is checked by reading its head again ([`Reader::note_thread_list`]).
//!
//! # What is reported
//! - Each block whose allocation had returned when the walk was called and that was not given to a
//!   free until the walk returned: once, with its exact usable size.
//! - No block whose free had returned when the walk was called and that was not allocated again.
//! - A block that is allocated or freed during the walk: perhaps.
//! - In the child of a fork of a process with threads: also blocks that vanished threads had in
//!   their lists, at most a span's a class and thread.

use core::iter::FusedIterator;

use heapwright_core::size_class::{CLASS_COUNT, class_bytes};
use heapwright_os::{peek, yield_now};
use heapwright_sync::Link;
use heapwright_sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::block::Block;
use crate::descriptor::{
    Descriptor, FREE_RUN, LARGE, ORPHANED, PASSIVE, SliceIndex, THREAD_MIN, ZONE,
};
use crate::fork::{lock_everything, unlock_everything};
use crate::free::head_of;
use crate::geometry::Geometry;
use crate::heap::Heap;
use crate::pool::{Pool, all_heaps, pool_lock};
use crate::region::{
    SLICE_BYTES, WORD_COVERS_BYTES, bitmap_word, descriptor, slice_of, slice_start,
};
use crate::sampled_lists;
use crate::sampling;
use crate::snapshot::{DirectRecord, RunKind, RunRecord, Snapshot};
use crate::span::Span;
use crate::thread_block::ThreadBlock;
use crate::zone::{Zone, ZoneError};
use crate::zone_place::{all_places, place_of};

/// Blocks of a thread's list that are read before the list's head is looked at again.
const CHUNK_COUNT: usize = 256;
/// Blocks of an outbox's chain and of the queue that it may lead into; only against loops.
const CHAIN_STEPS_MAX: usize = 1 << 24;
/// How often a purger in the middle of its work is waited for. After a fork that nobody announced
/// the purger is not there, and what it had in hand counts as live.
const WAIT_COUNT_MAX: u32 = 10_000;

/// Blocks or runs that somebody holds in no structure, without a lock.
static IN_HAND: AtomicU32 = AtomicU32::new(0);

/// While one lives, its thread may hold blocks or runs in no structure.
pub(crate) struct InHand;

impl InHand {
    pub(crate) fn new() -> Self {
        IN_HAND.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        IN_HAND.fetch_sub(1, Ordering::Relaxed);
    }
}

/// In the child of a fork: nobody else has anything in hand.
pub(crate) fn forget() {
    IN_HAND.store(0, Ordering::Relaxed);
}

/// A live block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LiveBlock {
    /// Its address.
    pub start: *mut u8,
    /// Bytes that the program may touch.
    pub usable_bytes: usize,
    /// The zone it belongs to; none for the default heap.
    pub zone: Option<Zone>,
    /// Its size class; none for a block over 32 KiB, and for one with a mapping of its own.
    pub class_index: Option<usize>,
}

/// Why there is no walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WalkError {
    /// The kernel has no memory for the snapshot.
    OutOfMemory {
        /// Bytes of addresses asked for.
        requested_bytes: usize,
    },
    /// The zone was destroyed.
    Destroyed,
}

impl core::fmt::Display for WalkError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::OutOfMemory { requested_bytes } => {
                write!(f, "no memory for a snapshot of {requested_bytes} bytes")
            }
            Self::Destroyed => f.write_str("the heap was destroyed"),
        }
    }
}

impl core::error::Error for WalkError {}

/// Every live block of every heap at the moment of [`LiveBlocks::take`], in the order of their
/// addresses, blocks with mappings of their own last.
///
/// The blocks may be gone when they are looked at: only who knows that a block is live may touch
/// it.
#[derive(Debug)]
pub struct LiveBlocks {
    snapshot: Snapshot,
    /// Zone that is asked for; 0 for all heaps.
    zone_id: u64,
    ordinal: usize,
    slot: usize,
    direct: usize,
}

// SAFETY: the snapshot is a mapping of its own, and the addresses in it are only told.
unsafe impl Send for LiveBlocks {}

impl LiveBlocks {
    /// Takes a snapshot of all heaps. From any thread, not from a signal handler.
    ///
    /// Other threads wait as long as they need a slow path: some 20 ns a span and a few a free
    /// block. The snapshot is 1/128 of the addresses in use, of which the kernel provides what is
    /// written: the bits of free slots, and 32 bytes for each slice in use.
    ///
    /// # Errors
    /// [`WalkError::OutOfMemory`].
    pub fn take() -> Result<Self, WalkError> {
        let snapshot =
            capture().map_err(|requested_bytes| WalkError::OutOfMemory { requested_bytes })?;
        Ok(Self { snapshot, zone_id: 0, ordinal: 0, slot: 0, direct: 0 })
    }

    /// As [`LiveBlocks::take`], the blocks of `zone` only.
    ///
    /// # Errors
    /// [`WalkError`].
    pub fn of_zone(zone: Zone) -> Result<Self, WalkError> {
        let destroyed = |_: ZoneError| WalkError::Destroyed;
        zone.live_count().map_err(destroyed)?;
        Ok(Self { zone_id: zone.id(), ..Self::take()? })
    }

    fn is_wanted(&self, zone_id: u64) -> bool {
        self.zone_id == 0 || self.zone_id == zone_id
    }

    /// The next live block of the run at `self.ordinal`, if it has one.
    fn next_of_run(&mut self, run: RunRecord) -> Option<LiveBlock> {
        let index = self.snapshot.slice_at(self.ordinal);
        let start = slice_start(index);
        if run.kind == RunKind::Large {
            if self.slot > 0 {
                return None;
            }
            self.slot = 1;
            let usable_bytes = run.usable_bytes as usize;
            return Some(LiveBlock { start, usable_bytes, zone: zone_of(&run), class_index: None });
        }
        let class_index = usize::from(run.class_index);
        let geometry = Geometry::of(class_index);
        while self.slot < usize::from(run.extended_count) {
            let offset = geometry.slot_offset(index, self.slot);
            self.slot += 1;
            if !self.snapshot.is_free(self.ordinal, offset) {
                return Some(LiveBlock {
                    start: start.wrapping_add(offset),
                    usable_bytes: class_bytes(class_index),
                    zone: zone_of(&run),
                    class_index: Some(class_index),
                });
            }
        }
        None
    }
}

fn zone_of(run: &RunRecord) -> Option<Zone> {
    // SAFETY: noted from a zone's own place, or null.
    unsafe { Zone::from_raw(run.zone_place, run.zone_id) }
}

impl Iterator for LiveBlocks {
    type Item = LiveBlock;

    fn next(&mut self) -> Option<LiveBlock> {
        while self.ordinal < self.snapshot.slice_count() {
            let run = self.snapshot.run(self.ordinal);
            if run.kind != RunKind::Nothing
                && self.is_wanted(run.zone_id)
                && let Some(block) = self.next_of_run(run)
            {
                return Some(block);
            }
            self.ordinal += 1;
            self.slot = 0;
        }
        if self.zone_id == 0 && self.direct < self.snapshot.direct_count {
            let direct = self.snapshot.direct(self.direct);
            self.direct += 1;
            return Some(LiveBlock {
                start: direct.block,
                usable_bytes: direct.usable_bytes,
                zone: None,
                class_index: None,
            });
        }
        None
    }
}

impl FusedIterator for LiveBlocks {}

/// Takes the snapshot, or tells how many bytes it needed.
fn capture() -> Result<Snapshot, usize> {
    let mut wait_count = 0;
    loop {
        // SAFETY: freed below, by this thread, on every way.
        unsafe { lock_everything() };
        if IN_HAND.load(Ordering::Relaxed) == 0 || wait_count == WAIT_COUNT_MAX {
            break;
        }
        // SAFETY: locked above.
        unsafe { unlock_everything() };
        wait_count += 1;
        yield_now();
    }
    // SAFETY: this thread holds the lock, and makes no other reference before it is freed below.
    let pool = unsafe { pool_lock().value_while_held() };
    let made = Snapshot::new(pool.runs.ranges(), pool.direct.count);
    let made = made.map(|snapshot| {
        let mut reader = Reader { snapshot };
        reader.note_everything(pool);
        reader.snapshot
    });
    // SAFETY: locked above.
    unsafe { unlock_everything() };
    made
}

/// Fills a snapshot. All locks are held while one lives.
struct Reader {
    snapshot: Snapshot,
}

impl Reader {
    fn note_everything(&mut self, pool: &Pool) {
        for range in pool.runs.ranges() {
            let mut index = range.start;
            while index < range.end {
                index += self.note_run(index).max(1);
            }
        }
        for place in all_places() {
            // SAFETY: all locks are held by this thread, and nothing is changed.
            let inside = unsafe { place.inside_locked() };
            for class_index in 0..CLASS_COUNT {
                self.note_chain(inside.free_list(class_index));
            }
        }
        for heap in all_heaps() {
            self.note_chain(heap.remote.first());
            if heap.owner.load(Ordering::Relaxed) >= THREAD_MIN {
                self.note_thread(heap);
            }
        }
        pool.direct.for_each(|block, usable_bytes| {
            self.snapshot.note_direct(DirectRecord { block, usable_bytes });
        });
    }

    /// Notes the run that may start at slice `index`; returns its length in slices, 0 when there
    /// is no run.
    fn note_run(&mut self, index: SliceIndex) -> SliceIndex {
        let head = descriptor(index);
        let slices = head.run_slices.load(Ordering::Relaxed);
        match head.owner.load(Ordering::Relaxed) {
            LARGE => {
                let record = RunRecord {
                    kind: RunKind::Large,
                    usable_bytes: head.extra.load(Ordering::Relaxed),
                    ..RunRecord::of_zone(zone_raw(head))
                };
                self.snapshot.note_run(index, record);
                slices
            }
            // What a vanished thread had in hand may hold ends of free runs of former times.
            FREE_RUN if is_free_run(index, slices) => slices,
            ZONE => self.note_span(index, zone_raw(head)),
            PASSIVE | ORPHANED => self.note_span(index, (core::ptr::null(), 0)),
            owner if owner >= THREAD_MIN => self.note_span(index, (core::ptr::null(), 0)),
            _ => 0,
        }
    }

    fn note_span(&mut self, index: SliceIndex, zone: (*const (), u64)) -> SliceIndex {
        let span = Span::at(index);
        let head = span.head();
        let record = RunRecord {
            kind: RunKind::Small,
            class_index: span.class_index() as u16,
            extended_count: head.extended_count.load(Ordering::Relaxed),
            ..RunRecord::of_zone(zone)
        };
        self.snapshot.note_run(index, record);
        if head.bit_count.load(Ordering::Relaxed) > 0 {
            self.note_bits(index);
        }
        // Acquire: pairs with the Release in `push_local`; the links can be read.
        let linked = head.local_free.load(Ordering::Acquire);
        let is_pending = head.owner.load(Ordering::Relaxed) == PASSIVE && span.place().is_pending();
        if !is_pending {
            // Its owner adds at the front, and takes blocks in slow paths only.
            self.note_chain(linked);
        } else if !linked.is_null() {
            // What the owner freed when the span was made passive, whose link means nothing.
            self.snapshot.add_free(linked.cast());
        }
        1
    }

    fn note_bits(&mut self, index: SliceIndex) {
        for word in 0..SLICE_BYTES / WORD_COVERS_BYTES {
            let bits = bitmap_word(index, word).load(Ordering::Relaxed);
            if bits != 0 {
                self.snapshot.add_free_bits(index, word, bits);
            }
        }
    }

    /// Notes the blocks of a chain that nobody takes any from while all locks are held.
    fn note_chain(&mut self, first: Block) {
        let mut block = first;
        for _ in 0..CHAIN_STEPS_MAX {
            if !self.is_slot(block, None) {
                return;
            }
            self.snapshot.add_free(block.cast());
            block = link_of(block);
        }
    }

    /// Whether `block` is a slot of a span that was there when the locks were taken, of
    /// `class_index` if that is given.
    fn is_slot(&self, block: Block, class_index: Option<usize>) -> bool {
        let Some(slice) = slice_of(block.cast()) else { return false };
        if !self.snapshot.has_slice(slice) {
            return false;
        }
        let Some(head) = head_of(block.cast()) else { return false };
        let owner = head.owner.load(Ordering::Relaxed);
        if !matches!(owner, PASSIVE | ORPHANED | ZONE) && owner < THREAD_MIN {
            return false;
        }
        let span = Span::of(head);
        if class_index.is_some_and(|class_index| class_index != span.class_index()) {
            return false;
        }
        let offset = block.addr().wrapping_sub(slice_start(span.index()).addr());
        let number = span.slot_at(offset);
        number < usize::from(span.geometry().slot_count) && span.slot_offset(number) == offset
    }

    /// Notes what the thread of `heap`, which lives as long as the heap's lock is held, has in its
    /// lists and its outbox.
    fn note_thread(&mut self, heap: &'static Heap) {
        heap.outbox.read(|block| {
            let is_slot = self.is_slot(block, None);
            if is_slot {
                self.snapshot.add_free(block.cast());
            }
            is_slot
        });
        for rest in sampled_lists::rests(heap) {
            self.note_chain(rest);
        }
        let owner = heap.owner.load(Ordering::Relaxed);
        let lists = ThreadBlock::lists_of(owner);
        // A thread that ended without libc's knowledge has left its heap behind and no storage.
        let mut probe = [0; size_of::<[usize; CLASS_COUNT]>()];
        if owner != ThreadBlock::token()
            && peek(lists.expose_provenance(), &mut probe) == Err(heapwright_os::Errno::EFAULT)
        {
            return;
        }
        for class_index in 0..CLASS_COUNT {
            // SAFETY: the first words of a living thread's block, which are its lists; the owner
            // writes them meanwhile, a word at a time.
            let list = unsafe { &*lists.wrapping_add(class_index) };
            self.note_thread_list(list, class_index);
        }
    }

    /// Notes the blocks of a thread's list, whose thread may take the first ones meanwhile.
    ///
    /// The link of a block that is in the list can be read; that of a block that was taken is the
    /// program's. A chunk of the list is read first, then its head: where the head is one of the
    /// chunk, the blocks from there on were in the list all the time; where it is one that was
    /// noted before, all of the chunk were.
    fn note_thread_list(&mut self, list: &AtomicPtr<Link>, class_index: usize) {
        let mut chunk = [core::ptr::null_mut(); CHUNK_COUNT];
        // Acquire, here and below: the links are read after the head.
        let mut next = list.load(Ordering::Acquire);
        loop {
            let mut count = 0;
            while count < CHUNK_COUNT && self.is_slot(next, Some(class_index)) {
                chunk[count] = next;
                count += 1;
                next = link_of(next);
            }
            order_links_before_head();
            let now = list.load(Ordering::Acquire);
            let first = match chunk[..count].iter().position(|block| *block == now) {
                Some(first) => first,
                None if self.is_slot(now, Some(class_index)) && self.is_noted(now) => 0,
                None if now.is_null() || count == 0 => return,
                None => {
                    // The thread has taken all of the chunk: begin again.
                    next = now;
                    continue;
                }
            };
            for block in &chunk[first..count] {
                self.snapshot.add_free(block.cast());
            }
            if count < CHUNK_COUNT {
                return;
            }
        }
    }

    fn is_noted(&self, block: Block) -> bool {
        slice_of(block.cast())
            .is_some_and(|slice| self.snapshot.is_free_at(slice, block.addr() % SLICE_BYTES))
    }
}

/// The reads of links before come before the reads of the list's head after, also as its thread's
/// stores go: to the head first, then to the block that it took.
#[inline]
fn order_links_before_head() {
    // x86_64 keeps the order of both loads and stores. Elsewhere the thread's stores are ordered
    // by a barrier that it passes now; where the kernel has none, the order is only likely.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = heapwright_os::barrier_on_all_threads();
}

/// The link in a slot, which a program may be writing.
fn link_of(block: Block) -> Block {
    // SAFETY: a slot of a committed span, 16 bytes and aligned (see `Reader::is_slot`), whose
    // first word is read as any number.
    unsafe { &*block.cast::<AtomicPtr<Link>>() }.load(Ordering::Acquire)
}

/// Whether slices from `index` on are one free run, by both its ends.
fn is_free_run(index: SliceIndex, slices: SliceIndex) -> bool {
    let Some(last) = index.checked_add(slices.saturating_sub(1)) else { return false };
    let last = descriptor(last);
    last.owner.load(Ordering::Relaxed) == FREE_RUN
        && last.run_slices.load(Ordering::Relaxed) == slices
}

/// The zone of a run, as numbers.
fn zone_raw(head: &Descriptor) -> (*const (), u64) {
    match place_of(head).filter(|place| !sampling::is_samples(place)) {
        // SAFETY: all locks are held by this thread.
        Some(place) => (core::ptr::from_ref(place).cast(), unsafe { place.inside_locked() }.id),
        None => (core::ptr::null(), 0),
    }
}
