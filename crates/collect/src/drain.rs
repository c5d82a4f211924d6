//! The collector's side of the rings: finding processes, taking what their threads have
//! written, and noticing when they are gone.

use std::collections::HashSet;
use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use heapwright_format::chunk::{CHUNK_BYTES, Columns, columns};
use heapwright_format::file::{EventsHead, FileWriter, ProcessEndInfo, ProcessInfo};
use heapwright_format::layout::lengths_by_heads;
use heapwright_format::spool::{
    PROCESS_BYTES, PROCESS_HEADER_BYTES, ProcessHeader, SLOT_ACTIVE, SLOT_BYTES, SLOT_ENDED,
    SLOT_FREE, SLOT_HEADER_BYTES, SLOTS_MAX, SPOOL_MAGIC, SlotHeader, unpack_used,
};
use heapwright_os::{Fd, Mapping, OpenFlags, Protection, futex_wake, map_shared, process_alive};
use heapwright_sync::atomic::Ordering;

use crate::session::Session;

/// The file being written. The first error closes it for events; what comes later is counted.
pub(crate) struct Output {
    writer: FileWriter<fs::File>,
    file: fs::File,
    pub(crate) error: Option<io::Error>,
    pub(crate) events: u64,
    pub(crate) unwritten_events: u64,
}

impl Output {
    pub(crate) fn new(writer: FileWriter<fs::File>, file: fs::File) -> Self {
        Self { writer, file, error: None, events: 0, unwritten_events: 0 }
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    /// Writes the events of a chunk; they are lost when there are no columns, because the program
    /// has overwritten what told their lengths.
    fn events(&mut self, head: EventsHead, columns: Option<Columns<'_>>) {
        if self.error.is_none()
            && let Some(columns) = columns
        {
            let before = self.writer.bytes();
            match self.writer.events(head, &columns) {
                Ok(()) => {
                    self.events += u64::from(head.events);
                    return;
                }
                Err(error) => self.fail(before, error),
            }
        }
        self.unwritten_events += u64::from(head.events);
    }

    pub(crate) fn facts(
        &mut self,
        write: impl FnOnce(&mut FileWriter<fs::File>) -> io::Result<()>,
    ) {
        if self.error.is_none() {
            let before = self.writer.bytes();
            if let Err(error) = write(&mut self.writer) {
                self.fail(before, error);
            }
        }
    }

    /// Keeps the first error and cuts the torn section off, so that what is there is whole.
    fn fail(&mut self, before: u64, error: io::Error) {
        let _ = self.file.set_len(before);
        self.error = Some(error);
    }

    /// Ends the file. After an error the end is still tried: cutting made a little room.
    pub(crate) fn finish(mut self, end: &heapwright_format::file::EndInfo) -> Option<io::Error> {
        if self.error.is_some() {
            use std::io::{Seek, SeekFrom};
            let _ = self.file.seek(SeekFrom::End(0));
        }
        let ended = self.writer.finish(end).and_then(|file| file.sync_data());
        self.error.take().or(ended.err())
    }
}

struct Slot {
    mapping: Mapping,
}

impl Slot {
    fn header(&self) -> &SlotHeader {
        // SAFETY: a slot begins with its header, all atomic words, mapped until `unmap`.
        unsafe { self.mapping.start().cast::<SlotHeader>().as_ref() }
    }

    /// Where the chunk at `position` begins.
    fn chunk(&self, position: usize) -> NonNull<u8> {
        let offset = SLOT_HEADER_BYTES + position * CHUNK_BYTES;
        debug_assert!(offset + CHUNK_BYTES <= SLOT_BYTES);
        // SAFETY: inside the slot's mapping.
        unsafe { self.mapping.start().add(offset) }
    }
}

/// A process with a ring file.
struct Process {
    number: u32,
    pid: u32,
    path: PathBuf,
    file: Fd,
    mapping: Mapping,
    slots: Vec<Option<Slot>>,
    written_events: u64,
}

impl Process {
    fn header(&self) -> &ProcessHeader {
        // SAFETY: the mapping is PROCESS_HEADER_BYTES long and lives until `close`; the header
        // is atomic words, and bytes that are written before the magic.
        unsafe { self.mapping.start().cast::<ProcessHeader>().as_ref() }
    }

