//! Mappings of freed large blocks: without access, they wait before others get their addresses.
//!
//! A random one is given up for each that comes in. The pages of some are kept, out of reach: a new
//! block takes them over by the kernel's page tables, and has them zeroed, which is less work than
//! a fault for each; the addresses they came from wait on.

use core::ptr::NonNull;

use heapwright_os::{Protection, move_pages, protect, release, renew};

use crate::alloc::NO_BLOCK;

/// Mappings that wait.
const WAITING_COUNT: usize = 64;
/// Bytes of pages that are kept, at least, and as a part of what live large blocks have.
const KEPT_BYTES_MIN: usize = 4 << 20;
const KEPT_PART: usize = 8;
/// Largest block whose pages are kept: they are zeroed whole for the next one, which may never
/// touch them all.
const KEPT_BLOCK_BYTES_MAX: usize = 2 << 20;

/// A mapping without access; 0 bytes are none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) mapping: *mut u8,
    pub(crate) bytes: usize,
    /// Where its kept pages begin.
    kept: *mut u8,
    kept_bytes: usize,
}

/// Those that wait; under the lock of `large`.
#[derive(Debug)]
pub(crate) struct WaitingList {
    places: [Waiting; WAITING_COUNT],
    bytes: usize,
    /// Addresses that wait, at most.
    pub(crate) bytes_max: usize,
    /// Bytes of pages that are kept, those on their way in included.
    kept_bytes: usize,
}

// SAFETY: the mappings that wait are nobody else's.
unsafe impl Send for WaitingList {}

impl Waiting {
    const NONE: Self = Self { mapping: NO_BLOCK, bytes: 0, kept: NO_BLOCK, kept_bytes: 0 };

    /// A mapping without kept pages.
    pub(crate) fn of(mapping: *mut u8, bytes: usize) -> Self {
        Self { mapping, bytes, ..Self::NONE }
    }

    /// Takes access away from a mapping whose `room_bytes` from `room` on were a block's and the
    /// only ones with access. The pages there are kept if `keeps` says so, else they go back to
    /// the kernel. None if it refuses.
    ///
    /// # Safety
    /// - The mapping is the caller's and no block lies in it any more.
    pub(crate) unsafe fn close(
        (mapping, bytes): (*mut u8, usize),
        (room, room_bytes): (*mut u8, usize),
        keeps: bool,
    ) -> Option<Self> {
        let (Some(start), Some(first)) = (NonNull::new(mapping), NonNull::new(room)) else {
            return None;
        };
        if keeps {
            // SAFETY: whole pages of the mapping, which nobody uses (the caller's promise).
            unsafe { protect(first, room_bytes, Protection::None) }.ok()?;
            return Some(Self { mapping, bytes, kept: room, kept_bytes: room_bytes });
        }
        // SAFETY: a whole mapping that nobody uses (the caller's promise).
        unsafe { renew(start, bytes) }.ok()?;
        Some(Self::of(mapping, bytes))
    }

    /// Gives its addresses back, and its pages.
    pub(crate) fn give_up(self) {
        if let Some(mapping) = NonNull::new(self.mapping) {
            // SAFETY: a whole mapping that has waited; no block lies in it. A refusal leaves it
            // mapped, without access.
            let _ = unsafe { release(mapping, self.bytes) };
        }
    }

    /// Moves kept pages to `block`, a range of `bytes` without access or pages, as far as there are
    /// some; how many bytes.
    ///
    /// # Safety
    /// - The range is whole pages of a mapping of the caller's.
    pub(crate) unsafe fn move_to(&mut self, block: *mut u8, bytes: usize) -> usize {
        let bytes = bytes.min(self.kept_bytes);
        let (Some(from), Some(to)) = (NonNull::new(self.kept), NonNull::new(block)) else {
            return 0;
        };
        // SAFETY: whole pages without access on both sides; nobody relies on what waits.
        if unsafe { move_pages(from, to, bytes) }.is_err() {
            return 0;
        }
        self.kept = self.kept.wrapping_add(bytes);
        self.kept_bytes -= bytes;
        bytes
    }
}

impl WaitingList {
    pub(crate) const fn new() -> Self {
        Self { places: [Waiting::NONE; WAITING_COUNT], bytes: 0, bytes_max: 0, kept_bytes: 0 }
    }

    /// The mapping that waits with `address` in it.
    pub(crate) fn around(&self, address: usize) -> Option<&Waiting> {
        self.places.iter().find(|place| address.wrapping_sub(place.mapping.addr()) < place.bytes)
    }

