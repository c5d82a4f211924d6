//! Fragmentation to failure: one workload under one budget, until a request fails.
//!
//! Question: when a request fails though more than its size is free, did the statistics say so
//! before, and who holds out longest? Expected: `largest_free_bytes` was below the request's size
//! all the while; buddy, slab and tight hold more before that, and what moves its blocks holds all.
//!
//! The budget is filled with blocks whose sizes' logarithms are even, nine tenths of them by bytes
//! stay while random ones are exchanged, and then larger and larger requests come until one is
//! refused. The system's `malloc` has its budget by the kernel's limit on data, in a process of
//! its own; its largest free block is found by asking. The compacting heap compacts when it
//! refuses, and asks itself again.

use std::alloc::{Layout, System};
use std::env;
use std::process::{Command, ExitCode};
use std::ptr::NonNull;

use heapwright_regions::{
    AnonymousPages, Buddy, CompactingHeap, Handle, Lines, Overflow, Pools, Region, Slab, Tails,
    Tight,
};
use heapwright_testkit::Random;
use serde_json::{Value, json};

use super::creep::{RECORD_BYTES, RECORDS, creep};
use super::rows::{Options, Row};
use super::survivors::survive;

pub(crate) const BUDGET_BYTES: usize = 8 << 20;
const EXCHANGES: usize = 100_000;
/// More blocks than the budget has room for.
const LIVE_COUNT_MAX: usize = 100_000;
const SUBJECTS: [&str; 7] =
    ["pool", "slab", "tight", "buddy", "buddy trim", "compacting", "malloc"];
const WORKLOADS: [&str; 3] = ["fragmentation", "creep", "survivors"];

/// Where blocks come from, and what it says of itself.
pub(crate) trait Heap {
    /// What names a block.
    type Block: Copy;

    fn take(&self, layout: Layout) -> Option<Self::Block>;
    fn give(&self, block: Self::Block, layout: Layout);
    /// Writes the block's bytes.
    fn fill(&self, block: Self::Block, layout: Layout);
    /// Free bytes and the largest of them in one piece; `live` are requested.
    fn free(&self, live: usize) -> (usize, usize);
    /// Usable bytes of live blocks, if it tells.
    fn usable(&self) -> Option<usize>;
    /// Gives memory back, as well as it can.
    fn trim(&self) -> Value;
}

impl<R: Region> Heap for R {
    type Block = NonNull<u8>;

    fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        self.try_alloc_block(layout).ok()
    }

    fn give(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: each block is given back once.
        unsafe { self.free_block(block, layout) }
    }

    fn fill(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: a live block of that size.
        unsafe { block.write_bytes(1, layout.size()) };
    }

    fn free(&self, _: usize) -> (usize, usize) {
        let seen = self.region_statistics();
        let usable = seen.live_bytes.value().unwrap_or(0);
        (BUDGET_BYTES.saturating_sub(usable), seen.largest_free_bytes)
    }

    fn usable(&self) -> Option<usize> {
        self.region_statistics().live_bytes.value()
    }

    fn trim(&self) -> Value {
        Value::Null
    }
}

/// The system's, under the kernel's limit.
struct Malloc;

impl Heap for Malloc {
    type Block = NonNull<u8>;

    fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        // SAFETY: no size here is 0.
        NonNull::new(unsafe { std::alloc::GlobalAlloc::alloc(&System, layout) })
    }

    fn give(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: made above, given back once.
        unsafe { std::alloc::GlobalAlloc::dealloc(&System, block.as_ptr(), layout) }
    }

    fn fill(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: a live block of that size.
        unsafe { block.write_bytes(1, layout.size()) };
    }

    fn free(&self, live: usize) -> (usize, usize) {
        let fits = |bytes: usize| {
            let Ok(layout) = Layout::from_size_align(bytes, 16) else { return false };
            let block = self.take(layout);
            block.inspect(|block| self.give(*block, layout)).is_some()
        };
        let (mut least, mut most) = (0, BUDGET_BYTES);
        while least + 16 < most {
            let middle = (least + most) / 2;
            if fits(middle) { least = middle } else { most = middle }
        }
        (BUDGET_BYTES.saturating_sub(live), least)
    }

    fn usable(&self) -> Option<usize> {
        None
    }

    fn trim(&self) -> Value {
        // SAFETY: it may be called at any time.
        unsafe { libc::malloc_trim(0) };
        json!({ "trimmed_by": "malloc_trim" })
    }
}

/// Moves its blocks rather than refuse.
struct Compacting(CompactingHeap<AnonymousPages>);

