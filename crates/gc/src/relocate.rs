//! Visitors that move objects: copying out of a range, and looking up where compaction puts them.
//!
//! Both look at what a reference leads to some visits later, by when it is in the cache.

use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use crate::mark::Rest;
use crate::memory::Table;
use crate::model::{Model, Shape};
use crate::object::{Field, ObjectRef, prefetch};
use crate::space::{AddressRange, BlockSpace, CandidateMap, Hole, LINE_BYTES, WordMap};
use crate::trace::Visitor;
use crate::trace::sealed::Sealed;
use crate::weak::Reach;

/// Fields that were seen and whose targets have been asked for, first in first out. 16 covers a
/// memory access by the work of 16 visits.
#[derive(Debug)]
pub(crate) struct Ahead {
    fields: [Option<Field>; Self::LEN],
    at: usize,
}

impl Ahead {
    pub(crate) const LEN: usize = 16;

    const fn new() -> Self {
        Self { fields: [None; Self::LEN], at: 0 }
    }

    /// Takes `field` in and gives the one out that has been here for longest.
    #[inline]
    pub(crate) fn exchange(&mut self, field: Option<Field>) -> Option<Field> {
        let due = core::mem::replace(&mut self.fields[self.at], field);
        self.at = (self.at + 1) % Self::LEN;
        due
    }
}

/// Copies what is reached in one range to holes elsewhere.
#[derive(Debug)]
pub(crate) struct Copier<M: Model> {
    /// The range that is emptied.
    pub(crate) from: AddressRange,
    /// Large objects, which are marked where they are; empty in a minor collection.
    pub(crate) large: AddressRange,
    /// The mark bit of marked large objects.
    pub(crate) mark: usize,
    /// Where the next copies go.
    pub(crate) to: Hole,
    /// Where holes come from when `to` is used up; none where `to` is large enough for all.
    pub(crate) blocks: Option<BlockSpace>,
    /// Of `from`, only blocks that move now are emptied, if this is set.
    pub(crate) moving: Option<CandidateMap>,
    /// Whole blocks to copy into, taken before; or holes that helpers have left.
    pub(crate) spare: Table<Hole>,
    pub(crate) grey: Table<ObjectRef>,
    pub(crate) ahead: Ahead,
    pub(crate) copied_bytes: usize,
    /// What several threads share while they copy ([`crate::copying`]): where objects of more than a
    /// line go in blocks, and arrays that are visited in parts.
    pub(crate) copying: Option<NonNull<()>>,
    pub(crate) medium: Hole,
    pub(crate) rests: Table<Rest>,
    model: PhantomData<M>,
}

impl<M: Model> Copier<M> {
    pub(crate) fn new(blocks: Option<BlockSpace>) -> Self {
        Self {
            from: AddressRange::EMPTY,
            large: AddressRange::EMPTY,
            mark: 0,
            to: Hole::EMPTY,
            blocks,
            moving: None,
            spare: Table::new(),
            grey: Table::new(),
            ahead: Ahead::new(),
            copied_bytes: 0,
            copying: None,
            medium: Hole::EMPTY,
            rests: Table::new(),
            model: PhantomData,
        }
    }

    /// Another one for the same objects, without memory to copy into.
    pub(crate) fn helper(&self) -> Self {
        let mut helper = Self::new(None);
        helper.from = self.from;
        helper.large = self.large;
        helper.mark = self.mark;
        helper.moving = self.moving;
        helper
    }

    /// Settles the fields that wait, until none is left; what is grey stays so.
    pub(crate) fn flush(&mut self) {
        for _ in 0..Ahead::LEN {
            if let Some(field) = self.ahead.exchange(None) {
                self.forward(field);
            }
        }
    }

    /// Visits the fields of copied objects until none is grey and no field waits.
    pub(crate) fn drain(&mut self) {
        let mut idle = 0;
        while idle < Ahead::LEN {
            while let Some(object) = self.grey.pop() {
                self.scan(object);
            }
            match self.ahead.exchange(None) {
                Some(field) => self.forward(field),
                None => idle += 1,
            }
            if !self.grey.as_slice().is_empty() {
                idle = 0;
            }
        }
    }