    fn slot(&mut self, index: usize) -> Option<&Slot> {
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        if self.slots[index].is_none() {
            let offset = (PROCESS_HEADER_BYTES + index * SLOT_BYTES) as u64;
            let mapping = map_shared(&self.file, offset, SLOT_BYTES, Protection::ReadWrite).ok()?;
            self.slots[index] = Some(Slot { mapping });
        }
        self.slots[index].as_ref()
    }

    /// Takes what all threads have completed; `all` also takes what is in the chunks being
    /// filled. Returns the events taken.
    fn drain(&mut self, output: &mut Output, all: bool) -> u64 {
        let used = (self.header().slots_used.load(Ordering::Acquire) as usize).min(SLOTS_MAX);
        let mut taken = 0;
        for index in 0..used {
            let state = self.header().slot_states[index].load(Ordering::Acquire);
            if state != SLOT_ACTIVE && state != SLOT_ENDED {
                continue;
            }
            let number = self.number;
            let Some(slot) = self.slot(index) else { continue };
            taken += drain_slot(slot, number, output, all || state == SLOT_ENDED);
            if state == SLOT_ENDED {
                // Release: pairs with the Acquire of the thread that takes the slot next.
                self.header().slot_states[index].store(SLOT_FREE, Ordering::Release);
            }
        }
        self.written_events += taken;
        taken
    }

    fn close(mut self, output: &mut Output, running: bool) {
        self.drain(output, true);
        let header = self.header();
        let info = ProcessEndInfo {
            process: self.number,
            events: self.written_events,
            dropped: header.unrecorded.load(Ordering::Relaxed),
            threads: header.threads.load(Ordering::Relaxed),
            running,
        };
        output.facts(|writer| writer.process_end(&info));
        if running && self.header().attached.load(Ordering::Relaxed) != 0 {
            // It keeps the file mapped until each of its threads has noticed; the memory is ours
            // to give back now.
            let _ = self.file.punch_hole(0, PROCESS_BYTES as u64);
        }
        let _ = fs::remove_file(&self.path);
        for slot in self.slots.into_iter().flatten() {
            // SAFETY: the slot is dropped here; nobody else has its mapping.
            unsafe { slot.mapping.unmap() };
        }
        // SAFETY: the last use of the header was above.
        unsafe { self.mapping.unmap() };
    }
}

fn drain_slot(slot: &Slot, process: u32, output: &mut Output, all: bool) -> u64 {
    let header = slot.header();
    let mut taken = 0;
    // Acquire: pairs with the thread's Release; the chunks below are complete.
    let published = header.published.load(Ordering::Acquire);
    let mut drained = header.drained.load(Ordering::Relaxed);
    while drained < published {
        let position = header.position(drained);
        let lengths = &header.chunk_lengths[position];
        let lengths = lengths.each_ref().map(|length| length.load(Ordering::Relaxed) as usize);
        let events = header.chunk_events[position].load(Ordering::Relaxed);
        // SAFETY: a published chunk, which is written again only when we have released it.
        let columns = unsafe { columns(slot.chunk(position), lengths) };
        output.events(events_head(header, position, process, events), columns);
        taken += u64::from(events);
        release_chunk(header, drained);
        drained += 1;
    }
    if all {
        // Acquire: pairs with the thread's Release; the bytes below are whole events.
        let (bytes, events) = unpack_used(header.used.load(Ordering::Acquire));
        if bytes != 0 && header.published.load(Ordering::Acquire) == published {
            let position = header.position(published);
            let chunk = slot.chunk(position);
            // SAFETY: heads below `used` (spool I3).
            let heads = unsafe { columns(chunk, [bytes as usize, 0, 0, 0, 0]) };
            let lengths = heads.and_then(|heads| lengths_by_heads(heads[0]));
            // SAFETY: the fields that those heads tell of (spool I3).
            let columns = lengths.and_then(|lengths| unsafe { columns(chunk, lengths) });
            output.events(events_head(header, position, process, events), columns);
            taken += u64::from(events);
            // Nobody fills it further: its thread or process has ended, or recording stops.
            header.used.store(0, Ordering::Relaxed);
            header.published.store(published + 1, Ordering::Relaxed);
            release_chunk(header, published);
        }
    }
    taken
}

fn events_head(header: &SlotHeader, position: usize, process: u32, events: u32) -> EventsHead {
    EventsHead {
        process,
        thread: header.thread.load(Ordering::Relaxed),
        thread_id: header.thread_id.load(Ordering::Relaxed),
        events,
        first_node: header.chunk_nodes[position].load(Ordering::Relaxed),
        time: header.chunk_times[position].load(Ordering::Relaxed),
    }
}

/// Gives chunk `number` back to the thread.
fn release_chunk(header: &SlotHeader, number: u64) {
    // SeqCst: the thread stores `waiting`, then looks at `busy`; we clear `busy`, then look at
    // `waiting`. One of us sees the other.
    header.busy.fetch_and(!(1 << header.position(number)), Ordering::SeqCst);
    header.drained.store(number + 1, Ordering::SeqCst);
    header.drained_word.store(number as u32 + 1, Ordering::SeqCst);
    if header.waiting.load(Ordering::SeqCst) != 0 {
        futex_wake(&header.drained_word, 1);
    }
}

/// All processes of a session.
pub(crate) struct Processes {
    live: Vec<Process>,
    seen: HashSet<OsString>,
    count: u32,
    threads: u32,
    dropped: u64,
    redact: bool,
}

impl Processes {
    pub(crate) fn new(redact: bool) -> Self {
        Self { live: Vec::new(), seen: HashSet::new(), count: 0, threads: 0, dropped: 0, redact }
    }

