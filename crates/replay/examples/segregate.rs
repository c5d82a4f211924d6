//! Would hints help? A model of a span allocator, given a recording's small blocks twice: as they
//! come, and with blocks of call sites whose blocks die young, live long, or neither, in spans of
//! their own. What each site does is taken from the same recording, so this is the best that
//! hints from a recording can do.
//!
//! `cargo run --release -p heapwright-replay --example segregate -- FILE...`
//!
//! Resident pages are those on which a block is alive: every empty page goes back at once, which is
//! the least that an allocator without moving can hold. `docs/design/fragmentation.md` has the result.

use std::collections::HashMap;
use std::path::Path;

use heapwright_format::file::Recording;
use heapwright_format::merge::MergedEvents;
use heapwright_format::objects::{Change, ObjectId, Objects};
use heapwright_format::stacks::StackId;

const SPAN_BYTES: usize = 32 << 10;
const PAGE_BYTES: usize = 4096;
const SMALL_BYTES_MAX: u64 = 8 << 10;
/// A site is of one kind when this share of its blocks is.
const SHARE: f64 = 0.9;
/// Lifetimes in bytes allocated meanwhile: below is young, above this share of all bytes is old.
const YOUNG_BYTES: u64 = 256 << 10;
const OLD_SHARE: f64 = 0.1;
const KINDS: usize = 3;

/// What a block's site is known for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unknown,
    Young,
    Old,
}

/// A birth or an end, of a block by number.
enum Event {
    Born { block: u32, bytes: u32, site: StackId },
    Died { block: u32 },
}

/// The small blocks' events, and how many bytes were allocated in all.
fn events_of(path: &Path) -> Result<(Vec<Event>, u64), Box<dyn std::error::Error>> {
    let recording = Recording::open(path)?;
    let process = recording.main_process().ok_or("no process has events")?;
    let mut merged = MergedEvents::new(&recording, process);
    let (mut objects, mut events, mut total) = (Objects::new(), Vec::new(), 0);
    let mut blocks: HashMap<ObjectId, (u32, StackId)> = HashMap::new();
    let mut next = 0;
    while let Some(event) = merged.next() {
        objects.feed(&event, merged.stacks(), |change| {
            let mut end = |events: &mut Vec<Event>, object| {
                let known = blocks.remove(&object);
                events.extend(known.map(|(block, _)| Event::Died { block }));
                known
            };
            let born = match change {
                Change::Born { object, size, stack, .. } => Some((object, size, stack)),
                Change::Resized { object, size, stack, .. } => {
                    let site = end(&mut events, object).map_or(stack, |(_, site)| site);
                    Some((object, size, site))
                }
                Change::Died { object, .. } => {
                    end(&mut events, object);
                    None
                }
                _ => None,
            };
            if let Some((object, size, site)) = born.filter(|one| one.1 <= SMALL_BYTES_MAX) {
                blocks.insert(object, (next, site));
                events.push(Event::Born { block: next, bytes: size as u32, site });
                next += 1;
                total += size;
            }
        });
    }
    Ok((events, total))
}

/// What each site is known for.
fn kinds_of(events: &[Event], total: u64) -> HashMap<StackId, Kind> {
    let mut born: HashMap<u32, (StackId, u64)> = HashMap::new();
    let mut counts: HashMap<StackId, [u64; 3]> = HashMap::new();
    let mut clock = 0;
    let old_bytes = (total as f64 * OLD_SHARE) as u64;
    let mut count = |site: StackId, lifetime: u64| {
        let seen = counts.entry(site).or_default();
        seen[0] += 1;
        seen[1] += u64::from(lifetime < YOUNG_BYTES);
        seen[2] += u64::from(lifetime > old_bytes);
    };
    for event in events {
        match event {
            Event::Born { block, bytes, site } => {
                clock += u64::from(*bytes);
                born.insert(*block, (*site, clock));
            }
            Event::Died { block } => {
                if let Some((site, at)) = born.remove(block) {
                    count(site, clock - at);
                }
            }
        }
    }
    // What is alive at the end has lived until then at least.
    for (site, at) in born.into_values() {
        count(site, (clock - at).max(old_bytes + 1));
    }
    let kind = |[all, young, old]: [u64; 3]| match all as f64 * SHARE {
        least if young as f64 >= least => Kind::Young,
        least if old as f64 >= least => Kind::Old,
        _ => Kind::Unknown,
    };
    counts.into_iter().map(|(site, seen)| (site, kind(seen))).collect()
}

