//! Nodes and rows in row pools of a heap in a file: found again after the program ends.

use crate::btree::Tree;
use crate::store::{BlockId, Store, StoreError};
use heapwright_regions::{Access, FileHeap, FileHeapShape, Tails};
use std::alloc::Layout;
use std::collections::HashSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

/// What says that a heap is this program's, and which version of its layout.
const APPLICATION: u64 = u64::from_be_bytes(*b"rowstor2");
/// Slots of a class are cut from chunks of this length.
const CHUNK_BYTES: usize = 32 << 10;
/// What chunks consist of for the file's heap, whose bits are all in memory: nothing shorter is asked
/// of it but once.
const LEAF_BYTES: u64 = 4 << 10;
/// The shortest class. Each is up to a sixteenth longer than the one before, or by 8 bytes: with
/// steps of a quarter rows held a tenth more than they asked for.
const LEAST_BYTES: usize = 48;
const STEPS_PER_DOUBLING: usize = 16;
/// Classes up to the first doubling with such steps, and those of the three doublings.
const EVEN_COUNT: usize = (EVEN_BYTES - LEAST_BYTES) / 8 + 1;
const EVEN_BYTES: usize = 8 * STEPS_PER_DOUBLING;
const CLASSES: [usize; EVEN_COUNT + 3 * STEPS_PER_DOUBLING] = {
    let mut classes = [0; EVEN_COUNT + 3 * STEPS_PER_DOUBLING];
    let (mut index, mut bytes) = (0, LEAST_BYTES);
    while index < classes.len() {
        classes[index] = bytes;
        index += 1;
        let step = if bytes < EVEN_BYTES { 8 } else { (1 << bytes.ilog2()) / STEPS_PER_DOUBLING };
        bytes += step;
    }
    classes
};
const _: () = assert!(CLASSES[CLASSES.len() - 1] == 1024);

/// Where things are found again.
const ROOT_OF_TREE: usize = 0;
const ROOT_OF_POOLS: usize = 1;

/// Words of a pool: its first free slot, and the part of its newest chunk that was never used.
const POOL_WORDS: u64 = 3;
const POOLS_BYTES: usize = CLASSES.len() * POOL_WORDS as usize * 8;

/// The pages of a new chunk are brought in with those around it, so many bytes at once: the first
/// touch of a file's page costs more than that of anonymous memory, and one row in forty meets one.
const WARM_BYTES: u64 = 1 << 20;

/// The file, and its pools, in a block of the file itself.
#[derive(Debug)]
pub(crate) struct FileStore {
    heap: FileHeap,
    pools: BlockId,
    /// Windows of `WARM_BYTES` whose pages were brought in.
    warm: HashSet<u64>,
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

fn layout(bytes: usize) -> Layout {
    // All lengths here are small.
    Layout::from_size_align(bytes, 8).unwrap_or(Layout::new::<u64>())
}

impl FileStore {
    /// A store in a new file.
    pub(crate) fn create(path: &Path, bytes: u64) -> Result<Self, StoreError> {
        let shape = FileHeapShape { bytes, leaf_bytes: LEAF_BYTES, tails: Tails::Trim };
        let heap = FileHeap::create(&c_path(path), APPLICATION, shape)?;
        let block = heap.try_alloc(layout(POOLS_BYTES))?;
        let pools = heap.offset_of(block);
        heap.set_root(ROOT_OF_POOLS, pools);
        let mut store = Self { heap, pools, warm: HashSet::new() };
        store.bytes_mut(pools, POOLS_BYTES).fill(0);
        Ok(store)
    }

    /// The store of a file, and its tree.
    pub(crate) fn open(path: &Path) -> Result<(Self, Tree), StoreError> {
        let heap = FileHeap::open(&c_path(path), APPLICATION)?;
        let (Some(pools), Some(tree)) = (heap.root(ROOT_OF_POOLS), heap.root(ROOT_OF_TREE)) else {
            return Err(StoreError::Lost);
        };
        let store = Self { heap, pools, warm: HashSet::new() };
        let tree = Tree::from_words(store.words::<3>(tree));
        Ok((store, tree))
    }

