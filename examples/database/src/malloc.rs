//! Nodes and rows in blocks of the program's allocator, named by their addresses.

use crate::btree::NODE_BYTES;
use crate::store::{BlockId, Store, StoreError};
use heapwright_regions::AllocError;
use std::alloc::{Layout, alloc, dealloc};

/// Blocks that are live, to be freed at the end.
#[derive(Debug, Default)]
pub(crate) struct MallocStore {
    live_count: usize,
}

fn layout(bytes: usize) -> Layout {
    // Rows and nodes are short: sizes far below what a layout may have.
    Layout::from_size_align(bytes.max(1), 8).unwrap_or(Layout::new::<u64>())
}

#[inline(never)]
fn alloc_row(bytes: usize) -> *mut u8 {
    // SAFETY: not zero bytes.
    unsafe { alloc(layout(bytes)) }
}

#[inline(never)]
fn alloc_node() -> *mut u8 {
    // SAFETY: as above.
    unsafe { alloc(layout(NODE_BYTES)) }
}

impl Store for MallocStore {
    fn alloc(&mut self, bytes: usize) -> Result<BlockId, StoreError> {
        let block = if bytes == NODE_BYTES { alloc_node() } else { alloc_row(bytes) };
        if block.is_null() {
            return Err(AllocError::TooLarge { requested_bytes: bytes }.into());
        }
        self.live_count += 1;
        // SAFETY: a fresh block of that length.
        unsafe { block.write_bytes(0, bytes) };
        Ok(block.expose_provenance() as BlockId)
    }

    fn free(&mut self, block: BlockId, bytes: usize) {
        self.live_count -= 1;
        let block = std::ptr::with_exposed_provenance_mut(block as usize);
        // SAFETY: the tree frees each of its blocks once, with the length it asked for.
        unsafe { dealloc(block, layout(bytes)) };
    }

    fn bytes(&self, block: BlockId, bytes: usize) -> &[u8] {
        let block = std::ptr::with_exposed_provenance(block as usize);
        // SAFETY: a live block of that length; the tree names no others; borrowed from the store,
        // through which alone blocks are written and freed.
        unsafe { std::slice::from_raw_parts(block, bytes) }
    }

    fn bytes_mut(&mut self, block: BlockId, bytes: usize) -> &mut [u8] {
        let block = std::ptr::with_exposed_provenance_mut(block as usize);
        // SAFETY: as in `bytes`, borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(block, bytes) }
    }
}
