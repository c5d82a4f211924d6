//! How many addresses a heap or pool takes.

use core::alloc::Layout;

use heapwright_core::backing::{Backing, Extent};
use heapwright_core::region_error::AllocError;

/// Taken where neither program nor backing says how much.
const UNASKED_BYTES: usize = 1 << 20;
const EXTENT_ALIGN: usize = 64;

/// How much a program asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// `usize::MAX` where it did not say.
    pub(super) bytes_max: usize,
    /// Less is of no use.
    pub(super) least: usize,
    /// More cannot be used.
    pub(super) most: usize,
}

impl Wanted {
    /// An extent, and how many of its bytes were asked for: what the program said, or as much as
    /// the backing has.
    ///
    /// # Errors
    /// The backing's.
    pub(super) fn reserve<B: Backing>(self, backing: &B) -> Result<(Extent, usize), AllocError> {
        let Self { bytes_max, least, most } = self;
        let is_said = bytes_max != usize::MAX;
        let hint = if is_said { bytes_max } else { backing.reserve_hint(least) };
        let has_no_hint = !is_said && hint == least;
        let mut bytes = if has_no_hint { UNASKED_BYTES.max(least) } else { hint }.min(most);
        loop {
            let too_large = AllocError::TooLarge { requested_bytes: bytes };
            let layout = Layout::from_size_align(bytes, EXTENT_ALIGN).map_err(|_| too_large)?;
            match backing.reserve(layout) {
                Ok(extent) => return Ok((extent, bytes)),
                // Who said how much wants that much.
                Err(error) if is_said || bytes / 2 < least => return Err(error.into()),
                Err(_) => bytes /= 2,
            }
        }
    }
}
