//! A buddy heap in a file, found again at another address.
//!
//! ```text
//! ┌ header: one page ┬ bits: free, starts ┬ data: leaves ──────────────────────┐
//! 0                  table_offset         data_offset (a multiple of 4096)     file_bytes
//! ```
//! Blocks are named by their offset in the file; an address is good only while the heap is open.
//! The design page is design/backing.md#file-heap.
//!
//! # Not here
//! Undo after a crash: a heap that was not closed is told from one that was, and its bits are
//! looked at; what its blocks hold is for their owner to judge.

mod error;
mod header;

pub use error::{FileHeapError, FilePart};

use core::alloc::Layout;
use core::cell::{Cell, RefCell};
use core::ffi::CStr;
use core::fmt;
use core::ptr::NonNull;

use heapwright_core::region_error::{AllocError, FreeError};
use heapwright_core::region_statistics::{Figure, RegionStatistics};
use heapwright_os::{Errno, Fd, FileMapping, MapError, OpenFlags, Protection};

use crate::buddy::{Table, Tails};
use crate::offset_buddy::OffsetBuddy;
use header::{CLOSED, HEADER_BYTES, Header, OPEN, ROOT_COUNT, checksum};

/// What the parts of the file are aligned to: a small OS page. Larger pages map it as well.
const PART_ALIGN: u64 = 4096;
const WORD_BYTES: u64 = size_of::<u64>() as u64;

/// Blocks of any size in a file, for one process at a time: closed, and opened again anywhere with
/// its contents.
///
/// ```
/// use core::alloc::Layout;
/// use heapwright_regions::{FileHeap, FileHeapShape, Tails};
/// # let path = std::env::temp_dir().join(format!("heapwright-doc-{}", std::process::id()));
/// # let path = std::ffi::CString::new(path.into_os_string().into_encoded_bytes())?;
///
/// /// A number of ours: another program's heap is not taken for it.
/// const PHONE_BOOK: u64 = 0x7068_6f6e_6562;
/// let shape = FileHeapShape { bytes: 1 << 20, leaf_bytes: 64, tails: Tails::Trim };
/// let heap = FileHeap::create(&path, PHONE_BOOK, shape)?;
/// let block = heap.try_alloc(Layout::new::<u64>())?;
/// // SAFETY: a block for a `u64`.
/// unsafe { block.cast::<u64>().write(42) };
/// heap.set_root(0, heap.offset_of(block));
/// heap.close()?;
///
/// let heap = FileHeap::open(&path, PHONE_BOOK)?;
/// let block = heap.at(heap.root(0).expect("set above")).expect("inside");
/// // SAFETY: the block written above.
/// assert_eq!(unsafe { block.cast::<u64>().read() }, 42);
/// # drop(heap);
/// # heapwright_os::unlink(&path).map_err(|error| error.to_string())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A file that another process cuts is noticed by [`Self::check`]; touching what is missing is
/// `SIGBUS`. The file's blocks are on the disk from the beginning, so a full disk is an error of
/// [`Self::create`] and never a signal.
pub struct FileHeap {
    /// Above the mapping, whose words it has.
    buddy: RefCell<OffsetBuddy<Table>>,
    header: Cell<Header>,
    failures: Cell<usize>,
    mapping: FileMapping,
    file: Fd,
}

// SAFETY: the mapping's memory is reached by this value and by who has its blocks only.
unsafe impl Send for FileHeap {}

/// How large a heap is made, and how it cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeapShape {
    /// Bytes of all blocks, rounded down to whole leaves; the file is some 5 % longer for leaves
    /// of 64 bytes.
    pub bytes: u64,
    /// The smallest block: a power of two from 16 to 4096.
    pub leaf_bytes: u64,
    /// Whether blocks are powers of two or whole leaves.
    pub tails: Tails,
}

