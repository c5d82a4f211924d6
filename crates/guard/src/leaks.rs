//! Blocks that nothing points to any more: a conservative mark from registers, stacks and all
//! memory that the program may write.
//!
//! # Invariants
//! - I7 (design/safety#I7): what cannot be looked at counts as pointing everywhere: if a thread
//!   does not stop, or memory cannot be listed, no leak is told.

use heapwright_os::{Fd, OpenFlags, peek};
use heapwright_sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::depot::StackId;
use crate::finding::{BlockView, Finding, Kind};
use crate::heap::HEAP;
use crate::record::{BlockId, Record, State, marks};
use crate::table::{Table, Zeroed};
use crate::thread;
use crate::threads::Stopped;

/// What became of the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaks {
    /// It was made.
    Searched,
    /// It was not wanted, or the program was ended by a signal.
    NotSearched,
    /// A thread did not stop in time.
    ThreadsRan,
    /// The process's memory could not be listed.
    Unreadable,
}

impl Leaks {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Searched => "searched",
            Self::NotSearched => "not searched",
            Self::ThreadsRan => "threads did not stop",
            Self::Unreadable => "memory could not be listed",
        }
    }
}

const CHUNK_BYTES: usize = 64 << 10;
/// Groups of leaks that are kept apart; and told at most.
const GROUP_COUNT: usize = 1 << 14;
const GROUP_TOLD_MAX: usize = 200;
/// Mappings this large are looked up page by page: most of their pages were never touched.
const SPARSE_BYTES: usize = 16 << 20;
const PAGE_BYTES: usize = 4096;

/// Blocks leaked from one stack.
#[repr(C)]
struct Group {
    stack: AtomicU32,
    is_indirect: AtomicU32,
    count: AtomicUsize,
    bytes: AtomicUsize,
    first: AtomicU32,
    unused: AtomicU32,
}

// SAFETY: atomics only; zero is a free entry.
unsafe impl Zeroed for Group {}

static GROUPS: Table<Group> = Table::new();
static CHUNK: Table<AtomicUsize> = Table::new();

/// Searches and tells.
#[inline(never)]
pub(crate) fn search() -> Leaks {
    if !GROUPS.reserve(GROUP_COUNT) || !CHUNK.reserve(CHUNK_BYTES / 8) {
        return Leaks::Unreadable;
    }
    let Some(stopped) = Stopped::stop() else { return Leaks::ThreadsRan };
    let mut marker = Marker { first: 0, bits: marks::REACHED, but: 0 };
    let marked = marker.mark_roots(&stopped, thread::live_stack_start());
    stopped.go_on();
    if !marked {
        return Leaks::Unreadable;
    }
    let count = HEAP.record_count();
    let is_leaked = |record: &Record| {
        record.state() == State::Live
            && record.marks.load(Ordering::Relaxed) & (marks::REACHED | marks::INDIRECT) == 0
    };
    for id in 1..=count {
        let Some(record) = HEAP.records.get(id as usize).filter(|record| is_leaked(record)) else {
            continue;
        };
        // What this one leads to is lost through it.
        let mut marker = Marker { first: 0, bits: marks::INDIRECT, but: id };
        marker.scan_block(record);
        marker.drain();
    }
    for id in 1..=count {
        let Some(record) = HEAP.records.get(id as usize) else { continue };
        let bits = record.marks.load(Ordering::Relaxed);
        if record.state() == State::Live && bits & marks::REACHED == 0 {
            enter(id, record, bits & marks::INDIRECT != 0);
        }
    }
    tell_groups();
    Leaks::Searched
}