impl Heap for Compacting {
    type Block = Handle<[u8]>;

    fn take(&self, layout: Layout) -> Option<Handle<[u8]>> {
        self.0.insert_zeroed(layout.size()).ok().or_else(|| {
            self.0.compact();
            self.0.insert_zeroed(layout.size()).ok()
        })
    }

    fn give(&self, block: Handle<[u8]>, _: Layout) {
        self.0.remove(block).expect("live, not pinned");
    }

    fn fill(&self, block: Handle<[u8]>, _: Layout) {
        self.0.pin_mut(block).expect("live, not pinned").fill(1);
    }

    fn free(&self, live: usize) -> (usize, usize) {
        self.0.compact();
        // Some of the budget may not be committed: it is free, and in one piece with the top.
        let seen = self.0.statistics();
        let more = BUDGET_BYTES.saturating_sub(seen.committed_bytes);
        (BUDGET_BYTES.saturating_sub(live), seen.largest_free_bytes + more)
    }

    fn usable(&self) -> Option<usize> {
        self.0.statistics().live_bytes.value()
    }

    /// In the steps that a program with frames would do.
    fn trim(&self) -> Value {
        let mut steps_ns = Vec::new();
        let (mut moved_bytes, mut released_bytes) = (0, 0);
        loop {
            let start = heapwright_os::thread_cpu_ns();
            let done = self.0.compact_for(std::time::Duration::from_micros(900), |_| {});
            steps_ns.push(heapwright_os::thread_cpu_ns() - start);
            moved_bytes += done.moved_bytes;
            released_bytes += done.released_bytes;
            if done.finished {
                break;
            }
        }
        steps_ns.sort_unstable();
        json!({
            "steps": steps_ns.len(),
            "step_us_p50": steps_ns[steps_ns.len() / 2] / 1000,
            "step_us_max": steps_ns[steps_ns.len() - 1] / 1000,
            "moved_bytes": moved_bytes,
            "released_bytes": released_bytes,
        })
    }
}

pub(crate) fn draw(random: &mut Random) -> Layout {
    Layout::from_size_align(random.log_uniform(16, 4096) as usize, 16).expect("a layout")
}

/// Fills, exchanges, and asks for more and more until it is refused.
fn exhaust<H: Heap>(heap: &H) -> Value {
    let random = &mut Random::new(5);
    let mut live = Vec::with_capacity(LIVE_COUNT_MAX);
    let mut sum = 0;
    loop {
        let layout = draw(random);
        let Some(block) = heap.take(layout) else { break };
        heap.fill(block, layout);
        live.push((block, layout));
        sum += layout.size();
    }
    let fresh = sum;
    let most = fresh / 10 * 9;
    let mut refused = 0;
    for _ in 0..EXCHANGES {
        let (block, layout) = live.swap_remove(random.below(live.len() as u64) as usize);
        heap.give(block, layout);
        sum -= layout.size();
        while sum < most {
            let layout = draw(random);
            let Some(block) = heap.take(layout) else {
                refused += 1;
                break;
            };
            live.push((block, layout));
            sum += layout.size();
        }
    }
    let usable = heap.usable();
    // Half as large again each time, until one is refused.
    let mut request = 4096;
    let (mut free, mut largest) = heap.free(sum);
    while let Some(block) = Layout::from_size_align(request, 16).ok().and_then(|one| heap.take(one))
    {
        live.push((block, Layout::from_size_align(request, 16).expect("a layout")));
        sum += request;
        request += request / 2;
        (free, largest) = heap.free(sum);
    }
    json!({
        "budget_bytes": BUDGET_BYTES,
        "payload_fresh": share(fresh, BUDGET_BYTES),
        "payload_at_failure": share(sum, BUDGET_BYTES),
        "refused_in_churn": refused,
        "internal_fragmentation": usable.map(|usable| 1.0 - share(most.min(usable), usable)),
        "external_fragmentation": if free == 0 { 0.0 } else { 1.0 - share(largest, free) },
        "failed_request_bytes": request,
        "free_bytes": free,
        "largest_free_bytes": largest,
        "warned": largest < request,
    })
}

/// Of both, to four digits.
pub(crate) fn share(part: usize, whole: usize) -> f64 {
    (part as f64 / whole as f64 * 10_000.0).round() / 10_000.0
}

/// One workload on a heap, which is as large as `bytes`.
fn measure<H: Heap>(workload: &str, heap: Option<H>) -> Option<Value> {
    match workload {
        "survivors" => Some(survive(&heap?)),
        "creep" => Some(creep(&heap?)),
        _ => Some(exhaust(&heap?)),
    }
}