impl FileHeap {
    /// Makes a heap in the new or empty file `path`. `application` is a number of the caller's
    /// that [`Self::open`] asks for. Takes all disk blocks: O(bits) writing.
    ///
    /// # Errors
    /// [`FileHeapError::NotEmpty`], [`FileHeapError::NoSpace`] with the numbers,
    /// [`FileHeapError::Shape`], [`FileHeapError::InUse`], the kernel's.
    pub fn create(
        path: &CStr,
        application: u64,
        shape: FileHeapShape,
    ) -> Result<Self, FileHeapError> {
        Self::create_in(Fd::open_or_create(path)?, application, shape)
    }

    /// As [`Self::create`], in an open file: shared memory without a name, above all.
    ///
    /// # Errors
    /// As there.
    pub fn create_in(
        file: Fd,
        application: u64,
        shape: FileHeapShape,
    ) -> Result<Self, FileHeapError> {
        lock(&file)?;
        let file_bytes = file.stat()?.bytes;
        if file_bytes > 0 {
            return Err(FileHeapError::NotEmpty { file_bytes });
        }
        let header = header_of(application, shape)?;
        let requested_bytes = header.file_bytes();
        file.take_blocks(0, requested_bytes).map_err(|errno| match errno {
            Errno::ENOSPC => {
                let free_bytes = file.file_system_free_bytes().unwrap_or(0);
                FileHeapError::NoSpace { requested_bytes, free_bytes }
            }
            errno => FileHeapError::Kernel(errno),
        })?;
        let mapping = map(&file, requested_bytes)?;
        let (table, starts) = pieces(&mapping, &header)?;
        let buddy =
            OffsetBuddy::new(table, starts, header.data_bytes, header.leaf_bytes, shape.tails)
                .map_err(FileHeapError::Shape)?;
        Self::begin(file, mapping, header, buddy)
    }

    /// Opens the heap in `path`, at whatever address is free. Reads its bits once: about 0.1 ms a
    /// million leaves.
    ///
    /// # Errors
    /// [`FileHeapError`]: foreign, torn, cut, of another application, not closed, in use.
    pub fn open(path: &CStr, application: u64) -> Result<Self, FileHeapError> {
        Self::open_in(Fd::open(path, OpenFlags::ReadWrite)?, application)
    }

    /// As [`Self::open`], of an open file.
    ///
    /// # Errors
    /// As there.
    pub fn open_in(file: Fd, application: u64) -> Result<Self, FileHeapError> {
        Self::reopen(file, application, false)
    }

    /// Opens a heap that was not closed, if its bits are sound: after the end of a process they
    /// are those of its last finished call; after a power cut they may be older than the blocks.
    /// Walks all bits.
    ///
    /// # Errors
    /// As [`Self::open`], without [`FileHeapError::NotClosed`]; [`FileHeapError::Unsound`].
    pub fn salvage(path: &CStr, application: u64) -> Result<Self, FileHeapError> {
        Self::salvage_in(Fd::open(path, OpenFlags::ReadWrite)?, application)
    }

    /// As [`Self::salvage`], of an open file.
    ///
    /// # Errors
    /// As there.
    pub fn salvage_in(file: Fd, application: u64) -> Result<Self, FileHeapError> {
        Self::reopen(file, application, true)
    }

    fn reopen(file: Fd, application: u64, salvage: bool) -> Result<Self, FileHeapError> {
        lock(&file)?;
        let file_bytes = file.stat()?.bytes;
        let header = read_header(&file, file_bytes)?;
        if header.application != application {
            let found = header.application;
            return Err(FileHeapError::OtherApplication { found, expected: application });
        }
        let expected_bytes = header.file_bytes();
        if file_bytes < expected_bytes {
            return Err(FileHeapError::Truncated { expected_bytes, file_bytes });
        }
        let was_closed = header.state == CLOSED;
        if !was_closed && !salvage {
            return Err(FileHeapError::NotClosed { close_count: header.close_count });
        }
        let mapping = map(&file, expected_bytes)?;
        let (table, starts) = pieces(&mapping, &header)?;
        if was_closed {
            let computed = table_checksum(&table, &starts);
            let stored = header.table_checksum;
            if stored != computed {
                return Err(FileHeapError::Torn { part: FilePart::Table, stored, computed });
            }
        }
        let tails = if header.trim { Tails::Trim } else { Tails::Keep };
        let buddy = OffsetBuddy::reopen(table, starts, header.data_bytes, header.leaf_bytes, tails)
            .map_err(FileHeapError::Shape)?;
        if !was_closed && !buddy.is_sound() {
            return Err(FileHeapError::Unsound);
        }
        Self::begin(file, mapping, header, buddy)
    }

