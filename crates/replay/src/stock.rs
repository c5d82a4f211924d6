//! Taking stock: at chosen moments of a replay, what every resident byte is for, and whose live
//! blocks hold it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::blame::{ClassShare, Frame, LiveBlock, PageRun, Rest, SiteShare, split};
use crate::error::ReplayError;
use crate::plan::{Plan, SITE_MAPPED};
use crate::progress::{Phase, Progress};
use crate::spec::{AllocatorSpec, ReplayOptions, WorkerProgram};
use crate::stock_record::{BEFORE, RECORD_BYTES, Record};
use crate::supervise::{Limits, Task, run_once};
use crate::sys;

/// Records of live blocks written in one run at most: 32 bytes each, in memory.
const RECORDS_MAX: u64 = 8 << 20;

/// What resident memory is for at a moment of the replay under one allocator. All bytes are
/// growth over the moment before the first operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stock {
    /// Number of the sample among the plan's.
    pub sample: usize,
    /// Events up to then.
    pub events: u64,
    /// Seconds since the first event in the recording.
    pub time_s: f64,
    /// Resident bytes as the kernel counts them.
    pub resident_bytes: u64,
    /// Requested bytes of live blocks, on resident pages.
    pub requested_bytes: u64,
    /// Usable bytes beyond the requested ones, on resident pages.
    pub slack_bytes: u64,
    /// Free bytes on pages where blocks are alive: what [`Self::sites`] share.
    pub pinned_bytes: u64,
    /// Pages where no block is alive: free, or the allocator's bookkeeping.
    pub empty_bytes: u64,
    /// Pages that the program mapped itself.
    pub mapped_bytes: u64,
    /// Stacks of replay threads.
    pub stack_bytes: u64,
    /// Bytes above that are no growth: of pages that were resident before the first operation and
    /// hold blocks now, or are resident no more.
    pub earlier_bytes: u64,
    /// Largest resident piece without a live byte.
    pub largest_free_bytes: u64,
    /// Live blocks.
    pub blocks: u64,
    /// Shares of the call sites, the one that pins most first. They add up to
    /// [`Self::pinned_bytes`].
    pub sites: Vec<SiteShare>,
    /// The same by powers of two of usable bytes, ascending.
    pub classes: Vec<ClassShare>,
}

impl Stock {
    /// The sum of all parts: what [`Self::resident_bytes`] should be.
    pub fn told_bytes(&self) -> u64 {
        let parts = self.requested_bytes + self.slack_bytes + self.pinned_bytes + self.empty_bytes;
        (parts + self.mapped_bytes + self.stack_bytes).saturating_sub(self.earlier_bytes)
    }

    /// Resident bytes of the allocator: blocks, free memory and bookkeeping.
    pub fn heap_bytes(&self) -> u64 {
        self.requested_bytes + self.slack_bytes + self.pinned_bytes + self.empty_bytes
    }

    /// 1 - requested / usable of the live blocks; 0 without any.
    pub fn internal_fragmentation(&self) -> f64 {
        let usable: u64 = self.classes.iter().map(|class| class.live_bytes).sum();
        let requested: u64 = self.classes.iter().map(|class| class.requested_bytes).sum();
        if usable == 0 { 0.0 } else { 1.0 - requested as f64 / usable as f64 }
    }

    /// 1 - live / resident bytes of the allocator; 0 without any.
    pub fn external_fragmentation(&self) -> f64 {
        let live = self.requested_bytes + self.slack_bytes;
        match self.heap_bytes() {
            0 => 0.0,
            heap => 1.0 - live as f64 / heap as f64,
        }
    }
}

/// How many moments stock can be taken at in one run of `plan`: fewer the more blocks are alive.
pub fn stock_count_max(plan: &Plan) -> usize {
    let blocks = plan.facts().samples.iter().map(|sample| sample.live_blocks).max().unwrap_or(0);
    (RECORDS_MAX / blocks.max(1)).clamp(1, 64) as usize
}

