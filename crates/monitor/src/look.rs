//! One look at a process: everything that views, metrics and thresholds show.

use std::time::Duration;

use heapwright_core::live_page::{Cell, Figures};
use heapwright_core::merge_state::MergeState;
use heapwright_os::monotonic_ns;
use serde::Serialize;

use crate::page::Snapshot;
use crate::residence::Residence;
use crate::{MonitorError, Request, Watched};

/// Fresh figures are waited for so long; a process that is idle shows its last ones.
const PATIENCE: Duration = Duration::from_millis(60);

/// How figures change, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Bytes handed out, to the program and to its threads' lists.
    pub allocated_bytes: f64,
    /// Growth of live bytes.
    pub live_growth_bytes: f64,
    /// Growth of resident bytes.
    pub resident_growth_bytes: f64,
    /// Bytes given back to the kernel.
    pub purged_bytes: f64,
}

/// A size class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ClassLook {
    /// Bytes of a slot.
    pub slot_bytes: u64,
    /// Bytes of its spans.
    pub span_bytes: u64,
    /// Bytes of slots in use.
    pub used_bytes: u64,
    /// Bytes of free slots.
    pub free_bytes: u64,
    /// 1 − used / spans.
    pub external_fragmentation: f64,
}

/// A heap: a thread's, a zone, or the spans of no thread.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HeapLook {
    /// `thread`, `zone` or `shared`.
    pub kind: &'static str,
    /// What tells it from others of its kind.
    pub number: u64,
    /// The tag that the program gave it; empty for none.
    pub name: String,
    /// Bytes of its spans.
    pub span_bytes: u64,
    /// Of these, in use.
    pub used_bytes: u64,
    /// Bytes of its large blocks, which have no spans.
    pub large_bytes: u64,
    /// What it may hold; none without a limit.
    pub limit: Option<u64>,
    /// 1 − used / spans.
    pub external_fragmentation: f64,
}

impl HeapLook {
    /// What a view calls it: its name, else its kind and number.
    pub fn label(&self) -> String {
        match (self.name.as_str(), self.kind) {
            ("", "shared") => "no thread".to_owned(),
            ("", kind) => format!("{kind} {:x}", self.number),
            (name, _) => name.to_owned(),
        }
    }
}

/// A NUMA node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct NodeLook {
    /// Its number; 0 where there is one.
    pub node: u64,
    /// Bytes of spans of small blocks.
    pub span_bytes: u64,
    /// Of these, in use.
    pub used_bytes: u64,
    /// Bytes of large blocks.
    pub large_bytes: u64,
    /// Bytes of free runs, given back or not.
    pub free_bytes: u64,
    /// 1 − (used + large) / (spans + large + free runs).
    pub external_fragmentation: f64,
}

