//! Taking a window's pages away from a program that runs, and putting something else there.
//!
//! While a window is away every access to it waits: the kernel knows that its missing pages are
//! resolved here (userfaultfd). The pages lie in a stash that nobody else knows, with all that
//! was written to them; a page that is pinned for a device is not given, so no transfer can miss
//! its memory. A fork in between, of any kind, is told: its child gets copies of what is away.
//!
//! Where only the faults of user code can be had (no rights), windows may be taken only while no
//! other thread is there.
//!
//! # Invariants
//! - B1: outside of `take` to `put_back` or `replaced` the stash holds nothing, no window is
//!   followed, and no fork waits.
//! - B2: the calling thread touches no window that is away, and no missing page of the stash.

use core::ptr::NonNull;

use heapwright_os::{
    Advice, Errno, FaultScope, Protection, ResidentPages, UserFaults, advise, release, reserve,
    yield_now,
};

use heapwright_sync::atomic::{AtomicU8, Ordering};

use crate::fatal::fatal;
use crate::merge::mask::{Mask, WINDOW_BYTES, WINDOW_PAGES};
use crate::span::PAGE_UNIT_BYTES;

/// Children of children that may be forked while their parent is being served.
const GENERATION_COUNT: u32 = 16;

/// What takes windows away.
#[derive(Debug)]
pub(crate) struct Barrier {
    faults: UserFaults,
    pages: ResidentPages,
    stash: NonNull<u8>,
}

/// A window that is away.
#[derive(Debug)]
#[must_use = "whoever touches the window waits until it is put back or replaced"]
pub(crate) struct Away {
    window: NonNull<u8>,
    /// Pages of the window that the stash has, a bit each.
    held: u8,
}

const _: () = assert!(WINDOW_PAGES <= u8::BITS as usize);

impl Barrier {
    /// One for `scope`.
    ///
    /// # Errors
    /// The kernel's reason why not; see [`UserFaults::open`].
    pub(crate) fn new(scope: FaultScope) -> Result<Self, Errno> {
        let faults = UserFaults::open(scope)?;
        let stash = reserve(WINDOW_BYTES, Protection::ReadWrite)?;
        let barrier = Self { faults, pages: ResidentPages::open()?, stash };
        // Not in children: forks then are told only while a window is away.
        // SAFETY: the mapping made above.
        unsafe { advise(stash, WINDOW_BYTES, Advice::DontFork) }?;
        // SAFETY: as above; only this value knows it, and reads only what was moved there.
        unsafe { barrier.faults.follow(stash, WINDOW_BYTES) }?;
        Ok(barrier)
    }

    /// Takes the pages of `window` away that `mask` has bytes on. [`Barrier::stash`] then has
    /// them, at the same offsets.
    ///
    /// # Safety
    /// - `window` is whole pages of the region's; this thread touches it no more until one of
    ///   [`Barrier::put_back`] and [`Barrier::replaced`] has followed.
    ///
    /// # Errors
    /// The kernel's; `EBUSY` for pages that are pinned or shared with a child. Nothing has changed
    /// then.
    pub(crate) unsafe fn take(&self, window: NonNull<u8>, mask: &Mask) -> Result<Away, Errno> {
        // SAFETY: the region's own memory; whoever waits is woken by what follows.
        unsafe { self.faults.follow(window, WINDOW_BYTES) }?;
        let mut away = Away { window, held: 0 };
        for page in (0..WINDOW_PAGES).filter(|page| mask.has_page(*page)) {
            let (from, to) = (page_of(window, page), page_of(self.stash, page));
            // A page that was never touched is made, so that the stash has all of them. One that
            // is there stays (`EEXIST`).
            // SAFETY: followed above.
            let _ = self.serving(&away, || unsafe { self.faults.put_zero(from, PAGE_UNIT_BYTES) });
            let moved = self.serving(&away, || {
                // SAFETY: both are anonymous memory of the allocator's, followed; the stash is
                // empty (B1).
                unsafe { self.faults.move_pages(from, to, PAGE_UNIT_BYTES) }
                    .map_err(|(_, errno)| errno)
            });
            if let Err(errno) = moved {
                self.put_back(away);
                return Err(errno);
            }
            away.held |= 1 << page;
        }
        Ok(away)
    }

    /// Lets writes to `window`, which is merged, wait; who reads goes on. Nothing is in the stash.
    ///
    /// # Safety
    /// - `window` maps a group privately; this thread does not write there until one of
    ///   [`Barrier::put_back`] and [`Barrier::replaced`] has followed.
    ///
    /// # Errors
    /// `EBUSY` when a page with bytes of `mask` was written since it was merged: it may be pinned,
    /// which no kernel tells of pages that are copies of a file's. Else the kernel's. Nothing has
    /// changed then.
    pub(crate) unsafe fn hold(&self, window: NonNull<u8>, mask: &Mask) -> Result<Away, Errno> {
        for page in (0..WINDOW_PAGES).filter(|page| mask.has_page(*page)) {
            // One that is not in the table would look like one that was swapped out.
            let place = page_of(window, page).cast::<AtomicU8>();
            // SAFETY: committed memory of the region, which others may write at the same time.
            unsafe { place.as_ref() }.load(Ordering::Relaxed);
        }
        let away = Away { window, held: 0 };
        // SAFETY: a private mapping of a memfd; whoever waits is woken by what follows.
        self.serving(&away, || unsafe { self.faults.hold_writes(window, WINDOW_BYTES) })?;
        // From here on no page can become the window's own.
        let failed = match self.is_written(window, mask) {
            Ok(false) => return Ok(away),
            Ok(true) => Errno::EBUSY,
            Err(errno) => errno,
        };
        self.put_back(away);
        Err(failed)
    }

