//! Findings as lines of JSON, one system call each, into the report file; without one, as short
//! lines on standard error. Names are found later, by whoever reads the file: each line has the
//! modules that its addresses lie in.
//!
//! # Invariants
//! - I6 (design/safety#I6): a report allocates nothing and calls no function of libc, so it works
//!   in a signal handler.

use core::fmt::{self, Write};

use heapwright_os::{Fd, OpenFlags, process_id, read_link, write_all};
use heapwright_sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::Lock;
use crate::depot::{Depot, StackId};
use crate::finding::{BlockView, Finding, Kind};
use crate::options::Options;
use crate::record::{State, Watch};
use crate::table::Table;
use crate::thread::me;

const LINE_BYTES_MAX: usize = 256 << 10;
/// Innermost frames of a stack that are told.
const FRAME_COUNT_MAX: usize = 64;
/// Findings told in one process; more are counted.
const TOLD_COUNT_MAX: usize = 1000;
/// Numbers of descriptors that programs count on are far below.
const DESCRIPTOR_LEAST: i32 = 500;

/// The way out.
pub(crate) struct Reporter {
    line: Lock<()>,
    buffer: Table<AtomicU8>,
    /// Hashes of what has been told: an error in a loop is told once.
    told: [AtomicU64; 4096],
    told_count: AtomicUsize,
    repeated_count: AtomicUsize,
    descriptor: AtomicI32,
    descriptor_inode: AtomicU64,
    /// Process that the counts belong to.
    process: AtomicU32,
}

/// A line being written: what does not fit is left out.
struct Line<'a> {
    buffer: &'a Table<AtomicU8>,
    len: usize,
}

impl Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let place = self.buffer.get(self.len).ok_or(fmt::Error)?;
            place.store(byte, Ordering::Relaxed);
            self.len += 1;
        }
        Ok(())
    }
}

/// The modules that a line mentions, as bits.
struct Mentioned {
    addresses: [usize; 3 * FRAME_COUNT_MAX],
    count: usize,
}

impl Reporter {
    pub(crate) const fn new() -> Self {
        Self {
            line: Lock::new(()),
            buffer: Table::new(),
            told: [const { AtomicU64::new(0) }; 4096],
            told_count: AtomicUsize::new(0),
            repeated_count: AtomicUsize::new(0),
            descriptor: AtomicI32::new(-1),
            descriptor_inode: AtomicU64::new(0),
            process: AtomicU32::new(0),
        }
    }

    pub(crate) fn begin(&self) -> bool {
        self.buffer.reserve(LINE_BYTES_MAX)
    }

    /// Opens the report file now, for programs that later may open nothing.
    pub(crate) fn open_early(&self, options: &Options) {
        self.process.store(process_id(), Ordering::Relaxed);
        let Some(Ok(fd)) = options.with_path(|path| Fd::open(path, OpenFlags::Append)) else {
            return;
        };
        let inode = fd.stat().map_or(0, |stat| stat.inode);
        if let Ok(high) = fd.duplicate_above(DESCRIPTOR_LEAST) {
            self.descriptor_inode.store(inode, Ordering::Relaxed);
            self.descriptor.store(high.into_raw(), Ordering::Relaxed);
        }
    }

