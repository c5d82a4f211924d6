//! Marking: an explicit stack and a short queue of prefetched objects in front of it.
//!
//! References are pushed unseen; an object is first touched when it leaves the queue, by when its
//! header, and the place where its liveness is recorded, are in the cache. There is no recursion:
//! a list of ten million objects needs one entry.
//! Source: Cher, Hosking, Vijaykumar, "Software prefetching for mark-sweep garbage collection",
//! ASPLOS 2004.

use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::system::monotonic_ns;

use crate::memory::Table;
use crate::model::Model;
use crate::object::{Field, MARK, ObjectRef, prefetch};
use crate::parallel;
use crate::remember::{BorrowedCell, CopyCell, Remembered, Unit};
use crate::space::{CandidateMap, LiveSet, WordMap};
use crate::team::Pool;
use crate::trace::Visitor;
use crate::trace::sealed::Sealed;
use crate::weak::Reach;

/// Objects between prefetch and visit. 16 covers a memory access by the work of 16 visits.
/// Without prefetching it is a stack and nothing else.
const AHEAD: usize = if cfg!(heapwright_gc_without = "prefetch") { 1 } else { 16 };
/// Objects between two looks at the clock; few in checking builds, so that slices end everywhere.
const CLOCK_OBJECTS: usize = if cfg!(debug_assertions) { 4 } else { 256 };

/// Bytes of an array that are visited at once, so that a long one does not make a long slice.
const PART_BYTES: usize = if cfg!(debug_assertions) { 64 } else { 8 << 10 };
/// As much where the part is remembered: it is visited again for each block that it refers to.
pub(crate) const REMEMBERED_PART_BYTES: usize = if cfg!(debug_assertions) { 64 } else { 512 };
/// Objects that a part of an array counts for between two looks at the clock.
const PART_OBJECTS: usize = 128;

/// The rest of an array, from an index on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    pub(crate) array: ObjectRef,
    pub(crate) from: usize,
}

/// What a visited reference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Mark,
    /// Its place may have to be visited again, when what it refers to moves.
    MarkAndRemember,
    Remember,
}

/// Marks what is reachable and records it in the live set of the small objects' space.
#[derive(Debug)]
pub(crate) struct Marker<M: Model> {
    stack: Table<ObjectRef>,
    /// Arrays that are visited in parts.
    rests: Table<Rest>,
    /// The mark bit of objects that are marked in this cycle.
    mark: usize,
    live: LiveSet,
    /// How many objects were marked, ever: it tells whether there were any since.
    marked: u64,
    /// Where work goes that others may do, while several threads mark.
    pool: Option<NonNull<Pool<ObjectRef>>>,
    mode: Mode,
    /// What refers to the blocks that this cycle empties, where there can be such.
    pub(crate) remembered: Option<Remembered<M>>,
    model: PhantomData<M>,
}

impl<M: Model> Marker<M> {
    pub(crate) fn new(live: LiveSet) -> Self {
        Self {
            stack: Table::new(),
            rests: Table::new(),
            mark: 0,
            live,
            marked: 0,
            pool: None,
            mode: Mode::Mark,
            remembered: None,
            model: PhantomData,
        }
    }

    /// Starts a cycle in which marked objects have the bit `mark` and are recorded in `live`.
    pub(crate) fn begin(&mut self, mark: usize, live: LiveSet) {
        debug_assert!(mark & !MARK == 0 && self.stack.as_slice().is_empty());
        self.mark = mark;
        self.live = live;
    }

    /// As [`Marker::new`], for a cycle that may empty blocks of the space that `live` is about.
    pub(crate) fn remembering(live: LiveSet, remembered: Remembered<M>) -> Self {
        Self { remembered: Some(remembered), ..Self::new(live) }
    }

    /// From now on what refers to candidates is remembered; or there are no candidates any more.
    pub(crate) fn remember(&mut self, on: bool) {
        let Some(remembered) = &mut self.remembered else { return };
        if !on {
            remembered.forget();
        }
        let has_some = on && !remembered.candidates().is_empty();
        self.mode = if has_some { Mode::MarkAndRemember } else { Mode::Mark };
    }

    /// As [`Marker::remember`] for one of several markers, whose map has all candidates.
    pub(crate) fn remember_all(&mut self, on: bool) {
        self.mode = if on { Mode::MarkAndRemember } else { Mode::Mark };
    }

    /// Where the candidates are, if there are some.
    pub(crate) fn candidates(&self) -> Option<CandidateMap> {
        let remembered = self.remembered.as_ref().filter(|_| self.remembers())?;
        debug_assert!(remembered.at_once, "several threads have one list for all candidates");
        Some(remembered.map)
    }

    /// Whether there are candidates.
    pub(crate) fn remembers(&self) -> bool {
        self.mode != Mode::Mark
    }

