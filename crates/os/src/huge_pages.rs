//! Huge pages as a [`Backing`].

use core::alloc::Layout;
use core::ops::Range;
use core::ptr::NonNull;

use heapwright_core::backing::{
    Backing, BackingError, Extent, NodePolicy, Operation, Purge, Purged,
};

use crate::anonymous::{AnonymousPages, refused};
use crate::huge::{advise_huge, collapse, huge_bytes, map_huge, transparent_huge_page_bytes};
use crate::memory::{Advice, advise, release, trim};
use crate::placement::bind;
use crate::{Errno, HugePage};

/// Which huge pages one wants. Each wish falls back to the one before it, unless the pages are
/// made with [`HugePages::strict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugeWish {
    /// Ordinary memory, aligned and advised: the kernel gives huge pages as it can.
    Advised,
    /// 2 MiB pages of the pool.
    Mib2,
    /// 1 GiB pages of the pool.
    Gib1,
}

/// What an extent really is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugeGot {
    /// Ordinary memory, advised; [`HugePages::huge_bytes`] tells how much of it is huge now.
    Advised,
    /// Pages of the pool: huge for as long as they are there.
    Explicit(HugePage),
}

/// Memory in huge pages, in steps of one of them: a third of the cost of 4 KiB pages a byte when
/// it is new, and a half fewer misses in random access of a large heap.
///
/// Explicit pages are all there from the reservation on (so it is refused rather than the touch),
/// stay resident until the release, and cannot be guarded. Advised ones are committed, purged and
/// guarded as ordinary pages are, in whole huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HugePages {
    wish: HugeWish,
    strict: bool,
}

/// Lowest bits of a tag: what the extent is. Above them the tag of [`AnonymousPages`].
const TAG_ADVISED: usize = 0;
const TAG_MIB2: usize = 1;
const TAG_GIB1: usize = 2;
const TAG_BITS: u32 = 2;

impl HugePages {
    /// What comes nearest to `wish`.
    pub const fn new(wish: HugeWish) -> Self {
        Self { wish, strict: false }
    }

    /// `wish` or an error.
    pub const fn strict(wish: HugeWish) -> Self {
        Self { wish, strict: true }
    }

    /// What `extent`, one of these, is.
    pub const fn got(extent: &Extent) -> HugeGot {
        match extent.tag & ((1 << TAG_BITS) - 1) {
            TAG_MIB2 => HugeGot::Explicit(HugePage::Mib2),
            TAG_GIB1 => HugeGot::Explicit(HugePage::Gib1),
            _ => HugeGot::Advised,
        }
    }

    /// How much of `range` lies in huge pages now, as [`crate::huge_bytes`].
    ///
    /// # Safety
    /// - `extent` is a live one of this backing, and `range` is inside it.
    pub unsafe fn huge_bytes(&self, extent: &Extent, range: Range<usize>) -> Option<usize> {
        // SAFETY: inside the extent, as the caller promises.
        huge_bytes(unsafe { extent.start.add(range.start) }, range.len())
    }

    /// Makes huge pages of `range` now, as [`crate::collapse`]; explicit ones are huge already.
    ///
    /// # Safety
    /// - `extent` is a live one of this backing, and `range` is inside it and committed.
    ///
    /// # Errors
    /// The kernel's; part of the range may be huge then.
    pub unsafe fn collapse(&self, extent: &Extent, range: Range<usize>) -> Result<(), Errno> {
        match Self::got(extent) {
            HugeGot::Explicit(_) => Ok(()),
            HugeGot::Advised => {
                // SAFETY: inside the extent, as the caller promises.
                let start = unsafe { extent.start.add(range.start) };
                // SAFETY: pages of ours.
                unsafe { collapse(start, range.len()) }
            }
        }
    }

    fn reserve_explicit(layout: Layout, page: HugePage) -> Result<Extent, BackingError> {
        let bytes = layout.size().max(1);
        let exhausted = BackingError::Exhausted {
            requested_bytes: bytes,
            available_bytes: crate::free_huge_pages(page)
                .map_or(0, |count| (count as usize).saturating_mul(page.bytes())),
        };
        if layout.align() > page.bytes() {
            return Err(BackingError::Kernel { errno: libc::EINVAL, bytes });
        }
        let whole = bytes.checked_next_multiple_of(page.bytes()).ok_or(exhausted)?;
        let start = map_huge(whole, page).map_err(|errno| match errno {
            Errno::ENOMEM => exhausted,
            _ => refused(errno, bytes),
        })?;
        Ok(Extent {
            start,
            reserved_bytes: whole,
            committed_bytes: whole,
            step_bytes: page.bytes(),
            zeroed: true,
            tag: if page == HugePage::Mib2 { TAG_MIB2 } else { TAG_GIB1 },
        })
    }

