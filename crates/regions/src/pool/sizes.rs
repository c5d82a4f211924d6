//! Pools of several sizes as one allocator.

use core::alloc::Layout;
use core::array;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::{Figure, RegionStatistics};

use super::blocks::Pool;

/// `N` growing pools, for `N` sizes of block; each block comes from the smallest that fits.
///
/// Each pool has chunks of its own from a copy of the backing (`&backing` is one).
///
/// ```
/// # #[cfg(feature = "os")] {
/// use core::alloc::Layout;
/// use heapwright_regions::{AnonymousPages, Pools};
///
/// let pools = Pools::new_in(AnonymousPages, [32, 64, 256]);
/// let layout = Layout::new::<[u8; 40]>();
/// let block = pools.try_alloc(layout)?;
/// assert_eq!(pools.statistics().live_bytes.value(), Some(64));
/// // SAFETY: live, unused from here.
/// unsafe { pools.free(block, layout) };
/// assert!(pools.try_alloc(Layout::new::<[u8; 257]>()).is_err());
/// # }
/// # Ok::<(), heapwright_regions::AllocError>(())
/// ```
#[derive(Debug)]
pub struct Pools<B: Backing, const N: usize> {
    /// By size, smallest first.
    pools: [Pool<B>; N],
}

impl<B: Backing + Clone, const N: usize> Pools<B, N> {
    /// Pools of blocks of `sizes` bytes. A block is aligned to the largest power of two that
    /// divides its size, 64 at most.
    ///
    /// # Panics
    /// If the sizes do not increase, or one is 0 or no size of an object.
    pub fn new_in(backing: B, sizes: [usize; N]) -> Self {
        assert!(sizes.is_sorted() && sizes.windows(2).all(|pair| pair[0] < pair[1]), "{sizes:?}");
        let pools = array::from_fn(|class| {
            let align = 1 << sizes[class].trailing_zeros().min(6);
            match Layout::from_size_align(sizes[class], align) {
                Ok(layout) if layout.size() > 0 => Pool::new_in(backing.clone(), layout),
                _ => panic!("no block has {} bytes", sizes[class]),
            }
        });
        Self { pools }
    }

    /// Index of the pool that serves `layout`.
    #[inline]
    pub fn class_of(&self, layout: Layout) -> Option<usize> {
        self.pools.iter().position(|pool| {
            let slot = pool.block_layout();
            layout.size() <= slot.size() && layout.align() <= slot.align()
        })
    }

    /// A block of `layout`, uninitialised; also for no bytes. O(`N`).
    ///
    /// # Errors
    /// [`AllocError::Unfit`] if no pool has such blocks, or what the backing says.
    #[inline]
    pub fn try_alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        match self.class_of(layout) {
            Some(class) => self.pools[class].try_alloc(),
            None => Err(AllocError::Unfit {
                requested_bytes: layout.size(),
                align_bytes: layout.align(),
                largest_bytes: self.pools.last().map_or(0, |pool| pool.block_layout().size()),
            }),
        }
    }

    /// Gives a block back. O(`N`).
    ///
    /// # Panics
    /// If no block has that layout, or as [`Pool::free`].
    ///
    /// # Safety
    /// - `block` is a live block of these pools with that layout, and nobody uses it any more.
    #[inline]
    pub unsafe fn free(&self, block: NonNull<u8>, layout: Layout) {
        let class = self.class_of(layout);
        let pool = class.and_then(|class| self.pools.get(class));
        assert!(pool.is_some(), "no block of ours has {layout:?}");
        if let Some(pool) = pool {
            // SAFETY: the layout chooses the pool, now as when the block was made.
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
