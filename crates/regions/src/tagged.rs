//! One region for several parts of a program, each with a name, a budget and figures of its own.

use core::alloc::Layout;
use core::cell::Cell;
use core::ptr::NonNull;

use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::{Figure, RegionStatistics};

use crate::region::Region;

/// A part of a program, and how much it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// What it is called.
    pub name: &'static str,
    /// The most requested bytes it may have live.
    pub budget_bytes: usize,
    /// What happens above.
    pub over_budget: OverBudget,
}

/// What happens to a request that exceeds a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverBudget {
    /// It is refused.
    Refuse,
    /// It is served and counted.
    Count,
}

/// What a tag has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagStatistics {
    /// Blocks not freed.
    pub live_count: usize,
    /// What was asked for, of blocks not freed.
    pub requested_bytes: usize,
    /// The largest `requested_bytes` so far.
    pub peak_requested_bytes: usize,
    /// Requests that exceeded the budget, refused or not.
    pub over_budget_count: usize,
    /// Requests that were refused for any reason.
    pub failure_count: usize,
}

/// Region `R` with a name, and `N` tags.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use core::alloc::Layout;
/// use heapwright_regions::{
///     AnonymousPages, Lines, OverBudget, Region, Slab, Tag, Tagged,
/// };
///
/// let slab = Slab::new_in(AnonymousPages, 1 << 20, Lines::Packed)?;
/// let tag = |name| Tag { name, budget_bytes: 1000, over_budget: OverBudget::Refuse };
/// let level = Tagged::new("level 3", slab, [tag("meshes"), tag("sounds")]);
/// let meshes = level.part(0).expect("two tags");
/// let layout = Layout::new::<[u8; 900]>();
/// let block = meshes.try_alloc_block(layout)?;
/// assert!(meshes.try_alloc_block(layout).is_err(), "over budget");
/// // SAFETY: live, unused from here.
/// unsafe { meshes.free_block(block, layout) };
/// assert_eq!(level.tags().next().map(|(tag, seen)| (tag.name, seen.peak_requested_bytes)),
///     Some(("meshes", 900)));
/// # }
/// # Ok::<(), heapwright_regions::AllocError>(())
/// ```
#[derive(Debug)]
pub struct Tagged<R, const N: usize> {
    name: &'static str,
    region: R,
    tags: [(Tag, Cell<TagStatistics>); N],
}

impl<R: Region, const N: usize> Tagged<R, N> {
    /// Names `region` and divides it.
    pub fn new(name: &'static str, region: R, tags: [Tag; N]) -> Self {
        Self { name, region, tags: tags.map(|tag| (tag, Cell::default())) }
    }

    /// What the region is called.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The region as the part `tag` of the program has it.
    pub fn part(&self, tag: usize) -> Option<Part<'_, R>> {
        let (tag, counts) = self.tags.get(tag)?;
        Some(Part { region: &self.region, tag, counts })
    }

    /// All tags with what they have.
    pub fn tags(&self) -> impl Iterator<Item = (Tag, TagStatistics)> {
        self.tags.iter().map(|(tag, counts)| (*tag, counts.get()))
    }

    /// A snapshot for each tag, in their order: what it has live, asked for and was refused, with
    /// the region's own figures in the other fields.
    pub fn statistics_by_tag(&self) -> impl Iterator<Item = (Tag, RegionStatistics)> {
        self.tags.iter().map(|(tag, counts)| {
            let part = Part { region: &self.region, tag, counts };
            (*tag, part.region_statistics())
        })
    }

    /// What the region holds, with the sums of the tags.
    pub fn statistics(&self) -> RegionStatistics {
        let sum = |field: fn(TagStatistics) -> usize| {
            Figure::Exact(self.tags.iter().map(|(_, counts)| field(counts.get())).sum())
        };
        RegionStatistics {
            live_count: sum(|counts| counts.live_count),
            requested_bytes: sum(|counts| counts.requested_bytes),
            failure_count: sum(|counts| counts.failure_count),
            ..self.region.region_statistics()
        }
    }
}

/// A region as one part of a program has it. A block goes back through the part it came from.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a, R> {
    region: &'a R,
    tag: &'a Tag,
    counts: &'a Cell<TagStatistics>,
}

impl<R: Region> Part<'_, R> {
    fn change(&self, change: impl FnOnce(&mut TagStatistics)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }
}

// SAFETY: blocks of the region.
unsafe impl<R: Region> Region for Part<'_, R> {
    fn try_alloc_block(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let requested_bytes = self.counts.get().requested_bytes.saturating_add(layout.size());
        let over = requested_bytes > self.tag.budget_bytes;
        let block = if over && self.tag.over_budget == OverBudget::Refuse {
            Err(AllocError::Full {
                requested_bytes: layout.size(),
                largest_free_bytes: self
                    .tag
                    .budget_bytes
                    .saturating_sub(self.counts.get().requested_bytes),
                capacity_bytes: self.tag.budget_bytes,
            })
        } else {
            self.region.try_alloc_block(layout)
        };
        self.change(|counts| {
            counts.over_budget_count += usize::from(over);
            if block.is_err() {
                counts.failure_count += 1;
                return;
            }
            counts.live_count += 1;
            counts.requested_bytes = requested_bytes;
            counts.peak_requested_bytes = counts.peak_requested_bytes.max(requested_bytes);
        });
        block
    }

    unsafe fn free_block(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.region.free_block(block, layout) };
        self.change(|counts| {
            debug_assert!(counts.live_count > 0, "{} has no block", self.tag.name);
            counts.live_count = counts.live_count.saturating_sub(1);
            counts.requested_bytes = counts.requested_bytes.saturating_sub(layout.size());
        });
    }

    fn region_statistics(&self) -> RegionStatistics {
        RegionStatistics {
            live_count: Figure::Exact(self.counts.get().live_count),
            requested_bytes: Figure::Exact(self.counts.get().requested_bytes),
            failure_count: Figure::Exact(self.counts.get().failure_count),
            live_bytes: Figure::Unknown,
            peak_live_bytes: Figure::Unknown,
            ..self.region.region_statistics()
        }
    }
}
