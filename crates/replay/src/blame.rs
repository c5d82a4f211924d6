//! Whose live blocks hold otherwise free memory: resident pages split among call sites.
//!
//! The free bytes of a page are shared out among the sites alive on it, by their live bytes there,
//! in whole bytes that add up to the page's; so the shares add up to the total. Definitions and
//! formulas: docs/design/fragmentation.md.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

/// A live block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LiveBlock {
    pub(crate) start: u64,
    pub(crate) requested_bytes: u64,
    pub(crate) usable_bytes: u64,
    pub(crate) site: u32,
}

/// Resident pages in a row. `frame` is what makes two pages the same memory: runs of one file
/// that lie at several addresses have the same frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageRun {
    pub(crate) start: u64,
    pub(crate) pages: u64,
    pub(crate) frame: Frame,
}

/// A page of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Frame {
    /// Anonymous: by its page number.
    Anonymous(u64),
    /// Of a file: inode, device, page of it.
    Shared(u64, u64, u64),
}

impl Frame {
    /// The frame so many pages on.
    pub(crate) fn plus(self, pages: u64) -> Self {
        match self {
            Self::Anonymous(page) => Self::Anonymous(page + pages),
            Self::Shared(inode, device, page) => Self::Shared(inode, device, page + pages),
        }
    }
}

/// What a page holds that no block covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rest {
    /// The allocator's: free, or its bookkeeping.
    #[default]
    Heap,
    /// There before the first operation.
    Before,
    /// Mapped by the program itself.
    Mapped,
    /// A replay thread's stack.
    Stack,
}

/// The share of one call site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteShare {
    /// The site's number; [`crate::SITE_UNKNOWN`] where no stack is known.
    pub site: u32,
    /// Live blocks.
    pub blocks: u64,
    /// Their usable bytes.
    pub live_bytes: u64,
    /// Its share of the free bytes on the resident pages where it is alive.
    pub pinned_bytes: u64,
    /// Bytes of the resident pages on which nobody else is alive: what could go back to the
    /// system if this site alone died.
    pub releasable_bytes: u64,
}

/// The blocks of one power of two of usable bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassShare {
    /// Largest usable size of the class; blocks above half of it belong to it.
    pub class_bytes: u64,
    /// Live blocks.
    pub blocks: u64,
    /// Their requested bytes.
    pub requested_bytes: u64,
    /// Their usable bytes.
    pub live_bytes: u64,
    /// Its share of the free bytes on the pages where it is alive.
    pub pinned_bytes: u64,
    /// Largest free piece beside a block of the class.
    pub largest_free_bytes: u64,
}

/// How resident memory is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) requested_bytes: u64,
    pub(crate) slack_bytes: u64,
    pub(crate) pinned_bytes: u64,
    pub(crate) empty_bytes: u64,
    pub(crate) mapped_bytes: u64,
    pub(crate) stack_bytes: u64,
    /// Of pages that were there before and hold live blocks now.
    pub(crate) reused_bytes: u64,
    pub(crate) largest_free_bytes: u64,
    pub(crate) blocks: u64,
    pub(crate) sites: Vec<SiteShare>,
    pub(crate) classes: Vec<ClassShare>,
}

/// A part of a block on one page.
#[derive(Clone, Copy, Debug)]
struct Piece {
    frame: u32,
    site: u32,
    requested_bytes: u32,
    usable_bytes: u32,
    class: u8,
}

/// Splits the pages of `runs`, ascending by address, among `blocks`; `rest` says what a page
/// without live blocks is.
///
/// O(n log n) of blocks and pages.
pub(crate) fn split(
    runs: &[PageRun],
    mut blocks: Vec<LiveBlock>,
    page_bytes: u64,
    rest: impl Fn(u64, Frame) -> Rest,
) -> Split {
    blocks.sort_unstable_by_key(|block| block.start);
    let frames = Frames::new(runs);
    let mut pieces = pieces(runs, &blocks, &frames, page_bytes);
    pieces.sort_unstable_by_key(|piece| (piece.frame, piece.site));
    let mut shares = Shares::new(page_bytes);
    blocks.iter().for_each(|block| shares.count(block));
    let mut is_live = vec![false; frames.count];
    let mut on_page = &pieces[..];
    while let Some(first) = on_page.first() {
        let length = on_page.partition_point(|piece| piece.frame <= first.frame);
        is_live[first.frame as usize] = true;
        shares.page(&on_page[..length]);
        on_page = &on_page[length..];
    }
    let mut split = shares.split;
    let mut heap = Vec::new();
    let mut seen = vec![false; frames.count];
    frames.for_each_page(runs, page_bytes, |start, frame, id| {
        let what = rest(start, frame);
        let is_heap = is_live[id] || what == Rest::Heap;
        if is_heap {
            match heap.last_mut() {
                Some((_, end)) if *end == start => *end = start + page_bytes,
                _ => heap.push((start, start + page_bytes)),
            }
        }
        if std::mem::replace(&mut seen[id], true) {
            return;
        }
        match what {
            Rest::Before if is_live[id] => split.reused_bytes += page_bytes,
            _ if is_live[id] => {}
            Rest::Heap => split.empty_bytes += page_bytes,
            Rest::Before => {}
            Rest::Mapped => split.mapped_bytes += page_bytes,
            Rest::Stack => split.stack_bytes += page_bytes,
        }
    });
    split.largest_free_bytes = gaps(&heap, &blocks, &mut shares.classes);
    split.blocks = blocks.len() as u64;
    split.sites = shares.sites.into_values().collect();
    split.sites.sort_unstable_by_key(|site| (std::cmp::Reverse(site.pinned_bytes), site.site));
    split.classes = shares.classes.into_values().collect();
    split
}