/// Size of the class: steps of 16 bytes to 128, then eight a doubling.
fn class_bytes(bytes: u32) -> usize {
    let bytes = bytes.max(1) as usize;
    let step = if bytes <= 128 { 16 } else { 1 << ((bytes - 1).ilog2() - 3) };
    bytes.next_multiple_of(step)
}

/// Spans of each class and kind; freed slots are used again last in, first out, within a span, and
/// the span with free slots that was freed into last is used next.
#[derive(Default)]
struct Model {
    spans: Vec<(usize, Vec<u32>, u32)>,
    /// Spans with room by class and kind.
    open: HashMap<(usize, usize), Vec<usize>>,
    page_blocks: HashMap<usize, u32>,
    /// Addresses and class of what lives.
    places: HashMap<u32, (usize, usize, usize)>,
    live_bytes: u64,
    peak_live: u64,
    peak_pages: usize,
    page_steps: f64,
    live_steps: f64,
}

impl Model {
    fn pages(address: usize, bytes: usize) -> std::ops::RangeInclusive<usize> {
        address / PAGE_BYTES..=(address + bytes - 1) / PAGE_BYTES
    }

    fn born(&mut self, block: u32, bytes: u32, kind: usize) {
        let size = class_bytes(bytes);
        let open = self.open.entry((size, kind)).or_default();
        if open.is_empty() {
            open.push(self.spans.len());
            let count = (SPAN_BYTES / size) as u32;
            self.spans.push((size, (0..count).rev().collect(), count));
        }
        let span = open[open.len() - 1];
        let (_, free, _) = &mut self.spans[span];
        let slot = free.pop().unwrap_or_default();
        if free.is_empty() {
            open.pop();
        }
        let address = span * SPAN_BYTES + slot as usize * size;
        for page in Self::pages(address, size) {
            *self.page_blocks.entry(page).or_default() += 1;
        }
        self.places.insert(block, (address, size, kind));
        self.live_bytes += u64::from(bytes);
        self.peak_live = self.peak_live.max(self.live_bytes);
        self.peak_pages = self.peak_pages.max(self.page_blocks.len());
    }

    fn died(&mut self, block: u32, bytes: u32) {
        let Some((address, size, kind)) = self.places.remove(&block) else { return };
        for page in Self::pages(address, size) {
            if let Some(count) = self.page_blocks.get_mut(&page) {
                *count -= 1;
                if *count == 0 {
                    self.page_blocks.remove(&page);
                }
            }
        }
        let span = address / SPAN_BYTES;
        let (_, free, _) = &mut self.spans[span];
        if free.is_empty() {
            self.open.entry((size, kind)).or_default().push(span);
        }
        free.push((address % SPAN_BYTES / size) as u32);
        self.live_bytes -= u64::from(bytes);
    }

    fn step(&mut self) {
        self.page_steps += (self.page_blocks.len() * PAGE_BYTES) as f64;
        self.live_steps += self.live_bytes as f64;
    }
}

fn run(events: &[Event], kind_of: impl Fn(StackId) -> Kind) -> Model {
    let mut model = Model::default();
    let mut sizes = HashMap::new();
    for event in events {
        match event {
            Event::Born { block, bytes, site } => {
                sizes.insert(*block, *bytes);
                model.born(*block, *bytes, kind_of(*site) as usize % KINDS);
            }
            Event::Died { block } => {
                let bytes = sizes.remove(block).unwrap_or_default();
                model.died(*block, bytes);
            }
        }
        model.step();
    }
    model
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args().skip(1) {
        let (events, total) = events_of(Path::new(&path))?;
        let kinds = kinds_of(&events, total);
        let count = |kind| kinds.values().filter(|one| **one == kind).count();
        println!(
            "{path}: {} events, {} sites: {} young, {} old",
            events.len(),
            kinds.len(),
            count(Kind::Young),
            count(Kind::Old)
        );
        let together = run(&events, |_| Kind::Unknown);
        let apart = run(&events, |site| kinds.get(&site).copied().unwrap_or(Kind::Unknown));
        for (name, model) in [("together", &together), ("apart", &apart)] {
            println!(
                "  {name:9} peak {:6.2} MB of pages ({:.3} x live), mean {:.3} x live",
                (model.peak_pages * PAGE_BYTES) as f64 / 1e6,
                (model.peak_pages * PAGE_BYTES) as f64 / model.peak_live as f64,
                model.page_steps / model.live_steps,
            );
        }
    }
    Ok(())
}
