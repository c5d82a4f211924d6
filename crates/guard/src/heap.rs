//! The guarded heap: blocks, what is known of them, and the checks at each call.

use heapwright_core::family::Family;
use heapwright_os::{Fd, OpenFlags, has_environment, page_bytes, write_all};
use heapwright_sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::Lock;
use crate::depot::Depot;
use crate::fork;
use crate::options::{Flag, Options};
use crate::packed::{Packed, PackedState};
use crate::pages::{Cursor, PAGE_BYTES, Pages};
use crate::record::{BlockId, Record, State, Watch};
use crate::report::Reporter;
use crate::sampled;
use crate::sites::Sites;
use crate::table::Table;
use crate::thread::{self, Trace};

/// Blocks that can be known at one time.
const RECORD_COUNT_MAX: usize = 1 << 27;
/// With fewer it is not worth to begin.
const RECORD_COUNT_LEAST: usize = 1 << 16;
/// What a program holds besides its blocks, for the budget.
const PROGRAM_BYTES: usize = 3 << 20;
/// Memory that guards may take whatever the budget says: small programs are guarded whole.
const GUARD_BYTES_LEAST: usize = 12 << 20;
/// Guarded blocks alive that each site may have when half of the budget is used.
const SITE_LIVE_COUNT: u32 = 64;
/// What the kernel allows when it does not say.
const MAPPING_COUNT: usize = 65_530;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Bytes; 0 gives a block that may not be touched.
    pub bytes: usize,
    /// A power of two; at least 16 is given.
    pub align_bytes: usize,
    /// The function that asks.
    pub family: Family,
    /// Whether the bytes are to be zero.
    pub zeroed: bool,
}

/// What a free says of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Return {
    /// The function that gives back.
    pub family: Family,
    /// The size it was told, if any.
    pub bytes: Option<usize>,
    /// The alignment it was told, if any.
    pub align_bytes: Option<usize>,
}

/// First-in-first-out, linked by the records' `next`.
pub(crate) struct Queue {
    first: BlockId,
    last: BlockId,
    pub(crate) count: usize,
    pub(crate) bytes: usize,
}

/// What changes under the heap's lock.
pub(crate) struct Books {
    pub(crate) cursor: Cursor,
    pub(crate) packed: PackedState,
    pub(crate) record_count: usize,
    /// Records of guarded blocks freed, oldest first.
    pub(crate) freed: Queue,
    /// Packed blocks freed, oldest first.
    pub(crate) quarantine: Queue,
}

/// Counters of a run.
pub(crate) struct Counts {
    pub(crate) live_bytes: AtomicUsize,
    pub(crate) guarded_live_bytes: AtomicUsize,
    /// Slabs and the records of their slots.
    pub(crate) slab_bytes: AtomicUsize,
    pub(crate) blocks: AtomicUsize,
    pub(crate) guarded: AtomicUsize,
    pub(crate) packed: AtomicUsize,
    /// Blocks that were to be guarded and could not.
    pub(crate) unguardable: AtomicUsize,
    /// Blocks that were served without any check.
    pub(crate) unchecked: AtomicUsize,
}

/// The heap of the process.
pub(crate) struct Heap {
    pub(crate) pages: Pages,
    pub(crate) packed: Packed,
    pub(crate) records: Table<Record>,
    pub(crate) depot: Depot,
    pub(crate) sites: Sites,
    pub(crate) options: Options,
    pub(crate) reporter: Reporter,
    pub(crate) counts: Counts,
    pub(crate) books: Lock<Books>,
    /// 0 at first, 1 while the heap is being made, 2 when it is there, 3 when it cannot be.
    stage: AtomicU32,
    /// 1 once the options were read.
    configured: AtomicU32,
}

const NO_ROOM: &[u8] = b"heapwright: check mode needs pages of 4 KiB and some 300 MiB of address \
space; the program runs on and nothing is checked; raise `ulimit -v`\n";
const MAKING: u32 = 1;
const READY: u32 = 2;
const IMPOSSIBLE: u32 = 3;