/// Numbers the frames: pages at several addresses that are the same memory have one number.
struct Frames {
    first_of_run: Vec<u32>,
    shared: HashMap<Frame, u32>,
    count: usize,
}

impl Frames {
    fn new(runs: &[PageRun]) -> Self {
        let mut frames = Self { first_of_run: Vec::new(), shared: HashMap::new(), count: 0 };
        for run in runs {
            frames.first_of_run.push(frames.count as u32);
            if matches!(run.frame, Frame::Anonymous(_)) {
                frames.count += run.pages as usize;
                continue;
            }
            for page in 0..run.pages {
                let next = frames.count as u32;
                let number = *frames.shared.entry(run.frame.plus(page)).or_insert(next);
                frames.count += usize::from(number == next);
            }
        }
        frames
    }

    fn number(&self, runs: &[PageRun], run: usize, page: u64) -> u32 {
        match runs[run].frame {
            Frame::Anonymous(_) => self.first_of_run[run] + page as u32,
            shared => self.shared[&shared.plus(page)],
        }
    }

    /// Every page: its address, frame and number.
    fn for_each_page(
        &self,
        runs: &[PageRun],
        page_bytes: u64,
        mut each: impl FnMut(u64, Frame, usize),
    ) {
        for (index, run) in runs.iter().enumerate() {
            for page in 0..run.pages {
                let number = self.number(runs, index, page) as usize;
                each(run.start + page * page_bytes, run.frame.plus(page), number);
            }
        }
    }
}

/// Cuts the blocks at page borders and keeps what is resident.
fn pieces(runs: &[PageRun], blocks: &[LiveBlock], frames: &Frames, page_bytes: u64) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(blocks.len());
    for block in blocks {
        let end = block.start.saturating_add(block.usable_bytes);
        let requested_end = block.start.saturating_add(block.requested_bytes);
        let first = runs.partition_point(|run| run.start + run.pages * page_bytes <= block.start);
        for (index, run) in runs.iter().enumerate().skip(first) {
            if run.start >= end {
                break;
            }
            let run_end = run.start + run.pages * page_bytes;
            let mut at = block.start.max(run.start);
            while at < end.min(run_end) {
                let page = (at - run.start) / page_bytes;
                let page_end = run.start + (page + 1) * page_bytes;
                let upto = end.min(page_end);
                pieces.push(Piece {
                    frame: frames.number(runs, index, page),
                    site: block.site,
                    requested_bytes: requested_end.clamp(at, upto).saturating_sub(at) as u32,
                    usable_bytes: (upto - at) as u32,
                    class: class_of(block.usable_bytes),
                });
                at = upto;
            }
        }
    }
    pieces
}

/// log2 of the smallest power of two that is no smaller.
fn class_of(usable_bytes: u64) -> u8 {
    usable_bytes.max(1).next_power_of_two().trailing_zeros() as u8
}

/// Shares in the making.
struct Shares {
    page_bytes: u64,
    split: Split,
    sites: BTreeMap<u32, SiteShare>,
    classes: BTreeMap<u8, ClassShare>,
}

impl Shares {
    fn new(page_bytes: u64) -> Self {
        let (sites, classes) = (BTreeMap::new(), BTreeMap::new());
        Self { page_bytes, split: Split::default(), sites, classes }
    }

    fn site(&mut self, site: u32) -> &mut SiteShare {
        self.sites.entry(site).or_insert(SiteShare { site, ..SiteShare::default() })
    }

