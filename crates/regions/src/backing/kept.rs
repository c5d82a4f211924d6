//! Extents that are kept warm for the next one who asks.

use core::alloc::Layout;
use core::fmt;
use core::ops::Range;

use heapwright_core::backing::{Backing, BackingError, Extent, Prepare, Purge, Purged};
use heapwright_sync::Lock;

use super::pass_on::{Route, pass_on};
use crate::wait::{Sleep, token};

/// So many extents are kept at most: arenas of one request have a few chunks each.
const PLACE_COUNT: usize = 16;

/// Extents of `inner` that come back stay committed, and go to the next one whom they suit: an
/// arena that is made for each request starts on warm memory, as it would on `malloc`'s.
///
/// At most `bytes_max` committed bytes and 16 extents are kept; what is more goes back at once.
/// A kept extent is not zero ([`Extent::zeroed`]): who asks for zeroes writes them. What would
/// leave holes, guards, aliases or a policy for the next owner is unsupported here: `Kept` goes
/// around [`Guarded`](crate::Guarded) and [`Bound`](crate::Bound), not into them. May be shared
/// between threads; one lock for a reservation and a release, none for a block.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use heapwright_regions::{AnonymousPages, Kept, Linear};
///
/// static WARM: Kept<AnonymousPages> = Kept::new(AnonymousPages, 64 << 20);
/// for request in 0..3 {
///     let arena: Linear<_> = Linear::new_in(&WARM);
///     assert_eq!(*arena.alloc(request), request);
/// }
/// assert!(WARM.kept_bytes() > 0, "the next arena's first chunk");
/// WARM.give_back();
/// assert_eq!(WARM.kept_bytes(), 0);
/// # }
/// ```
pub struct Kept<B: Backing> {
    inner: B,
    bytes_max: usize,
    places: Lock<Places, Sleep>,
}

/// What is kept: extents of the backing inside that nobody uses.
struct Places {
    extents: [Option<Extent>; PLACE_COUNT],
    bytes: usize,
}

// SAFETY: an extent is a name of memory that nobody uses while it is here; who takes it out owns
// it. Whether the backing inside may be called from several threads is its own type's business.
unsafe impl Send for Places {}

impl Places {
    /// The smallest kept extent that has room for `layout`.
    fn take(&mut self, layout: Layout) -> Option<Extent> {
        let suits = |extent: &Extent| {
            extent.reserved_bytes >= layout.size()
                && extent.start.as_ptr().addr().is_multiple_of(layout.align())
        };
        let kept = self.extents.iter_mut().filter(|place| place.as_ref().is_some_and(suits));
        let place = kept.min_by_key(|place| place.map_or(0, |extent| extent.reserved_bytes))?;
        let extent = place.take()?;
        self.bytes -= extent.committed_bytes;
        Some(Extent { zeroed: false, ..extent })
    }

    /// Keeps `extent`, or not: then it is the caller's still.
    fn put(&mut self, extent: Extent, bytes_max: usize) -> bool {
        let sum = self.bytes.saturating_add(extent.committed_bytes);
        let Some(place) = self.extents.iter_mut().find(|place| place.is_none()) else {
            return false;
        };
        if sum > bytes_max {
            return false;
        }
        *place = Some(extent);
        self.bytes = sum;
        true
    }
}

impl<B: Backing> Kept<B> {
    /// Keeps up to `bytes_max` committed bytes of what `inner` gave.
    pub const fn new(inner: B, bytes_max: usize) -> Self {
        let places = Places { extents: [None; PLACE_COUNT], bytes: 0 };
        Self { inner, bytes_max, places: Lock::new(places) }
    }

    /// Committed bytes that are kept for the next one.
    pub fn kept_bytes(&self) -> usize {
        self.places.lock(token()).map_or(0, |places| places.bytes)
    }

    /// Gives back all that is kept: after a peak, or under pressure. A call each.
    pub fn give_back(&self) {
        loop {
            let extent = match self.places.lock(token()) {
                Ok(mut places) => places.take(Layout::new::<u8>()),
                Err(_) => None,
            };
            let Some(extent) = extent else { return };
            // SAFETY: an extent of the backing inside, which nobody used and nobody else has.
            unsafe { self.inner.release(extent) };
        }
    }

    fn route(&self, extent: &Extent) -> Route<'_> {
        Route::straight(&self.inner, extent)
    }
}