    /// Marks the file as open, on the disk, before anything in it changes.
    fn begin(
        file: Fd,
        mapping: FileMapping,
        header: Header,
        buddy: OffsetBuddy<Table>,
    ) -> Result<Self, FileHeapError> {
        let header = Header { state: OPEN, ..header };
        let heap = Self {
            buddy: RefCell::new(buddy),
            header: Cell::new(header),
            failures: Cell::new(0),
            mapping,
            file,
        };
        heap.write_header(header);
        heap.mapping.sync(0..HEADER_BYTES)?;
        heap.file.sync()?;
        Ok(heap)
    }

    fn write_header(&self, header: Header) {
        let place = self.mapping.start().cast::<[u64; HEADER_BYTES / size_of::<u64>()]>();
        // SAFETY: the first page of the mapping, which is longer; aligned to a page.
        unsafe { place.write(header.to_words()) };
        self.header.set(header);
    }

    /// A block of `layout`; what it holds is what was there. O(log n), no system call.
    ///
    /// # Errors
    /// [`AllocError::Full`] with the largest block; [`AllocError::Unfit`] for alignments above
    /// 4096 and more than the heap ever has.
    pub fn try_alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let (bytes, align) = (layout.size() as u64, layout.align() as u64);
        let placed = if align > PART_ALIGN {
            let largest_bytes = self.header.get().data_bytes as usize;
            let (requested_bytes, align_bytes) = (layout.size(), layout.align());
            Err(AllocError::Unfit { requested_bytes, align_bytes, largest_bytes })
        } else {
            self.buddy.borrow_mut().alloc(bytes, align)
        };
        match placed {
            Ok(offset) => Ok(self.address(self.header.get().data_offset + offset)),
            Err(error) => {
                self.failures.set(self.failures.get() + 1);
                Err(error)
            }
        }
    }

    /// Gives a block back. O(log n).
    ///
    /// # Errors
    /// [`FreeError`] for an address where no live block begins; nothing has changed then.
    ///
    /// # Safety
    /// - If `block` is a live block of this heap, it was asked for with `layout`, and nobody uses
    ///   it any more. It may be anything.
    pub unsafe fn free(&self, block: NonNull<u8>, layout: Layout) -> Result<(), FreeError> {
        let address = block.as_ptr().addr();
        let first = self.mapping.start().as_ptr().addr() + self.header.get().data_offset as usize;
        let offset = address.checked_sub(first).ok_or(FreeError::NotOwned { address })? as u64;
        let freed =
            self.buddy.borrow_mut().free(offset, layout.size() as u64, layout.align() as u64);
        freed.map_err(|error| match error {
            FreeError::AlreadyFree { .. } => FreeError::AlreadyFree { address },
            FreeError::NotBlockStart { distance_bytes, .. } => {
                FreeError::NotBlockStart { address, distance_bytes }
            }
            _ => FreeError::NotOwned { address },
        })
    }

    /// The byte at `offset` of the file, which is inside.
    fn address(&self, offset: u64) -> NonNull<u8> {
        debug_assert!(offset <= self.mapping.bytes() as u64);
        // SAFETY: inside the mapping, as each caller sees to.
        unsafe { self.mapping.start().add(offset as usize) }
    }

    /// The address now of the block at `offset` of the file; none for an offset that no block can
    /// have.
    pub fn at(&self, offset: u64) -> Option<NonNull<u8>> {
        let header = self.header.get();
        (header.data_offset..header.file_bytes()).contains(&offset).then(|| self.address(offset))
    }

    /// The offset in the file of an address of this heap, by which it is found again.
    ///
    /// # Panics
    /// If the address is not in the heap.
    pub fn offset_of(&self, block: NonNull<u8>) -> u64 {
        let offset = block.as_ptr().addr().wrapping_sub(self.mapping.start().as_ptr().addr());
        assert!(offset < self.mapping.bytes(), "{block:?} is not of this heap");
        offset as u64
    }

    /// The offset kept under `index`, of 0 to 7; none if none was.
    ///
    /// # Panics
    /// If the index is 8 or more.
    pub fn root(&self, index: usize) -> Option<u64> {
        let root = self.header.get().roots[index];
        (root != 0).then_some(root)
    }

    /// Keeps `offset` under `index`, of 0 to 7, to be found after the next opening; 0 for none.
    ///
    /// # Panics
    /// If the index is 8 or more.
    pub fn set_root(&self, index: usize, offset: u64) {
        let mut header = self.header.get();
        header.roots[index] = offset;
        self.write_header(header);
    }

    /// The bytes where blocks lie: to be advised about, bound, or followed.
    pub fn mapping(&self) -> &FileMapping {
        &self.mapping
    }

    /// The file.
    pub fn file(&self) -> &Fd {
        &self.file
    }

    /// Whether the file is as long as it was made. One system call.
    ///
    /// # Errors
    /// [`FileHeapError::Truncated`] with both lengths; the kernel's.
    pub fn check(&self) -> Result<(), FileHeapError> {
        let (expected_bytes, file_bytes) =
            (self.header.get().file_bytes(), self.file.stat()?.bytes);
        if file_bytes < expected_bytes {
            return Err(FileHeapError::Truncated { expected_bytes, file_bytes });
        }
        Ok(())
    }

    /// Writes all that changed to the disk and waits for it. The file still counts as open.
    ///
    /// # Errors
    /// [`FileHeapError::Truncated`]; the kernel's, `EIO` above all: the disk's state is not known
    /// then.
    pub fn sync(&self) -> Result<(), FileHeapError> {
        self.check()?;
        self.mapping.sync(0..self.mapping.bytes())?;
        self.file.sync()?;
        Ok(())
    }

    /// Writes everything to the disk, then the mark that it is whole.
    ///
    /// # Errors
    /// As [`Self::sync`]: the file then counts as not closed.
    pub fn close(self) -> Result<(), FileHeapError> {
        self.mark_closed()
    }

    fn mark_closed(&self) -> Result<(), FileHeapError> {
        if self.header.get().state == CLOSED {
            return Ok(());
        }
        self.sync()?;
        let header = self.header.get();
        let (table, starts) = pieces(&self.mapping, &header)?;
        self.write_header(Header {
            state: CLOSED,
            close_count: header.close_count + 1,
            table_checksum: table_checksum(&table, &starts),
            ..header
        });
        let synced = self.mapping.sync(0..HEADER_BYTES).and_then(|()| self.file.sync());
        if synced.is_err() {
            // What the mark certifies may not be on the disk.
            self.write_header(Header { state: OPEN, ..header });
        }
        Ok(synced?)
    }

    /// What the heap holds now. O(1), and the kernel is asked about its memory.
    pub fn statistics(&self) -> RegionStatistics {
        let mapped = self.mapping.bytes();
        RegionStatistics {
            reserved_bytes: mapped,
            committed_bytes: mapped,
            failure_count: Figure::Exact(self.failures.get()),
            ..self.buddy.borrow().statistics()
        }
    }
}

