//! The end of a process: canaries of blocks still alive, leaks, and a line that sums up.

use heapwright_sync::atomic::{AtomicU32, Ordering};

use crate::heap::HEAP;
use crate::leaks::{self, Leaks};
use crate::options::Flag;
use crate::record::{State, Watch};
use crate::report::write_exe;

/// 1 once the end was told.
static TOLD: AtomicU32 = AtomicU32::new(0);
/// 1 in a child whose parent had more threads than the one that forked.
static LOST_THREADS: AtomicU32 = AtomicU32::new(0);

/// How a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By `exit`, or by a return from `main`.
    Exit,
    /// By `_exit`, as children after a fork do: what they leave is no leak.
    AtOnce,
}

/// Whether the end of this process was not told yet, and is now. A child of `vfork` has its
/// parent's memory, whose end it is not.
fn is_first() -> bool {
    HEAP.is_ready() && HEAP.reporter.is_own_process() && TOLD.swap(1, Ordering::Relaxed) == 0
}

/// The program ends in good order. Once.
pub fn at_exit(ending: Ending) {
    if !is_first() {
        return;
    }
    sweep();
    let is_wanted = HEAP.options.has(Flag::Leaks) && ending == Ending::Exit;
    // Threads that did not come along had registers that nobody knows.
    let leaks = match is_wanted && LOST_THREADS.load(Ordering::Relaxed) == 0 {
        true => leaks::search(),
        false => Leaks::NotSearched,
    };
    sum_up(leaks);
}

/// The program ends by a signal, or by `abort`.
pub fn at_fatal_signal() {
    if is_first() {
        sweep();
        sum_up(Leaks::NotSearched);
    }
}

/// In a child after fork: its end is its own. `lost_threads` says whether its parent had others.
pub(crate) fn after_fork(lost_threads: bool) {
    TOLD.store(0, Ordering::Relaxed);
    if lost_threads {
        LOST_THREADS.store(1, Ordering::Relaxed);
    }
}

/// Looks at all canaries, and at the poison of freed blocks that are held back.
fn sweep() {
    for id in 1..=HEAP.record_count() {
        let Some(record) = HEAP.records.get(id as usize) else { return };
        match (record.state(), record.watch()) {
            (State::Live, _) => HEAP.check_canaries(record, None),
            (State::Freed, Watch::Packed) => HEAP.check_poison(record),
            _ => {}
        }
    }
}

fn sum_up(leaks: Leaks) {
    let counts = &HEAP.counts;
    let (told, repeated) = HEAP.reporter.counts();
    HEAP.reporter.send(&HEAP.options, |line, is_file| {
        if !is_file {
            return Ok(());
        }
        write!(
            line,
            "{{\"v\":1,\"kind\":\"end\",\"pid\":{},\"told\":{told},\"repeated\":{repeated},\
             \"blocks\":{},\"guarded\":{},\"packed\":{},\"unguardable\":{},\"unchecked\":{},\
             \"wraps\":{},\"markers\":{},\"leaks\":\"{}\"",
            heapwright_os::process_id(),
            counts.blocks.load(Ordering::Relaxed),
            counts.guarded.load(Ordering::Relaxed),
            counts.packed.load(Ordering::Relaxed),
            counts.unguardable.load(Ordering::Relaxed),
            counts.unchecked.load(Ordering::Relaxed),
            HEAP.pages.wrap_count.load(Ordering::Relaxed),
            HEAP.pages.method() == crate::pages::Method::Markers,
            leaks.name(),
        )?;
        write_exe(line)?;
        line.write_char('}')
    });
    if HEAP.options.has(Flag::TellSites) {
        tell_sites();
    }
    let told_site = HEAP.options.told_site();
    if told_site != 0 {
        tell_site(told_site);
    }
}

/// The numbers of all sites, for the search for a guilty one.
fn tell_sites() {
    HEAP.reporter.send(&HEAP.options, |line, _| {
        write!(line, "{{\"v\":1,\"kind\":\"sites\",\"pid\":{}", heapwright_os::process_id())?;
        line.write_str(",\"sites\":[")?;
        // As many as fit into a line: those of real programs do.
        for (index, site) in HEAP.sites.all().take(12_000).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(line, "{comma}\"{:x}\"", site.hash.load(Ordering::Relaxed))?;
        }
        line.write_str("]}")
    });
}

/// The stack of one site.
fn tell_site(hash: u64) {
    let found = HEAP.sites.all().find(|site| site.hash.load(Ordering::Relaxed) == hash);
    if let Some(site) = found {
        let stack = site.stack.load(Ordering::Relaxed);
        HEAP.reporter.send_site(&HEAP.options, &HEAP.depot, stack);
    }
}