    fn class(&mut self, class: u8) -> &mut ClassShare {
        let class_bytes = 1 << class;
        self.classes.entry(class).or_insert(ClassShare { class_bytes, ..ClassShare::default() })
    }

    fn count(&mut self, block: &LiveBlock) {
        let site = self.site(block.site);
        site.blocks += 1;
        site.live_bytes += block.usable_bytes;
        let class = self.class(class_of(block.usable_bytes));
        class.blocks += 1;
        class.requested_bytes += block.requested_bytes;
        class.live_bytes += block.usable_bytes;
    }

    /// The pieces on one page, ascending by site.
    fn page(&mut self, pieces: &[Piece]) {
        let used: u64 = pieces.iter().map(|piece| u64::from(piece.usable_bytes)).sum();
        let requested: u64 = pieces.iter().map(|piece| u64::from(piece.requested_bytes)).sum();
        let free = self.page_bytes.saturating_sub(used);
        self.split.requested_bytes += requested;
        self.split.slack_bytes += used - requested;
        self.split.pinned_bytes += free;
        let mut at = 0;
        for piece in pieces {
            let share = share(free, at, u64::from(piece.usable_bytes), used);
            at += u64::from(piece.usable_bytes);
            self.site(piece.site).pinned_bytes += share;
            self.class(piece.class).pinned_bytes += share;
        }
        let (first, last) = (pieces[0].site, pieces[pieces.len() - 1].site);
        if first == last {
            let page_bytes = self.page_bytes;
            self.site(first).releasable_bytes += page_bytes;
        }
    }
}

/// What of `free` bytes falls to the `part` of `whole` that begins at `at`: in whole bytes, so
/// that the shares of all parts, one after the other, add up to `free`.
fn share(free: u64, at: u64, part: u64, whole: u64) -> u64 {
    let upto = |end: u64| (u128::from(free) * u128::from(end) / u128::from(whole.max(1))) as u64;
    upto(at + part) - upto(at)
}

