//! Statuses and the numbers that go with them.

use core::ffi::{CStr, c_char};

use heapwright_core::backing::BackingError;
use heapwright_core::region_error::{AllocError, FreeError};
use heapwright_os::{Errno, FilePagesError, MapError, NodeError};
use heapwright_regions::{FileHeapError, MarkError};

/// `hw_status`: see the header. The numbers are part of the interface.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the header says what each means")]
pub enum Status {
    Ok = 0,
    Invalid = 1,
    NoMemory = 2,
    Full = 3,
    Unfit = 4,
    TooLarge = 5,
    OverLimit = 6,
    Unsupported = 7,
    Kernel = 8,
    NotOwned = 9,
    NotBlockStart = 10,
    AlreadyFree = 11,
    OutOfOrder = 12,
    Stale = 13,
    Truncated = 14,
    InUse = 15,
    NotEmpty = 16,
    Foreign = 17,
    Torn = 18,
    NotClosed = 19,
    Elsewhere = 20,
}

const TEXTS: [&CStr; 21] = [
    c"no error",
    c"an argument that cannot be",
    c"no more memory, addresses or mappings",
    c"full",
    c"a size or alignment that this allocator never has",
    c"larger than any block may be",
    c"over the limit",
    c"not possible with this backing",
    c"refused by the kernel",
    c"not this allocator's",
    c"inside a block",
    c"free already",
    c"a newer block is live",
    c"a mark or handle of an earlier life",
    c"the file was cut",
    c"in use elsewhere",
    c"the file has something in it",
    c"not a file of this kind, version or application",
    c"a checksum does not fit",
    c"not closed since it was last opened",
    c"memory came from another node",
];

/// `hw_status_text`: see the header.
#[unsafe(no_mangle)]
pub extern "C" fn hw_status_text(status: i32) -> *const c_char {
    let known = usize::try_from(status).ok().and_then(|index| TEXTS.get(index));
    known.copied().unwrap_or(c"unknown status").as_ptr()
}

/// `hw_error`: see the header.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the header says what each means")]
pub struct Error {
    pub status: i32,
    pub system_error: i32,
    pub requested_bytes: u64,
    pub available_bytes: u64,
    pub limit_bytes: u64,
    pub address: u64,
}

impl Error {
    const NONE: Self = Self {
        status: Status::Ok as i32,
        system_error: 0,
        requested_bytes: 0,
        available_bytes: 0,
        limit_bytes: 0,
        address: 0,
    };

    /// An argument that cannot be.
    pub(crate) const INVALID: Self = Self::of(Status::Invalid);

    pub(crate) const fn of(status: Status) -> Self {
        Self { status: status as i32, ..Self::NONE }
    }

    /// No memory for an object of ours.
    pub(crate) const fn no_memory(bytes: usize) -> Self {
        Self { requested_bytes: bytes as u64, ..Self::of(Status::NoMemory) }
    }

    /// What to do about the error: writes it to `place` if that is not null.
    ///
    /// # Safety
    /// - `place` is null or a caller's structure.
    pub(crate) unsafe fn tell(self, place: *mut Self) {
        if !place.is_null() {
            // SAFETY: the caller's promise.
            unsafe { place.write(self) };
        }
    }
}

/// The value, or the error told and `otherwise`.
///
/// # Safety
/// - As for [`Error::tell`].
pub(crate) unsafe fn answer<T>(result: Result<T, Error>, place: *mut Error, otherwise: T) -> T {
    match result {
        Ok(value) => {
            // SAFETY: the caller's promise, here and below.
            unsafe { Error::NONE.tell(place) };
            value
        }
        Err(error) => {
            // SAFETY: as above.
            unsafe { error.tell(place) };
            otherwise
        }
    }
}

/// The status of a result, told.
///
/// # Safety
/// - As for [`Error::tell`].
pub(crate) unsafe fn status(result: Result<(), Error>, place: *mut Error) -> i32 {
    let status = result.as_ref().map_or_else(|error| error.status, |()| Status::Ok as i32);
    // SAFETY: the caller's promise.
    unsafe { answer(result, place, ()) };
    status
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        let status = if errno == Errno::ENOMEM { Status::NoMemory } else { Status::Kernel };
        Self { system_error: errno.0, ..Self::of(status) }
    }
}