    /// Processes that have recorded so far.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Processes that still run.
    pub(crate) fn live_count(&self) -> usize {
        self.live.len()
    }

    /// Events that recorders had to let go, of processes that have ended.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Looks for ring files that are new; an older one of the same process id has ended (by
    /// exec).
    pub(crate) fn find_new(&mut self, session: &Session, output: &mut Output) {
        let Ok(entries) = fs::read_dir(session.directory()) else { return };
        let mut fresh: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "ring"))
            .filter(|path| !self.seen.contains(path.as_os_str()))
            .collect();
        fresh.sort_by_key(|path| ring_number(path));
        for path in fresh {
            if let Some(process) = self.open(&path, session, output) {
                self.seen.insert(path.into_os_string());
                let exec = |other: &Process| other.pid == process.pid;
                if let Some(index) = self.live.iter().position(exec) {
                    self.close(index, output, false);
                }
                self.live.push(process);
            }
        }
    }

    fn open(&mut self, path: &Path, session: &Session, output: &mut Output) -> Option<Process> {
        let name = CString::new(path.as_os_str().as_bytes()).ok()?;
        let file = Fd::open(&name, OpenFlags::ReadWrite).ok()?;
        if file.stat().ok()?.bytes < PROCESS_HEADER_BYTES as u64 {
            return None;
        }
        let mapping = map_shared(&file, 0, PROCESS_HEADER_BYTES, Protection::ReadWrite).ok()?;
        let (number, path) = (self.count, path.to_owned());
        let slots = Vec::new();
        let mut process = Process { number, pid: 0, path, file, mapping, slots, written_events: 0 };
        let header = process.header();
        // Acquire: pairs with the recorder's Release; the facts are complete.
        if header.magic.load(Ordering::Acquire) != SPOOL_MAGIC {
            // SAFETY: the process value is dropped here, nothing else has the mapping.
            unsafe { process.mapping.unmap() };
            return None;
        }
        let shift = session.header().time_shift.load(Ordering::Relaxed);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let exe_bytes = header.exe_bytes.load(Ordering::Relaxed) as usize;
        let exe = text(&header.exe[..exe_bytes.min(header.exe.len())]);
        // In another root it may not have found its own link.
        let exe = if exe.is_empty() { exe_of(header.pid.load(Ordering::Relaxed)) } else { exe };
        let command_bytes = header.command_bytes.load(Ordering::Relaxed) as usize;
        let command = &header.command[..command_bytes.min(header.command.len())];
        let command = command.split(|&byte| byte == 0).map(text);
        let mut command: Vec<String> = command.collect();
        while command.last().is_some_and(String::is_empty) {
            command.pop();
        }
        let pid = header.pid.load(Ordering::Relaxed);
        let info = ProcessInfo {
            process: number,
            pid,
            parent: header.parent.load(Ordering::Relaxed),
            forked_from: header.forked_from.load(Ordering::Relaxed),
            name: name_of(pid, &exe, command.first()),
            exe: if self.redact { base_name(&exe) } else { exe },
            command: if self.redact { Vec::new() } else { command },
            start_time: header.start_ticks.load(Ordering::Relaxed) >> shift,
            page_bytes: header.page_bytes.load(Ordering::Relaxed),
            attached: header.attached.load(Ordering::Relaxed) != 0,
        };
        output.facts(|writer| writer.process(&info));
        process.pid = pid;
        self.count += 1;
        Some(process)
    }

    /// Takes what has been completed; returns the events taken.
    pub(crate) fn drain(&mut self, output: &mut Output) -> u64 {
        self.live.iter_mut().map(|process| process.drain(output, false)).sum()
    }

    /// Closes the processes that are gone.
    pub(crate) fn close_dead(&mut self, output: &mut Output) {
        let mut index = 0;
        while index < self.live.len() {
            if is_running(self.live[index].pid) {
                index += 1;
            } else {
                self.close(index, output, false);
            }
        }
    }

    /// Closes all, running or not.
    pub(crate) fn close_all(&mut self, output: &mut Output) {
        while !self.live.is_empty() {
            let running = is_running(self.live[0].pid);
            self.close(0, output, running);
        }
    }

    fn close(&mut self, index: usize, output: &mut Output, running: bool) {
        let process = self.live.remove(index);
        let header = process.header();
        self.threads += header.threads.load(Ordering::Relaxed);
        self.dropped += header.unrecorded.load(Ordering::Relaxed);
        process.close(output, running);
    }
}

