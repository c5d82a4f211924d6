//! Visitors that move objects: copying out of a range, and looking up where compaction puts them.

use core::ptr::NonNull;

use crate::memory::Table;
use crate::object::ObjectRef;
use crate::space::{AddressRange, BlockSpace, Hole, LINE_BYTES, WordMap};
use crate::trace::Visitor;
use crate::trace::sealed::Sealed;
use crate::weak::Reach;

/// Copies what is reached in one range to holes elsewhere.
#[derive(Debug)]
pub(crate) struct Copier {
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
    grey: Table<ObjectRef>,
    pub(crate) copied_bytes: usize,
}

impl Copier {
    pub(crate) fn new(blocks: Option<BlockSpace>) -> Self {
        Self {
            from: AddressRange::EMPTY,
            large: AddressRange::EMPTY,
            mark: 0,
            to: Hole::EMPTY,
            blocks,
            grey: Table::new(),
            copied_bytes: 0,
        }
    }

    /// Visits the fields of copied objects until none is grey.
    pub(crate) fn drain(&mut self) {
        while let Some(object) = self.grey.pop() {
            self.scan(object);
        }
    }

    /// Visits the fields of `object`.
    pub(crate) fn scan(&mut self, object: ObjectRef) {
        let desc = object.desc();
        // SAFETY: the payload holds as many values of the descriptor's type (O1), and nobody else
        // uses the heap during a collection.
        unsafe { (desc.copy)(object.payload(), object.len(desc), self) };
    }

    #[inline]
    fn copy(&mut self, object: ObjectRef) -> ObjectRef {
        let desc = object.desc();
        let bytes = object.total_bytes(desc);
        let place = match self.to.take(bytes) {
            Some(place) => place,
            None => self.place_slow(bytes),
        };
        // SAFETY: `bytes` of the old object are initialised or padding, and the place is unused
        // memory of that size elsewhere.
        unsafe { place.copy_from_nonoverlapping(object.start(desc), bytes) };
        // SAFETY: head and payload lie in the place.
        let payload = unsafe { place.add(desc.head_bytes()) };
        // SAFETY: the head was copied with the payload (O1, O2).
        let copy = unsafe { ObjectRef::new(payload) };
        object.forward_to(copy);
        self.copied_bytes += bytes;
        if desc.needs_trace {
            self.grey.push(copy);
        }
        copy
    }

    #[cold]
    #[inline(never)]
    fn place_slow(&mut self, bytes: usize) -> NonNull<u8> {
        let blocks = self.blocks.as_mut().expect("the other half holds all of this one");
        if bytes > LINE_BYTES {
            return blocks.alloc_medium(bytes).expect("the reserve of the old space");
        }
        self.to = blocks.next_hole().expect("the reserve of the old space");
        self.to.take(bytes).expect("a hole has at least a line")
    }
}

impl Sealed for Copier {}

impl Reach for Copier {
    fn fate(&self, object: ObjectRef) -> Option<ObjectRef> {
        if self.from.contains(object.address()) {
            object.forwarded()
        } else if self.large.contains(object.address()) {
            (object.mark_bit() == self.mark).then_some(object)
        } else {
            Some(object)
        }
    }

    fn finish(&mut self) {
        self.drain();
    }
}

impl Visitor for Copier {
    #[inline]
    fn visit(&mut self, object: ObjectRef) -> ObjectRef {
        if self.from.contains(object.address()) {
            return match object.forwarded() {
                Some(copy) => copy,
                None => self.copy(object),
            };
        }
        if self.large.contains(object.address()) && object.mark_bit() != self.mark {
            object.flip_mark();
            self.grey.push(object);
        }
        object
    }
}

/// Replaces references to where sliding puts the objects.
#[derive(Debug)]
pub(crate) struct Slider {
    pub(crate) map: WordMap,
}

impl Sealed for Slider {}

impl Visitor for Slider {
    #[inline]
    fn visit(&mut self, object: ObjectRef) -> ObjectRef {
        self.map.target(object)
    }
}