fn enter(id: BlockId, record: &Record, is_indirect: bool) {
    let stack: StackId = record.alloc_stack.load(Ordering::Relaxed);
    let key = stack.wrapping_mul(2).wrapping_add(u32::from(is_indirect));
    let mut at = (key.wrapping_mul(0x9e37_79b1) >> 8) as usize % GROUP_COUNT;
    for _ in 0..GROUP_COUNT {
        let Some(group) = GROUPS.get(at) else { return };
        if group.count.load(Ordering::Relaxed) == 0 {
            group.stack.store(stack, Ordering::Relaxed);
            group.is_indirect.store(u32::from(is_indirect), Ordering::Relaxed);
            group.first.store(id, Ordering::Relaxed);
        }
        if group.stack.load(Ordering::Relaxed) == stack
            && (group.is_indirect.load(Ordering::Relaxed) != 0) == is_indirect
        {
            group.count.fetch_add(1, Ordering::Relaxed);
            group.bytes.fetch_add(record.bytes(), Ordering::Relaxed);
            return;
        }
        at = (at + 1) % GROUP_COUNT;
    }
}

/// Direct leaks first: they are the ones to mend.
fn tell_groups() {
    let mut told_count = 0;
    for wanted in [0, 1] {
        for group in (0..GROUP_COUNT).filter_map(|at| GROUPS.get(at)) {
            let count = group.count.load(Ordering::Relaxed);
            let is_wanted = group.is_indirect.load(Ordering::Relaxed) == wanted;
            if count == 0 || !is_wanted || told_count == GROUP_TOLD_MAX {
                continue;
            }
            told_count += 1;
            let first = group.first.load(Ordering::Relaxed);
            let Some(record) = HEAP.records.get(first as usize) else { continue };
            HEAP.tell(Finding {
                stack: group.stack.load(Ordering::Relaxed),
                told: count,
                leaked_bytes: group.bytes.load(Ordering::Relaxed),
                is_indirect: wanted == 1,
                block: Some(BlockView::of(record)),
                ..Finding::new(Kind::Leak, record.start())
            });
        }
    }
}

/// A mark under way: blocks reached and not looked into are linked by `next`.
struct Marker {
    first: BlockId,
    bits: u32,
    /// The block that the mark starts from: not marked itself.
    but: BlockId,
}

impl Marker {
    /// Looks at a word that may be a pointer.
    fn word(&mut self, word: usize) {
        if !HEAP.holds(word) {
            return;
        }
        // One past the end points to the block as well; it may be the guard's address.
        let Some((id, record)) = HEAP.block_at(word) else { return };
        let points_to = word >= record.start() && word <= record.end();
        if !points_to || record.state() != State::Live || id == self.but {
            return;
        }
        let before = record.mark(self.bits);
        if before & (self.bits | marks::REACHED) == 0 {
            record.next.store(self.first, Ordering::Relaxed);
            self.first = id;
        }
    }

    fn drain(&mut self) {
        while self.first != 0 {
            let Some(record) = HEAP.records.get(self.first as usize) else { return };
            self.first = record.next.load(Ordering::Relaxed);
            self.scan_block(record);
        }
    }

    fn scan_block(&mut self, record: &Record) {
        self.scan(record.start().next_multiple_of(8), record.end() & !7);
    }

    /// Looks at all words of a range, as far as it can be read.
    fn scan(&mut self, start: usize, end: usize) {
        let mut at = start;
        while at < end {
            let bytes = CHUNK_BYTES.min(end - at);
            let Some(first) = CHUNK.get(0) else { return };
            let place = first.as_ptr().cast::<u8>();
            // SAFETY: the chunk is as long and used by this search only.
            let buffer = unsafe { core::slice::from_raw_parts_mut(place, bytes) };
            let copied = peek(at, buffer).unwrap_or(0);
            for index in 0..copied / 8 {
                if let Some(word) = CHUNK.get(index) {
                    self.word(word.load(Ordering::Relaxed));
                }
            }
            // A page that cannot be read is passed over.
            at = match copied == bytes {
                true => at + bytes,
                false => (at + copied + PAGE_BYTES) & !(PAGE_BYTES - 1),
            };
        }
    }