impl Drop for FileHeap {
    /// Closes the heap; a failure leaves the file as not closed ([`FileHeap::close`] tells).
    fn drop(&mut self) {
        let _ = self.mark_closed();
    }
}

impl fmt::Debug for FileHeap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileHeap").field("mapping", &self.mapping).finish_non_exhaustive()
    }
}

fn lock(file: &Fd) -> Result<(), FileHeapError> {
    file.try_lock().map_err(|errno| match errno {
        Errno::EAGAIN => FileHeapError::InUse,
        errno => FileHeapError::Kernel(errno),
    })
}

/// The header of a heap of that shape.
fn header_of(application: u64, shape: FileHeapShape) -> Result<Header, FileHeapError> {
    let FileHeapShape { bytes, leaf_bytes, tails } = shape;
    let (table, starts) =
        OffsetBuddy::<Table>::words(bytes, leaf_bytes).map_err(FileHeapError::Shape)?;
    let unfit = FileHeapError::Shape(AllocError::Unfit {
        requested_bytes: bytes as usize,
        align_bytes: leaf_bytes as usize,
        largest_bytes: isize::MAX as usize,
    });
    let bits_bytes = (table as u64 + starts as u64) * WORD_BYTES;
    let data_offset = (PART_ALIGN + bits_bytes).next_multiple_of(PART_ALIGN);
    let ends_inside = data_offset.checked_add(bytes).is_some_and(|end| end <= isize::MAX as u64);
    if !(16..=PART_ALIGN).contains(&leaf_bytes) || bytes < leaf_bytes || !ends_inside {
        return Err(unfit);
    }
    Ok(Header {
        application,
        leaf_bytes,
        trim: tails == Tails::Trim,
        data_bytes: bytes & !(leaf_bytes - 1),
        table_offset: PART_ALIGN,
        data_offset,
        ..Header::default()
    })
}

