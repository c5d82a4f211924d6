//! Takes stock: writes down all live blocks and all resident pages, while nobody operates.
//!
//! The records go to a file in memory that is never mapped here, so they are no memory of this
//! process; nothing is allocated.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::heap::Heap;
use super::operate::Bench;
use super::resident_pages::{ResidentRun, for_each_run};
use crate::plan::SITE_MAPPED;
use crate::stock_record::{BEFORE, RECORD_BYTES, Record};
use crate::sys;

/// What lies above a thread's first function on its stack: its thread variables and descriptor.
const STACK_TOP_BYTES: usize = 16 << 10;

/// Records written at once.
const BUFFERED: usize = 256;

/// Where stock is written, and at which samples it is taken.
#[derive(Debug)]
pub(crate) struct Stocktaker {
    file: File,
    /// A bit for each sample.
    samples: Vec<u64>,
}

/// Records on their way to the file.
struct Writer<'a> {
    file: &'a File,
    bytes: [u8; BUFFERED * RECORD_BYTES],
    filled: usize,
    records: u64,
    failed: Option<io::Error>,
}

impl Stocktaker {
    /// Stock goes to `file`, at the samples of which `samples` has a bit.
    pub(crate) fn new(file: File, samples: Vec<u64>) -> Self {
        Self { file, samples }
    }

    /// Whether stock is to be taken at sample `index`.
    pub(super) fn is_due(&self, index: usize) -> bool {
        self.samples.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 != 0)
    }

    /// The pages that are resident before the first operation.
    ///
    /// # Errors
    /// What reading /proc or writing gives.
    pub(super) fn take_before<H: Heap>(&self, bench: &Bench<H>) -> io::Result<()> {
        let mut out = Writer::new(&self.file);
        let page_bytes = heapwright_os::page_bytes();
        out.put(Record::Begin { sample: BEFORE, growth_bytes: 0, page_bytes: page_bytes as u64 });
        out.put_pages(page_bytes)?;
        debug_assert!(bench.ledger.is_kept());
        out.end()
    }

    /// Everything at sample `index`. All operations so far are done and none begins meanwhile.
    ///
    /// # Errors
    /// As for [`Self::take_before`].
    pub(super) fn take<H: Heap>(
        &self,
        bench: &Bench<H>,
        index: usize,
        growth_bytes: u64,
        stacks: &[AtomicUsize],
    ) -> io::Result<()> {
        let mut out = Writer::new(&self.file);
        let page_bytes = heapwright_os::page_bytes();
        out.put(Record::Begin {
            sample: index as u64,
            growth_bytes,
            page_bytes: page_bytes as u64,
        });
        out.put_pages(page_bytes)?;
        for (slot, cell) in bench.slots.iter().enumerate() {
            // Acquire: pairs with the Release in `put`; the block's entry is seen.
            let block = cell.load(Ordering::Acquire);
            if block.is_null() {
                continue;
            }
            let (requested_bytes, site) = bench.ledger.entry(slot as u32);
            let usable_bytes = if site == SITE_MAPPED || !bench.knows_usable {
                requested_bytes
            } else {
                // SAFETY: what a slot holds is a live block of this heap, unless it is a mapping
                // of the program; and nobody operates on it now.
                unsafe { bench.heap.usable_bytes(block) as u64 }
            };
            let start = block.addr() as u64;
            out.put(Record::Block { site, start, requested_bytes, usable_bytes });
        }
        let begun = stacks.iter().map(|stack| stack.load(Ordering::Relaxed));
        for inside in begun.filter(|&inside| inside != 0) {
            let start = inside.saturating_sub(sys::STACK_BYTES) as u64;
            out.put(Record::Stack { start, bytes: (sys::STACK_BYTES + STACK_TOP_BYTES) as u64 });
        }
        out.end()
    }
}

impl<'a> Writer<'a> {
    fn new(file: &'a File) -> Self {
        let bytes = [0; BUFFERED * RECORD_BYTES];
        Self { file, bytes, filled: 0, records: 0, failed: None }
    }

    fn put(&mut self, record: Record) {
        if self.filled == self.bytes.len() {
            self.flush();
        }
        let place = &mut self.bytes[self.filled..self.filled + RECORD_BYTES];
        for (bytes, word) in place.chunks_exact_mut(8).zip(record.to_words()) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        self.filled += RECORD_BYTES;
        self.records += 1;
    }

    fn flush(&mut self) {
        let written = self.file.write_all(&self.bytes[..self.filled]);
        if let Err(error) = written {
            self.failed.get_or_insert(error);
        }
        self.filled = 0;
    }

    fn put_pages(&mut self, page_bytes: usize) -> io::Result<()> {
        let mut of = (0, 0);
        for_each_run(page_bytes, |run: ResidentRun| {
            if of != (run.inode, run.device) {
                of = (run.inode, run.device);
                self.put(Record::File { inode: run.inode, device: run.device });
            }
            let (start, pages) = (run.start as u64, run.pages as u64);
            self.put(Record::Pages { start, pages, file_page: run.file_page });
        })
    }

    fn end(mut self) -> io::Result<()> {
        let records = self.records - 1;
        self.put(Record::End { records });
        self.flush();
        self.failed.take().map_or(Ok(()), Err)
    }
}