    /// Whether a page of `window`, which is merged, was written since that has bytes of `mask`.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn is_written(&self, window: NonNull<u8>, mask: &Mask) -> Result<bool, Errno> {
        let start = window.as_ptr().addr();
        let mut has_own = false;
        self.pages.for_each(start..start + WINDOW_BYTES, |run, is_file| {
            let pages = (run.start - start) / PAGE_UNIT_BYTES..(run.end - start) / PAGE_UNIT_BYTES;
            has_own |= !is_file && pages.into_iter().any(|page| mask.has_page(page));
        })?;
        Ok(has_own)
    }

    /// Where the pages of the window that is away are.
    pub(crate) fn stash(&self) -> *const u8 {
        self.stash.as_ptr()
    }

    /// Puts the pages where they were.
    pub(crate) fn put_back(&self, mut away: Away) {
        for page in 0..WINDOW_PAGES {
            if away.held >> page & 1 == 0 {
                continue;
            }
            let (from, to) = (page_of(self.stash, page), page_of(away.window, page));
            loop {
                let moved = self.serving(&away, || {
                    // SAFETY: as in `take`, the other way; the window's page is missing.
                    unsafe { self.faults.move_pages(from, to, PAGE_UNIT_BYTES) }
                        .map_err(|(_, errno)| errno)
                });
                if moved.is_ok() {
                    break;
                }
                let copied = self.serving(&away, || {
                    // SAFETY: as above; the stash's page stays.
                    unsafe { self.faults.put_copy(from, to, PAGE_UNIT_BYTES) }
                });
                match copied {
                    Ok(()) => break,
                    // There is no memory at this moment: others go on meanwhile.
                    Err(Errno::ENOMEM) => yield_now(),
                    Err(_) => fatal(b"heapwright: a page cannot be put back\n"),
                }
            }
            away.held &= !(1 << page);
        }
        // A refusal leaves it followed until this value is dropped.
        let _ = self.faults.unfollow(away.window, WINDOW_BYTES);
        self.finish(&away);
    }

    /// Says that something else was mapped over the window, which has its live bytes.
    pub(crate) fn replaced(&self, away: Away) {
        // Nobody waits for a fault that could not be woken: the range is well-formed.
        let _ = self.faults.wake(away.window, WINDOW_BYTES);
        self.finish(&away);
    }

    /// Tells the last forks and empties the stash.
    fn finish(&self, away: &Away) {
        while self.faults.has_fork() {
            self.serve_forks(away);
        }
        // SAFETY: the stash's contents are at their new place.
        let _ = unsafe { advise(self.stash, WINDOW_BYTES, Advice::DontNeed) };
    }

    /// Makes a request that has to wait while a fork is to be told.
    fn serving(
        &self,
        away: &Away,
        mut request: impl FnMut() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        loop {
            match request() {
                Err(Errno::EAGAIN) => self.serve_forks(away),
                answer => return answer,
            }
        }
    }

    fn serve_forks(&self, away: &Away) {
        while let Some(child) = self.faults.take_fork() {
            self.give_to(&child, away, 0);
        }
        // The fork may be told a moment after the kernel has begun to wait for that.
        yield_now();
    }

    /// Gives a child that was forked while the window was away what is away.
    fn give_to(&self, child: &UserFaults, away: &Away, generation: u32) {
        let mut page = 0;
        while page < WINDOW_PAGES {
            let answer = if away.held >> page & 1 == 1 {
                let (from, to) = (page_of(self.stash, page), page_of(away.window, page));
                // SAFETY: the stash has the page; in the child it is missing, or there since
                // before (`EEXIST`).
                unsafe { child.put_copy(from, to, PAGE_UNIT_BYTES) }
            } else {
                Ok(())
            };
            if answer == Err(Errno::ENOMEM) {
                yield_now();
            } else if answer == Err(Errno::EAGAIN) || child.has_fork() {
                // The child forks, too, and its child lacks what it lacks.
                while generation < GENERATION_COUNT
                    && let Some(grandchild) = child.take_fork()
                {
                    self.give_to(&grandchild, away, generation + 1);
                }
                yield_now();
            } else {
                page += 1;
            }
        }
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        // SAFETY: the stash is nobody else's and holds nothing (B1). A refusal leaves addresses.
        let _ = unsafe { release(self.stash, WINDOW_BYTES) };
    }
}

fn page_of(start: NonNull<u8>, page: usize) -> NonNull<u8> {
    // Inside the window, so not null.
    start.map_addr(|address| address.saturating_add(page * PAGE_UNIT_BYTES))
}
