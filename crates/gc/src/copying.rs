//! Copying by several threads: each has memory of its own to copy into, and a stack; what one can
//! spare goes through a pool to those that have nothing.
//!
//! Whoever reaches an object first takes it by exchanging its head, copies it and leaves the new
//! address; others wait for that, which is as long as a copy. Long arrays are visited in parts,
//! which change hands like objects; what the program logged, and what refers to blocks that are
//! emptied, is taken from the front, some at a time.
//!
//! # Invariants
//! - K1: a place to copy into belongs to one thread. What a thread leaves unused of it is lost
//!   until the next sweep, or given to the heap's own copier; [`spare_bytes`] bounds it.
//! - K2: a place with a reference is visited by one thread, apart from logged cells of one word,
//!   which may be listed twice.

use core::ptr::NonNull;

use heapwright_sync::atomic::{AtomicUsize, Ordering};
use heapwright_sync::{Guard, Lock};

use crate::mark::Rest;
use crate::memory::Table;
use crate::model::Model;
use crate::object::{Field, ObjectRef, Take, prefetch};
use crate::relocate::{Ahead, Copier};
use crate::remember::Entry;
use crate::space::{BLOCK_BYTES, BlockSpace, Hole, LINE_BYTES};
use crate::system::Futex;
use crate::team::{self, Pool, Task};
use crate::trace::Visitor;
use crate::write_log::LoggedField;

/// Bytes that a thread takes at once to copy into.
const BUFFER_BYTES: usize = if cfg!(debug_assertions) { 2 << 10 } else { 64 << 10 };
/// Objects above this get a place of their own, so that less than this of a buffer stays unused.
const DIRECT_BYTES: usize = BUFFER_BYTES / 16;
/// Bytes of an array that are visited at once.
const PART_BYTES: usize = if cfg!(debug_assertions) { 64 } else { 8 << 10 };
/// Objects that are visited between two looks at the pool.
const SHARE_OBJECTS: usize = if cfg!(debug_assertions) { 4 } else { 128 };
/// Logged cells, or remembered places, that a thread takes at once.
const PLACES_AT_ONCE: usize = if cfg!(debug_assertions) { 4 } else { 512 };
/// Places between prefetch and visit.
const PLACES_AHEAD: usize = 16;
/// Blocks that a thread may hold beyond what it copies: one that it fills with objects of more than
/// a line, and lines of up to two for the others.
const BLOCKS_EACH: usize = 4;

/// What may stay unused of the memory that `threads` copy `bytes` at most into (K1).
pub(crate) fn spare_bytes(bytes: usize, threads: usize) -> usize {
    bytes / (BUFFER_BYTES / DIRECT_BYTES - 1) + threads * (BLOCKS_EACH * BLOCK_BYTES + BUFFER_BYTES)
}

/// Where the threads get memory to copy into.
pub(crate) enum Room<'a> {
    /// The other half.
    Half(Hole),
    /// Holes and blocks of the old space.
    Blocks(&'a mut BlockSpace),
    /// Whole blocks that were taken before.
    Spare(Table<Hole>),
}

/// What is visited beside what is reached: cells that were logged, and what is remembered.
#[derive(Clone, Copy)]
pub(crate) struct Places<'a, M: Model> {
    pub(crate) fields: &'a [LoggedField],
    pub(crate) entries: &'a [Entry<M>],
}

/// What the lock guards.
struct Store<'a> {
    room: Room<'a>,
    /// Holes that helpers have left.
    left: Table<Hole>,
}

// SAFETY: holes and blocks are memory of the heap, which whoever takes them out owns (K1).
unsafe impl Send for Store<'_> {}

/// What the threads of one copying share.
pub(crate) struct Copying<'a, M: Model> {
    pool: Pool<Rest>,
    store: Lock<Store<'a>, Futex>,
    places: Places<'a, M>,
    /// The first of the places that nobody has taken.
    next: AtomicUsize,
    copied_bytes: AtomicUsize,
    /// As the heap's own copier has them.
    copier: Copier<M>,
}