    /// Whether the same kind of error at the same place was told before; enters it.
    fn is_repeated(&self, finding: &Finding) -> bool {
        if finding.kind == Kind::Leak {
            return false;
        }
        let mut hash = finding.kind as u64 + 1;
        let alloc_stack = finding.block.map_or(0, |block| block.alloc_stack);
        let free_stack = finding.block.map_or(0, |block| block.free_stack);
        for word in [finding.stack, alloc_stack, free_stack] {
            hash = (hash ^ u64::from(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^= hash >> 29;
        }
        let hash = hash.max(1);
        let mut at = hash as usize % self.told.len();
        for _ in 0..self.told.len() {
            let order = Ordering::Relaxed;
            match self.told[at].compare_exchange(0, hash, order, order) {
                Ok(_) => return false,
                Err(other) if other == hash => return true,
                Err(_) => at = (at + 1) % self.told.len(),
            }
        }
        true
    }

    /// Tells a finding, once for each place; returns whether it was told now.
    pub(crate) fn tell(&self, finding: &Finding, depot: &Depot, options: &Options) -> bool {
        if self.is_repeated(finding)
            || self.told_count.fetch_add(1, Ordering::Relaxed) >= TOLD_COUNT_MAX
        {
            self.repeated_count.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.send(options, |line, is_file| match is_file {
            true => write_finding(line, finding, depot),
            false => write_short(line, finding),
        });
        true
    }

    /// Whether this is the process that the counts belong to.
    pub(crate) fn is_own_process(&self) -> bool {
        let process = self.process.load(Ordering::Relaxed);
        process == 0 || process == process_id()
    }

    /// How many findings were told, and how many were not because they repeat others.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let told = self.told_count.load(Ordering::Relaxed).min(TOLD_COUNT_MAX);
        (told, self.repeated_count.load(Ordering::Relaxed))
    }

    /// Whether the calling thread, `me`, is in a report.
    pub(crate) fn is_reentered_by(&self, me: usize) -> bool {
        self.line.is_reentered_by(me)
    }

    /// In a child after fork: its findings are its own.
    ///
    /// # Safety
    /// - The calling thread is the only one, and is in no report.
    pub(crate) unsafe fn after_fork(&self) {
        // SAFETY: whoever held it does not exist here.
        unsafe { self.line.force_unlock() };
        self.process.store(process_id(), Ordering::Relaxed);
        self.told_count.store(0, Ordering::Relaxed);
        self.repeated_count.store(0, Ordering::Relaxed);
    }

    /// Writes one line, made by `write`, which is told whether it goes to the report file.
    pub(crate) fn send(
        &self,
        options: &Options,
        write: impl FnOnce(&mut dyn Write, bool) -> fmt::Result,
    ) {
        let Ok(_guard) = self.line.lock(me()) else { return };
        let file = self.file(options);
        let mut line = Line { buffer: &self.buffer, len: 0 };
        // A line that is too long is cut: the reader skips it and says so.
        let _ = write(&mut line, file.is_some());
        // Some lines are for the file only.
        if line.len > 0 {
            let _ = line.write_char('\n');
        }
        let Some(first) = self.buffer.get(0) else { return };
        // SAFETY: `len` bytes of the table were written just now, under the lock.
        let bytes = unsafe { core::slice::from_raw_parts(first.as_ptr(), line.len) };
        let _ = match &file {
            Some(file) => write_all(file, bytes),
            None if options.with_path(|_| ()).is_some() => Ok(()),
            None => write_all(&Fd::STDERR, bytes),
        };
        if let Some(file) = file
            && file.raw() == self.descriptor.load(Ordering::Relaxed)
        {
            let _ = file.into_raw();
        }
    }

    /// Tells the stack of a site.
    pub(crate) fn send_site(&self, options: &Options, depot: &Depot, stack: StackId) {
        self.send(options, |line, _| {
            let mut mentioned = Mentioned { addresses: [0; 3 * FRAME_COUNT_MAX], count: 0 };
            write!(line, "{{\"v\":1,\"kind\":\"site\",\"pid\":{}", process_id())?;
            write_stack(line, "stack", stack, depot, &mut mentioned)?;
            write_exe(line)?;
            write_modules(line, &mentioned)?;
            line.write_char('}')
        });
    }

    /// The report file: the descriptor opened early if it is still that, else opened again.
    fn file(&self, options: &Options) -> Option<Fd> {
        let raw = self.descriptor.load(Ordering::Relaxed);
        if raw >= 0 {
            let fd = Fd::from_raw(raw);
            let inode = fd.stat().map(|stat| stat.inode);
            if inode == Ok(self.descriptor_inode.load(Ordering::Relaxed)) {
                return Some(fd);
            }
            // The program closed it; the number may be another file's now.
            let _ = fd.into_raw();
            self.descriptor.store(-1, Ordering::Relaxed);
        }
        options.with_path(|path| Fd::open(path, OpenFlags::Append).ok()).flatten()
    }
}

fn write_finding(line: &mut dyn Write, finding: &Finding, depot: &Depot) -> fmt::Result {
    let mut mentioned = Mentioned { addresses: [0; 3 * FRAME_COUNT_MAX], count: 0 };
    write!(
        line,
        "{{\"v\":1,\"kind\":\"{}\",\"pid\":{},\"thread\":{},\"address\":{},\"bytes\":{}",
        finding.kind.name(),
        process_id(),
        finding.thread,
        finding.address,
        finding.bytes
    )?;
    if let Some(is_write) = finding.is_write {
        write!(line, ",\"access\":\"{}\"", if is_write { "write" } else { "read" })?;
    }
    if !finding.via.is_empty() {
        write!(line, ",\"via\":\"{}\"", finding.via)?;
    }
    if finding.told != 0 {
        write!(line, ",\"told\":{}", finding.told)?;
    }
    if finding.kind == Kind::Leak {
        let (bytes, indirect) = (finding.leaked_bytes, finding.is_indirect);
        write!(line, ",\"leaked_bytes\":{bytes},\"indirect\":{indirect}")?;
    }
    if finding.signal != 0 {
        write!(line, ",\"signal\":{}", finding.signal)?;
    }
    if let Some(filler) = finding.filler {
        write!(line, ",\"filler\":{filler}")?;
    }
    write!(line, ",\"fatal\":{}", finding.is_fatal)?;
    write_stack(line, "stack", finding.stack, depot, &mut mentioned)?;
    if let Some(block) = &finding.block {
        write_block(line, block, depot, &mut mentioned)?;
    }
    write_exe(line)?;
    write_modules(line, &mentioned)?;
    line.write_char('}')
}

fn write_block(
    line: &mut dyn Write,
    block: &BlockView,
    depot: &Depot,
    mentioned: &mut Mentioned,
) -> fmt::Result {
    let state = if block.state == State::Freed { "freed" } else { "live" };
    let watch = match block.watch {
        Watch::Guarded => "guarded",
        Watch::Packed => "packed",
        Watch::Unguarded => "unguarded",
    };
    write!(
        line,
        ",\"block\":{{\"start\":{},\"bytes\":{},\"state\":\"{state}\",\"watch\":\"{watch}\",\
         \"allocator\":\"{}\",\"deallocator\":\"{}\",\"alloc_thread\":{},\"free_thread\":{}",
        block.start,
        block.bytes,
        block.family.allocator(),
        block.freed_by.deallocator(),
        block.alloc_thread,
        block.free_thread,
    )?;
    write_stack(line, "alloc_stack", block.alloc_stack, depot, mentioned)?;
    if block.free_thread != 0 {
        write_stack(line, "free_stack", block.free_stack, depot, mentioned)?;
    }
    line.write_char('}')
}

fn write_stack(
    line: &mut dyn Write,
    name: &str,
    stack: StackId,
    depot: &Depot,
    mentioned: &mut Mentioned,
) -> fmt::Result {
    write!(line, ",\"{name}\":[")?;
    for (index, pc) in depot.frames(stack).take(FRAME_COUNT_MAX).enumerate() {
        write!(line, "{}{pc}", if index == 0 { "" } else { "," })?;
        if let Some(place) = mentioned.addresses.get_mut(mentioned.count) {
            *place = pc;
            mentioned.count += 1;
        }
    }
    line.write_char(']')
}

/// The program's path.
pub(crate) fn write_exe(line: &mut dyn Write) -> fmt::Result {
    let mut path = [0; 1024];
    let bytes = read_link(c"/proc/self/exe", &mut path).unwrap_or(0);
    line.write_str(",\"exe\":")?;
    write_string(line, &path[..bytes])
}

fn write_string(line: &mut dyn Write, bytes: &[u8]) -> fmt::Result {
    line.write_char('"')?;
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' | '\\' => write!(line, "\\{letter}")?,
                control if control < ' ' => write!(line, "\\u{:04x}", control as u32)?,
                other => line.write_char(other)?,
            }
        }
        for byte in chunk.invalid() {
            write!(line, "\\u{byte:04x}")?;
        }
    }
    line.write_char('"')
}

