//! Mark-compact: marks words, then slides all objects towards the start in address order.
//!
//! The map of live words costs 1/32 of the space and gives each object's target, so references are
//! replaced and objects moved in one walk, and no second space is needed.

use core::ptr::NonNull;

use crate::HeapError;
use crate::mark::Marker;
use crate::memory::Reserve;
use crate::model::Model;
use crate::object::prefetch;
use crate::plan::{Common, Extent, Grant, Plan};
use crate::relocate::Slider;
use crate::root::Roots;
use crate::space::{AddressRange, BumpSpace, LiveSet, WordMap};

pub(crate) struct MarkCompact<M: Model> {
    space: BumpSpace,
    marker: Marker<M>,
    slider: Slider<M>,
    /// Keeps the memory of the word map.
    _map: Reserve,
}

impl<M: Model> MarkCompact<M> {
    pub(crate) fn new(start: NonNull<u8>, bytes: usize) -> Result<Self, HeapError> {
        let (map, memory) = WordMap::new(start, bytes)?;
        Ok(Self {
            space: BumpSpace::new(start, bytes),
            marker: Marker::new(LiveSet::Words(map)),
            slider: Slider::new(map),
            _map: memory,
        })
    }

    /// Moves every live object of the first `used_bytes` to its target, its references first. The
    /// references are replaced some way ahead of the move, so that their targets can be looked up
    /// a few at a time; what is moved is still in the cache then.
    fn slide(&mut self, used_bytes: usize) {
        let mut moved = 0;
        let mut to = 0;
        while let Some(scanned) = self.scan(moved, used_bytes) {
            self.slider.flush();
            while let Some((begin, end)) = self.slider.map.next_run(moved, scanned) {
                // SAFETY: live words lie in the space.
                let from = unsafe { self.space.start().add(begin) };
                // SAFETY: `to <= begin`, inside the space.
                let target = unsafe { self.space.start().add(to) };
                if to != begin {
                    // SAFETY: both ranges lie in the space and may overlap; what is overwritten
                    // lies below `end` and has moved, or is dead.
                    unsafe { target.copy_from(from, end - begin) };
                }
                to += end - begin;
                moved = end;
            }
        }
    }

    /// Visits the references of the next live objects at or after `from`; returns where they end,
    /// or none without any.
    fn scan(&mut self, from: usize, used_bytes: usize) -> Option<usize> {
        let mut end = from;
        while let Some(offset) = self.slider.map.next_live(end, used_bytes) {
            // SAFETY: live words lie in the space.
            let start = unsafe { self.space.start().add(offset) };
            // Each header is needed to find the next, so the CPU does not run ahead by itself.
            prefetch(start.as_ptr().wrapping_add(AHEAD_BYTES));
            // SAFETY: the word before was not live or ended an object, so an object starts here.
            let object = unsafe { M::at(start) };
            let shape = M::shape(object);
            if shape.needs_trace {
                M::slide(object, &mut self.slider);
            }
            end = offset + shape.bytes;
            if end - from >= SCAN_BYTES {
                break;
            }
        }
        (end != from).then_some(end)
    }
}

/// How far ahead of the walk memory is asked for.
const AHEAD_BYTES: usize = 4 << 10;
/// How far references are replaced ahead of the move: a part of the nearest cache.
const SCAN_BYTES: usize = 16 << 10;

impl<M: Model> Plan<M> for MarkCompact<M> {
    fn grant(&mut self, cursor: *mut u8, bytes: usize) -> Option<Grant> {
        self.space.grant(cursor, bytes).map(Grant::Bump)
    }

    fn occupied_bytes(&self) -> usize {
        self.space.occupied_bytes()
    }

    fn collect<R: Roots>(&mut self, roots: &mut R, common: &mut Common<M>, _extent: Extent) {
        let used = self.space.occupied_bytes();
        self.marker.begin(common.flip_mark(), LiveSet::Words(self.slider.map));
        common.trace_roots(roots, &mut self.marker);
        self.marker.drain_by(common.mark_threads(used));
        common.settle(roots, true, &mut self.marker);
        common.large.sweep(common.mark);

        let live = self.slider.plan(used);
        roots.trace(&mut self.slider);
        for index in 0..common.large.count() {
            self.slider.scan(common.large.object(index));
        }
        self.slider.flush();
        roots.settle(&mut |object| Some(self.slider.map.target(object)));
        common.pairs.slide(|object| self.slider.map.target(object));
        common.finals.slide(|object| self.slider.map.target(object));
        common.identities.slide(|object| self.slider.map.target(object));
        for object in common.drops.as_mut_slice() {
            *object = self.slider.map.target(*object);
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
