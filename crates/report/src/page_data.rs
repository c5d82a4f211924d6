//! What the page reads: the report with every string, stack frame and call site written once.
//!
//! `advice.json` repeats the frames of each stack in full: 5,000 sites of 30 frames are some
//! 20 MB of text, and the lists of leaks and temporaries repeat whole sites. Here a stack is a
//! list of numbers, and the other lists point into the sites.
//!
//! # Invariants
//! - P1: every index written is below the length of the column it points into.
//! - P2: a flame node's parent has a smaller index (the root is its own), and the columns
//!   of the flame graph have one length. Input that breaks this is repaired or cut.
//! - P3: every text has been through [`clean`].
//! - P4: `sites[..listed]` are the advice's sites in their order; the rest are only pointed at.

use crate::text::{clean, clean_in_place};
use heapwright_advise::schema::{
    Advice, AllocatorRow, Blame, Flame, HistogramBar, Predicted, ProcessInfo, ReportData, Site,
    Sizes, StackFrame,
};
use serde::Serialize;
use std::collections::HashMap;

/// Most sites on a page. The page stays quick with more, but the file would outgrow its bound;
/// it says how many were left out.
const SITES_MAX: usize = 10_000;
/// Deepest stack kept for a site; runaway recursion says nothing new below.
const STACK_FRAMES_MAX: usize = 200;
/// Most nodes of the flame graph; the writer prunes to fewer.
const FLAME_NODES_MAX: usize = 60_000;

/// The whole of the page's data.
#[derive(Serialize)]
pub(crate) struct PageData<'a> {
    advice: Advice,
    strings: Vec<String>,
    frames: FrameColumns,
    sites: Vec<PageSite>,
    listed: usize,
    sites_total: usize,
    leaks: Vec<usize>,
    temporaries: Vec<usize>,
    blame: Vec<PageBlame>,
    flame: Flame,
    size_histogram: &'a [HistogramBar],
    lifetime_histogram: &'a [HistogramBar],
}

/// Stack frames as columns; texts are indices into `strings`.
#[derive(Default, Serialize)]
struct FrameColumns {
    module: Vec<u32>,
    build_id: Vec<u32>,
    /// Hexadecimal, since a script's numbers end at 2^53.
    offset: Vec<String>,
    function: Vec<u32>,
    file: Vec<u32>,
    line: Vec<u32>,
}

/// A [`Site`] whose texts and frames are indices.
#[derive(Serialize)]
struct PageSite {
    id: u32,
    function: u32,
    file: u32,
    line: u32,
    stack: Vec<u32>,
    allocs: u64,
    bytes: u64,
    sizes: Sizes,
    threads: u32,
    same_thread_share: f64,
    live_at_peak_bytes: u64,
    live_at_end_bytes: u64,
    live_at_end_blocks: u64,
    lifetime_median_bytes: u64,
    temporary_share: f64,
    lifo_share: f64,
    batch_share: f64,
    realloc_share: f64,
    kind: u32,
    recommend: u32,
    why: u32,
    proof: u32,
    predicted: Option<Predicted>,
}

/// A [`Blame`] whose site is an index.
#[derive(Serialize)]
struct PageBlame {
    site: usize,
    live_bytes: u64,
    pinned_bytes: u64,
    releasable_bytes: u64,
}

impl<'a> PageData<'a> {
    /// Packs a report. O(its size); copies each different text once.
    pub(crate) fn new(data: &'a ReportData) -> Self {
        let mut packer = Packer::default();
        for site in data.advice.sites.iter().take(SITES_MAX) {
            let packed = packer.pack(site);
            packer.by_id.entry(site.id).or_insert(packer.sites.len());
            packer.sites.push(packed);
        }
        let listed = packer.sites.len();
        let mut point = |sites: &'a [Site]| -> Vec<usize> {
            sites.iter().take(SITES_MAX).map(|site| packer.index(site)).collect()
        };
        let leaks = point(&data.advice.leaks);
        let temporaries = point(&data.advice.temporaries);
        let blame = data.advice.fragmentation_blame.iter().take(SITES_MAX);
        let blame = blame.map(|blame| packer.blame(blame)).collect();
        Self {
            advice: without_sites(&data.advice),
            strings: packer.strings,
            frames: packer.frames,
            sites: packer.sites,
            listed,
            sites_total: data.advice.sites.len(),
            leaks,
            temporaries,
            blame,
            flame: sound_flame(&data.flame),
            size_histogram: &data.size_histogram,
            lifetime_histogram: &data.lifetime_histogram,
        }
    }
}