// SAFETY: `copier` and `places` are read only; holes are under the lock; objects are taken one by
// one (P1, K2). A payload's `trace` may run on any thread: `Trace` and `vm::Layout` say so.
unsafe impl<M: Model> Sync for Copying<'_, M> {}

impl<M: Model> Task for Copying<'_, M> {
    type Work = Rest;

    fn pool(&self) -> &Pool<Rest> {
        &self.pool
    }

    fn help(&self) {
        let mut copier = self.copier.helper();
        self.work(&mut copier);
        // Relaxed: read when all have ended.
        self.copied_bytes.fetch_add(copier.copied_bytes, Ordering::Relaxed);
        let mut store = self.store(&copier);
        let holes = [copier.to, copier.medium];
        for hole in holes.iter().chain(copier.spare.as_slice()) {
            if hole.bytes >= LINE_BYTES {
                store.left.push(*hole);
            }
        }
    }
}

impl<'a, M: Model> Copying<'a, M> {
    /// Copies and visits until no thread has any work.
    fn work(&self, copier: &mut Copier<M>) {
        copier.copying = Some(NonNull::from(self).cast());
        loop {
            copier.drain_shared(self);
            if self.visit_places(copier) {
                continue;
            }
            if !self.pool.next(&mut copier.rests) {
                break;
            }
        }
        copier.copying = None;
    }

    /// Visits some of the places that nobody has visited; returns whether there were any.
    fn visit_places(&self, copier: &mut Copier<M>) -> bool {
        // Relaxed: who gets which does not matter.
        let first = self.next.fetch_add(PLACES_AT_ONCE, Ordering::Relaxed);
        let Places { fields, entries } = self.places;
        let of = |len: usize, before: usize| {
            let from = first.saturating_sub(before).min(len);
            from..(first + PLACES_AT_ONCE).saturating_sub(before).min(len)
        };
        let (some_fields, some_entries) = (of(fields.len(), 0), of(entries.len(), fields.len()));
        for index in some_fields {
            if let Some(later) = fields.get(index + PLACES_AHEAD) {
                prefetch(later.0.as_ptr());
            }
            // SAFETY: as in `plan::generational`: the cell is still there, and still that cell.
            let field = unsafe { Field::new(fields[index].0.cast()) };
            if !field.is_null() {
                copier.visit(field);
            }
        }
        for index in some_entries {
            if let Some(later) = entries.get(index + PLACES_AHEAD) {
                later.prefetch();
            }
            copier.visit_unit(entries[index].unit());
        }
        first < fields.len() + entries.len()
    }

    /// The store, for the thread of `copier`.
    fn store(&self, copier: &Copier<M>) -> Guard<'_, Store<'a>, Futex> {
        let me = core::ptr::from_ref(copier).addr();
        self.store.lock(me).expect("no one comes here twice")
    }
}

/// Copies what is reachable from what `copier` has visited and from `places`, by up to `threads`
/// threads. Returns what is left of the room.
pub(crate) fn copy<'a, M: Model>(
    copier: &mut Copier<M>,
    room: Room<'a>,
    places: Places<'a, M>,
    threads: usize,
) -> Room<'a> {
    let copying = Copying {
        pool: Pool::new(),
        store: Lock::new(Store { room, left: Table::new() }),
        places,
        next: AtomicUsize::new(0),
        copied_bytes: AtomicUsize::new(0),
        copier: copier.helper(),
    };
    team::run(&copying, threads, || copying.work(copier));
    copier.copied_bytes += copying.copied_bytes.load(Ordering::Relaxed);
    let mut store = copying.store(copier);
    if let Room::Blocks(_) = &store.room {
        let medium = core::mem::replace(&mut copier.medium, Hole::EMPTY);
        if medium.bytes >= LINE_BYTES {
            copier.spare.push(medium);
        }
        while let Some(hole) = store.left.pop() {
            copier.spare.push(hole);
        }
    }
    core::mem::replace(&mut store.room, Room::Half(Hole::EMPTY))
}