pub(crate) static HEAP: Heap = Heap {
    pages: Pages::new(),
    packed: Packed::new(),
    records: Table::new(),
    depot: Depot::new(),
    sites: Sites::new(),
    options: Options::new(),
    reporter: Reporter::new(),
    counts: Counts {
        live_bytes: AtomicUsize::new(0),
        guarded_live_bytes: AtomicUsize::new(0),
        slab_bytes: AtomicUsize::new(0),
        blocks: AtomicUsize::new(0),
        guarded: AtomicUsize::new(0),
        packed: AtomicUsize::new(0),
        unguardable: AtomicUsize::new(0),
        unchecked: AtomicUsize::new(0),
    },
    books: Lock::new(Books {
        cursor: Cursor::new(),
        packed: PackedState::new(),
        record_count: 0,
        freed: Queue::new(),
        quarantine: Queue::new(),
    }),
    stage: AtomicU32::new(0),
    configured: AtomicU32::new(0),
};

/// How many mappings the kernel allows a process.
fn mapping_count_max() -> usize {
    let Ok(file) = Fd::open(c"/proc/sys/vm/max_map_count", OpenFlags::Read) else {
        return MAPPING_COUNT;
    };
    let mut text = [0; 20];
    let read = file.read(&mut text).unwrap_or(0);
    let digits = text[..read].iter().take_while(|byte| byte.is_ascii_digit());
    match digits.fold(0usize, |value, byte| value * 10 + usize::from(byte - b'0')) {
        0 => MAPPING_COUNT,
        count => count,
    }
}

impl Queue {
    const fn new() -> Self {
        Self { first: 0, last: 0, count: 0, bytes: 0 }
    }

    pub(crate) fn push(&mut self, records: &Table<Record>, id: BlockId, bytes: usize) {
        if let Some(record) = records.get(id as usize) {
            record.next.store(0, Ordering::Relaxed);
        }
        match records.get(self.last as usize).filter(|_| self.last != 0) {
            Some(last) => last.next.store(id, Ordering::Relaxed),
            None => self.first = id,
        }
        self.last = id;
        self.count += 1;
        self.bytes += bytes;
    }

    pub(crate) fn pop(&mut self, records: &Table<Record>) -> BlockId {
        let id = self.first;
        let Some(record) = records.get(id as usize).filter(|_| id != 0) else { return 0 };
        self.first = record.next.load(Ordering::Relaxed);
        if self.first == 0 {
            self.last = 0;
        }
        self.count -= 1;
        id
    }
}

impl Heap {
    /// Whether the heap is there; makes it at the first call.
    #[inline(always)]
    pub(crate) fn ready(&self) -> bool {
        // Acquire: pairs with the Release in `make`.
        if self.stage.load(Ordering::Acquire) == READY {
            return self.configured.load(Ordering::Relaxed) != 0 || self.configure();
        }
        self.make()
    }

    #[cold]
    fn make(&self) -> bool {
        let order = (Ordering::Acquire, Ordering::Acquire);
        if self.stage.compare_exchange(0, MAKING, order.0, order.1).is_err() {
            return self.stage.load(Ordering::Acquire) == READY;
        }
        let made = page_bytes() == PAGE_BYTES
            && self.pages.begin(mapping_count_max(), true)
            && self.packed.begin()
            && self.records.reserve_up_to(RECORD_COUNT_MAX, RECORD_COUNT_LEAST)
            && self.depot.begin()
            && self.sites.begin(sampled::is_on())
            && self.reporter.begin();
        // Release: pairs with the Acquire in `ready`.
        self.stage.store(if made { READY } else { IMPOSSIBLE }, Ordering::Release);
        if !made && !sampled::is_on() {
            // The addresses are the program's then; its blocks are plain ones. Nobody can be told
            // when even this line fails.
            self.pages.end();
            let _ = write_all(&Fd::STDERR, NO_ROOM);
            fork::begin();
        }
        if made {
            // Both may allocate: the heap is there.
            thread::begin();
            fork::begin();
            crate::fault::begin();
            self.configure();
        }
        made
    }

