//! The flame graph's tree: stacks merged by function name, small branches left out.

use heapwright_format::stacks::StackId;
use rustc_hash::FxHashMap;

use crate::analysis::{Analysis, StackTotals};
use crate::names::NameId;
use crate::schema::Flame;

/// Most nodes: a page draws these without a pause.
const NODES_MAX: usize = 50_000;
/// A node stays when one of its figures is at least this share of the whole; doubled until
/// [`NODES_MAX`] holds.
const SHARE_MIN: f64 = 1e-5;

const ROOT_NAME: &str = "all";
const CUT_OFF_NAME: &str = "[outer frames unknown]";
const UNKNOWN_NAME: &str = "[no stack]";

/// Bytes, allocations, bytes at the peak, temporaries: of a node and all below it.
type Figures = [u64; 4];

#[derive(Default)]
struct Tree {
    parent: Vec<u32>,
    name: Vec<u32>,
    figures: Vec<Figures>,
    children: FxHashMap<(u32, u32), u32>,
}

impl Tree {
    fn push(&mut self, parent: u32, name: u32) -> u32 {
        self.parent.push(parent);
        self.name.push(name);
        self.figures.push(Figures::default());
        self.parent.len() as u32 - 1
    }

    fn child(&mut self, parent: u32, name: u32) -> u32 {
        if let Some(&child) = self.children.get(&(parent, name)) {
            return child;
        }
        let child = self.push(parent, name);
        self.children.insert((parent, name), child);
        child
    }

    /// Which nodes to keep, and how many these are, when `share` of any figure is enough. A
    /// node holds its children's figures, so the parents of kept nodes are kept.
    fn kept(&self, share: f64) -> (Vec<bool>, usize) {
        let whole = self.figures[0];
        let is_large = |figures: &Figures| {
            figures
                .iter()
                .zip(whole)
                .any(|(&part, whole)| whole > 0 && part > 0 && part as f64 >= share * whole as f64)
        };
        let mut kept: Vec<bool> = self.figures.iter().map(is_large).collect();
        kept[0] = true;
        let count = kept.iter().filter(|&&kept| kept).count();
        (kept, count)
    }
}

impl Flame {
    /// The tree of all stacks of `analysis`, at most 50,000 nodes.
    pub fn new(analysis: &Analysis) -> Self {
        let stacks = &analysis.stacks;
        let mut names: Vec<String> = vec![ROOT_NAME.into()];
        let mut number_of: FxHashMap<NameId, u32> = FxHashMap::default();
        let mut special: FxHashMap<&'static str, u32> = FxHashMap::default();
        let mut tree = Tree::default();
        tree.push(0, 0);
        let mut path: Vec<NameId> = Vec::new();
        for (index, totals) in analysis.stack_totals.iter().enumerate() {
            if totals.allocs == 0 {
                continue;
            }
            let stack = StackId(index as u32);
            path.clear();
            path.extend(stacks.frames(stack).map(|frame| frame.name));
            let mut node = 0;
            let is_truncated = stacks.tree.leaf(stack).truncated;
            let mark = match path.is_empty() {
                true => Some(UNKNOWN_NAME),
                false => is_truncated.then_some(CUT_OFF_NAME),
            };
            if let Some(mark) = mark {
                let name = *special.entry(mark).or_insert_with(|| {
                    names.push(mark.into());
                    names.len() as u32 - 1
                });
                node = tree.child(node, name);
            }
            for &name in path.iter().rev() {
                let name = *number_of.entry(name).or_insert_with(|| {
                    names.push(stacks.name(name).into());
                    names.len() as u32 - 1
                });
                node = tree.child(node, name);
            }
            let own = figures(totals);
            add(&mut tree.figures[node as usize], own);
        }
        for node in (1..tree.parent.len()).rev() {
            let below = tree.figures[node];
            add(&mut tree.figures[tree.parent[node] as usize], below);
        }
        Self::pruned(&tree, &names)
    }

    fn pruned(tree: &Tree, names: &[String]) -> Self {
        let mut share = SHARE_MIN;
        let (mut kept, mut count) = tree.kept(share);
        while count > NODES_MAX && share < 1.0 {
            share *= 2.0;
            (kept, count) = tree.kept(share);
        }
        let mut flame = Self::default();
        let mut new_node = vec![0u32; tree.parent.len()];
        let mut new_name = vec![u32::MAX; names.len()];
        let mut left_out = 0u64;
        for node in 0..tree.parent.len() {
            let parent = tree.parent[node] as usize;
            let [bytes, count, peak, temporary] = tree.figures[node];
            if !kept[node] {
                left_out = left_out.saturating_add(if kept[parent] { bytes } else { 0 });
                continue;
            }
            new_node[node] = flame.parent.len() as u32;
            let name = tree.name[node] as usize;
            if new_name[name] == u32::MAX {
                new_name[name] = flame.names.len() as u32;
                flame.names.push(names[name].clone());
            }
            flame.parent.push(new_node[parent]);
            flame.name.push(new_name[name]);
            flame.bytes.push(bytes);
            flame.count.push(count);
            flame.peak.push(peak);
            flame.temporary.push(temporary);
        }
        let whole = tree.figures[0][0];
        flame.pruned_share = if whole == 0 { 0.0 } else { left_out as f64 / whole as f64 };
        flame
    }
}

fn figures(totals: &StackTotals) -> Figures {
    [totals.bytes, totals.allocs, totals.peak_bytes, totals.temporaries]
}

fn add(sum: &mut Figures, more: Figures) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(more));
}