    /// Whether the object at `address` has to be copied.
    #[inline]
    pub(crate) fn is_moving(&self, address: usize) -> bool {
        self.from.contains(address) && self.moving.is_none_or(|map| map.is_moving(address))
    }

    /// Visits the fields of `object`.
    pub(crate) fn scan(&mut self, object: ObjectRef) {
        M::copy(object, self);
    }

    /// Makes `field` refer to the copy. It may have been visited and settled before: a logged cell
    /// of a young large object is.
    #[inline]
    pub(crate) fn forward(&mut self, field: Field) {
        let Some(object) = field.object::<M>() else { return };
        if self.is_moving(object.address()) {
            let copy = object.forwarded().unwrap_or_else(|| self.copy(object));
            field.set::<M>(copy);
        }
    }

    #[inline]
    pub(crate) fn copy(&mut self, object: ObjectRef) -> ObjectRef {
        if let Some(copying) = self.copying {
            return self.copy_shared(object, copying);
        }
        let shape = M::shape(object);
        let place = match self.to.take(shape.bytes) {
            Some(place) => place,
            None => self.place_slow(shape.bytes),
        };
        // SAFETY: the place is unused memory of that size elsewhere, and one thread copies.
        unsafe { self.copy_to(object, shape, place, ObjectRef::forward_to) }
    }

    /// Copies `object` to `place`, leaves its new address by `forward`, and takes the copy for one
    /// whose fields have to be visited.
    ///
    /// # Safety
    /// - `place` is unused memory of the shape's size, which is this copier's and holds no part of
    ///   the object.
    /// - Nobody writes the object but for its head, which is written by those only that take it.
    #[inline]
    pub(crate) unsafe fn copy_to(
        &mut self,
        object: ObjectRef,
        Shape { start, bytes, needs_trace, .. }: Shape,
        place: NonNull<u8>,
        forward: impl FnOnce(ObjectRef, ObjectRef),
    ) -> ObjectRef {
        // SAFETY: `bytes` of the old object are initialised or padding; the rest is the caller's
        // promise.
        unsafe { copy_object(start, place, bytes) };
        // SAFETY: head and payload lie in the place.
        let payload = unsafe { place.add(object.address() - start.addr().get()) };
        // SAFETY: the head was copied with the payload (O1, O2).
        let copy = unsafe { ObjectRef::new(payload) };
        forward(object, copy);
        self.copied_bytes += bytes;
        if needs_trace {
            self.grey.push(copy);
        }
        copy
    }

    #[cold]
    #[inline(never)]
    fn place_slow(&mut self, bytes: usize) -> NonNull<u8> {
        if self.moving.is_some() {
            self.to = self.spare.pop().expect("as many were taken as the copies need");
            return self.to.take(bytes).expect("a block holds any small object");
        }
        let blocks = self.blocks.as_mut().expect("the other half holds all of this one");
        if bytes > LINE_BYTES {
            return blocks.alloc_medium(bytes).expect("the reserve of the old space");
        }
        self.to =
            self.spare.pop().or_else(|| blocks.next_hole()).expect("the reserve of the old space");
        self.to.take(bytes).expect("a hole has at least a line")
    }

    fn mark_large(&mut self, object: ObjectRef) {
        let is_new = match self.copying {
            None => object.claim_alone(self.mark),
            Some(_) => object.claim(self.mark),
        };
        if is_new {
            self.grey.push(object);
        }
    }
}

