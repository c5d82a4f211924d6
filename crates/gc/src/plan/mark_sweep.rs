//! Mark-sweep: marks objects and their lines; unmarked lines are free. Blocks with little in them
//! are emptied by evacuation.

use core::ptr::NonNull;

use crate::HeapError;
use crate::evacuate::Mover;
use crate::mark::Marker;
use crate::model::Model;
use crate::plan::{Common, Extent, Grant, Plan};
use crate::remember::Remembered;
use crate::root::Roots;
use crate::space::{AddressRange, BlockSpace, LINE_BYTES, LiveSet};

pub(crate) struct MarkSweep<M: Model> {
    blocks: BlockSpace,
    marker: Marker<M>,
}

impl<M: Model> MarkSweep<M> {
    pub(crate) fn new(start: NonNull<u8>, bytes: usize) -> Result<Self, HeapError> {
        let mut blocks = BlockSpace::new(start, bytes)?;
        let marker = marker_of(&mut blocks)?;
        Ok(Self { blocks, marker })
    }
}

impl<M: Model> Plan<M> for MarkSweep<M> {
    fn grant(&mut self, _cursor: *mut u8, bytes: usize) -> Option<Grant> {
        grant_from(&mut self.blocks, bytes)
    }

    fn occupied_bytes(&self) -> usize {
        self.blocks.occupied_bytes()
    }

    fn collect<R: Roots>(&mut self, roots: &mut R, common: &mut Common<M>, _extent: Extent) {
        mark_and_sweep(&mut self.marker, &mut self.blocks, roots, common);
    }

    fn used(&self) -> [AddressRange; 2] {
        [self.blocks.used(), AddressRange::EMPTY]
    }
}

/// A hole for an object of at most a line, or a place for a larger one.
pub(crate) fn grant_from(blocks: &mut BlockSpace, bytes: usize) -> Option<Grant> {
    if bytes > LINE_BYTES {
        blocks.alloc_medium(bytes).map(Grant::Single)
    } else {
        blocks.next_hole().map(Grant::Bump)
    }
}

/// A marker of what lies in `blocks`, which can remember what refers to those that are emptied.
pub(crate) fn marker_of<M: Model>(blocks: &mut BlockSpace) -> Result<Marker<M>, HeapError> {
    let remembered = Remembered::new(blocks.range())?;
    Ok(Marker::remembering(LiveSet::Lines(blocks.line_map()), remembered))
}

/// A whole collection of blocks and large objects.
pub(crate) fn mark_and_sweep<M: Model, R: Roots>(
    marker: &mut Marker<M>,
    blocks: &mut BlockSpace,
    roots: &mut R,
    common: &mut Common<M>,
) {
    let threads = common.mark_threads(blocks.occupied_bytes());
    let mut mover = Mover::new();
    mover.begin(true, marker, blocks, common);
    marker.begin(common.flip_mark(), LiveSet::Lines(blocks.begin_cycle()));
    common.trace_roots(roots, marker);
    marker.drain_by(threads);
    common.settle(roots, true, marker);
    mover.move_all(marker, blocks, roots, common, threads);
    common.large.sweep(common.mark);
    blocks.begin_sweep(common.keep_bytes());
    blocks.sweep(usize::MAX);
    common.end_full(blocks.occupied_bytes());
}
