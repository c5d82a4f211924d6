//! What the collectors ask of an object: where it begins and ends, and where its references are.
//!
//! Plans, markers and copiers are generic over a [`Model`] and compiled once for each: for objects
//! with a type descriptor (the safe interface, [`Described`]) and for those of a program's own
//! layout ([`crate::vm`]). Both have the header word right before the payload, whose four lowest
//! bits are the collectors'.

use core::fmt;
use core::ptr::NonNull;

use crate::mark::Marker;
use crate::object::{ObjectRef, object_at};
use crate::relocate::{Copier, Slider};
use crate::verify::Verifier;

/// What a collector asks of each object that it reaches, by one look at the head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// As [`Model::start`].
    pub(crate) start: NonNull<u8>,
    /// As [`Model::total_bytes`].
    pub(crate) bytes: usize,
    /// As [`Model::needs_trace`].
    pub(crate) needs_trace: bool,
    /// Whether [`Model::has_parts`] can be true.
    pub(crate) is_divisible: bool,
}

/// What is known about the objects of a heap.
///
/// # Safety
/// - The answers for an object that has not moved are the same until the program changes it, and
///   lie inside the memory that the object was given.
/// - The four visits show every reference of the object exactly once.
pub(crate) unsafe trait Model: Copy + fmt::Debug + 'static {
    /// The first byte of an object, head included.
    fn start(object: ObjectRef) -> NonNull<u8>;

    /// The object whose first byte lies at `start`.
    ///
    /// # Safety
    /// - An object of a heap that exists begins there.
    unsafe fn at(start: NonNull<u8>) -> ObjectRef;

    /// Bytes from [`Model::start`] to the end: a multiple of 8.
    fn total_bytes(object: ObjectRef) -> usize;

    /// Whether the object can hold a reference at all.
    fn needs_trace(object: ObjectRef) -> bool;

    /// The four at once.
    fn shape(object: ObjectRef) -> Shape;

    /// Whether the object is so long that [`Model::mark_part`] visits it bit by bit.
    fn has_parts(object: ObjectRef, part_bytes: usize) -> bool;

    /// The item after the part of about `part_bytes` of a long object that begins at item `from`, if
    /// there are more.
    fn part_end(object: ObjectRef, from: usize, part_bytes: usize) -> Option<usize>;

    /// Shows about `part_bytes` of a long object from item `from` on to the marker; returns the
    /// item after the last, if there are more.
    fn mark_part(
        object: ObjectRef,
        from: usize,
        part_bytes: usize,
        marker: &mut Marker<Self>,
    ) -> Option<usize>;

    /// As [`Model::mark_part`], to the copier.
    fn copy_part(
        object: ObjectRef,
        from: usize,
        part_bytes: usize,
        copier: &mut Copier<Self>,
    ) -> Option<usize>;

    /// Shows all references of the object.
    fn mark(object: ObjectRef, marker: &mut Marker<Self>);
    /// As [`Model::mark`].
    fn copy(object: ObjectRef, copier: &mut Copier<Self>);
    /// As [`Model::mark`].
    fn slide(object: ObjectRef, slider: &mut Slider<Self>);
    /// As [`Model::mark`].
    fn verify(object: ObjectRef, verifier: &mut Verifier<Self>);

    /// The payload that a word of a field refers to; none if it is no reference.
    fn decode(word: *mut u8) -> Option<NonNull<u8>>;

    /// The word that refers to `payload` as `old` referred to another.
    fn encode(old: *mut u8, payload: NonNull<u8>) -> *mut u8;

    /// Runs the destructor of the payload.
    ///
    /// # Safety
    /// - The object is dead, and its payload is never used again.
    unsafe fn drop_payload(object: ObjectRef);

    /// The name of its type, and whether it is an array of that.
    fn kind(object: ObjectRef) -> (&'static str, bool);
}

/// The place of item `from` of an array, how many items are in a part of `part_bytes`, and the
/// item after them, if there are more.
fn part(array: ObjectRef, from: usize, part_bytes: usize) -> (NonNull<u8>, usize, Option<usize>) {
    let desc = array.desc();
    let len = array.len(desc);
    let count = (part_bytes / desc.item_bytes.max(1)).max(1).min(len - from);
    // SAFETY: `from` is below the length, so the item lies in the payload.
    let first = unsafe { array.payload().add(from * desc.item_bytes) };
    (first, count, (from + count < len).then_some(from + count))
}

