//! Which windows share pages: arithmetic only.
//!
//! Greedy, the fullest windows first, each into the first group of its class that has room for its
//! live bytes; then groups of different classes are put together where they fit, since all that
//! counts is which bytes are live. All of it can be done a few windows at a time.
//! Source: first-fit decreasing, as in Johnson, "Near-optimal bin packing algorithms", 1973;
//! pairs of spans with disjoint bitmaps: Powers et al., "Mesh", PLDI 2019.
#![forbid(unsafe_code)]

use core::ops::Range;

use crate::descriptor::SliceIndex;
use crate::merge::mask::Mask;

/// Windows planned at a time.
pub(crate) const BATCH_COUNT: usize = 8192;
/// Windows of a group at most: what one group costs at a stretch, and what lives as long as its
/// longest-lived window, is bounded. The last one more would free a thirtieth of a page.
pub(crate) const MEMBER_COUNT_MAX: u32 = 24;
/// Groups that a window is tried with: those begun last, which the fuller windows left open.
const PROBE_COUNT: usize = 96;
/// No group.
pub(crate) const NO_GROUP: u32 = u32::MAX;
/// Bits of an entry of the order that say which candidate.
const INDEX_BITS: u32 = BATCH_COUNT.ilog2();
const _: () = assert!(BATCH_COUNT.is_power_of_two());

/// A window that might share pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// Its live bytes when it was looked at.
    pub(crate) mask: Mask,
    /// Its slice, a span of its own.
    pub(crate) slice: SliceIndex,
    /// Which of the slice's windows it is.
    pub(crate) window: u8,
    /// The span's class.
    pub(crate) class_index: u8,
    /// Its pages that have live bytes.
    pub(crate) page_count: u16,
    /// Its live bytes, counted.
    pub(crate) live_bytes: u16,
    /// The group it was put into.
    pub(crate) group: u32,
}

/// Windows that share pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// Their live bytes together.
    mask: Mask,
    /// How many windows.
    members: u32,
    /// Their pages before, together.
    pages_before: u32,
    /// The group that took this one in, or itself.
    into: u32,
    /// The first group of the same class.
    class_first: u32,
}

/// What is worth it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Worth {
    /// Pages that a group has to free for four of its windows: a window costs a mapping or two.
    pub(crate) pages_per_four: u32,
}

/// A batch that is being planned: [`Plan::sort`], [`Plan::place`], [`Plan::unite`] and
/// [`Plan::choose`], in this order.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// The windows.
    pub(crate) candidates: &'a mut [Candidate],
    /// Room for as many groups.
    pub(crate) groups: &'a mut [Group],
    /// Room for as many entries: which candidate comes when.
    pub(crate) order: &'a mut [u64],
}

impl Plan<'_> {
    /// Orders the first `count` candidates: by class, the fullest first. A quarter of a
    /// millisecond for a whole batch.
    pub(crate) fn sort(&mut self, count: usize) {
        for (index, one) in self.candidates[..count].iter().enumerate() {
            let emptiness = u64::from(u16::MAX - one.live_bytes);
            let key = u64::from(one.class_index) << 16 | emptiness;
            self.order[index] = key << INDEX_BITS | index as u64;
        }
        self.order[..count].sort_unstable();
    }

    /// The candidate that comes at `place`.
    pub(crate) fn at(&mut self, place: usize) -> &mut Candidate {
        &mut self.candidates[(self.order[place] & (BATCH_COUNT as u64 - 1)) as usize]
    }

    /// Puts the candidates that come in `places` into groups, of which there are `count`; returns
    /// how many there are now. Half a microsecond each.
    pub(crate) fn place(&mut self, places: Range<usize>, mut count: usize) -> usize {
        for place in places {
            let candidate = *self.at(place);
            let class_first = match place.checked_sub(1).map(|before| *self.at(before)) {
                Some(before) if before.class_index == candidate.class_index => {
                    self.groups[before.group as usize].class_first
                }
                _ => count as u32,
            };
            let from = (class_first as usize).max(count.saturating_sub(PROBE_COUNT));
            let found = (from..count).find(|group| {
                let group = &self.groups[*group];
                group.members < MEMBER_COUNT_MAX && group.mask.is_disjoint(&candidate.mask)
            });
            let group = found.unwrap_or_else(|| {
                self.groups[count] = Group {
                    mask: Mask::EMPTY,
                    members: 0,
                    pages_before: 0,
                    into: count as u32,
                    class_first,
                };
                count += 1;
                count - 1
            });
            let into = &mut self.groups[group];
            into.mask.add(&candidate.mask);
            into.members += 1;
            into.pages_before += u32::from(candidate.page_count);
            self.at(place).group = group as u32;
        }
        count
    }

    /// Puts each of the groups `laters` into an earlier one that it fits.
    pub(crate) fn unite(&mut self, laters: Range<usize>) {
        for later in laters {
            let from = later.saturating_sub(PROBE_COUNT);
            let taken_in = self.groups[later];
            let found = (from..later).find(|earlier| {
                let candidate = &self.groups[*earlier];
                // One that was taken in itself stands for nothing any more.
                candidate.into as usize == *earlier
                    && candidate.members + taken_in.members <= MEMBER_COUNT_MAX
                    && candidate.mask.is_disjoint(&taken_in.mask)
            });
            if let Some(earlier) = found {
                let into = &mut self.groups[earlier];
                into.mask.add(&taken_in.mask);
                into.members += taken_in.members;
                into.pages_before += taken_in.pages_before;
                self.groups[later].into = earlier as u32;
            }
        }
    }

    /// Orders the first `count` candidates by group, those of groups that are worth it first;
    /// returns how many these are. A quarter of a millisecond for a whole batch.
    pub(crate) fn choose(&mut self, count: usize, worth: Worth) -> usize {
        let mut taken = 0;
        for (index, candidate) in self.candidates[..count].iter_mut().enumerate() {
            let into = self.groups[candidate.group as usize].into;
            let is_worth_it = self.groups[into as usize].is_worth_it(worth);
            candidate.group = if is_worth_it { into } else { NO_GROUP };
            self.order[index] = u64::from(candidate.group) << INDEX_BITS | index as u64;
            taken += usize::from(is_worth_it);
        }
        self.order[..count].sort_unstable();
        taken
    }

    /// The end of the group whose first window comes at `start`; `taken` are chosen.
    pub(crate) fn group_end(&mut self, start: usize, taken: usize) -> usize {
        let group = self.at(start).group;
        (start + 1..taken).find(|place| self.at(*place).group != group).unwrap_or(taken)
    }
}