/// Reads the first page without mapping it, so that a short file is no signal; and checks that its
/// numbers are those of a heap of ours.
fn read_header(file: &Fd, file_bytes: u64) -> Result<Header, FileHeapError> {
    let mut bytes = [0; HEADER_BYTES];
    let mut length = 0;
    while length < HEADER_BYTES {
        match file.read_at(&mut bytes[length..], length as u64)? {
            0 => break,
            more => length += more,
        }
    }
    let mut words = [0; HEADER_BYTES / size_of::<u64>()];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(size_of::<u64>())) {
        let mut own = [0; size_of::<u64>()];
        own.copy_from_slice(chunk);
        *word = u64::from_ne_bytes(own);
    }
    let header = Header::from_words(&words)?;
    if length < HEADER_BYTES {
        let expected_bytes = header.file_bytes();
        return Err(FileHeapError::Truncated { expected_bytes, file_bytes });
    }
    let tails = if header.trim { Tails::Trim } else { Tails::Keep };
    let shape = FileHeapShape { bytes: header.data_bytes, leaf_bytes: header.leaf_bytes, tails };
    let ours = header_of(header.application, shape)?;
    if (ours.table_offset, ours.data_offset) != (header.table_offset, header.data_offset) {
        return Err(FileHeapError::Unsound);
    }
    Ok(header)
}

fn map(file: &Fd, bytes: u64) -> Result<FileMapping, FileHeapError> {
    let length = usize::try_from(bytes).map_err(|_| Errno::ENOMEM)?;
    FileMapping::new(file, 0, length, Protection::ReadWrite).map_err(|error| match error {
        MapError::Truncated { mapped_to, file_bytes } => {
            FileHeapError::Truncated { expected_bytes: mapped_to, file_bytes }
        }
        error => FileHeapError::Map(error),
    })
}

/// The table and the starts in the mapping.
fn pieces(mapping: &FileMapping, header: &Header) -> Result<(Table, Table), FileHeapError> {
    let (table, starts) = OffsetBuddy::<Table>::words(header.data_bytes, header.leaf_bytes)
        .map_err(FileHeapError::Shape)?;
    debug_assert!(header.table_offset + (table + starts) as u64 * WORD_BYTES <= header.data_offset);
    // SAFETY: `header_of` put the bits between the first page and the data, inside the mapping.
    let first = unsafe { mapping.start().add(header.table_offset as usize) }.cast::<u64>();
    // SAFETY: as above.
    let second = unsafe { first.add(table) };
    Ok((Table { start: first, words: table }, Table { start: second, words: starts }))
}

fn table_checksum(table: &Table, starts: &Table) -> u64 {
    let sums = [table, starts].map(|piece| checksum(piece.as_ref()));
    checksum(&sums)
}

const _: () = assert!(ROOT_COUNT == 8, "the documents of `root` say so");