    /// Keeps the tree's root in the file and closes it.
    pub(crate) fn close(mut self, tree: &Tree) -> Result<(), StoreError> {
        let block = self.heap.try_alloc(layout(24))?;
        let at = self.heap.offset_of(block);
        for (index, word) in tree.to_words().into_iter().enumerate() {
            self.set_word(at + 8 * index as u64, word);
        }
        self.heap.set_root(ROOT_OF_TREE, at);
        Ok(self.heap.close()?)
    }

    fn word(&self, at: u64) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(self.bytes(at, 8));
        u64::from_ne_bytes(word)
    }

    fn words<const N: usize>(&self, at: u64) -> [u64; N] {
        std::array::from_fn(|index| self.word(at + 8 * index as u64))
    }

    fn set_word(&mut self, at: u64, word: u64) {
        self.bytes_mut(at, 8).copy_from_slice(&word.to_ne_bytes());
    }

    fn class_of(bytes: usize) -> Option<usize> {
        let class = CLASSES.partition_point(|class| *class < bytes);
        (class < CLASSES.len()).then_some(class)
    }

    /// Where the words of the pool of `class` are.
    fn pool(&self, class: usize) -> u64 {
        self.pools + class as u64 * POOL_WORDS * 8
    }

    /// A slot of `class` that was never used, of a new chunk if need be.
    fn fresh(&mut self, class: usize) -> Result<BlockId, StoreError> {
        let pool = self.pool(class);
        let [_, mut fresh, mut end] = self.words(pool);
        let slot_bytes = CLASSES[class] as u64;
        if end - fresh < slot_bytes {
            fresh = self.heap.offset_of(self.heap.try_alloc(layout(CHUNK_BYTES))?);
            end = fresh + CHUNK_BYTES as u64;
            self.warm(fresh, end);
            self.set_word(pool + 16, end);
        }
        self.set_word(pool + 8, fresh + slot_bytes);
        Ok(fresh)
    }

    /// Brings the windows of a chunk in, each once.
    fn warm(&mut self, start: u64, end: u64) {
        for window in start / WARM_BYTES..=(end - 1) / WARM_BYTES {
            if !self.warm.insert(window) {
                continue;
            }
            let from = window * WARM_BYTES;
            let to = (from + WARM_BYTES).min(self.heap.mapping().bytes() as u64);
            // Where the kernel refuses, each page comes at its first touch.
            let _ = self.heap.mapping().advise(from as usize..to as usize, Access::Written);
        }
    }

    fn address(&self, block: BlockId) -> NonNull<u8> {
        self.heap.at(block).expect("the tree names blocks of this heap")
    }
}

impl Store for FileStore {
    fn alloc(&mut self, bytes: usize) -> Result<BlockId, StoreError> {
        let Some(class) = Self::class_of(bytes) else {
            let block = self.heap.try_alloc(layout(bytes))?;
            return Ok(self.heap.offset_of(block));
        };
        let pool = self.pool(class);
        let slot = self.word(pool);
        if slot == 0 {
            return self.fresh(class);
        }
        let next = self.word(slot);
        self.set_word(pool, next);
        Ok(slot)
    }

    fn free(&mut self, block: BlockId, bytes: usize) {
        let Some(class) = Self::class_of(bytes) else {
            // SAFETY: the tree frees each block once, with the length it asked for.
            let freed = unsafe { self.heap.free(self.address(block), layout(bytes)) };
            debug_assert!(freed.is_ok(), "{freed:?}");
            return;
        };
        let pool = self.pool(class);
        let next = self.word(pool);
        self.set_word(block, next);
        self.set_word(pool, block);
    }

    fn bytes(&self, block: BlockId, bytes: usize) -> &[u8] {
        // SAFETY: a live block of that length; borrowed from the store, through which alone blocks
        // are written and freed.
        unsafe { std::slice::from_raw_parts(self.address(block).as_ptr(), bytes) }
    }

    fn bytes_mut(&mut self, block: BlockId, bytes: usize) -> &mut [u8] {
        // SAFETY: as in `bytes`, borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.address(block).as_ptr(), bytes) }
    }
}
