//! Fragmentation to failure: one workload under one budget, until a request fails.
//!
//! Question: when a request fails though more than its size is free, did the statistics say so
//! before? Expected: `largest_free_bytes` was below the request's size all the while; buddy, slab
//! and tight hold more before that.
//!
//! The budget is filled with blocks whose sizes' logarithms are even, nine tenths of them by bytes
//! stay while random ones are exchanged, and then larger and larger requests come until one is
//! refused. The system's `malloc` has its budget by the kernel's limit on data, in a process of
//! its own; its largest free block is found by asking.

use std::alloc::{Layout, System};
use std::env;
use std::process::{Command, ExitCode};
use std::ptr::NonNull;

use heapwright_regions::{AnonymousPages, Buddy, Lines, Pools, Region, Slab, Tails, Tight};
use heapwright_testkit::Random;
use serde_json::{Value, json};

use super::rows::{Options, Row};

const BUDGET_BYTES: usize = 8 << 20;
const EXCHANGES: usize = 100_000;
const SUBJECTS: [&str; 6] = ["pool", "slab", "tight", "buddy", "buddy trim", "malloc"];

/// Where blocks come from, and what it says of itself.
trait Heap {
    fn take(&self, layout: Layout) -> Option<NonNull<u8>>;
    fn give(&self, block: NonNull<u8>, layout: Layout);
    /// Free bytes and the largest of them in one piece; `live` are requested.
    fn free(&self, live: usize) -> (usize, usize);
    /// Usable bytes of live blocks, if it tells.
    fn usable(&self) -> Option<usize>;
}

impl<R: Region> Heap for R {
    fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        self.try_alloc_block(layout).ok()
    }

    fn give(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: `exhaust` gives each block back once.
        unsafe { self.free_block(block, layout) }
    }

    fn free(&self, _: usize) -> (usize, usize) {
        let seen = self.region_statistics();
        let usable = seen.live_bytes.value().unwrap_or(0);
        (BUDGET_BYTES.saturating_sub(usable), seen.largest_free_bytes)
    }

    fn usable(&self) -> Option<usize> {
        self.region_statistics().live_bytes.value()
    }
}

/// The system's, under the kernel's limit.
struct Malloc;

impl Heap for Malloc {
    fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        // SAFETY: no size here is 0.
        NonNull::new(unsafe { std::alloc::GlobalAlloc::alloc(&System, layout) })
    }

    fn give(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: made above, given back once.
        unsafe { std::alloc::GlobalAlloc::dealloc(&System, block.as_ptr(), layout) }
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
}

fn draw(random: &mut Random) -> Layout {
    Layout::from_size_align(random.log_uniform(16, 4096) as usize, 16).expect("a layout")
}

/// Fills, exchanges, and asks for more and more until it is refused.
fn exhaust<H: Heap>(heap: &H) -> Value {
    let random = &mut Random::new(5);
    let mut live = Vec::with_capacity(100_000);
    let mut sum = 0;
    loop {
        let layout = draw(random);
        let Some(block) = heap.take(layout) else { break };
        // SAFETY: a fresh block of 16 bytes or more.
        unsafe { block.write(1) };
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
    // Twice as large each time, once, until one is refused.
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
        "payload_fresh": fresh as f64 / BUDGET_BYTES as f64,
        "refused_in_churn": refused,
        "internal_fragmentation": usable.map(|usable| 1.0 - most.min(usable) as f64 / usable as f64),
        "external_fragmentation": if free == 0 { 0.0 } else { 1.0 - largest as f64 / free as f64 },
        "failed_request_bytes": request,
        "free_bytes": free,
        "largest_free_bytes": largest,
        "warned": largest < request,
    })
}

fn run(subject: &str) -> Option<Value> {
    let seen = match subject {
        "pool" => {
            // As many classes as fit the sizes, each with its share of the budget.
            let sizes = core::array::from_fn::<usize, 9, _>(|class| 16 << class);
            let share = BUDGET_BYTES / sizes.len();
            let pools = sizes.map(|size| (size, share / size));
            exhaust(
                &Pools::bounded(AnonymousPages, pools, heapwright_regions::Overflow::Larger)
                    .ok()?,
            )
        }
        "slab" => exhaust(&Slab::new_in(AnonymousPages, BUDGET_BYTES, Lines::Packed).ok()?),
        "tight" => exhaust(&Tight::new_in(AnonymousPages, BUDGET_BYTES / 129 * 128).ok()?),
        "buddy" => exhaust(&Buddy::new_in(AnonymousPages, BUDGET_BYTES, 16, Tails::Keep).ok()?),
        "buddy trim" => {
            exhaust(&Buddy::new_in(AnonymousPages, BUDGET_BYTES, 16, Tails::Trim).ok()?)
        }
        "malloc" => exhaust(&Malloc),
        _ => return None,
    };
    Some(seen)
}

/// One subject in this process; `malloc` sets its limit first.
pub(crate) fn run_once(subject: &str) -> ExitCode {
    if subject == "malloc" && !limit_data() {
        eprintln!("heapwright-bench-regions: no limit for malloc (prlimit is of util-linux)");
        return ExitCode::from(125);
    }
    match run(subject) {
        Some(seen) => {
            println!("{seen}");
            ExitCode::SUCCESS
        }
        None => ExitCode::from(125),
    }
}

/// Limits this process's data to what it has now and the budget.
fn limit_data() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let has = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kib = has.and_then(|text| text.trim().trim_end_matches(" kB").parse::<usize>().ok());
    let Some(kib) = kib else { return false };
    // The list of blocks is made before, and is not of the budget.
    let limit = kib * 1024 + BUDGET_BYTES + 100_000 * size_of::<(usize, Layout)>();
    let pid = std::process::id().to_string();
    let set = Command::new("prlimit").args(["--pid", &pid, &format!("--data={limit}")]).status();
    set.is_ok_and(|status| status.success())
}

/// A row for each subject, each in a process of its own.
pub(crate) fn rows(options: &Options) -> Vec<Row> {
    let mut rows = Vec::new();
    for subject in SUBJECTS {
        let name = if subject == "malloc" { "malloc" } else { "heapwright" };
        if !options.wants("fragmentation", name) {
            continue;
        }
        let output = env::current_exe()
            .and_then(|own| Command::new(own).args(["--fragment-once", subject]).output());
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let seen: Option<Row> = text.ok().and_then(|text| serde_json::from_str(&text).ok());
        let mut row = Row::new();
        row.insert("workload".into(), "fragmentation".into());
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
    rows
}
