//! Which block an address belongs to when it lies outside all of them: the nearest one, and on
//! which side.

use crate::finding::{BlockView, Finding, Kind};
use crate::heap::Heap;
use crate::pages::PAGE_BYTES;
use crate::record::State;

/// Pages looked at on either side of an address that no block is near.
const REACH_PAGES: usize = 256;

impl Heap {
    /// What an access to `address` that is not allowed means. None when the address is inside a
    /// live block, or no block is near.
    pub(crate) fn explain(&self, address: usize) -> Option<(Kind, BlockView)> {
        let own = self.block_at(address).map(|(_, record)| BlockView::of(record));
        if let Some(view) = own
            && address >= view.start
            && address < view.end()
        {
            return (view.state == State::Freed).then_some((Kind::UseAfterFree, view));
        }
        let below = own.filter(|view| address >= view.end()).or_else(|| self.look_down(address));
        let above = own.filter(|view| address < view.start).or_else(|| self.look_up(address));
        let far = usize::MAX;
        let below_distance = below.map_or(far, |view| address - view.end());
        let above_distance = above.map_or(far, |view| view.start - address);
        let (kind, view) = match below_distance <= above_distance {
            true => (Kind::Overflow, below?),
            false => (Kind::Underflow, above?),
        };
        let kind = if view.state == State::Freed { Kind::UseAfterFree } else { kind };
        Some((kind, view))
    }

    fn look_down(&self, address: usize) -> Option<BlockView> {
        self.look(
            address,
            |page| address.wrapping_sub(page * PAGE_BYTES),
            |view| view.end() <= address,
        )
    }

    fn look_up(&self, address: usize) -> Option<BlockView> {
        self.look(
            address,
            |page| address.wrapping_add(page * PAGE_BYTES),
            |view| view.start > address,
        )
    }

    fn look(
        &self,
        address: usize,
        page: impl Fn(usize) -> usize,
        fits: impl Fn(&BlockView) -> bool,
    ) -> Option<BlockView> {
        if !self.pages.holds(address) {
            return None;
        }
        (0..REACH_PAGES)
            .filter_map(|distance| self.block_at(page(distance)))
            .map(|(_, record)| BlockView::of(record))
            .find(fits)
    }

    /// Checks an access of `bytes` from `address` on, which is of the heap; none when it is
    /// allowed.
    pub(crate) fn judge(&self, address: usize, bytes: usize) -> Option<Finding> {
        let own = self.block_at(address).map(|(_, record)| BlockView::of(record));
        if let Some(view) = own
            && view.state != State::Freed
            && address >= view.start
            && address <= view.end()
        {
            if bytes <= view.end() - address {
                return None;
            }
            // The first byte that is not the block's; the rest of the access lies behind it.
            let finding = Finding::new(Kind::Overflow, view.end());
            let bytes = bytes - (view.end() - address);
            return Some(Finding { bytes, block: Some(view), ..finding });
        }
        let (kind, view) = self.explain(address)?;
        let bytes = match kind {
            Kind::Underflow => bytes.min(view.start - address),
            _ => bytes,
        };
        Some(Finding { bytes, block: Some(view), ..Finding::new(kind, address) })
    }
}