    fn reserve_advised(layout: Layout) -> Result<Extent, BackingError> {
        let huge = transparent_huge_page_bytes();
        let bytes = layout.size().max(1);
        let exhausted = BackingError::Exhausted { requested_bytes: bytes, available_bytes: 0 };
        let whole = bytes.checked_next_multiple_of(huge).ok_or(exhausted)?;
        let layout =
            Layout::from_size_align(whole, layout.align().max(huge)).map_err(|_| exhausted)?;
        let extent = AnonymousPages.reserve(layout)?;
        // What alignment left over is no whole huge page.
        let reserved_bytes = extent.reserved_bytes & !(huge - 1);
        if reserved_bytes < extent.reserved_bytes {
            // SAFETY: inside the extent.
            let tail = unsafe { extent.start.add(reserved_bytes) };
            // SAFETY: the end of a mapping just made. If it stays, addresses are lost.
            let _ = unsafe { trim(tail, extent.reserved_bytes - reserved_bytes) };
        }
        // A kernel without huge pages refuses; the memory is as good, and `huge_bytes` tells.
        // SAFETY: a mapping just made.
        let _ = unsafe { advise_huge(extent.start, reserved_bytes) };
        Ok(Extent {
            reserved_bytes,
            step_bytes: huge,
            tag: extent.tag << TAG_BITS | TAG_ADVISED,
            ..extent
        })
    }

    /// The extent as [`AnonymousPages`] gave it.
    fn inside(extent: &Extent) -> Extent {
        Extent { step_bytes: crate::page_bytes(), tag: extent.tag >> TAG_BITS, ..*extent }
    }
}

// SAFETY: extents are mappings of their own: explicit ones readable and writable from the start
// (I2) and zero (I4), advised ones those of `AnonymousPages`, to which every call about them goes
// with the tag it gave (I5).
unsafe impl Backing for HugePages {
    fn reserve(&self, layout: Layout) -> Result<Extent, BackingError> {
        let wishes: &[HugeWish] = match self.wish {
            HugeWish::Gib1 => &[HugeWish::Gib1, HugeWish::Mib2, HugeWish::Advised],
            HugeWish::Mib2 => &[HugeWish::Mib2, HugeWish::Advised],
            HugeWish::Advised => &[HugeWish::Advised],
        };
        let mut answer = Err(BackingError::Kernel { errno: libc::EINVAL, bytes: layout.size() });
        for wish in &wishes[..if self.strict { 1 } else { wishes.len() }] {
            answer = match wish {
                HugeWish::Gib1 => Self::reserve_explicit(layout, HugePage::Gib1),
                HugeWish::Mib2 => Self::reserve_explicit(layout, HugePage::Mib2),
                HugeWish::Advised => Self::reserve_advised(layout),
            };
            if answer.is_ok() {
                break;
            }
        }
        answer
    }

    unsafe fn release(&self, extent: Extent) {
        match Self::got(&extent) {
            // SAFETY: the caller's promise; the extent is as that backing gave it.
            HugeGot::Advised => unsafe { AnonymousPages.release(Self::inside(&extent)) },
            HugeGot::Explicit(_) => {
                // SAFETY: the whole mapping, which the caller gives up.
                let _ = unsafe { release(extent.start, extent.reserved_bytes) };
            }
        }
    }

    /// Advised pages cost nothing until they are committed; explicit ones cost all at once.
    fn reserve_hint(&self, bytes_min: usize) -> usize {
        match self.wish {
            HugeWish::Advised => AnonymousPages.reserve_hint(bytes_min),
            HugeWish::Mib2 | HugeWish::Gib1 => bytes_min,
        }
    }

    unsafe fn commit(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        match Self::got(extent) {
            // SAFETY: the caller's promise; the extent is as that backing gave it.
            HugeGot::Advised => unsafe { AnonymousPages.commit(&Self::inside(extent), range) },
            HugeGot::Explicit(_) => Ok(()),
        }
    }

    unsafe fn decommit(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        match Self::got(extent) {
            // SAFETY: as in `commit`.
            HugeGot::Advised => unsafe { AnonymousPages.decommit(&Self::inside(extent), range) },
            HugeGot::Explicit(_) => Err(BackingError::Unsupported(Operation::Decommit)),
        }
    }

    unsafe fn purge(
        &self,
        extent: &Extent,
        range: Range<usize>,
        when: Purge,
    ) -> Result<Purged, BackingError> {
        match Self::got(extent) {
            // SAFETY: as in `commit`.
            HugeGot::Advised => unsafe { AnonymousPages.purge(&Self::inside(extent), range, when) },
            // The mapping keeps its claim on the pool, so the next touch cannot fail.
            HugeGot::Explicit(_) => {
                // SAFETY: inside the extent, as the caller promises.
                let start = unsafe { extent.start.add(range.start) };
                // SAFETY: whole pages of ours whose contents nobody needs.
                unsafe { advise(start, range.len(), Advice::DontNeed) }
                    .map(|()| Purged::Zeroed)
                    .map_err(|errno| refused(errno, range.len()))
            }
        }
    }

