//! Call sites before and after, matched by their functions.

use heapwright_advise::schema::{Advice, Site};
use serde::Serialize;
use std::collections::HashMap;

/// What changed at a call site; numbers are new minus old.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct SiteChange {
    /// The site's function.
    pub function: String,
    /// Its source file.
    pub file: String,
    /// Its line, in the new one if it is there.
    pub line: u32,
    /// Change of the requested bytes alive at the peak.
    pub live_at_peak_bytes: i64,
    /// Change of all requested bytes.
    pub bytes: i64,
    /// Change of the allocations.
    pub allocs: i64,
}

/// Every site that changed, largest growth at the peak first, then largest growth of bytes.
///
/// A site is known again by the functions of its stack: addresses and lines move with every
/// build. Sites with the same functions (several calls in one function) are added up.
pub(super) fn changes(old: &Advice, new: &Advice) -> Vec<SiteChange> {
    let mut changes: HashMap<Vec<&str>, SiteChange> = HashMap::new();
    for (sites, sign) in [(&old.sites, -1), (&new.sites, 1)] {
        for site in sites {
            let change = changes.entry(key(site)).or_default();
            change.function.clone_from(&site.function);
            change.file.clone_from(&site.file);
            change.line = site.line;
            change.live_at_peak_bytes += sign * site.live_at_peak_bytes as i64;
            change.bytes += sign * site.bytes as i64;
            change.allocs += sign * site.allocs as i64;
        }
    }
    let mut changes: Vec<SiteChange> = changes
        .into_values()
        .filter(|change| (change.live_at_peak_bytes, change.bytes, change.allocs) != (0, 0, 0))
        .collect();
    changes.sort_by(|a, b| {
        let growth = |change: &SiteChange| (change.live_at_peak_bytes, change.bytes);
        growth(b).cmp(&growth(a)).then_with(|| a.function.cmp(&b.function))
    });
    changes
}

/// The functions of the stack, or its modules where they are unknown.
fn key(site: &Site) -> Vec<&str> {
    std::iter::once(site.function.as_str())
        .chain(site.stack.iter().map(|frame| {
            if frame.function.is_empty() { frame.module.as_str() } else { frame.function.as_str() }
        }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::changes;
    use heapwright_advise::schema::{Advice, Site};

    fn advice(sites: &[(&str, u64, u64)]) -> Advice {
        let site = |&(function, peak, allocs): &(&str, u64, u64)| Site {
            function: function.into(),
            live_at_peak_bytes: peak,
            allocs,
            ..Site::default()
        };
        Advice { sites: sites.iter().map(site).collect(), ..Advice::default() }
    }

    #[test]
    fn sites_are_matched_by_function_and_sorted_by_growth() {
        let old = advice(&[("same", 5, 5), ("gone", 70, 7), ("grown", 10, 1)]);
        let new = advice(&[("grown", 30, 1), ("same", 5, 5), ("born", 90, 9)]);
        let changes = changes(&old, &new);
        let rows: Vec<_> =
            changes.iter().map(|c| (c.function.as_str(), c.live_at_peak_bytes)).collect();
        assert_eq!(rows, [("born", 90), ("grown", 20), ("gone", -70)]);
    }
}
