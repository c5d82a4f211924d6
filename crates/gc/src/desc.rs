//! Type descriptor: what the collectors know about the payload of an object.

use core::ptr::NonNull;

use crate::mark::Marker;
use crate::model::Described;
use crate::object::WORD_BYTES;
use crate::relocate::{Copier, Slider};
use crate::trace::{Trace, Visitor};
use crate::verify::Verifier;

/// Visits the payload of `len` items with one of the visitors.
type TraceFn<V> = unsafe fn(NonNull<u8>, usize, &mut V);

/// One static value a type; its address is in the header of each object.
#[derive(Debug)]
#[repr(align(16))]
pub(crate) struct TypeDesc {
    /// Bytes of the payload, or of one item of an array.
    pub(crate) item_bytes: usize,
    pub(crate) is_array: bool,
    /// Bytes of the whole object, if it is no array: walks over objects wait for this number.
    single_bytes: usize,
    /// Whether the payload can hold a `Gc` at all.
    pub(crate) needs_trace: bool,
    pub(crate) drop: Option<unsafe fn(NonNull<u8>, usize)>,
    pub(crate) mark: TraceFn<Marker<Described>>,
    pub(crate) copy: TraceFn<Copier<Described>>,
    pub(crate) slide: TraceFn<Slider<Described>>,
    pub(crate) verify: TraceFn<Verifier<Described>>,
    /// The name of the type, or of an array's items.
    pub(crate) name: fn() -> &'static str,
}

impl TypeDesc {
    /// The descriptor of single values of `T`.
    pub(crate) fn of<'gc, T: Trace<'gc>>() -> &'static Self {
        const { &Self::new::<T>(false) }
    }

    /// The descriptor of arrays of `T`.
    pub(crate) fn of_array<'gc, T: Trace<'gc>>() -> &'static Self {
        const { &Self::new::<T>(true) }
    }

    const fn new<'gc, T: Trace<'gc>>(is_array: bool) -> Self {
        assert!(align_of::<T>() <= WORD_BYTES, "payloads are aligned to at most 8 bytes");
        Self {
            item_bytes: size_of::<T>(),
            is_array,
            single_bytes: object_bytes(size_of::<T>(), WORD_BYTES),
            needs_trace: T::NEEDS_TRACE,
            drop: if core::mem::needs_drop::<T>() { Some(drop_items::<T>) } else { None },
            mark: trace_items::<T, Marker<Described>>,
            copy: trace_items::<T, Copier<Described>>,
            slide: trace_items::<T, Slider<Described>>,
            verify: trace_items::<T, Verifier<Described>>,
            name: core::any::type_name::<T>,
        }
    }

    #[inline]
    pub(crate) fn head_bytes(&self) -> usize {
        if self.is_array { 2 * WORD_BYTES } else { WORD_BYTES }
    }

    /// Bytes of an object with `len` items, head included: a multiple of 8. The payload has at
    /// least 8 bytes, so that its address lies inside the object.
    #[inline]
    pub(crate) fn total_bytes(&self, len: usize) -> usize {
        if self.is_array {
            object_bytes(self.item_bytes * len, 2 * WORD_BYTES)
        } else {
            self.single_bytes
        }
    }
}

#[inline]
const fn object_bytes(payload_bytes: usize, head_bytes: usize) -> usize {
    let least = if payload_bytes < WORD_BYTES { WORD_BYTES } else { payload_bytes };
    least.next_multiple_of(WORD_BYTES) + head_bytes
}

/// # Safety
/// - `payload` holds `len` values of `T` that nobody else uses during the call.
unsafe fn trace_items<'gc, T: Trace<'gc>, V: Visitor>(
    payload: NonNull<u8>,
    len: usize,
    visitor: &mut V,
) {
    // SAFETY: the caller's promise; payloads are aligned to 8, which is enough for `T`.
    let items = unsafe { core::slice::from_raw_parts_mut(payload.cast::<T>().as_ptr(), len) };
    for item in items {
        item.trace(visitor);
    }
}

/// # Safety
/// - `payload` holds `len` values of `T` that nobody uses during the call or afterwards.
unsafe fn drop_items<T>(payload: NonNull<u8>, len: usize) {
    let items = core::ptr::slice_from_raw_parts_mut(payload.cast::<T>().as_ptr(), len);
    // SAFETY: the caller's promise.
    unsafe { core::ptr::drop_in_place(items) }
}