    unsafe fn guard(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        match Self::got(extent) {
            // SAFETY: as in `commit`.
            HugeGot::Advised => unsafe { AnonymousPages.guard(&Self::inside(extent), range) },
            HugeGot::Explicit(_) => Err(BackingError::Unsupported(Operation::Guard)),
        }
    }

    unsafe fn bind(
        &self,
        extent: &Extent,
        range: Range<usize>,
        policy: NodePolicy,
    ) -> Result<(), BackingError> {
        // SAFETY: inside the extent, as the caller promises.
        let start: NonNull<u8> = unsafe { extent.start.add(range.start) };
        // SAFETY: whole pages of ours; a policy changes no contents.
        unsafe { bind(start, range.len(), policy) }.map_err(|errno| refused(errno, range.len()))
    }

    unsafe fn resident_bytes(&self, extent: &Extent, range: Range<usize>) -> Option<usize> {
        // SAFETY: the caller's promise; only addresses are looked at.
        unsafe { AnonymousPages.resident_bytes(&Self::inside(extent), range) }
    }
}

#[cfg(test)]
mod tests {
    use super::{HugeGot, HugePages, HugeWish};
    use crate::{HugePage, free_huge_pages, transparent_huge_page_bytes};
    use core::alloc::Layout;
    use heapwright_core::backing::{Backing, BackingError, Operation, Purge, Purged};

    #[test]
    fn advised_pages_are_aligned_committed_and_purged_in_huge_steps() {
        let pages = HugePages::new(HugeWish::Advised);
        let huge = transparent_huge_page_bytes();
        let layout = Layout::from_size_align(huge + 1, 64).expect("a layout");
        let extent = pages.reserve(layout).expect("addresses");
        assert_eq!(HugePages::got(&extent), HugeGot::Advised);
        assert!(extent.start.as_ptr().addr().is_multiple_of(huge));
        assert!(extent.reserved_bytes >= 2 * huge && extent.step_bytes == huge);
        // SAFETY: inside the extent.
        unsafe { pages.commit(&extent, 0..2 * huge) }.expect("commit");
        // SAFETY: committed above.
        unsafe { extent.start.write_bytes(1, 2 * huge) };
        // SAFETY: inside the extent, here and below.
        let resident = unsafe { pages.resident_bytes(&extent, 0..2 * huge) };
        assert_eq!(resident, Some(2 * huge));
        // SAFETY: as above.
        let told = unsafe { pages.huge_bytes(&extent, 0..2 * huge) };
        assert!(told.is_none_or(|bytes| bytes <= 2 * huge), "{told:?}");
        // SAFETY: as above.
        if unsafe { pages.collapse(&extent, 0..huge) }.is_ok() {
            // SAFETY: as above.
            let told = unsafe { pages.huge_bytes(&extent, 0..huge) };
            assert_eq!(told, Some(huge));
        }
        // SAFETY: the contents are not needed.
        let purged = unsafe { pages.purge(&extent, 0..huge, Purge::Now) };
        assert_eq!(purged, Ok(Purged::Zeroed));
        // SAFETY: still committed.
        assert_eq!(unsafe { extent.start.read() }, 0);
        // SAFETY: given back once, unused.
        unsafe { pages.release(extent) };
    }

    #[test]
    fn explicit_pages_are_there_or_the_next_best_is() {
        for (wish, page) in [(HugeWish::Mib2, HugePage::Mib2), (HugeWish::Gib1, HugePage::Gib1)] {
            let layout = Layout::new::<u64>();
            let free = free_huge_pages(page).unwrap_or(0);
            match HugePages::strict(wish).reserve(layout) {
                Ok(extent) => {
                    assert_eq!(HugePages::got(&extent), HugeGot::Explicit(page));
                    assert_eq!(extent.committed_bytes, page.bytes());
                    // SAFETY: committed, zero at first.
                    assert_eq!(unsafe { extent.start.read() }, 0);
                    // SAFETY: inside the extent; nobody uses it.
                    let guarded =
                        unsafe { HugePages::strict(wish).guard(&extent, 0..page.bytes()) };
                    assert_eq!(guarded, Err(BackingError::Unsupported(Operation::Guard)));
                    // SAFETY: given back once, unused.
                    unsafe { HugePages::strict(wish).release(extent) };
                }
                Err(BackingError::Exhausted { requested_bytes: 8, available_bytes }) => {
                    assert_eq!(available_bytes, free as usize * page.bytes());
                }
                Err(BackingError::Kernel { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            let extent = HugePages::new(wish).reserve(layout).expect("the next best");
            // SAFETY: given back once, unused.
            unsafe { HugePages::new(wish).release(extent) };
        }
    }
}