    /// Runs `visit`, which shows the references in `unit`: they are remembered and not marked.
    pub(crate) fn remember_unit(&mut self, unit: Unit<M>, visit: impl FnOnce(&mut Self)) {
        let Some(remembered) = &mut self.remembered else { return };
        remembered.set_unit(Some(unit));
        let mode = core::mem::replace(&mut self.mode, Mode::Remember);
        visit(self);
        self.mode = mode;
        self.set_unit(None);
    }

    /// As [`Marker::remember_unit`] for the cell at `cell`, which `copy` shows to a copier.
    pub(crate) fn remember_cell(
        &mut self,
        cell: NonNull<u8>,
        copy: CopyCell<M>,
        visit: impl FnOnce(&mut Self),
    ) {
        self.remember_unit(Unit::Cell(cell, copy), visit);
    }

    /// As [`Marker::remember_unit`] for a whole object.
    pub(crate) fn remember_object(&mut self, object: ObjectRef) {
        if !M::needs_trace(object) {
            return;
        }
        if !M::has_parts(object, REMEMBERED_PART_BYTES) {
            self.remember_unit(Unit::Object(object), |marker| M::mark(object, marker));
            return;
        }
        let mut next = Some(0);
        while let Some(from) = next {
            self.remember_unit(Unit::Part(object, from), |marker| {
                next = M::mark_part(object, from, REMEMBERED_PART_BYTES, marker);
            });
        }
    }

    /// As [`Marker::remember_unit`] for every cell that was borrowed since the last call.
    pub(crate) fn remember_borrowed(&mut self) {
        while let Some(BorrowedCell { cell, mark, copy }) =
            self.remembered.as_mut().and_then(|remembered| remembered.borrowed.pop())
        {
            // SAFETY: the borrow has ended with its mutation, and the cell's object has not moved
            // since: objects move at the end of slices, and this is called at their beginning.
            self.remember_cell(cell, copy, |marker| unsafe { mark(cell, marker) });
        }
    }

    /// What is visited from now on.
    #[inline]
    fn set_unit(&mut self, unit: Option<Unit<M>>) {
        if let Some(remembered) = &mut self.remembered {
            remembered.set_unit(unit);
        }
    }

    /// The object stays where it is in this cycle.
    pub(crate) fn pin(&self, object: ObjectRef) {
        if self.mode != Mode::Mark
            && let Some(mut map) = self.remembered.as_ref().map(|remembered| remembered.map)
        {
            map.pin(object.address());
        }
    }

    /// How many objects this marker has marked, ever.
    pub(crate) fn marked(&self) -> u64 {
        self.marked
    }

    /// What [`Marker::begin`] was given.
    pub(crate) fn cycle(&self) -> (usize, LiveSet) {
        (self.mark, self.live)
    }

    pub(crate) fn set_pool(&mut self, pool: Option<NonNull<Pool<ObjectRef>>>) {
        self.pool = pool;
    }

    pub(crate) fn stack_mut(&mut self) -> &mut Table<ObjectRef> {
        &mut self.stack
    }

    /// Lets other threads help.
    #[inline(never)]
    fn share(&mut self) {
        if let Some(pool) = self.pool {
            // SAFETY: the pool lives as long as the marker has it (`set_pool`).
            unsafe { pool.as_ref() }.share(&mut self.stack);
        }
    }

    /// As [`Marker::drain`] to the end, by up to `threads` threads.
    pub(crate) fn drain_by(&mut self, threads: usize) {
        if threads > 1 {
            parallel::mark(self, threads);
        } else {
            self.drain(None);
        }
    }

    /// Will mark `object` and what it refers to.
    #[inline]
    pub(crate) fn push(&mut self, object: ObjectRef) {
        self.stack.push(object);
    }

    /// Marks all that is reachable from the stack, or stops when `deadline_ns` has passed.
    /// Returns whether nothing is left.
    pub(crate) fn drain(&mut self, deadline_ns: Option<u64>) -> bool {
        if let LiveSet::Words(map) = self.live {
            debug_assert!(deadline_ns.is_none(), "compaction is not sliced");
            self.drain_words(map);
            return true;
        }
        let rest = self.drain_lines(deadline_ns);
        self.set_unit(None);
        rest
    }

    fn drain_lines(&mut self, deadline_ns: Option<u64>) -> bool {
        let mut ahead = [None; AHEAD];
        let mut at = 0;
        let mut to_clock = CLOCK_OBJECTS;
        let mut idle = 0;
        while idle < AHEAD {
            let next = self.stack.pop();
            match next {
                Some(object) => {
                    prefetch(object.payload().as_ptr().wrapping_sub(8));
                    // Claiming an object waits for the stores before it, this one's among them.
                    if let (LiveSet::Lines(lines), Some(_)) = (&self.live, self.pool) {
                        lines.prefetch(object.address());
                    }
                    idle = 0;
                }
                None if self.visit_part() => {
                    idle = 0;
                    to_clock = to_clock.saturating_sub(PART_OBJECTS);
                }
                None => idle += 1,
            }
            let due = core::mem::replace(&mut ahead[at], next);
            at = (at + 1) % AHEAD;
            if let Some(object) = due {
                self.mark_object(object);
                idle = 0;
                to_clock = to_clock.saturating_sub(1);
            }
            // Counts objects visited, so that every slice gets on.
            if to_clock == 0 {
                to_clock = CLOCK_OBJECTS;
                self.share();
                if deadline_ns.is_some_and(|deadline| monotonic_ns() >= deadline) {
                    ahead.into_iter().flatten().for_each(|object| self.stack.push(object));
                    return self.stack.as_slice().is_empty() && self.rests.as_slice().is_empty();
                }
            }
        }
        true
    }