// SAFETY: extents are those of the backing inside. One that came back is in one place until it is
// handed out again, so two owners never have it; it says that its bytes are not zero, and what was
// committed is still, since nothing here takes that back.
unsafe impl<B: Backing> Backing for Kept<B> {
    fn reserve(&self, layout: Layout) -> Result<Extent, BackingError> {
        // A thread that comes back inside the lock (a signal's handler) takes a new one.
        let kept = self.places.lock(token()).ok().and_then(|mut places| places.take(layout));
        kept.map_or_else(|| self.inner.reserve(layout), Ok)
    }

    unsafe fn release(&self, extent: Extent) {
        let places = self.places.lock(token());
        if places.is_ok_and(|mut places| places.put(extent, self.bytes_max)) {
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { self.inner.release(extent) };
    }

    fn reserve_hint(&self, bytes_min: usize) -> usize {
        self.inner.reserve_hint(bytes_min)
    }

    pass_on!(commit, purge, prepare, resident_bytes);
}

impl<B: Backing> Drop for Kept<B> {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl<B: Backing> fmt::Debug for Kept<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kept_bytes, bytes_max) = (self.kept_bytes(), self.bytes_max);
        write!(f, "Kept {{ kept_bytes: {kept_bytes}, bytes_max: {bytes_max} }}")
    }
}

#[cfg(test)]
mod tests {
    use core::alloc::Layout;
    use core::mem::MaybeUninit;

    use heapwright_core::backing::Backing;

    use super::{Kept, PLACE_COUNT};
    use crate::{Buffer, Linear};

    #[test]
    fn what_comes_back_is_handed_out_again_where_it_suits() {
        let mut memory = [MaybeUninit::uninit(); 4096];
        let buffer = Buffer::new(&mut memory);
        let kept = Kept::new(&buffer, 1500);
        let layout = |bytes| Layout::from_size_align(bytes, 16).expect("a layout");
        let [small, large] = [256, 1024].map(|bytes| kept.reserve(layout(bytes)).expect("room"));
        let free_bytes = buffer.free_bytes();
        for extent in [large, small] {
            // SAFETY: each is live, unused, and goes back once.
            unsafe { kept.release(extent) };
        }
        assert_eq!(kept.kept_bytes(), small.committed_bytes + large.committed_bytes);
        let again = kept.reserve(layout(200)).expect("kept");
        assert_eq!((again.start, again.zeroed), (small.start, false), "the smallest that suits");
        assert_eq!(kept.reserve(layout(200)).expect("kept").start, large.start);
        assert_eq!((buffer.free_bytes(), kept.kept_bytes()), (free_bytes, 0));
    }

    #[test]
    fn no_more_is_kept_than_was_said() {
        let mut memory = [MaybeUninit::uninit(); 1 << 16];
        let buffer = Buffer::new(&mut memory);
        for (bytes_max, expected) in [(700, 2), (usize::MAX, PLACE_COUNT)] {
            let kept = Kept::new(&buffer, bytes_max);
            let layout = Layout::from_size_align(256, 256).expect("a layout");
            let extents: [_; PLACE_COUNT + 4] =
                core::array::from_fn(|_| kept.reserve(layout).expect("room"));
            let bytes = extents[0].committed_bytes;
            for extent in extents {
                // SAFETY: each is live, unused, and goes back once.
                unsafe { kept.release(extent) };
            }
            assert_eq!(kept.kept_bytes(), expected * bytes);
        }
    }

    #[test]
    fn zeroes_are_written_on_kept_memory() {
        let mut memory = [MaybeUninit::uninit(); 1 << 14];
        let buffer = Buffer::new(&mut memory);
        let kept = Kept::new(&buffer, usize::MAX);
        for _ in 0..3 {
            let arena: Linear<_> = Linear::new_in(&kept);
            let layout = Layout::new::<[u64; 32]>();
            let block = arena.try_alloc_layout_zeroed(layout).expect("room").cast::<[u64; 32]>();
            // SAFETY: a block of that layout, zeroed.
            let words = unsafe { &mut *block.as_ptr() };
            assert!(words.iter().all(|word| *word == 0));
            words.fill(u64::MAX);
        }
        assert!(kept.kept_bytes() > 0, "the arena's chunk is kept");
    }
}