/// Replays `plan` on `allocator` once more and takes stock at `samples`, numbers among the
/// plan's, each at most once and at most [`stock_count_max`] of them (the rest is left out).
///
/// The run costs what a memory run costs, and some ns a live block, resident page and moment.
///
/// # Errors
/// [`ReplayError::NoBirths`] for a plan that keeps no call sites; [`ReplayError::System`] when
/// the run fails.
pub fn take_stock(
    plan: &Plan,
    allocator: &AllocatorSpec,
    samples: &[usize],
    options: &ReplayOptions,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Vec<Stock>, ReplayError> {
    if !plan.facts().keeps_births {
        return Err(ReplayError::NoBirths);
    }
    let program = match &options.worker {
        Some(program) => program.clone(),
        None => WorkerProgram::this()?,
    };
    let samples = &samples[..samples.len().min(stock_count_max(plan))];
    let file = stock_file(plan, samples)?;
    let limits = Limits { run: options.run_limit, stall: options.stall_limit };
    let task = Task {
        allocator: Some(allocator),
        route: None,
        is_memory: true,
        // libc's allocator looks at no clock.
        pace: if allocator.so.is_some() { options.pace_limit } else { Duration::ZERO },
        stock: Some(&file),
    };
    let (started, what) = (Instant::now(), format!("{}, live blocks", allocator.name));
    let epochs = plan.facts().epochs.max(1) as u64;
    let mut look = |done: u64| {
        progress(&Progress::new(Phase::Memory, what.clone(), done, epochs, started.elapsed()));
    };
    let outcome = run_once(&program, plan, task, limits, &mut look)?;
    if !outcome.failure.is_empty() {
        let error = io::Error::other(outcome.failure);
        return Err(ReplayError::System { doing: "replay for the stock", error });
    }
    read_stock(&file, plan)
}

/// A file in memory for a worker that takes stock at `samples`.
pub(crate) fn stock_file(plan: &Plan, samples: &[usize]) -> Result<File, ReplayError> {
    let system = |error| ReplayError::System { doing: "keep the stock", error };
    let file = sys::memory_file("heapwright-stock").map_err(system)?;
    begin(&file, samples, plan.facts().samples.len()).map_err(system)?;
    Ok(file)
}

/// What a worker wrote into [`stock_file`], in order.
pub(crate) fn read_stock(file: &File, plan: &Plan) -> Result<Vec<Stock>, ReplayError> {
    read(file, plan).map_err(|error| ReplayError::System { doing: "read the stock", error })
}

/// Writes which samples are wanted.
fn begin(mut file: &File, samples: &[usize], sample_count: usize) -> io::Result<()> {
    let mut bits = vec![0u64; sample_count.div_ceil(64)];
    for &sample in samples.iter().filter(|&&sample| sample < sample_count) {
        bits[sample / 64] |= 1 << (sample % 64);
    }
    file.write_all(&(bits.len() as u64).to_ne_bytes())?;
    for word in bits {
        file.write_all(&word.to_ne_bytes())?;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

/// Records in the making of one stock.
#[derive(Debug, Default)]
struct Gathered {
    sample: u64,
    growth_bytes: u64,
    page_bytes: u64,
    records: u64,
    file: (u64, u64),
    runs: Vec<PageRun>,
    blocks: Vec<LiveBlock>,
    mappings: Vec<(u64, u64)>,
    stacks: Vec<(u64, u64)>,
}

fn read(mut file: &File, plan: &Plan) -> io::Result<Vec<Stock>> {
    let words = plan.facts().samples.len().div_ceil(64) as u64;
    file.seek(SeekFrom::Start(8 * (1 + words)))?;
    let mut input = BufReader::with_capacity(1 << 20, file);
    let mut before = HashSet::new();
    let mut stocks = Vec::new();
    let mut now = Gathered::default();
    let mut bytes = [0; RECORD_BYTES];
    loop {
        match input.read_exact(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(stocks),
            other => other?,
        }
        let torn = || io::Error::new(io::ErrorKind::InvalidData, "the stock is torn");
        match Record::from_bytes(&bytes).ok_or_else(torn)? {
            Record::Begin { sample, growth_bytes, page_bytes } => {
                now = Gathered { sample, growth_bytes, page_bytes, ..Gathered::default() };
                continue;
            }
            Record::End { records } if records != now.records => return Err(torn()),
            Record::End { .. } if now.sample == BEFORE => before = now.frames().collect(),
            Record::End { .. } => {
                stocks.push(std::mem::take(&mut now).stock(plan, &before));
            }
            record => now.take(record),
        }
        now.records += 1;
    }
}

impl Gathered {
    fn take(&mut self, record: Record) {
        match record {
            Record::File { inode, device } => self.file = (inode, device),
            Record::Pages { start, pages, file_page } => {
                let frame = match self.file {
                    (0, 0) => Frame::Anonymous(start / self.page_bytes.max(1)),
                    (inode, device) => Frame::Shared(inode, device, file_page),
                };
                self.runs.push(PageRun { start, pages, frame });
            }
            Record::Block { site: SITE_MAPPED, start, requested_bytes, .. } => {
                self.mappings.push((start, start.saturating_add(requested_bytes)));
            }
            Record::Block { site, start, requested_bytes, usable_bytes } => {
                let usable_bytes = usable_bytes.max(requested_bytes);
                self.blocks.push(LiveBlock { start, requested_bytes, usable_bytes, site });
            }
            Record::Stack { start, bytes } => {
                self.stacks.push((start, start.saturating_add(bytes)));
            }
            Record::Begin { .. } | Record::End { .. } => {}
        }
    }

    fn frames(&self) -> impl Iterator<Item = Frame> + '_ {
        self.runs.iter().flat_map(|run| (0..run.pages).map(|page| run.frame.plus(page)))
    }

    fn stock(mut self, plan: &Plan, before: &HashSet<Frame>) -> Stock {
        let kept = self.frames().collect::<HashSet<_>>().intersection(before).count();
        let gone_bytes = (before.len() - kept) as u64 * self.page_bytes;
        self.mappings.sort_unstable();
        self.stacks.sort_unstable();
        let (mappings, stacks) = (&self.mappings, &self.stacks);
        let is_in = |ranges: &[(u64, u64)], address: u64| {
            let next = ranges.partition_point(|range| range.0 <= address);
            next > 0 && address < ranges[next - 1].1
        };
        let rest = |address: u64, frame: Frame| {
            if before.contains(&frame) {
                Rest::Before
            } else if is_in(mappings, address) {
                Rest::Mapped
            } else if is_in(stacks, address) {
                Rest::Stack
            } else {
                Rest::Heap
            }
        };
        let split = split(&self.runs, self.blocks, self.page_bytes, rest);
        let sample = self.sample as usize;
        let point = plan.facts().samples.get(sample).copied().unwrap_or_default();
        Stock {
            sample,
            events: point.events,
            time_s: point.time_s,
            resident_bytes: self.growth_bytes,
            requested_bytes: split.requested_bytes,
            slack_bytes: split.slack_bytes,
            pinned_bytes: split.pinned_bytes,
            empty_bytes: split.empty_bytes,
            mapped_bytes: split.mapped_bytes,
            stack_bytes: split.stack_bytes,
            earlier_bytes: split.reused_bytes + gone_bytes,
            largest_free_bytes: split.largest_free_bytes,
            blocks: split.blocks,
            sites: split.sites,
            classes: split.classes,
        }
    }
}
