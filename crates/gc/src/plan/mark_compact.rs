//! Mark-compact: marks words, then slides all objects towards the start in address order.
//!
//! The map of live words costs 5/256 of the space and gives each object's target, so references are
//! replaced and objects moved in one walk, and no second space is needed. While marking, objects of
//! the space are claimed in the map, and their heads are only read: the walk gives them their mark
//! bits, when it has them in the cache to write.

use core::mem::MaybeUninit;
use core::ptr::NonNull;

use crate::HeapError;
use crate::mark::Marker;
use crate::memory::Reserve;
use crate::model::Model;
use crate::object::{WORD_BYTES, prefetch};
use crate::plan::{Common, Extent, Grant, Plan};
use crate::relocate::Slider;
use crate::root::Roots;
use crate::space::{AddressRange, BumpSpace, LARGE_BYTES, LiveSet, WordMap};

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

    /// Moves every live object of the first `used_bytes` to its target, and gives it the mark bit
    /// `mark`. References are replaced where the objects are then, some way behind the move: what
    /// was moved is still in the cache, nobody writes to where it was, and no field moves that
    /// waits for its target.
    fn slide(&mut self, used_bytes: usize, mark: usize) {
        let start = self.space.start();
        let (mut from, mut to, mut scanned) = (0, 0, 0);
        while let Some((begin, end)) = self.slider.map.next_run(from, used_bytes, RUN_BYTES) {
            if to != begin {
                // SAFETY: live words lie in the space.
                let source = unsafe { start.add(begin) };
                prefetch(source.as_ptr().wrapping_add(AHEAD_BYTES));
                // SAFETY: `to < begin`, inside the space.
                let target = unsafe { start.add(to) };
                // SAFETY: both ranges lie in the space; what is overwritten lies below `end` and
                // has moved, or moves now, or is dead.
                unsafe { slide_words(source, target, end - begin) };
            }
            to += end - begin;
            from = end;
            if to - scanned >= SCAN_BYTES {
                // What begins further back than the largest small object is here as a whole.
                scanned = self.scan(scanned, to - LARGE_BYTES, mark);
            }
        }
        scanned = self.scan(scanned, to, mark);
        debug_assert!(scanned == to, "a run ends with an object");
        self.slider.flush();
    }

    /// Visits the references of the objects that begin from `from` on and before `until`, none of
    /// which moves any more; returns where the last one ends.
    fn scan(&mut self, from: usize, until: usize, mark: usize) -> usize {
        let mut end = from;
        while end < until {
            // SAFETY: below what was moved, so inside the space.
            let start = unsafe { self.space.start().add(end) };
            // SAFETY: objects follow each other without gaps where they have moved to, and this one
            // is there as a whole.
            let object = unsafe { M::at(start) };
            object.claim_alone(mark);
            let shape = M::shape(object);
            if shape.needs_trace {
                M::slide(object, &mut self.slider);
            }
            end += shape.bytes;
        }
        end
    }
}

/// How far ahead of the move memory is asked for: the gaps between runs keep the CPU from seeing
/// where it will go on.
const AHEAD_BYTES: usize = 2 << 10;
/// A run is cut after as much, so that what was moved stays in the nearest cache.
const RUN_BYTES: usize = 8 << 10;
/// How far the replacing of references is behind the move: a part of the nearest cache.
const SCAN_BYTES: usize = 2 * LARGE_BYTES;

/// Words that are moved at once.
const LINE_WORDS: usize = 8;

/// Moves `bytes` from `from` to `to`, which is below, without a call as long as they are few: a run
/// is often one object.
///
/// # Safety
/// - `bytes`, a multiple of 8, may be read from `from` and written to `to`; `to` is below `from`.
/// - Nobody needs what is overwritten.
#[inline]
unsafe fn slide_words(from: NonNull<u8>, to: NonNull<u8>, bytes: usize) {
    type Line = MaybeUninit<[u64; LINE_WORDS]>;
    if bytes > CALL_BYTES {
        // SAFETY: the caller's promise; the ranges may overlap.
        unsafe { to.copy_from(from, bytes) };
        return;
    }
    let (from, to) = (from.cast::<u64>(), to.cast::<u64>());
    let count = bytes / WORD_BYTES;
    let mut at = 0;
    while at + LINE_WORDS <= count {
        // SAFETY: inside the caller's ranges, as is the next.
        let source = unsafe { from.add(at) };
        // SAFETY: as above.
        let target = unsafe { to.add(at) };
        // SAFETY: as many words are there, and all are read before one is written: what the write
        // reaches lies below the end of this line.
        let line = unsafe { source.cast::<Line>().read() };
        // SAFETY: as above.
        unsafe { target.cast::<Line>().write(line) };
        at += LINE_WORDS;
    }
    while at < count {
        // SAFETY: inside the caller's ranges, as is the next.
        let source = unsafe { from.add(at) };
        // SAFETY: as above.
        let target = unsafe { to.add(at) };
        // SAFETY: a word of the caller's; padding may be uninitialised.
        let word = unsafe { source.cast::<MaybeUninit<u64>>().read() };
        // SAFETY: as above.
        unsafe { target.cast::<MaybeUninit<u64>>().write(word) };
        at += 1;
    }
}

/// Above this a call is worth it.
const CALL_BYTES: usize = 512;

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
        // A machine may look at its roots while it settles what it holds weakly.
        self.slider.flush();
        roots.settle(&mut |object| Some(self.slider.map.target(object)));
        common.pairs.slide(|object| self.slider.map.target(object));
        common.finals.slide(|object| self.slider.map.target(object));
        common.identities.slide(|object| self.slider.map.target(object));
        for object in common.drops.as_mut_slice() {
            *object = self.slider.map.target(*object);
        }
        self.slide(used, common.mark);
        self.slider.map.clear(used);
        common.end_full(live);
        self.space.reset(live, live + common.keep_bytes());
    }

    fn used(&self) -> [AddressRange; 2] {
        [self.space.used(), AddressRange::EMPTY]
    }
}