/// The largest gap between neighbouring blocks in `heap`, ranges of pages in a row; enters for
/// each class the largest beside one of its blocks.
fn gaps(heap: &[(u64, u64)], blocks: &[LiveBlock], classes: &mut BTreeMap<u8, ClassShare>) -> u64 {
    let mut largest = 0;
    let mut next = 0;
    for &(start, end) in heap {
        let mut at = start;
        let mut before = None;
        let mut close = |gap: u64, sides: [Option<&LiveBlock>; 2]| {
            largest = largest.max(gap);
            for block in sides.into_iter().flatten() {
                if let Some(class) = classes.get_mut(&class_of(block.usable_bytes)) {
                    class.largest_free_bytes = class.largest_free_bytes.max(gap);
                }
            }
        };
        while let Some(block) = blocks.get(next) {
            let block_end = block.start.saturating_add(block.usable_bytes);
            if block.start >= end {
                break;
            }
            if block_end > start {
                close(block.start.saturating_sub(at), [before, Some(block)]);
                at = at.max(block_end);
                before = Some(block);
            }
            if block_end > end {
                // The next range may begin in it.
                break;
            }
            next += 1;
        }
        close(end.saturating_sub(at), [before, None]);
    }
    largest
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{Frame, LiveBlock, PageRun, Rest, share, split};

    const PAGE: u64 = 4096;

    fn run(first_page: u64, pages: u64) -> PageRun {
        PageRun { start: first_page * PAGE, pages, frame: Frame::Anonymous(first_page) }
    }

    fn block(start: u64, bytes: u64, site: u32) -> LiveBlock {
        LiveBlock { start, requested_bytes: bytes, usable_bytes: bytes, site }
    }

    #[test]
    fn a_page_is_shared_by_live_bytes_and_released_by_its_only_site() {
        let blocks = vec![
            block(10 * PAGE, 300, 1),
            block(10 * PAGE + 1024, 100, 2),
            block(11 * PAGE + 96, 1000, 1),
        ];
        let split = split(&[run(10, 3), run(20, 1)], blocks, PAGE, |_, _| Rest::Heap);
        let free = PAGE - 400;
        assert_eq!(split.pinned_bytes, free + PAGE - 1000);
        assert_eq!(split.empty_bytes, 2 * PAGE);
        let [first, second] = split.sites[..] else { panic!("two sites: {:?}", split.sites) };
        assert_eq!((first.site, first.pinned_bytes), (1, free * 3 / 4 + PAGE - 1000));
        assert_eq!((first.live_bytes, first.blocks, first.releasable_bytes), (1300, 2, PAGE));
        assert_eq!((second.site, second.pinned_bytes), (2, free / 4));
        assert_eq!(second.releasable_bytes, 0);
        // From the end of the last block to the end of the empty page behind it.
        assert_eq!(split.largest_free_bytes, 2 * PAGE - 1096);
    }

    #[test]
    fn two_addresses_of_one_page_are_one_page() {
        let frame = Frame::Shared(7, 1, 0);
        let runs = [
            PageRun { start: 10 * PAGE, pages: 1, frame },
            PageRun { start: 50 * PAGE, pages: 1, frame },
        ];
        let blocks = vec![block(10 * PAGE, 96, 1), block(50 * PAGE + 1000, 96, 2)];
        let split = split(&runs, blocks, PAGE, |_, _| Rest::Heap);
        assert_eq!(split.pinned_bytes, PAGE - 192);
        assert!(split.sites.iter().all(|site| site.releasable_bytes == 0));
        assert_eq!(split.empty_bytes, 0);
    }

    #[test]
    fn shares_of_a_page_add_up_to_its_free_bytes() {
        for (free, parts) in [(100, [1, 1, 1]), (4095, [7, 500, 13]), (0, [1, 2, 3])] {
            let whole: u64 = parts.iter().sum();
            let mut at = 0;
            let mut sum = 0;
            for part in parts {
                let one = share(free, at, part, whole);
                assert!(one.abs_diff(free * part / whole) <= 1);
                sum += one;
                at += part;
            }
            assert_eq!(sum, free);
        }
    }

    /// A byte of memory at a time, as the definitions say it.
    #[test]
    fn random_layouts_agree_with_a_model_of_bytes() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % bound
        };
        for _ in 0..200 {
            let resident: BTreeSet<u64> = (16..40).filter(|_| below(3) > 0).collect();
            let before: BTreeSet<u64> =
                resident.iter().copied().filter(|_| below(8) == 0).collect();
            let mut blocks = Vec::new();
            let mut at = 15 * PAGE + below(PAGE);
            while at < 40 * PAGE {
                let sizes = if below(10) == 0 { 1200 } else { 20 };
                let usable_bytes = 16 * (1 + below(sizes));
                let requested_bytes = usable_bytes - below(16);
                let site = below(4) as u32;
                blocks.push(LiveBlock { start: at, requested_bytes, usable_bytes, site });
                let gaps = if below(5) == 0 { 900 } else { 6 };
                at += usable_bytes + 16 * below(gaps);
            }
            let runs: Vec<PageRun> = resident.iter().map(|&page| run(page, 1)).collect();
            let rest = |address: u64, _| match before.contains(&(address / PAGE)) {
                true => Rest::Before,
                false => Rest::Heap,
            };
            let found = split(&runs, blocks.clone(), PAGE, rest);

            let mut pinned = 0;
            let mut empty = 0;
            let mut exact: BTreeMap<u32, f64> = BTreeMap::new();
            let mut releasable: BTreeMap<u32, u64> = BTreeMap::new();
            for &page in &resident {
                let (start, end) = (page * PAGE, (page + 1) * PAGE);
                let mut live: BTreeMap<u32, u64> = BTreeMap::new();
                for block in &blocks {
                    let from = block.start.max(start);
                    let to = (block.start + block.usable_bytes).min(end);
                    if from < to {
                        *live.entry(block.site).or_default() += to - from;
                    }
                }
                let used: u64 = live.values().sum();
                if used == 0 {
                    empty += if before.contains(&page) { 0 } else { PAGE };
                    continue;
                }
                pinned += PAGE - used;
                for (&site, &bytes) in &live {
                    *exact.entry(site).or_default() +=
                        (PAGE - used) as f64 * bytes as f64 / used as f64;
                }
                if live.len() == 1 {
                    *releasable.entry(*live.keys().next().expect("one")).or_default() += PAGE;
                }
            }
            assert_eq!((found.pinned_bytes, found.empty_bytes), (pinned, empty));
            let sum: u64 = found.sites.iter().map(|site| site.pinned_bytes).sum();
            assert_eq!(sum, pinned, "the blame is the total");
            let by_class: u64 = found.classes.iter().map(|class| class.pinned_bytes).sum();
            assert_eq!(by_class, pinned);
            for site in &found.sites {
                let wanted = exact.get(&site.site).copied().unwrap_or(0.0);
                let pieces = blocks.len() as f64 + 40.0;
                assert!((site.pinned_bytes as f64 - wanted).abs() <= pieces, "{site:?} {wanted}");
                let wanted = releasable.get(&site.site).copied().unwrap_or(0);
                assert_eq!(site.releasable_bytes, wanted);
            }
        }
    }
}