impl Group {
    fn is_worth_it(&self, worth: Worth) -> bool {
        let pages_freed = self.pages_before.saturating_sub(self.mask.page_count() as u32);
        self.members >= 2 && pages_freed * 4 >= self.members * worth.pages_per_four
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::{Candidate, Group, MEMBER_COUNT_MAX, Mask, NO_GROUP, Plan, Worth};

    fn window(number: u32, class_index: u8, ranges: &[(usize, usize)]) -> Candidate {
        let mut mask = Mask::EMPTY;
        for (start, end) in ranges {
            mask.add_bytes(*start, *end);
        }
        Candidate {
            mask,
            slice: number,
            window: 0,
            class_index,
            page_count: mask.page_count() as u16,
            live_bytes: mask.live_bytes() as u16,
            group: NO_GROUP,
        }
    }

    /// The windows that are worth it, by group, planned `stride` at a time.
    fn packed(candidates: &mut [Candidate], stride: usize) -> Vec<Vec<Candidate>> {
        let empty =
            Group { mask: Mask::EMPTY, members: 0, pages_before: 0, into: 0, class_first: 0 };
        let count = candidates.len();
        let (mut groups, mut order) = (std::vec![empty; count], std::vec![0; count]);
        let mut plan = Plan { candidates, groups: &mut groups, order: &mut order };
        plan.sort(count);
        let mut group_count = 0;
        for start in (0..count).step_by(stride) {
            group_count = plan.place(start..(start + stride).min(count), group_count);
        }
        for start in (0..group_count).step_by(stride) {
            plan.unite(start..(start + stride).min(group_count));
        }
        let taken = plan.choose(count, Worth { pages_per_four: 2 });
        let mut found = Vec::new();
        let mut start = 0;
        while start < taken {
            let end = plan.group_end(start, taken);
            found.push((start..end).map(|place| *plan.at(place)).collect());
            start = end;
        }
        assert!((taken..count).all(|place| plan.at(place).group == NO_GROUP));
        found
    }

    #[test]
    fn windows_of_a_group_have_no_live_byte_in_common() {
        let mut state = 1u64;
        let mut candidates: Vec<Candidate> = (0..500)
            .map(|number| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = |shift: u32| (state >> shift) as usize % 63 * 256;
                let ranges = [(at(20), at(20) + 256), (at(40), at(40) + 256)];
                window(number, (number % 3) as u8, &ranges)
            })
            .collect();
        let groups = packed(&mut candidates, 7);
        let taken: usize = groups.iter().map(Vec::len).sum();
        assert!(taken > 450, "{taken}");
        let mut pages = 0;
        for group in &groups {
            assert!(group.len() >= 2 && group.len() <= MEMBER_COUNT_MAX as usize);
            let mut all = Mask::EMPTY;
            for one in group {
                assert!(all.is_disjoint(&one.mask));
                all.add(&one.mask);
            }
            pages += all.page_count();
        }
        let least = candidates.iter().map(|one| one.mask.live_bytes()).sum::<usize>() / 4096;
        assert!(pages < least * 2, "{pages} pages for the contents of {least}");
    }

    #[test]
    fn what_frees_nothing_stays_as_it_is() {
        let mut alone = [window(1, 0, &[(0, 16_384)]), window(2, 0, &[(0, 16)])];
        assert!(packed(&mut alone, 1).is_empty());
        let mut other_pages = [window(1, 0, &[(0, 16)]), window(2, 0, &[(4096, 4112)])];
        assert!(packed(&mut other_pages, 9).is_empty());
    }

    #[test]
    fn a_plan_made_bit_by_bit_is_the_same() {
        let windows: Vec<Candidate> = (0..300usize)
            .map(|number| {
                let start = number * 97 % 900 * 16;
                window(
                    number as u32,
                    (number % 2) as u8,
                    &[(start, start + 16 * (1 + number % 40))],
                )
            })
            .collect();
        let shape = |stride| -> Vec<Vec<u32>> {
            let groups = packed(&mut windows.clone(), stride);
            groups.iter().map(|group| group.iter().map(|one| one.slice).collect()).collect()
        };
        let whole = shape(300);
        assert!(whole.len() > 1);
        for stride in [1, 13, 64] {
            assert_eq!(shape(stride), whole);
        }
    }
}
