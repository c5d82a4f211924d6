//! Starting, ending and sampling: everything around the timed loop.
//!
//! A replay thread is started when the recording comes near its first event, and ends at its
//! last, if it ended in the recording; so an allocator sees as many threads come and go, and
//! as many at once. The recorded main thread is the worker's main thread, since allocators
//! treat that one differently (glibc's first arena grows by `brk`).

use std::ffi::c_void;
use std::io;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::board::Board;
use super::growth::Growth;
use super::heap::Heap;
use super::lane::Lane;
use super::ledger::Ledger;
use super::operate::{Bench, OnExhausted, Tally, Totals};
use super::order::Order;
use super::pace::Pace;
use super::shared_region::SharedRegion;
use super::stocktaker::Stocktaker;
use super::view::{PlanView, ThreadView};
use crate::op;
use crate::result::{Field, STATE_DONE, STATE_RUNNING, Sample};
use crate::site::SiteRoute;
use crate::sys;

/// Epochs that a thread may be ahead in memory runs: as few as still overlap.
const MEMORY_WINDOW: u32 = 1;

/// A run of a plan on a heap.
pub(crate) struct Engine<H: Heap> {
    bench: Bench<H>,
    totals: Totals,
    board: Board,
    /// Sample number + 1 at each epoch's end, 0 for none; empty in timing runs.
    mark_of: &'static [AtomicU32],
    window: u32,
    starter: Mutex<Starter>,
    running: AtomicU32,
    finish: AtomicU32,
    on_failure: fn(&str) -> !,
    route: Option<SiteRoute>,
    /// The routed site's region, where threads share one.
    shared: Option<&'static SharedRegion>,
    stocktaker: Option<Stocktaker>,
    pace: Pace,
    /// An address on the stack of each thread that was started; 0 before.
    stacks: Vec<AtomicUsize>,
}

/// Which threads have been started and which have finished.
struct Starter {
    tickets: Vec<Ticket>,
    next: usize,
    handles: Vec<Option<sys::Thread>>,
    finished: Vec<usize>,
}

/// What a new thread is given.
struct Ticket {
    engine: *const c_void,
    thread: usize,
}

// SAFETY: the pointer is to the engine, which is shared by all threads and outlives them.
unsafe impl Send for Ticket {}

impl<H: Heap> Engine<H> {
    /// Prepares a run; with `MEASURE` of memory, else of time. All tables are resident
    /// afterwards, so that they count neither as memory nor as page faults of the run.
    ///
    /// # Errors
    /// What mapping memory gives.
    pub(crate) fn new(
        plan: &'static PlanView,
        heap: H,
        board: Board,
        measure: bool,
        knows_usable: bool,
        on_exhausted: OnExhausted,
        on_failure: fn(&str) -> !,
    ) -> io::Result<Self> {
        let epoch_count = plan.epoch_count as usize;
        let slot_count = plan.slot_count as usize;
        let remaining = zeroes::<AtomicU32>(epoch_count)?;
        for thread in &plan.threads {
            for &segment in thread.segments {
                remaining[op::low(segment) as usize].fetch_add(1, Ordering::Relaxed);
            }
        }
        let window = if measure { plan.window.min(MEMORY_WINDOW) } else { plan.window };
        let mark_of = zeroes::<AtomicU32>(if measure { epoch_count } else { 0 })?;
        if measure {
            for (index, &epoch) in plan.marks.iter().enumerate() {
                if let Some(mark) = mark_of.get(epoch as usize) {
                    mark.store(index as u32 + 1, Ordering::Relaxed);
                }
            }
        }
        let need = zeroes::<AtomicU32>(epoch_count)?;
        let mut past_mark = 0;
        for (epoch, need) in need.iter().enumerate() {
            need.store(past_mark.max((epoch as u32).saturating_sub(window)), Ordering::Relaxed);
            if mark_of.get(epoch).is_some_and(|mark| mark.load(Ordering::Relaxed) != 0) {
                past_mark = epoch as u32 + 1;
            }
        }
        let bench = Bench {
            heap,
            plan,
            slots: zeroes::<AtomicPtr<u8>>(slot_count)?,
            written_pages: zeroes::<AtomicU32>(if measure { slot_count } else { 0 })?,
            ledger: Ledger::default(),
            order: Order::new(remaining, need),
            growth: Growth::new()?,
            mapping_ns: AtomicU64::new(0),
            knows_usable,
            on_exhausted,
        };
        let count = plan.threads.len();
        let starter = Starter {
            tickets: Vec::with_capacity(count),
            next: 0,
            handles: (0..count).map(|_| None).collect(),
            finished: Vec::with_capacity(count),
        };
        Ok(Self {
            bench,
            totals: Totals::default(),
            board,
            mark_of,
            window,
            starter: Mutex::new(starter),
            running: AtomicU32::new(0),
            finish: AtomicU32::new(0),
            on_failure,
            route: None,
            shared: None,
            stocktaker: None,
            pace: Pace::default(),
            stacks: (0..count).map(|_| AtomicUsize::new(0)).collect(),
        })
    }

