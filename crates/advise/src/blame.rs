//! Who holds otherwise free memory: the shares of the replay's stock, as the advice lists them.

use crate::recommend::percent;
use crate::schema::{Blame, Fragmentation, Site};

/// Entries of the list.
const BLAME_MAX: usize = 100;

/// What a call site's live blocks hold at the moment of a [`Fragmentation`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlameShare {
    /// The site; none where no stack is known.
    pub site: Option<u32>,
    /// Usable bytes of its live blocks.
    pub live_bytes: u64,
    /// Its share of the free bytes on the OS pages where it is alive.
    pub pinned_bytes: u64,
    /// Bytes of the OS pages where nobody else is alive.
    pub releasable_bytes: u64,
}

/// What the replay's stock told about the allocator that the program has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FragmentationFacts {
    /// The whole.
    pub fragmentation: Fragmentation,
    /// The call sites' parts of its `pinned_bytes`.
    pub shares: Vec<BlameShare>,
}

/// The entries of `fragmentation_blame`, the largest first.
pub(crate) fn blame(sites: &[Site], shares: &[BlameShare]) -> Vec<Blame> {
    let mut order: Vec<&BlameShare> = shares.iter().filter(|one| one.pinned_bytes > 0).collect();
    order.sort_by_key(|one| (std::cmp::Reverse(one.pinned_bytes), one.site));
    let entry = |one: &&BlameShare| Blame {
        site: one.site.and_then(|id| sites.get(id as usize)).cloned().unwrap_or_default(),
        live_bytes: one.live_bytes,
        pinned_bytes: one.pinned_bytes,
        releasable_bytes: one.releasable_bytes,
    };
    order.iter().take(BLAME_MAX).map(entry).collect()
}

/// A sentence on what the list leaves out; none when it has all.
pub(crate) fn left_out(facts: &FragmentationFacts, listed: &[Blame]) -> Option<String> {
    let all: u64 = facts.shares.iter().map(|one| one.pinned_bytes).sum();
    let shown: u64 = listed.iter().map(|one| one.pinned_bytes).sum();
    (shown < all).then(|| {
        format!(
            "Of the call sites that hold free memory the {} largest are listed, with {} of it.",
            listed.len(),
            percent(shown as f64 / all as f64)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{BlameShare, FragmentationFacts, blame, left_out};
    use crate::schema::Site;

    #[test]
    fn the_largest_come_first_and_the_rest_is_said() {
        let sites: Vec<Site> =
            (0..150).map(|id| Site { id, line: id + 1, ..Site::default() }).collect();
        let share = |site: u32| BlameShare {
            site: Some(site),
            pinned_bytes: u64::from(site) * 10,
            ..BlameShare::default()
        };
        let mut shares: Vec<BlameShare> = (0..150).map(share).collect();
        shares.push(BlameShare { site: None, pinned_bytes: 5000, ..BlameShare::default() });
        let list = blame(&sites, &shares);
        assert_eq!((list.len(), list[0].pinned_bytes, list[0].site.line), (100, 5000, 0));
        assert_eq!((list[1].site.id, list[99].site.id), (149, 51));
        let facts = FragmentationFacts { shares, ..FragmentationFacts::default() };
        assert!(left_out(&facts, &list).is_some_and(|text| text.contains("100 largest")));
        let facts = FragmentationFacts {
            shares: facts.shares[..60].to_vec(),
            ..FragmentationFacts::default()
        };
        assert_eq!(left_out(&facts, &blame(&sites, &facts.shares)), None);
    }
}
