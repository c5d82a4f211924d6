//! A thread's ring in the spool: the writer's side of `heapwright_format::spool`.

use core::ptr::NonNull;
use core::time::Duration;

use heapwright_format::chunk::CHUNK_BYTES;
use heapwright_format::spool::{
    CHUNKS_AT_FIRST, CHUNKS_PER_SLOT, SLOT_HEADER_BYTES, SessionHeader, SlotHeader, pack_used,
};
use heapwright_format::{ChunkCursor, NodeId};
use heapwright_os::{futex_wait, futex_wake};
use heapwright_sync::atomic::{Ordering, fence};

use crate::confined::is_confined;

/// How long to sleep on a full ring before asking whether the collector still lives.
const FULL_RING_SLEEP: Duration = Duration::from_millis(50);

/// The chunk being filled, and the way to the next one.
#[repr(C)]
pub(crate) struct Ring {
    slot: &'static SlotHeader,
    cursor: ChunkCursor,
    events: u32,
    /// Whether there is a chunk to fill; none any more once the collector is gone.
    has_chunk: bool,
    chunks: NonNull<u8>,
    number: u64,
    slot_index: usize,
    session: &'static SessionHeader,
}

impl Ring {
    /// A ring over a fresh or drained slot that lies at `start`.
    ///
    /// # Safety
    /// - `start` begins a mapped slot (`SLOT_BYTES`) with memory for the first
    ///   [`CHUNKS_AT_FIRST`] chunks at least; it stays mapped; no other thread writes it.
    pub(crate) unsafe fn new(
        session: &'static SessionHeader,
        start: NonNull<u8>,
        slot_index: usize,
    ) -> Self {
        // SAFETY: a slot begins with its header, whose words are atomics, valid when zero; the
        // mapping stays for as long as the process.
        let slot: &'static SlotHeader = unsafe { start.cast::<SlotHeader>().as_ref() };
        // SAFETY: the chunks follow the header inside the slot.
        let chunks = unsafe { start.add(SLOT_HEADER_BYTES) };
        if slot.ring_chunks.load(Ordering::Relaxed) == 0 {
            slot.ring_chunks.store(CHUNKS_AT_FIRST as u32, Ordering::Relaxed);
        }
        // Relaxed: the collector stored it before it freed the slot, which the caller acquired.
        let number = slot.published.load(Ordering::Relaxed);
        let position = slot.free_position().unwrap_or(0);
        slot.take_position(number, position);
        // SAFETY: the position is below the number of chunks with memory.
        let chunk = unsafe { chunks.add(position * CHUNK_BYTES) };
        // SAFETY: a chunk of this thread's own slot.
        let cursor = unsafe { ChunkCursor::new(chunk) };
        let has_chunk = true;
        Self { session, slot, chunks, cursor, number, events: 0, slot_index, has_chunk }
    }

    /// Which slot of the process it is.
    pub(crate) fn slot_index(&self) -> usize {
        self.slot_index
    }

    /// Where the slot is mapped.
    pub(crate) fn start(&self) -> NonNull<u8> {
        NonNull::from(self.slot).cast()
    }