    /// Takes stock at the samples that `stocktaker` names (memory runs).
    ///
    /// # Errors
    /// What mapping memory gives.
    pub(crate) fn take_stock_by(&mut self, stocktaker: Stocktaker) -> io::Result<()> {
        let count = self.bench.slots.len();
        self.bench.ledger = Ledger::new(zeroes::<AtomicU64>(count)?, zeroes::<AtomicU32>(count)?);
        self.stocktaker = Some(stocktaker);
        Ok(())
    }

    /// Keeps a memory run to the recorded clock, `limit` in all.
    pub(crate) fn keep_pace(&mut self, limit: Duration) {
        self.pace = Pace::new(self.bench.plan.times, limit);
    }

    /// Lets a region serve the blocks of one call site.
    ///
    /// # Errors
    /// When there is no memory for a region that threads share.
    pub(crate) fn route(&mut self, route: Option<SiteRoute>) -> io::Result<()> {
        self.route = route;
        if let Some(route) = route.filter(|route| route.is_shared) {
            let shared = SharedRegion::new(&route);
            self.shared = Some(shared.ok_or(io::ErrorKind::OutOfMemory)?);
        }
        Ok(())
    }

    fn lane(&self) -> Lane {
        Lane::new(self.route, self.shared)
    }

    /// Replays everything on the calling thread (the worker's main one) and others; enters
    /// what was measured on the board.
    pub(crate) fn run<const MEASURE: bool>(&self) {
        {
            let mut starter = self.lock();
            for thread in 0..self.bench.plan.threads.len() {
                let engine = ptr::from_ref(self).cast();
                starter.tickets.push(Ticket { engine, thread });
                starter.finished.push(0);
            }
            starter.finished.clear();
        }
        if MEASURE {
            self.board.set(Field::BaselineBytes, self.bench.growth.begin());
            if let Some(stocktaker) = &self.stocktaker {
                self.must(stocktaker.take_before(&self.bench));
            }
        }
        self.board.set(Field::State, STATE_RUNNING);
        let usage = sys::usage();
        let started_ns = heapwright_os::monotonic_ns();
        self.pace.begin();
        let cpu_ns = sys::process_cpu_ns();

        self.start_due::<MEASURE>(0);
        self.bench.order.advance(|done| self.boundary::<MEASURE>(done));
        let main = self.bench.plan.threads.iter().position(|thread| thread.is_main);
        if let Some(main) = main {
            self.count_thread();
            self.replay::<MEASURE>(&self.bench.plan.threads[main]);
        }
        let order = &self.bench.order;
        order.wait_for(order.epoch_count());
        self.finish.store(1, Ordering::SeqCst);
        heapwright_os::futex_wake(&self.finish, u32::MAX >> 1);
        self.join_all();

        let cpu_ns = sys::process_cpu_ns() - cpu_ns;
        let wall_ns = heapwright_os::monotonic_ns() - started_ns;
        let usage_after = sys::usage();
        if let Some(shared) = self.shared {
            self.board.add(Field::RegionBytes, shared.held_bytes() as u64);
        }
        self.board.set(Field::PeakBytes, self.bench.growth.highest());
        self.board.set(Field::CpuNs, cpu_ns);
        let mapping_ns = self.bench.mapping_ns.load(Ordering::Relaxed);
        self.board.set(Field::WaitNs, order.wait_ns());
        self.board.set(Field::MappingNs, mapping_ns);
        self.board.set(Field::WallNs, wall_ns);
        self.board.set(Field::FaultsMinor, usage_after.faults_minor - usage.faults_minor);
        self.board.set(Field::FaultsMajor, usage_after.faults_major - usage.faults_major);
        self.board.set(Field::KernelNs, usage_after.kernel_ns - usage.kernel_ns);
        self.board.set(Field::State, STATE_DONE);
    }

    fn replay<const MEASURE: bool>(&self, thread: &ThreadView) {
        let mut tally = Tally { births: thread.births, ..Tally::default() };
        let mut lane = self.lane();
        let mut start = 0;
        for &segment in thread.segments {
            let (epoch, end) = (op::low(segment), op::high(segment) as usize);
            self.bench.order.enter(epoch);
            self.bench.operate::<MEASURE>(&thread.words[start..end], &mut tally, &mut lane);
            if MEASURE {
                self.totals.add(&mut tally);
            }
            self.bench.order.leave(epoch, |done| self.boundary::<MEASURE>(done));
            start = end;
        }
        self.board.add(Field::RegionBytes, lane.held_bytes() as u64);
    }

    /// All operations up to the end of epoch `done` are over, and nobody has been told yet.
    fn boundary<const MEASURE: bool>(&self, done: u32) {
        self.start_due::<MEASURE>(done + 1);
        self.board.set(Field::Completed, u64::from(done) + 1);
        if !MEASURE {
            return;
        }
        let live_bytes = self.totals.live_bytes.load(Ordering::Relaxed);
        self.board.raise(Field::PeakLiveBytes, live_bytes.max(0) as u64);
        self.pace.keep(done);
        let mark = self.mark_of[done as usize].load(Ordering::Relaxed);
        if mark != 0 {
            self.sample(mark as usize - 1, live_bytes);
        }
    }