/// Gives every text, frame and site its index.
#[derive(Default)]
struct Packer<'a> {
    strings: Vec<String>,
    string_index: HashMap<&'a str, u32>,
    frames: FrameColumns,
    frame_index: HashMap<&'a StackFrame, u32>,
    sites: Vec<PageSite>,
    by_id: HashMap<u32, usize>,
}

impl<'a> Packer<'a> {
    fn text(&mut self, text: &'a str) -> u32 {
        let strings = &mut self.strings;
        *self.string_index.entry(text).or_insert_with(|| {
            strings.push(clean(text).into_owned());
            strings.len() as u32 - 1
        })
    }

    fn frame(&mut self, frame: &'a StackFrame) -> u32 {
        if let Some(&index) = self.frame_index.get(frame) {
            return index;
        }
        let index = self.frames.line.len() as u32;
        self.frame_index.insert(frame, index);
        let [module, build_id, function, file] =
            [&frame.module, &frame.build_id, &frame.function, &frame.file].map(|t| self.text(t));
        self.frames.module.push(module);
        self.frames.build_id.push(build_id);
        self.frames.offset.push(format!("{:x}", frame.offset));
        self.frames.function.push(function);
        self.frames.file.push(file);
        self.frames.line.push(frame.line);
        index
    }

    fn pack(&mut self, site: &'a Site) -> PageSite {
        PageSite {
            id: site.id,
            function: self.text(&site.function),
            file: self.text(&site.file),
            line: site.line,
            stack: site.stack.iter().take(STACK_FRAMES_MAX).map(|f| self.frame(f)).collect(),
            allocs: site.allocs,
            bytes: site.bytes,
            sizes: site.sizes,
            threads: site.threads,
            same_thread_share: site.same_thread_share,
            live_at_peak_bytes: site.live_at_peak_bytes,
            live_at_end_bytes: site.live_at_end_bytes,
            live_at_end_blocks: site.live_at_end_blocks,
            lifetime_median_bytes: site.lifetime_median_bytes,
            temporary_share: site.temporary_share,
            lifo_share: site.lifo_share,
            batch_share: site.batch_share,
            realloc_share: site.realloc_share,
            kind: self.text(&site.kind),
            recommend: self.text(&site.recommend),
            why: self.text(&site.why),
            proof: self.text(&site.proof),
            predicted: site.predicted.clone(),
        }
    }

    /// Where a site stands; one that the list of sites lacks is added behind it. Ids alone are
    /// not believed, since a hand-made file may have them all nought.
    fn index(&mut self, site: &'a Site) -> usize {
        let function = self.text(&site.function);
        if let Some(&index) = self.by_id.get(&site.id) {
            let known = &self.sites[index];
            let same = known.function == function
                && (known.line, known.bytes, known.allocs) == (site.line, site.bytes, site.allocs);
            if same {
                return index;
            }
        }
        let packed = self.pack(site);
        self.sites.push(packed);
        self.sites.len() - 1
    }

    fn blame(&mut self, blame: &'a Blame) -> PageBlame {
        PageBlame {
            site: self.index(&blame.site),
            live_bytes: blame.live_bytes,
            pinned_bytes: blame.pinned_bytes,
            releasable_bytes: blame.releasable_bytes,
        }
    }
}

