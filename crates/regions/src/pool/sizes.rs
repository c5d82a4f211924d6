//! Pools of several sizes as one allocator.

use core::alloc::Layout;
use core::array;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::{Figure, RegionStatistics};

use super::blocks::Pool;

/// The table knows requests up to this many bytes; larger ones are looked for.
const TABLE_BYTES_MAX: usize = 2048;
const UNIT_BYTES: usize = 16;
const NO_CLASS: u8 = u8::MAX;

/// What happens to a request whose own pool is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// It is refused.
    #[default]
    Refuse,
    /// It gets a block of the next larger pool that has one, and gives it back there.
    Larger,
}

/// `N` pools, for `N` sizes of block; each block comes from the smallest that fits.
///
/// Each pool has chunks of its own from a copy of the backing (`&backing` is one).
///
/// ```
/// # #[cfg(feature = "os")] {
/// use core::alloc::Layout;
/// use heapwright_regions::{AnonymousPages, Overflow, Pools};
///
/// let pools = Pools::bounded(AnonymousPages, [(32, 1), (64, 10)], Overflow::Larger)?;
/// let layout = Layout::new::<[u8; 20]>();
/// let blocks = [pools.try_alloc(layout)?, pools.try_alloc(layout)?];
/// assert_eq!(pools.statistics().live_bytes.value(), Some(32 + 64));
/// for block in blocks {
///     // SAFETY: live, unused from here.
///     unsafe { pools.free(block, layout) };
/// }
/// assert!(pools.try_alloc(Layout::new::<[u8; 65]>()).is_err());
/// # }
/// # Ok::<(), heapwright_regions::AllocError>(())
/// ```
#[derive(Debug)]
pub struct Pools<B: Backing, const N: usize> {
    /// By size, smallest first.
    pools: [Pool<B>; N],
    /// Class of each count of 16 byte units, for alignments up to 8.
    classes: [u8; TABLE_BYTES_MAX / UNIT_BYTES + 1],
    overflow: Overflow,
}

/// The layout of blocks of `size` bytes.
fn layout_of(size: usize) -> Layout {
    let align = 1 << size.trailing_zeros().min(6);
    match Layout::from_size_align(size, align) {
        Ok(layout) if layout.size() > 0 => layout,
        _ => panic!("no block has {size} bytes"),
    }
}

impl<B: Backing + Clone, const N: usize> Pools<B, N> {
    /// Growing pools of blocks of `sizes` bytes. A block is aligned to the largest power of two
    /// that divides its size, 64 at most.
    ///
    /// # Panics
    /// If the sizes do not increase, or one is 0 or no size of an object.
    pub fn new_in(backing: B, sizes: [usize; N]) -> Self {
        Self::over(
            sizes.map(|size| Pool::new_in(backing.clone(), layout_of(size))),
            Overflow::Refuse,
        )
    }