    /// Marks from everything that is not a block; false when it cannot be listed.
    fn mark_roots(&mut self, stopped: &Stopped, sp: usize) -> bool {
        stopped.words().for_each(|word| self.word(word));
        let Ok(maps) = Fd::open(c"/proc/self/maps", OpenFlags::Read) else { return false };
        let mut lines = Lines { buffer: [0; 4608], filled: 0, start: 0, ended: false };
        while let Some(line) = lines.next(&maps) {
            if let Some((start, end)) = writable(line) {
                let is_stack = line.ends_with(b"[stack]");
                self.scan_mapping(start, end, is_stack.then_some((stopped, sp)));
            }
        }
        self.drain();
        true
    }

    /// Scans a mapping but for what is ours. Of the first thread's stack only the part in use:
    /// what lies below is left over, and hides leaks. Other threads' stacks are scanned whole,
    /// since other data may lie in the same mapping.
    fn scan_mapping(&mut self, start: usize, end: usize, stack: Option<(&Stopped, usize)>) {
        let used = stack.and_then(|(stopped, sp)| {
            let inside = |pointer: &usize| (start..end).contains(pointer);
            stopped.stack_pointers().chain([sp]).filter(inside).min()
        });
        let mut at = used.map_or(start, |pointer| pointer & !7);
        while at < end {
            let Some((own_start, own_end)) = HEAP.own_memory_behind(at) else {
                return self.scan_touched(at, end);
            };
            if own_start >= end {
                return self.scan_touched(at, end);
            }
            self.scan_touched(at, own_start.max(at));
            at = own_end;
        }
    }

    fn scan_touched(&mut self, start: usize, end: usize) {
        if end.saturating_sub(start) < SPARSE_BYTES {
            return self.scan(start, end);
        }
        let mut at = start;
        let mut resident = [0u8; 512];
        while at < end {
            let pages = ((end - at) / PAGE_BYTES).clamp(1, resident.len());
            let aligned = at & !(PAGE_BYTES - 1);
            if heapwright_os::mincore(aligned, &mut resident[..pages]).is_err() {
                return self.scan(at, end);
            }
            for (page, state) in resident[..pages].iter().enumerate() {
                if state & 1 != 0 {
                    let low = aligned + page * PAGE_BYTES;
                    self.scan(low.max(at), (low + PAGE_BYTES).min(end));
                }
            }
            at = aligned + pages * PAGE_BYTES;
        }
    }
}

/// Lines of a file, without allocating.
struct Lines {
    buffer: [u8; 4608],
    filled: usize,
    start: usize,
    ended: bool,
}

impl Lines {
    fn next(&mut self, file: &Fd) -> Option<&[u8]> {
        loop {
            let rest = &self.buffer[self.start..self.filled];
            if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                let line = self.start..self.start + length;
                self.start += length + 1;
                return Some(&self.buffer[line]);
            }
            if self.ended {
                return None;
            }
            self.buffer.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.start = 0;
            if self.filled == self.buffer.len() {
                self.filled = 0; // Longer than any line can be.
            }
            let read = file.read(&mut self.buffer[self.filled..]).unwrap_or(0);
            self.filled += read;
            self.ended = read == 0;
        }
    }
}

/// The range of a line of the list of mappings, if the program may write there and reading it
/// has no effect.
fn writable(line: &[u8]) -> Option<(usize, usize)> {
    let text = str::from_utf8(line).ok()?;
    let mut words = text.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let rights = words.next()?;
    let path = words.nth(3).unwrap_or("");
    if !rights.starts_with("rw") || path.starts_with("/dev/") || path == "[vvar]" {
        return None;
    }
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::writable;

    #[test]
    fn only_plain_writable_memory_holds_roots() {
        let range = |line: &str| writable(line.as_bytes());
        assert_eq!(range("1000-3000 rw-p 00000000 00:00 0"), Some((0x1000, 0x3000)));
        assert_eq!(range("1000-3000 rw-p 00001000 fe:00 12  /lib/x.so"), Some((0x1000, 0x3000)));
        assert_eq!(range("1000-3000 r--p 00000000 00:00 0"), None);
        assert_eq!(range("1000-3000 rw-s 00000000 00:05 9  /dev/dri/card0"), None);
        assert_eq!(range("nonsense"), None);
    }
}