/// The advice without its lists of sites, its texts cleaned.
fn without_sites(advice: &Advice) -> Advice {
    let mut rest = Advice {
        schema: advice.schema,
        heapwright_version: advice.heapwright_version.clone(),
        machine: advice.machine.clone(),
        command: advice.command.clone(),
        exit_status: advice.exit_status,
        overhead: advice.overhead.clone(),
        processes: advice.processes.clone(),
        recording: advice.recording.clone(),
        allocators: advice.allocators.clone(),
        verdict: advice.verdict.clone(),
        fragmentation: advice.fragmentation.clone(),
        notes: advice.notes.clone(),
        ..Advice::default()
    };
    let machine = &mut rest.machine;
    let verdict = &mut rest.verdict;
    [&mut rest.heapwright_version, &mut rest.overhead.method]
        .into_iter()
        .chain([&mut machine.cpu, &mut machine.kernel, &mut machine.libc])
        .chain([&mut machine.architecture, &mut verdict.allocator, &mut verdict.reason])
        .chain([&mut verdict.confidence, &mut verdict.confirmed_by])
        .chain(&mut rest.command)
        .chain(&mut rest.notes)
        .chain(rest.processes.iter_mut().flat_map(process_texts))
        .chain(rest.fragmentation.iter_mut().flat_map(|all| [&mut all.allocator, &mut all.moment]))
        .chain(rest.allocators.iter_mut().flat_map(allocator_texts))
        .for_each(clean_in_place);
    rest
}

fn process_texts(process: &mut ProcessInfo) -> [&mut String; 2] {
    [&mut process.exe, &mut process.name]
}

fn allocator_texts(row: &mut AllocatorRow) -> [&mut String; 4] {
    [&mut row.name, &mut row.version, &mut row.origin, &mut row.failure]
}

/// The flame graph with invariant P2 enforced and its names cleaned.
fn sound_flame(flame: &Flame) -> Flame {
    let columns = [&flame.bytes, &flame.count, &flame.peak, &flame.temporary];
    let node_count = columns
        .iter()
        .map(|column| column.len())
        .chain([flame.parent.len(), flame.name.len(), FLAME_NODES_MAX])
        .min()
        .unwrap_or(0);
    let parents = flame.parent.iter().take(node_count).enumerate();
    let name_last = flame.names.len().saturating_sub(1) as u32;
    Flame {
        names: flame.names.iter().map(|name| clean(name).into_owned()).collect(),
        parent: parents
            .map(|(node, &parent)| if (parent as usize) < node { parent } else { 0 })
            .collect(),
        name: flame.name.iter().take(node_count).map(|&name| name.min(name_last)).collect(),
        bytes: flame.bytes[..node_count].to_vec(),
        count: flame.count[..node_count].to_vec(),
        peak: flame.peak[..node_count].to_vec(),
        temporary: flame.temporary[..node_count].to_vec(),
        pruned_share: flame.pruned_share,
    }
}

#[cfg(test)]
mod tests {
    use super::{PageData, sound_flame};
    use heapwright_advise::schema::{Flame, ReportData, Site, StackFrame};

    fn site(id: u32, function: &str) -> Site {
        let frame = StackFrame { function: "main".into(), line: 3, ..StackFrame::default() };
        let own = StackFrame { function: function.into(), ..StackFrame::default() };
        Site { id, function: function.into(), stack: vec![own, frame], ..Site::default() }
    }

    #[test]
    fn frames_and_sites_are_written_once() {
        let mut data = ReportData::default();
        data.advice.sites = vec![site(1, "a"), site(2, "b")];
        data.advice.leaks = vec![site(2, "b"), site(9, "only leaks")];
        let page = PageData::new(&data);
        assert_eq!(page.frames.line, [0, 3, 0, 0]);
        assert_eq!(page.leaks, [1, 2]);
        assert_eq!((page.listed, page.sites.len()), (2, 3));
        assert_eq!(page.sites[0].stack[1], page.sites[1].stack[1]);
    }

    #[test]
    fn equal_ids_of_different_sites_are_told_apart() {
        let mut data = ReportData::default();
        data.advice.sites = vec![site(0, "a"), site(0, "b")];
        data.advice.temporaries = vec![site(0, "c")];
        let page = PageData::new(&data);
        assert_eq!(page.temporaries, [2]);
    }

    #[test]
    fn a_broken_flame_graph_is_repaired() {
        let flame = Flame {
            names: vec!["root".into(), "x".into()],
            parent: vec![0, 5, 1, 1],
            name: vec![0, 1, 77, 1],
            bytes: vec![9, 9, 9],
            count: vec![9; 4],
            peak: vec![9; 4],
            temporary: vec![9; 4],
            pruned_share: 0.0,
        };
        let sound = sound_flame(&flame);
        assert_eq!(sound.parent, [0, 0, 1]);
        assert_eq!(sound.name, [0, 1, 1]);
        assert_eq!(sound.count.len(), 3);
    }
}