/// Objects with a type descriptor in the header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Described;

// SAFETY: descriptors are made by `TypeDesc::new` from the type's size and its `Trace`, which
// promises to visit each reference once; length words are written with the object.
unsafe impl Model for Described {
    #[inline]
    fn start(object: ObjectRef) -> NonNull<u8> {
        object.start(object.desc())
    }

    #[inline]
    unsafe fn at(start: NonNull<u8>) -> ObjectRef {
        // SAFETY: the caller's promise.
        unsafe { object_at(start) }
    }

    #[inline]
    fn total_bytes(object: ObjectRef) -> usize {
        object.total_bytes(object.desc())
    }

    #[inline]
    fn needs_trace(object: ObjectRef) -> bool {
        object.desc().needs_trace
    }

    #[inline]
    fn shape(object: ObjectRef) -> Shape {
        let desc = object.desc();
        Shape {
            start: object.start(desc),
            bytes: object.total_bytes(desc),
            needs_trace: desc.needs_trace,
            is_divisible: desc.is_array,
        }
    }

    #[inline]
    fn has_parts(object: ObjectRef, part_bytes: usize) -> bool {
        let desc = object.desc();
        desc.is_array && desc.item_bytes * object.len(desc) > part_bytes
    }

    fn part_end(array: ObjectRef, from: usize, part_bytes: usize) -> Option<usize> {
        part(array, from, part_bytes).2
    }

    fn mark_part(
        array: ObjectRef,
        from: usize,
        part_bytes: usize,
        marker: &mut Marker<Self>,
    ) -> Option<usize> {
        let (first, count, next) = part(array, from, part_bytes);
        // SAFETY: `count` values of the descriptor's type lie there (O1), and nobody else uses the
        // heap during a collection.
        unsafe { (array.desc().mark)(first, count, marker) };
        next
    }

    fn copy_part(
        array: ObjectRef,
        from: usize,
        part_bytes: usize,
        copier: &mut Copier<Self>,
    ) -> Option<usize> {
        let (first, count, next) = part(array, from, part_bytes);
        // SAFETY: as in `mark_part`.
        unsafe { (array.desc().copy)(first, count, copier) };
        next
    }

    #[inline]
    fn mark(object: ObjectRef, marker: &mut Marker<Self>) {
        let desc = object.desc();
        // SAFETY: the payload holds as many values of the descriptor's type (O1), and nobody else
        // uses the heap during a collection.
        unsafe { (desc.mark)(object.payload(), object.len(desc), marker) };
    }

    #[inline]
    fn copy(object: ObjectRef, copier: &mut Copier<Self>) {
        let desc = object.desc();
        // SAFETY: as in `mark`.
        unsafe { (desc.copy)(object.payload(), object.len(desc), copier) };
    }

    #[inline]
    fn slide(object: ObjectRef, slider: &mut Slider<Self>) {
        let desc = object.desc();
        // SAFETY: as in `mark`.
        unsafe { (desc.slide)(object.payload(), object.len(desc), slider) };
    }

    fn verify(object: ObjectRef, verifier: &mut Verifier<Self>) {
        let desc = object.desc();
        // SAFETY: as in `mark`.
        unsafe { (desc.verify)(object.payload(), object.len(desc), verifier) };
    }

    #[inline]
    fn decode(word: *mut u8) -> Option<NonNull<u8>> {
        debug_assert!(!word.is_null());
        // SAFETY: a field of these objects is a `Gc` or an `ObjectRef`, which are never null.
        Some(unsafe { NonNull::new_unchecked(word) })
    }

    #[inline]
    fn encode(_old: *mut u8, payload: NonNull<u8>) -> *mut u8 {
        payload.as_ptr()
    }

    unsafe fn drop_payload(object: ObjectRef) {
        // SAFETY: the caller's promise.
        unsafe { object.drop_payload() };
    }

    fn kind(object: ObjectRef) -> (&'static str, bool) {
        let desc = object.desc();
        ((desc.name)(), desc.is_array)
    }
}