/// A process at one moment. Bytes unless the name says otherwise; fields are only added.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Look {
    /// Of this object: 1.
    pub schema: u32,
    /// The process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// How old the figures are, in seconds: a process that does not allocate writes none.
    pub age_s: f64,
    /// How often the process has written them.
    pub write_count: u64,
    /// What writing them took last, in seconds.
    pub write_cost_s: f64,
    /// Usable bytes of blocks in use, those in threads' lists included.
    pub live: u64,
    /// Resident bytes of the process (the kernel's proportional set size).
    pub resident: u64,
    /// Of these, the allocator's region.
    pub resident_of_allocator: u64,
    /// Resident and free.
    pub retained: u64,
    /// Addresses between the first and the last slice ever used.
    pub committed: u64,
    /// 1 − live / committed.
    pub external_fragmentation: f64,
    /// `resident_of_allocator` / live; 0 when nothing is live.
    pub resident_over_live: f64,
    /// The longest run that an allocation can have without more memory.
    pub largest_free: u64,
    /// What is free under the limit; none without a limit.
    pub headroom: Option<u64>,
    /// What each resident byte is for.
    pub residence: Residence,
    /// Per second since the look before; zero at the first.
    pub rates: Rates,
    /// Blocks over 32 KiB.
    pub large_count: u64,
    /// Bytes given back to the kernel since the start.
    pub purged: u64,
    /// Whether pages are merged, and if not why; empty in modes that do not merge.
    pub merge_state: &'static str,
    /// Pages freed by merging since the start; 0 in modes that do not merge.
    pub merged_pages: u64,
    /// Windows of 16 KiB that share pages now.
    pub merged_windows: u64,
    /// Windows that the kernel refused to merge.
    pub merge_refused: u64,
    /// CPU seconds spent on merging.
    pub merge_cpu_s: f64,
    /// The longest time a window was away, in seconds.
    pub merge_step_s_max: f64,
    /// Threads that have a heap.
    pub threads: u64,
    /// Mappings, as far as the process counts them.
    pub mappings: u64,
    /// Mean bytes between samples of the profile; 0 when it is off.
    pub profile_rate: u64,
    /// Samples taken, alive and lost.
    pub samples: [u64; 3],
    /// Classes with spans, largest spans first.
    pub classes: Vec<ClassLook>,
    /// Heaps with spans, largest first.
    pub heaps: Vec<HeapLook>,
    /// NUMA nodes, in order; one where there is one.
    pub nodes: Vec<NodeLook>,
    /// Slices that a cell of `map` stands for.
    pub slices_per_cell: u64,
    /// The heap in order of address, a letter a cell: `.` given back, `_` free, `#` large, and
    /// for small blocks how full it is from `0` to `9`.
    pub map: String,
    /// The kernel refused to say what is resident; the reason.
    pub residence_problem: String,
    /// When this was read, on the machine's monotonic clock.
    #[serde(skip)]
    pub read_ns: u64,
    /// The page's own figures.
    #[serde(skip)]
    pub handed: u64,
}

impl Look {
    /// Looks at `watched`; `before` is the look before this one, for the rates. Asks the process
    /// for fresh figures and waits 60 ms for them; then some 10 ms a GB of heap.
    ///
    /// # Errors
    /// [`MonitorError::Exited`], [`MonitorError::Damaged`], [`MonitorError::Io`].
    pub fn at(watched: &Watched, before: Option<&Self>) -> Result<Self, MonitorError> {
        match watched.ask(Request::Figures, PATIENCE) {
            Ok(()) | Err(MonitorError::Silent { .. }) => {}
            Err(error) => return Err(error),
        }
        let page = watched.read()?;
        let (residence, residence_problem) = match Residence::of(watched, &page) {
            Ok(residence) => (residence, String::new()),
            Err(MonitorError::Io { path, error }) => {
                (Residence::default(), format!("{}: {error}", path.display()))
            }
            Err(error) => return Err(error),
        };
        let mut look = Self::of(&page, residence);
        look.pid = watched.pid();
        look.name = watched.name().to_owned();
        look.residence_problem = residence_problem;
        if let Some(before) = before {
            look.rates = Rates::between(before, &look);
        }
        Ok(look)
    }

