//! From stacks to call sites.
//!
//! Stacks with the same call (innermost function that is no wrapper, and line) are one group.
//! A group whose blocks differ in size or lifetime is split by the next caller for as long as
//! that makes the blocks of each part more alike: so a wrapper with a private name ends up as
//! one site for each of its callers.

use std::cmp::Reverse;

use heapwright_format::stacks::StackId;
use rustc_hash::FxHashMap;

use crate::names::{FrameRef, NameId, NamedStacks};
use crate::survey::{Moments, StackSurvey};

/// A group with fewer blocks is not split: its spread says too little.
const SPLIT_BLOCKS_MIN: f64 = 1000.0;
/// Squared octaves a block of spread below which blocks are alike (a factor of 1.6 or so).
const ALIKE_SPREAD: f64 = 0.5;
/// A split must leave at most this share of the spread.
const SPLIT_SPREAD_SHARE_MAX: f64 = 0.7;
/// Callers looked at, from the call outwards.
const SPLIT_DEPTH_MAX: usize = 12;
/// Parts of one split; the callers with fewest blocks stay together.
const SPLIT_PARTS_MAX: usize = 32;

/// A call site: a set of stacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SiteStacks {
    /// The stack with most bytes stands for all.
    pub(crate) main_stack: StackId,
    /// Which function of it names the site, counted from the innermost.
    pub(crate) frame: usize,
}

/// All call sites, and to which each stack belongs.
#[derive(Debug, Default)]
pub(crate) struct Grouping {
    pub(crate) sites: Vec<SiteStacks>,
    /// For each stack the index of its site; [`NO_SITE`] for stacks that allocate nothing.
    pub(crate) site_of_stack: Vec<u32>,
}

/// No site.
pub(crate) const NO_SITE: u32 = u32::MAX;

/// The call of a stack, and the functions around it.
struct Path {
    stack: StackId,
    /// Functions inside the call: wrappers.
    skipped: usize,
    /// The call's function, then its callers, outwards.
    names: Vec<NameId>,
    bytes: f64,
    moments: Moments,
}

/// The same call: function, and line or (without lines) address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Call {
    Unknown,
    Line(NameId, u32),
    Address(NameId, u64),
}

impl Grouping {
    /// Sites of the stacks that `survey` has allocations for. Deterministic.
    pub(crate) fn new(stacks: &NamedStacks, survey: &[StackSurvey]) -> Self {
        let mut groups: FxHashMap<Call, Vec<Path>> = FxHashMap::default();
        for (index, of_stack) in survey.iter().enumerate().filter(|(_, stack)| stack.allocs > 0.0) {
            let (call, path) = path_of(stacks, StackId(index as u32), of_stack);
            groups.entry(call).or_default().push(path);
        }
        let mut groups: Vec<(Call, Vec<Path>)> = groups.into_iter().collect();
        groups.sort_by_key(|(call, _)| *call);
        let mut grouping =
            Self { sites: Vec::new(), site_of_stack: vec![NO_SITE; stacks.tree.len()] };
        for (_, paths) in groups {
            grouping.split(stacks, paths, 0, 1);
        }
        grouping
    }