impl From<BackingError> for Error {
    fn from(error: BackingError) -> Self {
        match error {
            BackingError::Exhausted { requested_bytes, available_bytes } => Self {
                requested_bytes: requested_bytes as u64,
                available_bytes: available_bytes as u64,
                ..Self::of(Status::NoMemory)
            },
            BackingError::OverLimit { requested_bytes, committed_bytes, limit_bytes } => Self {
                requested_bytes: requested_bytes as u64,
                available_bytes: limit_bytes.saturating_sub(committed_bytes) as u64,
                limit_bytes: limit_bytes as u64,
                ..Self::of(Status::OverLimit)
            },
            BackingError::Kernel { errno, bytes } => {
                Self { requested_bytes: bytes as u64, ..Errno(errno).into() }
            }
            BackingError::Truncated { expected_bytes, file_bytes } => Self {
                requested_bytes: expected_bytes,
                available_bytes: file_bytes,
                ..Self::of(Status::Truncated)
            },
            BackingError::Unsupported(_) => Self::of(Status::Unsupported),
            _ => Self::of(Status::Kernel),
        }
    }
}

impl From<AllocError> for Error {
    fn from(error: AllocError) -> Self {
        match error {
            AllocError::TooLarge { requested_bytes } => {
                Self { requested_bytes: requested_bytes as u64, ..Self::of(Status::TooLarge) }
            }
            AllocError::Unfit { requested_bytes, largest_bytes, .. } => Self {
                requested_bytes: requested_bytes as u64,
                limit_bytes: largest_bytes as u64,
                ..Self::of(Status::Unfit)
            },
            AllocError::Full { requested_bytes, largest_free_bytes, capacity_bytes } => Self {
                requested_bytes: requested_bytes as u64,
                available_bytes: largest_free_bytes as u64,
                limit_bytes: capacity_bytes as u64,
                ..Self::of(Status::Full)
            },
            AllocError::Backing(error) => error.into(),
            _ => Self::of(Status::NoMemory),
        }
    }
}

impl From<FreeError> for Error {
    fn from(error: FreeError) -> Self {
        let (status, address) = match error {
            FreeError::NotOwned { address } => (Status::NotOwned, address),
            FreeError::NotBlockStart { address, .. } => (Status::NotBlockStart, address),
            FreeError::AlreadyFree { address } => (Status::AlreadyFree, address),
            FreeError::OutOfOrder { address, .. } => (Status::OutOfOrder, address),
            _ => (Status::NotOwned, 0),
        };
        Self { address: address as u64, ..Self::of(status) }
    }
}

impl From<MarkError> for Error {
    fn from(_: MarkError) -> Self {
        Self::of(Status::Stale)
    }
}

impl From<FilePagesError> for Error {
    fn from(error: FilePagesError) -> Self {
        match error {
            FilePagesError::Open(errno) => errno.into(),
            FilePagesError::NotEmpty { file_bytes } => {
                Self { available_bytes: file_bytes, ..Self::of(Status::NotEmpty) }
            }
            FilePagesError::InUse => Self::of(Status::InUse),
            _ => Self::of(Status::Kernel),
        }
    }
}

impl From<NodeError> for Error {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::NodeFull { requested_bytes, available_bytes, .. } => Self {
                requested_bytes: requested_bytes as u64,
                available_bytes,
                ..Self::of(Status::NoMemory)
            },
            NodeError::Elsewhere { .. } => Self::of(Status::Elsewhere),
            NodeError::Kernel { errno, bytes } => {
                Self { requested_bytes: bytes as u64, ..errno.into() }
            }
            _ => Self::of(Status::Kernel),
        }
    }
}

impl From<MapError> for Error {
    fn from(error: MapError) -> Self {
        match error {
            MapError::Refused { bytes, errno, .. } => {
                Self { requested_bytes: bytes as u64, ..errno.into() }
            }
            MapError::Truncated { mapped_to, file_bytes } => Self {
                requested_bytes: mapped_to,
                available_bytes: file_bytes,
                ..Self::of(Status::Truncated)
            },
            _ => Self::of(Status::Kernel),
        }
    }
}

impl From<FileHeapError> for Error {
    fn from(error: FileHeapError) -> Self {
        match error {
            FileHeapError::Kernel(errno) => errno.into(),
            FileHeapError::InUse => Self::of(Status::InUse),
            FileHeapError::NotEmpty { file_bytes } => {
                Self { available_bytes: file_bytes, ..Self::of(Status::NotEmpty) }
            }
            FileHeapError::Torn { .. } | FileHeapError::Unsound => Self::of(Status::Torn),
            FileHeapError::Truncated { expected_bytes, file_bytes } => Self {
                requested_bytes: expected_bytes,
                available_bytes: file_bytes,
                ..Self::of(Status::Truncated)
            },
            FileHeapError::NotClosed { .. } => Self::of(Status::NotClosed),
            FileHeapError::NoSpace { requested_bytes, free_bytes } => Self {
                requested_bytes,
                available_bytes: free_bytes,
                system_error: Errno::ENOSPC.0,
                ..Self::of(Status::NoMemory)
            },
            FileHeapError::Map(error) => error.into(),
            FileHeapError::Shape(error) => error.into(),
            // A stranger's file, another byte order, version or application.
            _ => Self::of(Status::Foreign),
        }
    }
}
