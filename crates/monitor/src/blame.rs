//! Which call sites hold memory, and which keep free memory from going back to the kernel.

use std::collections::HashMap;
use std::path::PathBuf;

use heapwright_advise::{is_allocation_wrapper, is_toolchain_source};
use heapwright_symbols::{AddressTable, Symbolizer};
use serde::Serialize;

use crate::estimate::{Estimate, Interval};
use crate::raw_profile::RawProfile;

/// Functions of our own and of the language's way to us, by how their names begin.
const OURS: [&str; 10] = [
    "heapwright_",
    "<heapwright_",
    "heapwright::",
    "<heapwright::",
    "__rust_",
    "__rustc",
    "__rdl_",
    "<heapwright_malloc",
    "alloc::alloc::",
    "<alloc::alloc::",
];

/// What a small block can keep from going back, and its own bytes, are at most this, as a rule.
const PAGE_BYTES: u64 = 4096;

/// One call site. Bytes; estimates with 95 % intervals.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SiteBlame {
    /// The function that wanted the memory: the innermost one that is no allocation wrapper.
    pub function: String,
    /// Its source file; empty when unknown.
    pub file: String,
    /// The line; 0 when unknown.
    pub line: u32,
    /// Functions from there outward.
    pub stack: Vec<String>,
    /// Usable bytes of its live blocks.
    pub live_bytes: f64,
    /// Interval of that.
    pub live_interval: Interval,
    /// Its live blocks.
    pub live_blocks: f64,
    /// Usable bytes of all its blocks since sampling began.
    pub allocated_bytes: f64,
    /// Free bytes that its live blocks keep from going back: each page's free bytes are split
    /// among the blocks alive on it by live bytes, so that all sites' add up to the total.
    pub pinned_bytes: f64,
    /// Interval of that.
    pub pinned_interval: Interval,
    /// Bytes of pages on which one block of this site lives and nothing else: a lower bound of
    /// what its blocks' end alone would free.
    pub releasable_bytes: f64,
    /// Samples of it that live.
    pub samples: u64,
}

/// All call sites, those that pin most first.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Blame {
    /// The sites.
    pub sites: Vec<SiteBlame>,
    /// Free bytes on pages with live small blocks; exact, in all.
    pub pinned_bytes: u64,
    /// The same as the samples say.
    pub pinned_estimate: f64,
    /// Interval of the estimate.
    pub pinned_interval: Interval,
    /// Live usable bytes as the samples say (of blocks made since sampling began).
    pub live_estimate: f64,
    /// Interval of that.
    pub live_interval: Interval,
}

#[derive(Default)]
struct Sums {
    live: Estimate,
    blocks: f64,
    allocated: f64,
    pinned: Estimate,
    releasable: f64,
    samples: u64,
}

impl Sums {
    fn merge(&mut self, other: &Self) {
        self.live.merge(&other.live);
        self.pinned.merge(&other.pinned);
        self.blocks += other.blocks;
        self.allocated += other.allocated;
        self.releasable += other.releasable;
        self.samples += other.samples;
    }
}

/// A profile with the names of its addresses.
pub(crate) struct Named {
    pub(crate) table: AddressTable,
    /// For each stack the inputs of its addresses in the table, without our own frames.
    pub(crate) stacks: Vec<Vec<usize>>,
}

impl Named {
    pub(crate) fn new(profile: &RawProfile, debug_roots: Option<Vec<PathBuf>>) -> Self {
        let mut symbolizer = debug_roots.map_or_else(Symbolizer::new, Symbolizer::with_debug_roots);
        let addresses = profile.stacks.iter().flatten().map(|address| (*address, 0));
        let table = symbolizer.resolve(&profile.modules, addresses);
        let mut next = 0;
        let mut stacks = Vec::with_capacity(profile.stacks.len());
        for stack in &profile.stacks {
            let inputs: Vec<usize> = (next..next + stack.len()).collect();
            next += stack.len();
            let last_of_ours = inputs.iter().rposition(|input| is_ours(&table, *input));
            stacks.push(inputs[last_of_ours.map_or(0, |at| at + 1)..].to_vec());
        }
        Self { table, stacks }
    }
}