    /// As [`Marker::drain`] to the end, over a word map: that is looked at first, since it is a
    /// small part of the heap's size, and tells of an object that was seen before without its
    /// header; of objects of the space the header is not written. Each of the two looks is 16
    /// objects behind the prefetch for it.
    fn drain_words(&mut self, mut map: WordMap) {
        let (mut seen, mut found) = ([None; AHEAD], [None; AHEAD]);
        let mut at = 0;
        let mut idle = 0;
        let mut to_share = CLOCK_OBJECTS;
        let is_shared = self.pool.is_some();
        while idle < 2 * AHEAD {
            let next = self.stack.pop();
            if let Some(object) = next {
                map.prefetch(object.address());
                idle = 0;
            } else if self.visit_part() {
                idle = 0;
            } else {
                idle += 1;
            }
            let fresh =
                core::mem::replace(&mut seen[at], next).filter(|one| map.claim(*one, is_shared));
            if let Some(object) = fresh {
                prefetch(object.payload().as_ptr().wrapping_sub(8));
                idle = 0;
            }
            if let Some(object) = core::mem::replace(&mut found[at], fresh) {
                // Large objects are not in the map.
                if map.covers(object) || self.claim(object) {
                    self.visit_claimed(object);
                }
                idle = 0;
            }
            at = (at + 1) % AHEAD;
            to_share -= 1;
            if to_share == 0 {
                to_share = CLOCK_OBJECTS;
                self.share();
            }
        }
    }

    /// Bytes of an array that are visited at once.
    #[inline]
    fn part_bytes(&self) -> usize {
        if self.mode == Mode::Mark { PART_BYTES } else { REMEMBERED_PART_BYTES }
    }

    #[inline]
    fn mark_object(&mut self, object: ObjectRef) {
        if self.claim(object) {
            self.visit_claimed(object);
        }
    }

    /// Gives the object its mark bit; returns whether it had the other one.
    #[inline]
    fn claim(&self, object: ObjectRef) -> bool {
        if self.pool.is_none() { object.claim_alone(self.mark) } else { object.claim(self.mark) }
    }

    #[inline]
    fn visit_claimed(&mut self, object: ObjectRef) {
        self.marked += 1;
        let shape = M::shape(object);
        if self.pool.is_none() {
            self.live.record(shape.start, shape.bytes);
        } else {
            self.live.record_shared(shape.start, shape.bytes);
        }
        if !shape.needs_trace {
            return;
        }
        if shape.is_divisible && M::has_parts(object, self.part_bytes()) {
            self.rests.push(Rest { array: object, from: 0 });
            return;
        }
        if self.mode != Mode::Mark {
            self.set_unit(Some(Unit::Object(object)));
        }
        M::mark(object, self);
    }

    /// Visits the next part of the last array; returns whether there was one.
    #[inline(never)]
    fn visit_part(&mut self) -> bool {
        let Some(Rest { array, from }) = self.rests.pop() else { return false };
        if self.mode != Mode::Mark {
            self.set_unit(Some(Unit::Part(array, from)));
        }
        if let Some(from) = M::mark_part(array, from, self.part_bytes(), self) {
            self.rests.push(Rest { array, from });
        }
        true
    }
}

impl<M: Model> Sealed for Marker<M> {}

impl<M: Model> Reach for Marker<M> {
    fn fate(&self, object: ObjectRef) -> Option<ObjectRef> {
        let is_marked = match &self.live {
            LiveSet::Words(map) if map.covers(object) => map.is_claimed(object),
            _ => object.mark_bit() == self.mark,
        };
        is_marked.then_some(object)
    }

    fn settled(&self, object: ObjectRef) -> Option<ObjectRef> {
        let fate = self.fate(object);
        // In one step the tables are updated with everything else.
        if self.remembered.as_ref().is_some_and(|remembered| !remembered.at_once) {
            fate.inspect(|object| self.pin(*object))
        } else {
            fate
        }
    }

    fn reach(&mut self, object: ObjectRef) {
        self.push(object);
    }

    fn finish(&mut self) {
        self.drain(None);
    }
}

impl<M: Model> Visitor for Marker<M> {
    #[inline]
    fn visit(&mut self, field: Field) {
        if let Some(object) = field.object::<M>() {
            if self.mode != Mode::Mark {
                if let Some(remembered) = &mut self.remembered {
                    remembered.note(object);
                }
                if self.mode == Mode::Remember {
                    return;
                }
            }
            self.stack.push(object);
        }
    }
}