    /// Whether the heap is there.
    pub(crate) fn is_ready(&self) -> bool {
        // Acquire: pairs with the Release in `make`.
        self.stage.load(Ordering::Acquire) == READY
    }

    /// Whether there is none and will be none: the limits leave no room for it.
    pub(crate) fn is_impossible(&self) -> bool {
        // Acquire: as above; a block that `plain` made was made after this was said.
        self.stage.load(Ordering::Acquire) == IMPOSSIBLE
    }

    /// The highest number of a record.
    pub(crate) fn record_count(&self) -> BlockId {
        self.books.lock(thread::me()).map_or(0, |books| books.record_count as BlockId)
    }

    /// The first piece of our own memory that ends behind an address: blocks, and books that
    /// hold their addresses.
    pub(crate) fn own_memory_behind(&self, address: usize) -> Option<(usize, usize)> {
        [self.pages.range(), self.packed.range(), self.records.range(), thread::own_memory()]
            .into_iter()
            .chain(self.depot.ranges())
            .filter(|range| range.1 > address && range.1 > range.0)
            .min()
    }

    /// Reads the options once libc has the environment. Always true.
    #[cold]
    fn configure(&self) -> bool {
        if has_environment() && self.configured.swap(1, Ordering::Relaxed) == 0 {
            self.options.read();
            if self.options.has(Flag::NoMarkers) {
                self.pages.forgo_markers();
            }
            self.reporter.open_early(&self.options);
            heapwright_unwind::refresh_modules();
        }
        true
    }

    /// The record of the block whose room or guard holds an address; none when it was never one
    /// or is forgotten.
    pub(crate) fn block_at(&self, address: usize) -> Option<(BlockId, &Record)> {
        let id = match self.pages.owner(address) {
            0 => self.packed.owner(address),
            id => id,
        };
        let record = self.records.get(id as usize).filter(|_| id != 0)?;
        let behind = if record.watch() == Watch::Packed { 0 } else { PAGE_BYTES };
        let is_here = address.wrapping_sub(record.home()) < record.room() + behind;
        (is_here && record.state() != State::Empty).then_some((id, record))
    }

    /// Whether an address is of the heap's.
    #[inline(always)]
    pub(crate) fn holds(&self, address: usize) -> bool {
        self.pages.holds(address) || self.packed.holds(address)
    }

    /// Memory that guarded small blocks may take now.
    pub(crate) fn allowance_bytes(&self) -> usize {
        let live = self.counts.live_bytes.load(Ordering::Relaxed) + PROGRAM_BYTES;
        let slabs = self.counts.slab_bytes.load(Ordering::Relaxed);
        // The program's own share, and one for the stacks and what malloc would waste.
        if sampled::is_on() {
            return sampled::KEPT_BYTES;
        }
        let allowed = self.options.budget().saturating_sub(2).max(1).saturating_mul(live);
        allowed.saturating_sub(slabs).max(GUARD_BYTES_LEAST)
    }

    /// Whether a block gets pages of its own.
    pub(crate) fn is_to_be_guarded(
        &self,
        bytes: usize,
        trace: &Trace,
        site: u32,
        before: u32,
    ) -> bool {
        if bytes == 0 {
            return true;
        }
        if !self.options.policy().wants(trace.site, before) {
            return false;
        }
        let (used, allowed) =
            (self.counts.guarded_live_bytes.load(Ordering::Relaxed), self.allowance_bytes());
        if used < allowed / 2 {
            return true;
        }
        let of_site = self.sites.get(site).map_or(0, |site| site.guarded.load(Ordering::Relaxed));
        used < allowed && of_site < SITE_LIVE_COUNT
    }
}