    /// The header of the slot.
    pub(crate) fn slot(&self) -> &'static SlotHeader {
        self.slot
    }

    /// Where to write.
    #[inline(always)]
    pub(crate) fn cursor(&mut self) -> &mut ChunkCursor {
        &mut self.cursor
    }

    /// Says that the chunk being filled begins at `time` and that its first node is
    /// `first_node`.
    pub(crate) fn begin_chunk(&mut self, time: u64, first_node: NodeId) {
        let position = self.slot.position(self.number);
        self.slot.chunk_times[position].store(time, Ordering::Relaxed);
        self.slot.chunk_nodes[position].store(first_node, Ordering::Relaxed);
        self.events = 0;
        self.commit_bytes();
    }

    /// Makes what was written since the last call visible as `events` whole events (0 for a
    /// definition).
    #[inline(always)]
    pub(crate) fn commit(&mut self, events: u32) {
        self.events += events;
        self.commit_bytes();
    }

    #[inline(always)]
    fn commit_bytes(&mut self) {
        let used = self.cursor.head_bytes();
        // Release: pairs with the collector's Acquire; the events' bytes are visible first.
        self.slot.used.store(pack_used(used as u32, self.events), Ordering::Release);
    }

    /// Completes the chunk and takes the next one, waiting for the collector when the ring is
    /// full. False when the collector is gone: then nothing can be recorded any more.
    #[cold]
    #[inline(never)]
    pub(crate) fn next_chunk(&mut self) -> bool {
        if !self.has_chunk {
            return false;
        }
        let slot = self.slot;
        let position = slot.position(self.number);
        for (word, length) in slot.chunk_lengths[position].iter().zip(self.cursor.lengths()) {
            word.store(length as u32, Ordering::Relaxed);
        }
        slot.chunk_events[position].store(self.events, Ordering::Relaxed);
        let events = slot.events.load(Ordering::Relaxed) + u64::from(self.events);
        slot.events.store(events, Ordering::Relaxed);
        self.number += 1;
        // Release: pairs with the collector's Acquire; the chunk and its figures are visible.
        slot.used.store(0, Ordering::Release);
        slot.published.store(self.number, Ordering::Release);
        self.call_collector_when_due();
        let Some(position) = self.wait_for_position() else {
            self.has_chunk = false;
            return false;
        };
        slot.take_position(self.number, position);
        // SAFETY: the position is below the number of chunks with memory.
        let chunk = unsafe { self.chunks.add(position * CHUNK_BYTES) };
        // SAFETY: the collector is done with this position (spool I1); it is ours to fill.
        self.cursor = unsafe { ChunkCursor::new(chunk) };
        true
    }

    /// Wakes the collector if it sleeps and a quarter of the ring waits for it.
    fn call_collector_when_due(&self) {
        let waiting = self.number - self.slot.drained.load(Ordering::Relaxed);
        let ring_chunks = self.slot.ring_chunks.load(Ordering::Relaxed);
        if waiting >= u64::from(ring_chunks).div_ceil(4) {
            self.call_collector();
        }
    }

    /// Wakes the collector if it sleeps.
    pub(crate) fn call_collector(&self) {
        if self.session.ring() {
            futex_wake(&self.session.doorbell, 1);
        }
    }

    /// Takes the memory of the other chunks, when the first ones do not suffice for the first
    /// time; without memory the ring stays short.
    #[cold]
    fn grow(&self) -> bool {
        let slot = self.slot;
        let is_current =
            crate::session::session().is_some_and(|now| core::ptr::eq(now, self.session));
        if is_confined() || !is_current {
            return false;
        }
        let may_grow = slot.ring_chunks.load(Ordering::Relaxed) == CHUNKS_AT_FIRST as u32;
        let grown = may_grow && crate::process::allocate_slot_rest(self.slot_index);
        if grown {
            slot.ring_chunks.store(CHUNKS_PER_SLOT as u32, Ordering::Relaxed);
        }
        grown
    }

    /// A free position; waits for the collector when there is none.
    fn wait_for_position(&self) -> Option<usize> {
        let slot = self.slot;
        loop {
            let word = slot.drained_word.load(Ordering::Acquire);
            if let Some(position) = slot.free_position() {
                slot.waiting.store(0, Ordering::Relaxed);
                return Some(position);
            }
            if self.grow() {
                continue;
            }
            if self.session.stop.load(Ordering::Relaxed) != 0 {
                return None;
            }
            // SeqCst: the collector clears `busy`, then looks at `waiting`; we store `waiting`,
            // then look at `busy`. One of us sees the other.
            slot.waiting.store(1, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if slot.free_position().is_some() {
                continue;
            }
            self.call_collector();
            let _ = futex_wait(&slot.drained_word, word, Some(FULL_RING_SLEEP));
            if !self.session.collector_lives() {
                self.session.stop.store(1, Ordering::Relaxed);
                return None;
            }
        }
    }
}