/// Copies a whole object; the frequent sizes without a call.
///
/// # Safety
/// - `bytes`, a multiple of 8, may be read from `from` and written to `to`, and do not overlap.
#[inline]
unsafe fn copy_object(from: NonNull<u8>, to: NonNull<u8>, bytes: usize) {
    macro_rules! sizes {
        ($($words:literal)*) => {
            match bytes {
                $(bytes if bytes == $words * 8 => {
                    type Words = MaybeUninit<[u64; $words]>;
                    // SAFETY: the caller's promise; objects are aligned to 8.
                    let words = unsafe { from.cast::<Words>().read() };
                    // SAFETY: as above.
                    unsafe { to.cast::<Words>().write(words) }
                })*
                // SAFETY: the caller's promise.
                _ => unsafe { to.copy_from_nonoverlapping(from, bytes) },
            }
        };
    }
    sizes!(2 3 4 5 6 7 8)
}

impl<M: Model> Sealed for Copier<M> {}

impl<M: Model> Reach for Copier<M> {
    fn fate(&self, object: ObjectRef) -> Option<ObjectRef> {
        if self.is_moving(object.address()) {
            object.forwarded()
        } else if self.large.contains(object.address()) {
            (object.mark_bit() == self.mark).then_some(object)
        } else {
            Some(object)
        }
    }

    fn reach(&mut self, object: ObjectRef) {
        if self.is_moving(object.address()) {
            if object.forwarded().is_none() {
                self.copy(object);
            }
        } else if self.large.contains(object.address()) {
            self.mark_large(object);
        }
    }

    fn finish(&mut self) {
        self.drain();
    }
}

impl<M: Model> Visitor for Copier<M> {
    #[inline]
    fn visit(&mut self, field: Field) {
        let Some(object) = field.object::<M>() else { return };
        if self.is_moving(object.address()) {
            prefetch(object.payload().as_ptr().wrapping_sub(8));
            if let Some(due) = self.ahead.exchange(Some(field)) {
                self.forward(due);
            }
        } else if self.large.contains(object.address()) {
            self.mark_large(object);
        }
    }
}

/// From this many bytes on the map, a 51st of them, does not stay in the nearest caches.
const WAIT_BYTES: usize = 32 << 20;

/// Replaces references to where sliding puts the objects. Each field is visited once.
#[derive(Debug)]
pub(crate) struct Slider<M: Model> {
    pub(crate) map: WordMap,
    ahead: Ahead,
    /// Whether the map is too large for the caches, so that looking ahead pays.
    waits: bool,
    model: PhantomData<M>,
}

impl<M: Model> Slider<M> {
    pub(crate) fn new(map: WordMap) -> Self {
        Self { map, ahead: Ahead::new(), waits: false, model: PhantomData }
    }

    /// Plans where everything in the first `used_bytes` goes; returns the bytes that remain.
    pub(crate) fn plan(&mut self, used_bytes: usize) -> usize {
        let is_empty = self.ahead.fields.iter().all(Option::is_none);
        debug_assert!(is_empty, "a field of the last collection waits");
        self.waits = used_bytes >= WAIT_BYTES || cfg!(debug_assertions);
        self.map.plan(used_bytes)
    }

    /// Replaces the references of `object`, at the latest when [`Slider::flush`] is called; the
    /// object does not move until then.
    pub(crate) fn scan(&mut self, object: ObjectRef) {
        if M::needs_trace(object) {
            M::slide(object, self);
        }
    }

    #[inline]
    fn settle(&self, field: Field) {
        if let Some(object) = field.object::<M>() {
            field.set::<M>(self.map.target(object));
        }
    }

    /// Replaces what waits.
    pub(crate) fn flush(&mut self) {
        for _ in 0..Ahead::LEN {
            if let Some(field) = self.ahead.exchange(None) {
                self.settle(field);
            }
        }
    }
}

impl<M: Model> Sealed for Slider<M> {}

impl<M: Model> Visitor for Slider<M> {
    #[inline]
    fn visit(&mut self, field: Field) {
        let Some(object) = field.object::<M>() else { return };
        if !self.waits {
            field.set::<M>(self.map.target(object));
            return;
        }
        self.map.prefetch_target(object.address());
        if let Some(due) = self.ahead.exchange(Some(field)) {
            self.settle(due);
        }
    }
}
