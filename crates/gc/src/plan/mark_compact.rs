//! Mark-compact: marks words, then slides all objects towards the start in address order.
//!
//! The map of live words costs 1/32 of the space and gives each object's target, so references are
//! replaced and objects moved in one walk, and no second space is needed.

use core::ptr::NonNull;

use crate::HeapError;
use crate::mark::Marker;
use crate::memory::Reserve;
use crate::object::object_at;
use crate::plan::{Common, Extent, Grant, Plan};
use crate::relocate::Slider;
use crate::root::Roots;
use crate::space::{AddressRange, BumpSpace, LiveSet, WordMap};
use crate::trace::Visitor;

pub(crate) struct MarkCompact {
    space: BumpSpace,
    marker: Marker,
    slider: Slider,
    /// Keeps the memory of the word map.
    _map: Reserve,
}

impl MarkCompact {
    pub(crate) fn new(start: NonNull<u8>, bytes: usize) -> Result<Self, HeapError> {
        let (map, memory) = WordMap::new(start, bytes)?;
        Ok(Self {
            space: BumpSpace::new(start, bytes),
            marker: Marker::new(LiveSet::Words(map)),
            slider: Slider { map },
            _map: memory,
        })
    }

    /// Moves every live object of the first `used_bytes` to its target, its references first.
    fn slide(&mut self, used_bytes: usize) {
        let mut from = 0;
        let mut to = 0;
        while let Some(offset) = self.slider.map.next_live(from, used_bytes) {
            // SAFETY: live words lie in the space.
            let start = unsafe { self.space.start().add(offset) };
            // SAFETY: the word before was not live or ended an object, so an object starts here.
            let object = unsafe { object_at(start) };
            let desc = object.desc();
            let (len, bytes) = (object.len(desc), object.total_bytes(desc));
            if desc.needs_trace {
                // SAFETY: the payload holds `len` values of the descriptor's type (O1), and nobody
                // else uses the heap during a collection.
                unsafe { (desc.slide)(object.payload(), len, &mut self.slider) };
            }
            // SAFETY: `to <= offset`, inside the space.
            let target = unsafe { self.space.start().add(to) };
            if to != offset {
                // SAFETY: both ranges lie in the space and may overlap; what is overwritten lies
                // below `offset` and has moved, or is dead.
                unsafe { target.copy_from(start, bytes) };
            }
            from = offset + bytes;
            to += bytes;
        }
    }
}

impl Plan for MarkCompact {
    fn grant(&mut self, cursor: *mut u8, bytes: usize) -> Option<Grant> {
        self.space.grant(cursor, bytes).map(Grant::Bump)
    }

    fn occupied_bytes(&self) -> usize {
        self.space.occupied_bytes()
    }

    fn collect<R: Roots>(&mut self, roots: &mut R, common: &mut Common, _extent: Extent) {
        let used = self.space.occupied_bytes();
        self.marker.begin(common.flip_mark(), LiveSet::Words(self.slider.map));
        roots.trace(&mut self.marker);
        self.marker.drain(None);
        common.settle(true, &mut self.marker);
        common.large.sweep(common.mark);

        let live = self.slider.map.plan(used);
        roots.trace(&mut self.slider);
        for index in 0..common.large.count() {
            let object = common.large.object(index);
            let desc = object.desc();
            // SAFETY: the payload holds as many values of the descriptor's type (O1), and nobody
            // else uses the heap during a collection.
            unsafe { (desc.slide)(object.payload(), object.len(desc), &mut self.slider) };
        }
        common.pairs.slide(&mut self.slider);
        for object in common.drops.as_mut_slice() {
            *object = self.slider.visit(*object);
        }
        self.slide(used);
        self.slider.map.clear(used);
        common.end_full(live);
        self.space.reset(live, live + common.keep_bytes());
    }

    fn used(&self) -> [AddressRange; 2] {
        [self.space.used(), AddressRange::EMPTY]
    }
}
