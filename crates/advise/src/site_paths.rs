//! How a call site is told from all others while the program runs: by the innermost frames of its
//! stacks, as far out as it takes.

use std::collections::HashMap;

use heapwright_format::stacks::StackId;
use heapwright_site::{FrameKey, SitePath, Verdict};

use crate::analysis::Analysis;

/// Frames that a path has at most; where that does not tell sites apart, it is no site's.
const FRAMES_MAX: usize = 64;

/// Blocks below an inner part of stacks.
#[derive(Clone, Copy, Debug, Default)]
struct Below {
    of_site: bool,
    of_others: bool,
}

impl Below {
    fn verdict(self) -> Verdict {
        match (self.of_site, self.of_others) {
            (false, _) => Verdict::Other,
            (true, false) => Verdict::Site,
            (true, true) => Verdict::Deeper,
        }
    }
}

impl Analysis {
    /// The paths that say of a stack whether it is of the site with this id, each as its number and
    /// what it says; what is missing says that it is of another. Sorted by number.
    pub fn site_paths(&self, site: u32) -> Vec<(u64, Verdict)> {
        let keys = self.frame_keys();
        let mut below: HashMap<u64, Below> = HashMap::new();
        let each_path = |see: &mut dyn FnMut(u64, bool, Option<u64>)| {
            for index in 0..self.stacks.tree.len() as u32 {
                let Some(owner) = self.site_of(StackId(index)) else { continue };
                let (mut path, mut inside) = (SitePath::NONE, None);
                for place in self.stacks.place_indices(StackId(index)).take(FRAMES_MAX) {
                    path = path.outwards(keys[place as usize]);
                    see(path.bits(), owner == site, inside);
                    inside = Some(path.bits());
                }
            }
        };
        each_path(&mut |path, is_site, _| {
            let entry = below.entry(path).or_default();
            entry.of_site |= is_site;
            entry.of_others |= !is_site;
        });
        let verdict = |path: u64| below.get(&path).map_or(Verdict::Other, |below| below.verdict());
        let mut told: HashMap<u64, Verdict> = HashMap::new();
        each_path(&mut |path, _, inside| {
            // Further out than needed nobody looks.
            let is_asked = inside.is_none_or(|inside| verdict(inside) == Verdict::Deeper);
            if is_asked && verdict(path) != Verdict::Other {
                told.insert(path, verdict(path));
            }
        });
        let mut paths: Vec<(u64, Verdict)> = told.into_iter().collect();
        paths.sort_unstable_by_key(|&(path, _)| path);
        paths
    }

    /// The key of each place of the stacks.
    fn frame_keys(&self) -> Vec<FrameKey> {
        let table = &self.stacks.table;
        let key = |place| {
            table.module_of(place).map_or(FrameKey::NO_MODULE, |module| {
                FrameKey::new(module.path.as_bytes(), place.offset)
            })
        };
        table.places().iter().map(key).collect()
    }
}
