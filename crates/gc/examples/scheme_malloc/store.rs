//! A store with the face of `VmHeap` that never collects: each object is a block of malloc's.

use heapwright_gc::vm::{Layout, Roots};
use heapwright_gc::{Config, HeapError, LimitReached, ObjectRef, Statistics};
use std::alloc::{Layout as Block, alloc};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// The head before the payload.
const HEAD_BYTES: usize = 8;

pub struct Store<L> {
    layout: PhantomData<L>,
}

impl<L: Layout> Store<L> {
    pub fn new(_: Config) -> Result<Self, HeapError> {
        Ok(Self { layout: PhantomData })
    }

    /// # Safety
    /// - As for `VmHeap::alloc`.
    #[inline]
    pub unsafe fn alloc(&self, head: *const u8, bytes: usize) -> Result<ObjectRef, LimitReached> {
        let block = Block::from_size_align(bytes.max(8).next_multiple_of(8) + HEAD_BYTES, 8);
        let block = block.map_err(|_| LimitReached)?;
        // SAFETY: the size is not zero: there is a head.
        let start = NonNull::new(unsafe { alloc(block) }).ok_or(LimitReached)?;
        // SAFETY: the block begins with a word for the head.
        unsafe { start.cast::<*const u8>().write(head) };
        // SAFETY: the payload follows the head in the block.
        let payload = unsafe { start.add(HEAD_BYTES) };
        // SAFETY: an object with a head, which lives for ever.
        Ok(unsafe { ObjectRef::new(payload) })
    }

    /// # Safety
    /// - As for `VmHeap::write`.
    #[inline]
    pub unsafe fn write(&self, place: NonNull<*mut u8>, word: *mut u8) {
        // SAFETY: the caller's promise: a field of an object.
        unsafe { place.write(word) };
    }

    pub fn revive(&self, _: ObjectRef) {}

    /// # Safety
    /// - None: nothing happens.
    #[inline]
    pub unsafe fn safepoint<R: Roots>(&mut self, _: &mut R) {}

    /// # Safety
    /// - None: nothing happens.
    pub unsafe fn collect<R: Roots>(&mut self, _: &mut R) {}

    pub fn verify<R: Roots>(&mut self, _: &mut R) -> (usize, usize) {
        (0, 0)
    }

    pub fn statistics(&self) -> Statistics {
        Statistics::default()
    }
}
