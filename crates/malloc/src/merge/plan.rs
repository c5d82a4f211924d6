//! Which windows share pages: arithmetic only.
//!
//! Greedy, the fullest windows first, each into the first group of its class that has room for its
//! live bytes; then groups of different classes are put together where they fit, since all that
//! counts is which bytes are live.
//! Source: first-fit decreasing, as in Johnson, "Near-optimal bin packing algorithms", 1973;
//! pairs of spans with disjoint bitmaps: Powers et al., "Mesh", PLDI 2019.
#![forbid(unsafe_code)]

use crate::descriptor::SliceIndex;
use crate::merge::mask::Mask;

/// Groups that a window is tried with: those begun last, which the fuller windows left open.
const PROBE_COUNT: usize = 96;
/// No group.
pub(crate) const NO_GROUP: u32 = u32::MAX;

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
}

/// What is worth it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Worth {
    /// Pages that a group has to free for four of its windows: a window costs a mapping or two.
    pub(crate) pages_per_four: u32,
}

/// Puts the candidates into groups and sorts them by group, the first ones first; returns how
/// many of them have one. `groups` is room for as many groups as there are candidates.
pub(crate) fn pack(candidates: &mut [Candidate], groups: &mut [Group], worth: Worth) -> usize {
    candidates.sort_unstable_by_key(|one| {
        (one.class_index, core::cmp::Reverse(one.live_bytes), one.slice, one.window)
    });
    let mut count = 0usize;
    let mut class_first = 0;
    let mut class_index = None;
    for candidate in &mut *candidates {
        if class_index != Some(candidate.class_index) {
            class_index = Some(candidate.class_index);
            class_first = count;
        }
        let from = class_first.max(count.saturating_sub(PROBE_COUNT));
        let found = (from..count).find(|group| groups[*group].mask.is_disjoint(&candidate.mask));
        let group = found.unwrap_or_else(|| {
            groups[count] =
                Group { mask: Mask::EMPTY, members: 0, pages_before: 0, into: count as u32 };
            count += 1;
            count - 1
        });
        groups[group].mask.add(&candidate.mask);
        groups[group].members += 1;
        groups[group].pages_before += u32::from(candidate.page_count);
        candidate.group = group as u32;
    }
    unite(&mut groups[..count]);
    let mut taken = 0;
    for candidate in &mut *candidates {
        let into = groups[candidate.group as usize].into;
        let is_worth_it = groups[into as usize].is_worth_it(worth);
        candidate.group = if is_worth_it { into } else { NO_GROUP };
        taken += usize::from(is_worth_it);
    }
    candidates.sort_unstable_by_key(|one| one.group);
    taken
}

/// Puts groups together that fit.
fn unite(groups: &mut [Group]) {
    for later in 1..groups.len() {
        let from = later.saturating_sub(PROBE_COUNT);
        let found = (from..later).find(|earlier| {
            let candidate = &groups[*earlier];
            // One that was taken in itself stands for nothing any more.
            candidate.into as usize == *earlier && candidate.mask.is_disjoint(&groups[later].mask)
        });
        if let Some(earlier) = found {
            let taken_in = groups[later];
            groups[earlier].mask.add(&taken_in.mask);
            groups[earlier].members += taken_in.members;
            groups[earlier].pages_before += taken_in.pages_before;
            groups[later].into = earlier as u32;
        }
    }
}

impl Group {
    fn is_worth_it(&self, worth: Worth) -> bool {
        let pages_freed = self.pages_before - self.mask.page_count() as u32;
        self.members >= 2 && pages_freed * 4 >= self.members * worth.pages_per_four
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::{Candidate, Group, Mask, NO_GROUP, Worth, pack};

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

    fn packed(candidates: &mut [Candidate]) -> usize {
        let empty = Group { mask: Mask::EMPTY, members: 0, pages_before: 0, into: 0 };
        let mut groups: Vec<Group> = std::vec![empty; candidates.len()];
        pack(candidates, &mut groups, Worth { pages_per_four: 2 })
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
        let taken = packed(&mut candidates);
        assert!(taken > 450, "{taken}");
        let mut pages = 0;
        for group in candidates[..taken].chunk_by(|a, b| a.group == b.group) {
            assert!(group.len() >= 2);
            let mut all = Mask::EMPTY;
            for one in group {
                assert!(all.is_disjoint(&one.mask));
                all.add(&one.mask);
            }
            pages += all.page_count();
        }
        assert!(candidates[taken..].iter().all(|one| one.group == NO_GROUP));
        let least = candidates.iter().map(|one| one.mask.live_bytes()).sum::<usize>() / 4096;
        assert!(pages < least * 2, "{pages} pages for the contents of {least}");
    }

    #[test]
    fn what_frees_nothing_stays_as_it_is() {
        let mut alone = [window(1, 0, &[(0, 16_384)]), window(2, 0, &[(0, 16)])];
        assert_eq!(packed(&mut alone), 0);
        let mut other_pages = [window(1, 0, &[(0, 16)]), window(2, 0, &[(4096, 4112)])];
        assert_eq!(packed(&mut other_pages), 0);
    }
}
