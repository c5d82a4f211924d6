//! Where nodes and rows are: blocks under numbers that mean the same after a restart, or not.

use heapwright_regions::{AllocError, FileHeapError};
use std::fmt;

/// A block's name: an address, or an offset in a file. Never zero.
pub(crate) type BlockId = u64;

/// Blocks of bytes.
pub(crate) trait Store {
    /// A block of `bytes`, zero or not.
    fn alloc(&mut self, bytes: usize) -> Result<BlockId, StoreError>;
    /// Gives back a block of `alloc`, of that length.
    fn free(&mut self, block: BlockId, bytes: usize);
    /// Its bytes.
    fn bytes(&self, block: BlockId, bytes: usize) -> &[u8];
    /// Its bytes, to be written.
    fn bytes_mut(&mut self, block: BlockId, bytes: usize) -> &mut [u8];
}

/// Why the store cannot go on.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// No block.
    Alloc(AllocError),
    /// The file.
    File(FileHeapError),
    /// Rows are not what they were.
    Lost,
}

impl From<AllocError> for StoreError {
    fn from(error: AllocError) -> Self {
        Self::Alloc(error)
    }
}

impl From<FileHeapError> for StoreError {
    fn from(error: FileHeapError) -> Self {
        Self::File(error)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alloc(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
            Self::Lost => f.write_str("rows are not what they were"),
        }
    }
}
