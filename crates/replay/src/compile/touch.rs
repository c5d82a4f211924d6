//! Which OS pages of a large block the program wrote, and from when on replay has them written.
//!
//! A recording looks at a large block's pages now and then: when it is resized or freed, and
//! in between. Pages that are resident at one look and were not at the look before were
//! written in between; replay writes them at the earlier look (the birth is the first). A look
//! that comes only at the end of a block's life so still finds its pages written through that
//! life, as programs mostly do.
#![forbid(unsafe_code)]

/// Equally spaced OS pages of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TouchRun {
    /// First, from the block's start.
    pub(crate) first: u32,
    /// Distance from one to the next.
    pub(crate) stride: u32,
    /// How many.
    pub(crate) count: u32,
}

/// All touch lists of a recording, one after the other.
#[derive(Debug, Default)]
pub(crate) struct TouchLists {
    runs: Vec<TouchRun>,
    starts: Vec<u32>,
}

impl TouchLists {
    /// Enters a list; its number.
    pub(crate) fn add(&mut self, runs: impl IntoIterator<Item = TouchRun>) -> u32 {
        self.starts.push(self.runs.len() as u32);
        self.runs.extend(runs);
        self.starts.len() as u32 - 1
    }

    /// The runs of list `list`.
    pub(crate) fn get(&self, list: u32) -> &[TouchRun] {
        let start = self.starts[list as usize] as usize;
        let end = self.starts.get(list as usize + 1).map_or(self.runs.len(), |&end| end as usize);
        &self.runs[start..end]
    }

    /// Start of each list among [`Self::runs`].
    pub(crate) fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// The runs of all lists.
    pub(crate) fn runs(&self) -> &[TouchRun] {
        &self.runs
    }
}

/// The pages of one block that are known to be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct WrittenPages {
    /// Disjoint, ascending, not adjacent; `end` is past the last page.
    intervals: Vec<(u32, u32)>,
    /// Pages that are known only by number.
    counted: u32,
}

impl WrittenPages {
    /// Pages known to be written.
    pub(crate) fn count(&self) -> u64 {
        let listed: u64 = self.intervals.iter().map(|&(start, end)| u64::from(end - start)).sum();
        listed + u64::from(self.counted)
    }

    /// Takes a look with `runs` of (not resident, resident) pages; the pages not seen before,
    /// as far as they are below `page_limit`.
    pub(crate) fn see_runs(&mut self, runs: &[(u32, u32)], page_limit: u32) -> Vec<TouchRun> {
        let mut fresh = Vec::new();
        let mut page = 0u32;
        for &(gap, resident) in runs {
            let start = page.saturating_add(gap);
            page = start.saturating_add(resident);
            self.subtract_into(start, page.min(page_limit), &mut fresh);
        }
        for run in &fresh {
            self.intervals.push((run.first, run.first + run.count));
        }
        self.normalise();
        fresh
    }

    /// Takes a look that knows only that `resident` of `page_count` pages are resident. They
    /// are taken to lie evenly: many short runs are why their places were not kept.
    pub(crate) fn see_count(&mut self, resident: u32, page_count: u32) -> Vec<TouchRun> {
        let known = self.count().min(u64::from(u32::MAX)) as u32;
        let resident = resident.min(page_count);
        if resident <= known {
            return Vec::new();
        }
        let fresh = resident - known;
        self.counted += fresh;
        let stride = (page_count / resident).max(1);
        vec![TouchRun { first: known.saturating_mul(stride), stride, count: fresh }]
    }

    /// Forgets pages from number `page_count` on: the block shrank.
    pub(crate) fn shrink(&mut self, page_count: u32) {
        self.intervals.retain(|&(start, _)| start < page_count);
        if let Some(last) = self.intervals.last_mut() {
            last.1 = last.1.min(page_count);
        }
    }

    /// Appends the parts of `start..end` that are not known.
    fn subtract_into(&self, start: u32, end: u32, fresh: &mut Vec<TouchRun>) {
        let mut from = start;
        let first = self.intervals.partition_point(|&(_, known_end)| known_end <= start);
        for &(known_start, known_end) in &self.intervals[first..] {
            if known_start >= end {
                break;
            }
            if from < known_start {
                fresh.push(TouchRun { first: from, stride: 1, count: known_start - from });
            }
            from = from.max(known_end);
        }
        if from < end {
            fresh.push(TouchRun { first: from, stride: 1, count: end - from });
        }
    }

    fn normalise(&mut self) {
        self.intervals.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(self.intervals.len());
        for &(start, end) in &self.intervals {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        self.intervals = merged;
    }
}

#[cfg(test)]
mod tests {
    use super::{TouchLists, TouchRun, WrittenPages};

    fn run(first: u32, count: u32) -> TouchRun {
        TouchRun { first, stride: 1, count }
    }

    #[test]
    fn only_pages_not_seen_before_are_fresh() {
        let mut pages = WrittenPages::default();
        assert_eq!(pages.see_runs(&[(2, 3), (5, 1)], 12), [run(2, 3), run(10, 1)]);
        assert_eq!(pages.see_runs(&[(0, 13)], 12), [run(0, 2), run(5, 5), run(11, 1)]);
        assert_eq!(pages.see_runs(&[(0, 13)], 12), []);
        assert_eq!(pages.count(), 12);
        pages.shrink(4);
        assert_eq!(pages.count(), 4);
        assert_eq!(pages.see_runs(&[(3, 2)], 12), [run(4, 1)]);
    }

    #[test]
    fn a_mere_count_spreads_over_the_block() {
        let mut pages = WrittenPages::default();
        let fresh = pages.see_count(10, 100);
        assert_eq!(fresh, [TouchRun { first: 0, stride: 10, count: 10 }]);
        assert_eq!(pages.see_count(8, 100), []);
        assert_eq!(pages.see_count(20, 100)[0].count, 10);
        assert_eq!(pages.count(), 20);
    }

    #[test]
    fn lists_keep_their_runs_apart() {
        let mut lists = TouchLists::default();
        let first = lists.add([run(0, 1), run(5, 1)]);
        let second = lists.add([]);
        let third = lists.add([run(9, 2)]);
        assert_eq!(lists.get(first), [run(0, 1), run(5, 1)]);
        assert_eq!(lists.get(second), []);
        assert_eq!(lists.get(third), [run(9, 2)]);
    }
}