fn is_ours(table: &AddressTable, input: usize) -> bool {
    let place = table.place(input);
    let module = table.module_of(place).map_or("", |module| module.name.as_ref());
    if module.starts_with("libheapwright_") {
        return true;
    }
    // All of what is inlined at the address: a program's function with our code inlined into it
    // is the program's.
    !place.frames.is_empty()
        && (0..place.frames.len()).all(|frame| {
            let label = table.label(place, frame);
            OURS.iter().any(|front| label.starts_with(front))
        })
}

impl Blame {
    /// Of `profile`; symbols are looked up in the modules' files, and in `debug_roots` (none: the
    /// usual place).
    pub fn new(profile: &RawProfile, debug_roots: Option<Vec<PathBuf>>) -> Self {
        let named = Named::new(profile, debug_roots);
        let mut of_stack: Vec<Sums> = (0..profile.stacks.len()).map(|_| Sums::default()).collect();
        for site in &profile.sites {
            let sums = &mut of_stack[site.stack];
            // Blocks of this size were made; one that lives alone on its page may have been missed.
            sums.live.allow_for(site.usable_bytes as f64, site.probability());
            let page_rest = PAGE_BYTES - site.usable_bytes % PAGE_BYTES;
            sums.pinned.allow_for(page_rest as f64, site.probability());
            sums.allocated += site.taken as f64 * site.usable_bytes as f64 / site.probability();
        }
        for sample in &profile.live {
            let site = &profile.sites[sample.site];
            let probability = site.probability();
            let sums = &mut of_stack[site.stack];
            sums.live.add(site.usable_bytes as f64, probability);
            sums.pinned.add(sample.pinned_bytes, probability);
            sums.blocks += 1.0 / probability;
            sums.releasable += sample.sole_bytes as f64 / probability;
            sums.samples += 1;
        }
        let mut places: HashMap<(String, String, u32), (Sums, usize)> = HashMap::new();
        for (stack, sums) in of_stack.iter().enumerate() {
            let key = site_of(&named, stack);
            let entry = places.entry(key).or_insert_with(|| (Sums::default(), stack));
            if sums.pinned.value > entry.0.pinned.value {
                // The stack shown is the one that pins most.
                entry.1 = stack;
            }
            entry.0.merge(sums);
        }
        let mut all = Sums::default();
        let mut sites = Vec::new();
        for ((function, file, line), (sums, stack)) in places {
            all.merge(&sums);
            let pinned_interval = sums.pinned.interval();
            sites.push(SiteBlame {
                function,
                file,
                line,
                stack: labels(&named, stack),
                live_bytes: sums.live.value,
                live_interval: sums.live.interval(),
                live_blocks: sums.blocks,
                allocated_bytes: sums.allocated,
                pinned_bytes: sums.pinned.value,
                pinned_interval,
                releasable_bytes: sums.releasable,
                samples: sums.samples,
            });
        }
        for site in &mut sites {
            let total = profile.pinned_bytes as f64;
            site.pinned_interval = site.pinned_interval.within(total, all.pinned.value);
        }
        sites.sort_by(|left, right| {
            let key = |site: &SiteBlame| (site.pinned_bytes, site.live_bytes, site.allocated_bytes);
            key(right).partial_cmp(&key(left)).unwrap_or(std::cmp::Ordering::Equal)
        });
        Self {
            sites,
            pinned_bytes: profile.pinned_bytes,
            pinned_estimate: all.pinned.value,
            pinned_interval: all.pinned.interval(),
            live_estimate: all.live.value,
            live_interval: all.live.interval(),
        }
    }
}

/// Function, file and line of the frame that a stack's memory is for.
fn site_of(named: &Named, stack: usize) -> (String, String, u32) {
    let mut fallback = None;
    for input in &named.stacks[stack] {
        let place = named.table.place(*input);
        for (index, frame) in place.frames.iter().enumerate() {
            let label = named.table.label(place, index);
            let found = (label, frame.file.to_string(), frame.line);
            if !is_allocation_wrapper(&found.0) && !is_toolchain_source(&found.1) {
                return found;
            }
            fallback.get_or_insert(found);
        }
    }
    fallback.unwrap_or_else(|| ("(unknown)".to_owned(), String::new(), 0))
}

fn labels(named: &Named, stack: usize) -> Vec<String> {
    let mut labels = Vec::new();
    for input in &named.stacks[stack] {
        let place = named.table.place(*input);
        labels.extend((0..place.frames.len()).map(|frame| named.table.label(place, frame)));
    }
    labels
}