    /// Whether `bytes` more of pages may be kept beside `live_bytes` of live blocks; they count as
    /// kept then.
    pub(crate) fn may_keep(&mut self, bytes: usize, live_bytes: usize) -> bool {
        let is_room = bytes <= KEPT_BLOCK_BYTES_MAX
            && self.kept_bytes + bytes <= KEPT_BYTES_MIN.max(live_bytes / KEPT_PART);
        if is_room {
            self.kept_bytes += bytes;
        }
        is_room
    }

    /// Pages that counted as kept are not.
    pub(crate) fn forget_kept(&mut self, bytes: usize) {
        self.kept_bytes -= bytes;
    }

    fn replace(&mut self, number: usize, new: Waiting) -> Waiting {
        let place = &mut self.places[number % WAITING_COUNT];
        let old = core::mem::replace(place, new);
        self.bytes = self.bytes + new.bytes - old.bytes;
        old
    }

    /// Lets a mapping wait, and returns the one that waits no longer for it; `random` chooses that.
    pub(crate) fn put(&mut self, new: Waiting, random: usize) -> Waiting {
        let mut out = new;
        if new.bytes <= self.bytes_max {
            for step in 0..WAITING_COUNT {
                let number = random.wrapping_add(step);
                let before = self.places[number % WAITING_COUNT].bytes;
                let fits = self.bytes + new.bytes - before <= self.bytes_max;
                out = self.replace(number, if fits { new } else { Waiting::NONE });
                if fits {
                    break;
                }
                self.forget_kept(out.kept_bytes);
                core::mem::replace(&mut out, new).give_up();
            }
        }
        self.forget_kept(out.kept_bytes);
        out
    }

    /// Takes a mapping out whose kept pages suit a block of `bytes`: the fewest that are enough for
    /// it, else the most; and its place. Nobody gives it up meanwhile.
    pub(crate) fn take_kept(&mut self, bytes: usize) -> Option<(usize, Waiting)> {
        let suits = |place: &Waiting| {
            let is_enough = place.kept_bytes >= bytes;
            (is_enough, if is_enough { usize::MAX - place.kept_bytes } else { place.kept_bytes })
        };
        let having = self.places.iter().enumerate().filter(|(_, place)| place.kept_bytes > 0);
        let (number, _) = having.max_by_key(|(_, place)| suits(place))?;
        Some((number, self.replace(number, Waiting::NONE)))
    }

    /// Puts a mapping back that [`take_kept`](Self::take_kept) gave, of whose kept pages
    /// `moved_bytes` have left; returns the one that waits no longer for it.
    pub(crate) fn put_back(&mut self, number: usize, old: Waiting, moved_bytes: usize) -> Waiting {
        self.forget_kept(moved_bytes);
        if self.places[number].bytes == 0 {
            return self.replace(number, old);
        }
        self.put(old, number)
    }

    /// Gives all kept pages back to the kernel; whether there were some.
    pub(crate) fn drop_kept(&mut self) -> bool {
        let mut is_any = false;
        for place in self.places.iter_mut().filter(|place| place.kept_bytes > 0) {
            if let Some(kept) = NonNull::new(place.kept) {
                // SAFETY: whole pages that wait; nobody uses them.
                if unsafe { renew(kept, place.kept_bytes) }.is_ok() {
                    self.kept_bytes -= place.kept_bytes;
                    place.kept_bytes = 0;
                    is_any = true;
                }
            }
        }
        is_any
    }
}

#[cfg(test)]
mod tests {
    use heapwright_core::family::Family;

    use crate::alloc::alloc;
    use crate::large::{free, large};
    use crate::wait::hold;

    #[test]
    fn pages_of_freed_blocks_come_back_zeroed_and_at_other_addresses() {
        let sizes = [300_000usize, 150_000, 1_500_000, 150_001, 700_000];
        for round in 0..40 {
            let bytes = sizes[round % sizes.len()];
            let block = alloc(bytes, Family::Malloc);
            assert!(!block.is_null());
            // SAFETY: a live block of so many bytes, of which nobody else knows.
            let all = unsafe { core::slice::from_raw_parts_mut(block, bytes) };
            assert!(all.iter().all(|byte| *byte == 0), "round {round}");
            all.fill(0xA5);
            // A broken canary would end the process here.
            free(block, Family::Malloc, None);
            let next = alloc(bytes, Family::Malloc);
            assert_ne!(next, block, "its addresses wait");
            free(next, Family::Malloc, None);
        }
        assert!(hold(large()).trim(), "some pages were kept");
        assert!(!hold(large()).trim());
    }
}
