//! A few blocks for a guard, which puts them on pages of their own: at refills only, so that the
//! hot paths do not know of it.
//!
//! A refill that comes after so many blocks offers the one that it was asked for. When all are to
//! be guarded, no slots are taken at all, so that each allocation comes here.

use heapwright_core::family::Family;
use heapwright_sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::cache::Cache;

/// What may take the place of a block. Called without a lock of the heap's.
#[derive(Debug)]
pub struct GuardHooks {
    /// A block outside the heap for a request of so many bytes at such an alignment, zeroed; null
    /// leaves it with an ordinary one.
    pub replace: fn(bytes: usize, align_bytes: usize, family: Family) -> *mut u8,
    /// Takes back a block outside the heap, by the functions of a family and with the size that
    /// was told; whether it was the guard's.
    pub free: fn(block: *mut u8, family: Family, told: Option<usize>) -> bool,
    /// Bytes of a block outside the heap, as requested, if it is the guard's.
    pub usable_bytes: fn(block: *mut u8) -> Option<usize>,
}

static HOOKS: AtomicPtr<GuardHooks> = AtomicPtr::new(core::ptr::null_mut());
/// Blocks from one offer to the next.
static BLOCKS: AtomicU32 = AtomicU32::new(0);

/// Offers one block in `blocks` (at least 1), about, to a guard from now on. Once, and early.
pub fn set_guard(hooks: &'static GuardHooks, blocks: u32) {
    BLOCKS.store(blocks.max(1), Ordering::Relaxed);
    // Release: pairs with the Acquire in `guard`.
    HOOKS.store(core::ptr::from_ref(hooks).cast_mut(), Ordering::Release);
}

/// The hooks, if there are any.
#[inline]
pub(crate) fn guard() -> Option<&'static GuardHooks> {
    // Acquire: pairs with the Release in `set_guard`.
    // SAFETY: null, or stored from a static reference.
    unsafe { HOOKS.load(Ordering::Acquire).as_ref() }
}

/// A guarded block for a request that comes with a refill of `batch_count` slots, when it is time;
/// null else.
pub(crate) fn offer(
    cache: &Cache,
    batch_count: u32,
    bytes: usize,
    align_bytes: usize,
    family: Family,
) -> *mut u8 {
    let null = core::ptr::null_mut();
    let Some(hooks) = guard() else { return null };
    let blocks = BLOCKS.load(Ordering::Relaxed);
    let left = cache.until_offer.get();
    if left > batch_count && blocks > 1 {
        cache.until_offer.set(left - batch_count);
        return null;
    }
    // Between half and three halves of the mean, so that no loop keeps step with it.
    let spread = (cache.random() >> 33) % u64::from(blocks);
    cache.until_offer.set((u64::from(blocks) / 2 + spread) as u32);
    (hooks.replace)(bytes, align_bytes, family)
}