    fn of(page: &Snapshot, residence: Residence) -> Self {
        let Figures { live_bytes: live, committed_bytes: committed, .. } = page.figures;
        let figures = &page.figures;
        let read_ns = monotonic_ns();
        let share = |part: u64, whole: u64| {
            if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
        };
        let has_limit = figures.limit_bytes != usize::MAX as u64;
        let mut classes: Vec<ClassLook> = page
            .classes
            .iter()
            .map(|class| ClassLook {
                slot_bytes: class.slot_bytes,
                span_bytes: class.span_bytes,
                used_bytes: class.used_slots * class.slot_bytes,
                free_bytes: class.slot_count.saturating_sub(class.used_slots) * class.slot_bytes,
                external_fragmentation: missing(
                    class.used_slots * class.slot_bytes,
                    class.span_bytes,
                ),
            })
            .collect();
        classes.sort_by_key(|class| std::cmp::Reverse(class.span_bytes));
        let mut heaps: Vec<HeapLook> = page
            .heaps
            .iter()
            .map(|heap| HeapLook {
                kind: heap.kind,
                number: heap.number,
                name: heap.name.clone(),
                span_bytes: heap.span_bytes,
                used_bytes: heap.used_bytes,
                large_bytes: heap.large_bytes,
                limit: heap.limit_bytes,
                external_fragmentation: missing(heap.used_bytes, heap.span_bytes),
            })
            .collect();
        heaps.sort_by_key(|heap| std::cmp::Reverse(heap.span_bytes + heap.large_bytes));
        let nodes = page.nodes.iter().map(|node| {
            let free_bytes = node.free_dirty_bytes + node.free_clean_bytes;
            let live = node.used_bytes + node.large_bytes;
            NodeLook {
                node: node.node,
                span_bytes: node.span_bytes,
                used_bytes: node.used_bytes,
                large_bytes: node.large_bytes,
                free_bytes,
                external_fragmentation: missing(
                    live,
                    node.span_bytes + node.large_bytes + free_bytes,
                ),
            }
        });
        // Up to the limit new addresses can be had; else the region itself is the bound.
        let headroom = figures.limit_bytes.saturating_sub(figures.held_bytes);
        let new =
            if has_limit { headroom.min(figures.untouched_bytes) } else { figures.untouched_bytes };
        Self {
            schema: 1,
            age_s: read_ns.saturating_sub(figures.written_ns) as f64 / 1e9,
            write_count: figures.write_count,
            write_cost_s: figures.cost_ns as f64 / 1e9,
            live,
            resident: residence.total,
            resident_of_allocator: residence.of_region(),
            retained: residence.retained(),
            committed,
            external_fragmentation: 1.0 - share(live.min(committed), committed.max(1)),
            resident_over_live: share(residence.of_region(), live),
            largest_free: figures.largest_free_bytes.max(new),
            headroom: has_limit.then_some(headroom),
            residence,
            large_count: figures.large_count,
            purged: figures.purged_bytes,
            merge_state: match MergeState::from_number(figures.merge_state as u32) {
                MergeState::Off => "",
                state => state.name(),
            },
            merged_pages: figures.merged_pages,
            merged_windows: figures.merged_windows,
            merge_refused: figures.merge_refused_count,
            merge_cpu_s: figures.merge_ns as f64 / 1e9,
            merge_step_s_max: figures.merge_step_ns_max as f64 / 1e9,
            threads: figures.thread_count,
            mappings: figures.mapping_count,
            profile_rate: figures.profile_rate_bytes,
            samples: [figures.sample_count, figures.live_sample_count, figures.lost_sample_count],
            classes,
            heaps,
            nodes: nodes.collect(),
            slices_per_cell: figures.slices_per_cell,
            map: page.map.iter().map(|cell| letter(*cell)).collect(),
            read_ns,
            handed: figures.handed_bytes,
            ..Self::default()
        }
    }

    /// A reading of the process for people: why the memory is what it is.
    pub fn reading(&self) -> String {
        if self.live == 0 {
            return "nothing is live".to_owned();
        }
        if self.merged_windows > 0 && self.resident_of_allocator < self.live {
            return "merged pages count as resident once they are read again".to_owned();
        }
        let retained = self.retained as f64 / self.live as f64;
        if retained < 0.25 {
            return "the memory is what is live: a leak, if anything, or a large working set"
                .to_owned();
        }
        if self.residence.free_runs > self.residence.free_in_spans {
            return "free runs wait to be given back or used again".to_owned();
        }
        "few live blocks hold many pages: see which sites pin them (heapwright profile)".to_owned()
    }
}

impl Rates {
    fn between(before: &Look, now: &Look) -> Self {
        let seconds = now.read_ns.saturating_sub(before.read_ns) as f64 / 1e9;
        if seconds <= 0.0 {
            return Self::default();
        }
        let rate = |before: u64, now: u64| (now as f64 - before as f64) / seconds;
        Self {
            allocated_bytes: rate(before.handed, now.handed),
            live_growth_bytes: rate(before.live, now.live),
            resident_growth_bytes: rate(before.resident, now.resident),
            purged_bytes: rate(before.purged, now.purged),
        }
    }
}

/// 1 − `part` / `whole`; 0 of nothing.
fn missing(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 1.0 - part.min(whole) as f64 / whole as f64 }
}

fn letter((cell, full): (Cell, u8)) -> char {
    match cell {
        Cell::Small => char::from_digit(u32::from(full) * 9 / 15, 10).unwrap_or('9'),
        Cell::Large => '#',
        Cell::FreeDirty => '_',
        Cell::FreeClean | Cell::Unused => '.',
    }
}
