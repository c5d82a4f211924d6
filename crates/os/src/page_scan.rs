//! Asking the kernel about every page of a range at once (`PAGEMAP_SCAN`, Linux 6.7).
//!
//! Source: the kernel's Documentation/admin-guide/mm/pagemap.rst.

use core::ops::Range;

use crate::syscall::syscall3;
use crate::{Errno, Fd, OpenFlags};

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: usize = 0xc060_6610;
/// Pieces that one call answers with.
const PIECE_COUNT: usize = 64;

/// Kinds of pages, as bits.
pub(crate) const WRITTEN: u64 = 1 << 1;
const FILE: u64 = 1 << 2;
pub(crate) const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;
const ZERO: u64 = 1 << 5;
pub(crate) const HUGE: u64 = 1 << 6;
/// Protect what matched again, and fail where writes are not followed by the kernel itself.
const WP_MATCHING: u64 = 1 << 0;
const CHECK_WPASYNC: u64 = 1 << 1;

/// The kernel's request.
#[repr(C)]
#[derive(Debug, Default)]
struct Request {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    pieces: u64,
    piece_count: u64,
    pages_max: u64,
    inverted: u64,
    wanted_all: u64,
    wanted_any: u64,
    told: u64,
}
const _: () = assert!(size_of::<Request>() == 96, "the size is part of the request's number");

/// The kernel's answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Piece {
    start: u64,
    end: u64,
    kinds: u64,
}

/// The file through which the kernel is asked.
///
/// # Errors
/// The kernel's.
pub(crate) fn open_pagemap() -> Result<Fd, Errno> {
    Fd::open(c"/proc/self/pagemap", OpenFlags::Read)
}

/// Resident pages of this process, without a walk over what is only reserved.
#[derive(Debug)]
pub struct ResidentPages {
    pagemap: Fd,
}

impl ResidentPages {
    /// Opens the kernel's table.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> Result<Self, Errno> {
        open_pagemap().map(|pagemap| Self { pagemap })
    }

    /// Calls `each` with the runs of pages of `range` that are in memory or swapped out, ascending,
    /// and whether they are a file's or shared memory's (else anonymous). Pages of zeroes that were
    /// only ever read are left out. O(resident pages).
    ///
    /// # Errors
    /// `ENOTTY` before Linux 6.7; the kernel's.
    pub fn for_each(
        &self,
        range: Range<usize>,
        mut each: impl FnMut(Range<usize>, bool),
    ) -> Result<(), Errno> {
        let request = Request {
            start: range.start as u64,
            end: range.end as u64,
            wanted_any: PRESENT | SWAPPED,
            told: PRESENT | SWAPPED | FILE | ZERO,
            ..Request::default()
        };
        ask(&self.pagemap, request, |piece| {
            if piece.kinds & ZERO == 0 {
                each(piece.start as usize..piece.end as usize, piece.kinds & FILE != 0);
            }
        })
    }
}

/// Calls `each` with the runs of pages of `range` that are of all `kinds`; with `protect_again`
/// they count as not written afterwards.
///
/// # Errors
/// `ENOTTY` before Linux 6.7; with `protect_again` `EPERM` where writes are not followed.
pub(crate) fn scan(
    pagemap: &Fd,
    range: Range<usize>,
    kinds: u64,
    protect_again: bool,
    mut each: impl FnMut(Range<usize>),
) -> Result<(), Errno> {
    let request = Request {
        flags: if protect_again { WP_MATCHING | CHECK_WPASYNC } else { 0 },
        start: range.start as u64,
        end: range.end as u64,
        wanted_all: kinds,
        told: kinds,
        ..Request::default()
    };
    ask(pagemap, request, |piece| each(piece.start as usize..piece.end as usize))
}

/// Asks until the whole range of `request` is told.
fn ask(pagemap: &Fd, mut request: Request, mut each: impl FnMut(&Piece)) -> Result<(), Errno> {
    let mut pieces = [Piece::default(); PIECE_COUNT];
    request.size = size_of::<Request>() as u64;
    request.piece_count = PIECE_COUNT as u64;
    while request.start < request.end {
        request.pieces = pieces.as_mut_ptr().expose_provenance() as u64;
        let place = (&raw mut request).expose_provenance();
        // SAFETY: the request and the pieces it points to outlive the call; protecting pages that
        // are followed changes neither what they hold nor who may use them.
        let count =
            unsafe { syscall3(libc::SYS_ioctl, pagemap.raw() as usize, PAGEMAP_SCAN, place) }?;
        pieces[..count].iter().for_each(&mut each);
        if request.walk_end <= request.start {
            return Err(Errno::EINVAL);
        }
        request.start = request.walk_end;
    }
    Ok(())
}