fn write_modules(line: &mut dyn Write, mentioned: &Mentioned) -> fmt::Result {
    line.write_str(",\"modules\":[")?;
    let mut result = Ok(());
    let mut is_first = true;
    let addresses = &mentioned.addresses[..mentioned.count];
    heapwright_unwind::visit_modules(|module| {
        let inside = |pc: &usize| pc.wrapping_sub(1) >= module.start && *pc <= module.end;
        if result.is_err() || !addresses.iter().any(inside) {
            return;
        }
        result = write_module(line, &module, is_first);
        is_first = false;
    });
    result?;
    line.write_char(']')
}

fn write_module(
    line: &mut dyn Write,
    module: &heapwright_unwind::Module<'_>,
    is_first: bool,
) -> fmt::Result {
    let comma = if is_first { "" } else { "," };
    let heapwright_unwind::Module { start, end, bias, .. } = module;
    write!(line, "{comma}{{\"start\":{start},\"end\":{end},\"bias\":{bias},\"path\":")?;
    write_string(line, module.path)?;
    line.write_str(",\"build_id\":\"")?;
    for byte in module.build_id {
        write!(line, "{byte:02x}")?;
    }
    line.write_str("\"}")
}

/// A line for people, when nobody reads a file.
fn write_short(line: &mut dyn Write, finding: &Finding) -> fmt::Result {
    write!(line, "heapwright check: process {}: {}", process_id(), finding.kind.name())?;
    if let Some(is_write) = finding.is_write {
        write!(line, " by a {}", if is_write { "write" } else { "read" })?;
    }
    if finding.kind == Kind::Leak {
        write!(line, " of {} bytes in {} blocks", finding.leaked_bytes, finding.told)?;
    } else {
        write!(line, " at {:#x}", finding.address)?;
    }
    if let Some(block) = &finding.block {
        write!(line, ", block of {} bytes at {:#x}", block.bytes, block.start)?;
    }
    line.write_str("; `heapwright run --mode check` names the places")
}