    fn sample(&self, index: usize, live_bytes: i64) {
        self.join_finished(&mut self.lock());
        let sample = Sample {
            resident_bytes: self.bench.growth.read(),
            live_blocks: self.totals.live_blocks.load(Ordering::Relaxed),
            live_bytes,
            usable_bytes: self.totals.usable_bytes.load(Ordering::Relaxed),
            untouched_bytes: self.totals.untouched_bytes.load(Ordering::Relaxed),
            mapped_bytes: self.totals.mapped_bytes.load(Ordering::Relaxed),
            threads: u64::from(self.running.load(Ordering::Relaxed)),
        };
        self.board.set_sample(index, sample);
        if let Some(stocktaker) = &self.stocktaker
            && stocktaker.is_due(index)
        {
            self.must(stocktaker.take(&self.bench, index, sample.resident_bytes, &self.stacks));
        }
    }

    /// Ends this run where stock could not be taken.
    fn must(&self, taken: io::Result<()>) {
        if let Err(error) = taken {
            (self.on_failure)(&format!("stock could not be taken: {error}"));
        }
    }

    /// Starts the threads whose first epoch may be entered soon when `completed` are done.
    fn start_due<const MEASURE: bool>(&self, completed: u32) {
        let plan = self.bench.plan;
        let is_due = |thread: &ThreadView| thread.first_epoch() <= completed + self.window;
        let mut starter = self.lock();
        while let Some(thread) = plan.threads.get(starter.next)
            && is_due(thread)
        {
            let index = starter.next;
            starter.next += 1;
            if thread.is_main {
                continue;
            }
            self.join_finished(&mut starter);
            self.count_thread();
            let ticket = ptr::from_ref(&starter.tickets[index]).cast_mut().cast();
            // SAFETY: the ticket lies in a vector that has its full length since `run` began,
            // and lives as long as the engine, which joins all threads before it returns.
            let started = unsafe { sys::start_thread(thread_main::<H, MEASURE>, ticket) };
            match started {
                Ok(handle) => starter.handles[index] = Some(handle),
                Err(error) => {
                    (self.on_failure)(&format!("thread {index} could not be started: {error}"))
                }
            }
        }
    }

    fn count_thread(&self) {
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.board.raise(Field::ThreadsMax, u64::from(running));
        self.board.add(Field::Threads, 1);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Starter> {
        self.starter.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits for the ends of threads that have done all they had to.
    fn join_finished(&self, starter: &mut Starter) {
        while let Some(thread) = starter.finished.pop() {
            self.running.fetch_sub(1, Ordering::Relaxed);
            if let Some(handle) = starter.handles[thread].take() {
                // SAFETY: started by us; taken out, so joined once.
                unsafe { sys::join(handle) };
            }
        }
    }

    fn join_all(&self) {
        for thread in 0..self.bench.plan.threads.len() {
            let handle = self.lock().handles[thread].take();
            if let Some(handle) = handle {
                // SAFETY: started by us; taken out, so joined once.
                unsafe { sys::join(handle) };
            }
        }
    }
}

/// A replay thread from begin to end.
extern "C" fn thread_main<H: Heap, const MEASURE: bool>(ticket: *mut c_void) -> *mut c_void {
    // SAFETY: the ticket that `start_due` gave; it outlives this thread, nobody changes it.
    let ticket = unsafe { &*ticket.cast::<Ticket>() };
    // SAFETY: the engine of `run`, of this very type, which joins this thread before it ends.
    let engine = unsafe { &*ticket.engine.cast::<Engine<H>>() };
    let thread = &engine.bench.plan.threads[ticket.thread];
    let here = 0u8;
    // Relaxed: read where stock is taken, long after, behind the order's own fences.
    engine.stacks[ticket.thread].store(ptr::from_ref(&here).addr(), Ordering::Relaxed);
    engine.replay::<MEASURE>(thread);
    if !thread.ends {
        // It was alive when the recording ended: so it is until everything is measured.
        while engine.finish.load(Ordering::SeqCst) == 0 {
            // Any return is a reason to look again.
            let _ = heapwright_os::futex_wait(&engine.finish, 0, None);
        }
    }
    engine.lock().finished.push(ticket.thread);
    ptr::null_mut()
}

/// Zeroed atomics in shared memory, for the life of the process.
fn zeroes<T: Zeroed>(count: usize) -> io::Result<&'static [T]> {
    let start = sys::map(None, count * size_of::<T>(), true)?;
    // SAFETY: the mapping is that long, page aligned and stays; nobody else knows it, and all
    // zeroes is a value of these types.
    Ok(unsafe { std::slice::from_raw_parts(start.cast::<T>().as_ptr(), count) })
}

/// Types for which all zeroes is a value, and which may change behind a shared reference.
///
/// # Safety
/// - Both of it is true.
unsafe trait Zeroed {}
// SAFETY: an atomic zero.
unsafe impl Zeroed for AtomicU32 {}
// SAFETY: an atomic zero.
unsafe impl Zeroed for AtomicU64 {}
// SAFETY: an atomic null.
unsafe impl Zeroed for AtomicPtr<u8> {}