fn run(workload: &str, subject: &str) -> Option<Value> {
    let bytes = if workload == "survivors" { super::survivors::SPACE_BYTES } else { BUDGET_BYTES };
    match subject {
        "pool" => {
            // As many classes as fit the sizes, each with its share of the budget; or growing.
            let sizes = core::array::from_fn::<usize, 9, _>(|class| 16 << class);
            let share = bytes / sizes.len();
            let pools = sizes.map(|size| (size, share / size));
            if workload == "survivors" {
                return measure(workload, Some(Pools::new_in(AnonymousPages, sizes)));
            }
            if workload == "creep" {
                // A record more is alive while one is exchanged.
                let left = bytes - (RECORDS + 1) * RECORD_BYTES;
                let buffer_bytes = (left / super::creep::SESSIONS) & !15;
                let pools = [(RECORD_BYTES, RECORDS + 1), (buffer_bytes, left / buffer_bytes)];
                let pools = Pools::bounded(AnonymousPages, pools, Overflow::Refuse);
                return measure(workload, pools.ok());
            }
            measure(workload, Pools::bounded(AnonymousPages, pools, Overflow::Larger).ok())
        }
        "slab" => measure(workload, Slab::new_in(AnonymousPages, bytes, Lines::Packed).ok()),
        "tight" => {
            // A bit for each 16 bytes and 8 bytes a list are of the budget.
            let left = bytes / 129 * 128 - (16 << 10);
            let tight: Option<Tight<_>> = Tight::new_in(AnonymousPages, left).ok();
            measure(workload, tight)
        }
        "buddy" | "buddy trim" => {
            let tails = if subject == "buddy" { Tails::Keep } else { Tails::Trim };
            let buddy: Option<Buddy<_>> = Buddy::new_in(AnonymousPages, bytes, 16, tails).ok();
            measure(workload, buddy)
        }
        "compacting" => {
            let heap = CompactingHeap::with_capacity_max(AnonymousPages, bytes);
            measure(workload, Some(Compacting(heap)))
        }
        "malloc" => measure(workload, Some(Malloc)),
        _ => None,
    }
}

/// One subject in this process; `malloc` sets its limit first.
pub(crate) fn run_once(workload: &str, subject: &str) -> ExitCode {
    let list_bytes = match workload {
        "creep" => super::creep::LIST_BYTES,
        _ => LIVE_COUNT_MAX * size_of::<(NonNull<u8>, Layout)>(),
    };
    if workload != "survivors" && subject == "malloc" && !limit_data(list_bytes) {
        eprintln!("heapwright-bench-regions: no limit for malloc (prlimit is of util-linux)");
        return ExitCode::from(125);
    }
    match run(workload, subject) {
        Some(seen) => {
            println!("{seen}");
            ExitCode::SUCCESS
        }
        None => ExitCode::from(125),
    }
}

/// Limits this process's data to what it uses now, the budget, and `list_bytes` for what the
/// workload keeps of its blocks.
fn limit_data(list_bytes: usize) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let has = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kib = has.and_then(|text| text.trim().trim_end_matches(" kB").parse::<usize>().ok());
    let Some(kib) = kib else { return false };
    // SAFETY: it may be called at any time.
    let ready = unsafe { libc::mallinfo2() }.fordblks;
    // What `malloc` has ready already is of the budget.
    let limit = kib * 1024 - ready + BUDGET_BYTES + list_bytes;
    let pid = std::process::id().to_string();
    let set = Command::new("prlimit").args(["--pid", &pid, &format!("--data={limit}")]).status();
    set.is_ok_and(|status| status.success())
}

/// A row for each workload and subject, each in a process of its own.
pub(crate) fn rows(options: &Options) -> Vec<Row> {
    let mut rows = Vec::new();
    for workload in WORKLOADS {
        for subject in SUBJECTS {
            let name = if subject == "malloc" { "malloc" } else { "heapwright" };
            if !options.wants(workload, name) {
                continue;
            }
            let output = env::current_exe().and_then(|own| {
                Command::new(own).args(["--fragment-once", workload, subject]).output()
            });
            let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            let seen: Option<Row> = text.ok().and_then(|text| serde_json::from_str(&text).ok());
            let mut row = Row::new();
            row.insert("workload".into(), workload.into());
            row.insert("subject".into(), name.into());
            row.insert("variant".into(), if name == subject { "" } else { subject }.into());
            match seen {
                Some(seen) => row.extend(seen),
                None => {
                    row.insert("error".into(), "no result".into());
                }
            }
            rows.push(row);
        }
    }
    rows
}