    /// Pools of so many blocks of so many bytes each, (bytes, count), and never more.
    ///
    /// # Errors
    /// As for [`Pool::bounded`].
    ///
    /// # Panics
    /// As [`Self::new_in`].
    pub fn bounded(
        backing: B,
        pools: [(usize, usize); N],
        overflow: Overflow,
    ) -> Result<Self, AllocError> {
        let made =
            pools.map(|(size, count)| Pool::bounded(backing.clone(), layout_of(size), count));
        let mut failed = None;
        let pools = made.map(|pool| match pool {
            Ok(pool) => pool,
            Err(error) => {
                failed = Some(error);
                Pool::new_in(backing.clone(), layout_of(8))
            }
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(Self::over(pools, overflow)),
        }
    }

    fn over(pools: [Pool<B>; N], overflow: Overflow) -> Self {
        let sizes =
            |pair: &[Pool<B>]| pair[0].block_layout().size() < pair[1].block_layout().size();
        assert!(pools.windows(2).all(sizes), "the sizes of pools increase");
        assert!(N < usize::from(NO_CLASS), "at most 254 sizes");
        let classes = array::from_fn(|unit| {
            let fits = |pool: &Pool<B>| pool.block_layout().size() >= unit * UNIT_BYTES;
            pools.iter().position(fits).map_or(NO_CLASS, |class| class as u8)
        });
        Self { pools, classes, overflow }
    }

    /// Index of the pool that serves `layout`: one load of a table for small ones.
    #[inline]
    pub fn class_of(&self, layout: Layout) -> Option<usize> {
        // Every block is aligned to eight: pools of odd sizes round up.
        if layout.size() <= TABLE_BYTES_MAX && layout.align() <= align_of::<usize>() {
            let class = self.classes[layout.size().div_ceil(UNIT_BYTES)];
            let smaller = usize::from(class).checked_sub(1);
            // The unit may reach above a smaller pool that the request itself fits.
            return match smaller.and_then(|index| self.pools.get(index)) {
                Some(pool) if layout.size() <= pool.block_layout().size() => smaller,
                _ => (class != NO_CLASS).then_some(usize::from(class)),
            };
        }
        self.pools.iter().position(|pool| {
            let slot = pool.block_layout();
            layout.size() <= slot.size() && layout.align() <= slot.align()
        })
    }

    /// A block of `layout`, uninitialised; also for no bytes.
    ///
    /// # Errors
    /// [`AllocError::Unfit`] if no pool has such blocks, [`AllocError::Full`] if its pool and
    /// those it may overflow to are, or what the backing says.
    #[inline]
    pub fn try_alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        match self.class_of(layout) {
            Some(class) => match self.pools[class].alloc() {
                Some(block) => Ok(block),
                None => self.alloc_overflow(layout, class),
            },
            None => Err(AllocError::Unfit {
                requested_bytes: layout.size(),
                align_bytes: layout.align(),
                largest_bytes: self.pools.last().map_or(0, |pool| pool.block_layout().size()),
            }),
        }
    }

    #[cold]
    #[inline(never)]
    fn alloc_overflow(&self, layout: Layout, class: usize) -> Result<NonNull<u8>, AllocError> {
        let own = self.pools[class].try_alloc();
        if own.is_ok() || self.overflow == Overflow::Refuse {
            return own;
        }
        let fits = |pool: &&Pool<B>| layout.align() <= pool.block_layout().align();
        self.pools[class + 1..].iter().filter(fits).find_map(Pool::alloc).map_or(own, Ok)
    }

    /// Gives a block back.
    ///
    /// # Panics
    /// If no block has that layout, or as [`Pool::free`].
    ///
    /// # Safety
    /// - `block` is a live block of these pools with that layout, and nobody uses it any more.
    #[inline]
    pub unsafe fn free(&self, block: NonNull<u8>, layout: Layout) {
        let class = self.class_of(layout);
        let mut pools = self.pools[class.unwrap_or(N)..].iter();
        let pool = match self.overflow {
            Overflow::Refuse => pools.next(),
            Overflow::Larger => pools.find(|pool| pool.owns(block)),
        };
        assert!(pool.is_some(), "no block of ours has {layout:?}");
        if let Some(pool) = pool {
            // SAFETY: the layout chooses the pool, now as when the block was made; where it may
            // have come from a larger one, its address does.
            unsafe { pool.free(block) };
        }
    }

    /// What all pools hold now. O(chunks + free blocks).
    pub fn statistics(&self) -> RegionStatistics {
        let mut all = RegionStatistics {
            live_count: Figure::Exact(0),
            live_bytes: Figure::Exact(0),
            free_bytes: Figure::Exact(0),
            resident_bytes: Figure::Exact(0),
            ..RegionStatistics::default()
        };
        let sum = |into: &mut Figure, more: Figure| {
            *into = into.value().zip(more.value()).map(|(one, other)| one + other).into();
        };
        for seen in self.pools.iter().map(Pool::statistics) {
            sum(&mut all.live_count, seen.live_count);
            sum(&mut all.live_bytes, seen.live_bytes);
            sum(&mut all.free_bytes, seen.free_bytes);
            sum(&mut all.resident_bytes, seen.resident_bytes);
            all.reserved_bytes += seen.reserved_bytes;
            all.committed_bytes += seen.committed_bytes;
            all.largest_free_bytes = all.largest_free_bytes.max(seen.largest_free_bytes);
        }
        all
    }
}