/// What process `pid` is called: the last part of the word that it was started by, if that word
/// leads to the executable `exe`; else that of `exe`.
fn name_of(pid: u32, exe: &str, word: Option<&String>) -> String {
    let (of_exe, Some(word)) = (base_name(exe), word) else { return base_name(exe) };
    let of_word = base_name(word);
    if of_word == of_exe || of_word.is_empty() {
        return of_exe;
    }
    let leads_there =
        |path: PathBuf| fs::canonicalize(path).is_ok_and(|path| path == Path::new(exe));
    let is_link = if word.contains('/') {
        leads_there(Path::new(&format!("/proc/{pid}/cwd")).join(word))
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| leads_there(folder.join(word)))
    };
    if is_link { of_word } else { of_exe }
}

fn exe_of(pid: u32) -> String {
    let link = fs::read_link(format!("/proc/{pid}/exe"));
    link.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

fn base_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

/// The running number in `<pid>-<number>.ring`: the order in which processes began.
fn ring_number(path: &Path) -> u64 {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
    stem.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(u64::MAX)
}

/// Whether process `pid` exists and is not a zombie. (A process whose main thread has ended before
/// others looks like one, but counts more threads.)
pub(crate) fn is_running(pid: u32) -> bool {
    if !process_alive(pid) {
        return false;
    }
    let Ok(file) = fs::File::open(format!("/proc/{pid}/stat")) else { return false };
    let mut text = [0; 512];
    let bytes = file.read_at(&mut text, 0).unwrap_or(0);
    // The state follows the name in parentheses, which may hold parentheses itself.
    let after_name = text[..bytes].iter().rposition(|&byte| byte == b')');
    let Some(fields) = after_name.and_then(|end| text.get(end + 2..bytes)) else { return false };
    match fields.first() {
        Some(b'Z' | b'X') => thread_count(fields) > 1,
        state => state.is_some(),
    }
}

/// The number of threads in the fields of `/proc/PID/stat` from the state on.
fn thread_count(fields: &[u8]) -> u32 {
    let field = fields.split(|&byte| byte == b' ').nth(17).unwrap_or_default();
    std::str::from_utf8(field).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{is_running, thread_count};

    #[test]
    fn the_number_of_threads_is_found() {
        let fields = b"S 1 2 3 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 7 0 123 456";
        assert_eq!(thread_count(fields), 7);
    }

    #[test]
    fn a_child_that_nobody_waited_for_does_not_run() {
        assert!(is_running(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().expect("true");
        while is_running(child.id()) {
            std::thread::yield_now();
        }
        child.wait().expect("it ends");
    }
}