    /// Splits `paths`, which agree on their first `depth` functions, or makes them a site named
    /// by function number `named` of the path.
    fn split(&mut self, stacks: &NamedStacks, paths: Vec<Path>, named: usize, depth: usize) {
        let mut whole = Moments::default();
        paths.iter().for_each(|path| whole.merge(&path.moments));
        let alike = whole.spread() <= ALIKE_SPREAD * whole.blocks;
        if paths.len() < 2 || whole.blocks < SPLIT_BLOCKS_MIN || alike {
            return self.enter(&paths, named);
        }
        // Outwards to the first function on which the paths differ.
        let caller = |path: &Path, depth: usize| path.names.get(depth).copied();
        let differ = (depth..SPLIT_DEPTH_MAX).find(|&depth| {
            let first = caller(&paths[0], depth);
            paths.iter().any(|path| caller(path, depth) != first)
        });
        let Some(depth) = differ else { return self.enter(&paths, named) };
        // Which thread it was says nothing of the call: the program's entry is nobody's wrapper.
        let is_entry = |path: &Path| caller(path, depth).is_none_or(|name| stacks.is_entry(name));
        if paths.iter().all(is_entry) {
            return self.enter(&paths, named);
        }
        let mut parts: FxHashMap<Option<NameId>, Moments> = FxHashMap::default();
        for path in &paths {
            parts.entry(caller(path, depth)).or_default().merge(&path.moments);
        }
        let mut parts: Vec<(Option<NameId>, Moments)> = parts.into_iter().collect();
        let text = |name: Option<NameId>| name.map_or("", |name| stacks.name(name));
        parts.sort_by(|a, b| {
            b.1.blocks.total_cmp(&a.1.blocks).then_with(|| text(a.0).cmp(text(b.0)))
        });
        let rest_start = parts.len().min(SPLIT_PARTS_MAX - 1);
        let mut rest = Moments::default();
        parts[rest_start..].iter().for_each(|part| rest.merge(&part.1));
        let left: f64 =
            parts[..rest_start].iter().map(|part| part.1.spread()).sum::<f64>() + rest.spread();
        // Per degree of freedom: many small parts are alike by chance alone.
        let count = (rest_start + usize::from(rest.blocks > 0.0)) as f64;
        let left_share = (left / (whole.blocks - count).max(1.0))
            / (whole.spread() / (whole.blocks - 1.0).max(1.0));
        if left_share > SPLIT_SPREAD_SHARE_MAX {
            return self.enter(&paths, named);
        }
        let part_of: FxHashMap<Option<NameId>, usize> =
            parts[..rest_start].iter().enumerate().map(|(part, &(name, _))| (name, part)).collect();
        let mut split: Vec<Vec<Path>> = Vec::new();
        split.resize_with(rest_start + 1, Vec::new);
        for path in paths {
            let part = part_of.get(&caller(&path, depth)).copied().unwrap_or(rest_start);
            split[part].push(path);
        }
        let rest = split.pop().unwrap_or_default();
        for part in split {
            self.split(stacks, part, depth, depth + 1);
        }
        if !rest.is_empty() {
            // Callers differ here: the last function that they share names them.
            self.enter(&rest, depth - 1);
        }
    }

    fn enter(&mut self, paths: &[Path], named: usize) {
        let best = paths.iter().max_by(|a, b| {
            a.bytes.total_cmp(&b.bytes).then_with(|| Reverse(a.stack).cmp(&Reverse(b.stack)))
        });
        let Some(best) = best else { return };
        let named = named.min(best.names.len().saturating_sub(1));
        let site = self.sites.len() as u32;
        self.sites.push(SiteStacks { main_stack: best.stack, frame: best.skipped + named });
        for path in paths {
            self.site_of_stack[path.stack.0 as usize] = site;
        }
    }
}

fn path_of(stacks: &NamedStacks, stack: StackId, survey: &StackSurvey) -> (Call, Path) {
    let frame_count = stacks.frames(stack).count();
    // Wrappers all the way: the outermost is nearest to the program.
    let skipped = stacks.wrapper_count(stack).min(frame_count.saturating_sub(1));
    let mut outwards = stacks.frames(stack).skip(skipped).peekable();
    let call: Option<FrameRef<'_>> = outwards.peek().copied();
    let names = outwards.map(|frame| frame.name).take(SPLIT_DEPTH_MAX).collect();
    let key = match call {
        None => Call::Unknown,
        Some(call) if call.frame.line > 0 => Call::Line(call.name, call.frame.line),
        Some(call) => Call::Address(call.name, call.place.offset),
    };
    (key, Path { stack, skipped, names, bytes: survey.bytes, moments: survey.moments })
}