impl<M: Model> Copier<M> {
    /// As [`Copier::drain`], while other threads copy, too.
    fn drain_shared(&mut self, copying: &Copying<'_, M>) {
        let mut idle = 0;
        let mut to_share = SHARE_OBJECTS;
        while idle < Ahead::LEN {
            if let Some(object) = self.grey.pop() {
                idle = 0;
                self.scan_shared(object);
                to_share -= 1;
                if to_share == 0 {
                    to_share = SHARE_OBJECTS;
                    copying.pool.share_as(&mut self.grey, |array| Rest { array, from: 0 });
                }
            } else if let Some(rest) = self.rests.pop() {
                idle = 0;
                self.visit_part(rest, &copying.pool);
            } else {
                match self.ahead.exchange(None) {
                    Some(field) => self.forward(field),
                    None => idle += 1,
                }
            }
        }
    }

    fn scan_shared(&mut self, object: ObjectRef) {
        if M::has_parts(object, PART_BYTES) {
            self.rests.push(Rest { array: object, from: 0 });
        } else {
            self.scan(object);
        }
    }

    /// Visits one part of an array, and has the rest done by somebody, or later.
    fn visit_part(&mut self, Rest { array, from }: Rest, pool: &Pool<Rest>) {
        if !M::has_parts(array, PART_BYTES) {
            return self.scan(array);
        }
        if let Some(from) = M::part_end(array, from, PART_BYTES) {
            self.rests.push(Rest { array, from });
            pool.give(&mut self.rests);
        }
        M::copy_part(array, from, PART_BYTES, self);
    }

    /// As [`Copier::copy`], while other threads copy, too.
    #[inline(never)]
    pub(crate) fn copy_shared(&mut self, object: ObjectRef, copying: NonNull<()>) -> ObjectRef {
        // SAFETY: `Copying::work` has set it to itself, of this model, and takes it away at its end.
        let copying = unsafe { copying.cast::<Copying<'_, M>>().as_ref() };
        match object.take(|| copying.pool.is_lost()) {
            Take::Mine => {}
            Take::Copied(copy) => return copy,
            Take::Lost => return object,
        }
        let shape = M::shape(object);
        let place = match self.to.take(shape.bytes) {
            Some(place) => place,
            None => self.place_shared(shape.bytes, copying),
        };
        // SAFETY: the place is this thread's (K1); the object was taken above, and who writes its
        // head has to take it first.
        unsafe { self.copy_to(object, shape, place, ObjectRef::forward_taken) }
    }

    /// A place for `bytes` from the common room.
    #[cold]
    #[inline(never)]
    fn place_shared(&mut self, bytes: usize, copying: &Copying<'_, M>) -> NonNull<u8> {
        if bytes > LINE_BYTES {
            if let Some(place) = self.medium.take(bytes) {
                return place;
            }
        } else if let Some(hole) = self.spare.pop() {
            self.to = hole;
            return self.to.take(bytes).expect("a hole has at least a line");
        }
        let mut store = copying.store(self);
        match &mut store.room {
            Room::Half(half) => {
                if bytes > DIRECT_BYTES {
                    return half.take(bytes).expect("the other half holds all of this one");
                }
                let buffer = BUFFER_BYTES.min(half.bytes);
                let start = half.take(buffer).expect("as much as there is");
                self.to = Hole { start, bytes: buffer };
                self.to.take(bytes).expect("the other half holds all of this one")
            }
            Room::Spare(blocks) => {
                self.to = blocks.pop().expect("as many were taken as the copies need");
                self.to.take(bytes).expect("a block holds any small object")
            }
            Room::Blocks(blocks) if bytes > LINE_BYTES => {
                self.medium = blocks.medium_hole(bytes).expect("the reserve of the old space");
                self.medium.take(bytes).expect("a hole that is long enough")
            }
            Room::Blocks(blocks) => {
                let mut taken = 0;
                while taken < BUFFER_BYTES / 2 {
                    let Some(hole) = blocks.next_hole() else { break };
                    taken += hole.bytes;
                    self.spare.push(hole);
                }
                self.to = self.spare.pop().expect("the reserve of the old space");
                self.to.take(bytes).expect("a hole has at least a line")
            }
        }
    }
}
