//! Mappings of freed large blocks, all without access: their addresses wait before others get them,
//! and their pages for the next block, which takes them to addresses of its own.
//!
//! So a use after free faults for as long as the addresses wait, though the pages are in use again.
//!
//! # Invariants
//! - W1: `bytes` and `kept_bytes` are the sums over all places; `bytes` is at most `bytes_max`.
//! - W2: pages that are kept lie in their place's mapping; a place that lends them has none.
//! - W3: a place that lends stays where it is, so that its mapping outlives the move.

use heapwright_os::cycle_counter;

use crate::alloc::NO_BLOCK;

/// Mappings that wait.
const PLACE_COUNT: usize = 64;
/// Pages are kept up to so many bytes, or up to a share of what live large blocks have.
const KEPT_BYTES_MIN: usize = 32 << 20;
const KEPT_SHARE: usize = 4;
/// Cycles that pages are kept, at most, while large blocks come and go: about a second.
const KEPT_CYCLES_MAX: u64 = 1 << 31;
/// A block takes kept pages when they are at least this part of what it needs.
const USEFUL_PART: usize = 4;

/// Consecutive pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageRange {
    pub(crate) start: *mut u8,
    pub(crate) bytes: usize,
}

impl PageRange {
    pub(crate) const NONE: Self = Self { start: NO_BLOCK, bytes: 0 };
}

/// A mapping without access; 0 bytes are none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) mapping: *mut u8,
    pub(crate) bytes: usize,
    /// Its pages that hold memory.
    pub(crate) kept: PageRange,
    /// When they came in.
    since_cycles: u64,
    /// Whether somebody is moving its pages.
    lends: bool,
}

impl Waiting {
    const NONE: Self = Self::of(NO_BLOCK, 0, PageRange::NONE);

    pub(crate) const fn of(mapping: *mut u8, bytes: usize, kept: PageRange) -> Self {
        Self { mapping, bytes, kept, since_cycles: 0, lends: false }
    }
}

/// Pages that a place lends, until [`WaitingRoom::end_loan`].
#[derive(Debug)]
pub(crate) struct Loan {
    place: usize,
    pub(crate) pages: PageRange,
}

/// All that wait; under the lock of `large`.
#[derive(Debug)]
pub(crate) struct WaitingRoom {
    places: [Waiting; PLACE_COUNT],
    bytes: usize,
    bytes_max: usize,
    kept_bytes: usize,
}

// SAFETY: the mappings that wait are nobody else's.
unsafe impl Send for WaitingRoom {}

impl WaitingRoom {
    pub(crate) const fn new() -> Self {
        Self { places: [Waiting::NONE; PLACE_COUNT], bytes: 0, bytes_max: 0, kept_bytes: 0 }
    }

    /// Up to `bytes_max` of addresses wait from now on.
    pub(crate) fn begin(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Bytes of the waiting mapping that a page at `address` lies in.
    pub(crate) fn around(&self, address: usize) -> Option<usize> {
        let is_in = |place: &&Waiting| address.wrapping_sub(place.mapping.addr()) < place.bytes;
        self.places.iter().find(is_in).map(|place| place.bytes)
    }

    /// Whether `bytes` of pages may be kept, beside live blocks of `live_bytes`.
    pub(crate) fn may_keep(&self, bytes: usize, live_bytes: usize) -> bool {
        bytes <= KEPT_BYTES_MIN.max(live_bytes / KEPT_SHARE)
    }

    /// Pages to be given back, so that `bytes` more can be kept; none when that is so.
    pub(crate) fn lend_for_room(&mut self, bytes: usize, live_bytes: usize) -> Option<Loan> {
        let is_full = !self.may_keep(self.kept_bytes + bytes, live_bytes);
        if is_full { self.lend_oldest() } else { None }
    }

    /// Lets `new` wait. The one that waits no longer for it comes back, or `new` itself; others
    /// that had to go before it, when addresses are short, go to `give_up`.
    pub(crate) fn put(
        &mut self,
        new: Waiting,
        random: usize,
        mut give_up: impl FnMut(Waiting),
    ) -> Waiting {
        if new.bytes > self.bytes_max {
            return new;
        }
        // Those that keep pages go only when all others lend theirs or do so, too.
        for step in 0..2 * PLACE_COUNT {
            let number = random.wrapping_add(step) % PLACE_COUNT;
            let old = self.places[number];
            if old.lends || (old.kept.bytes > 0 && step < PLACE_COUNT) {
                continue;
            }
            let fits = self.bytes + new.bytes - old.bytes <= self.bytes_max;
            self.bytes -= old.bytes;
            self.kept_bytes -= old.kept.bytes;
            self.places[number] = Waiting::NONE;
            if fits {
                self.places[number] = Waiting { since_cycles: cycle_counter(), ..new };
                self.bytes += new.bytes;
                self.kept_bytes += new.kept.bytes;
                self.check();
                return old;
            }
            give_up(old);
        }
        self.check();
        new
    }

    /// Pages for a block of `bytes`: of those that are enough the fewest, else the most, unless
    /// they are few.
    pub(crate) fn lend(&mut self, bytes: usize) -> Option<Loan> {
        let useful = |place: &Waiting| place.kept.bytes >= bytes / USEFUL_PART && !place.lends;
        // How many are too much; what is too little comes behind all that is enough.
        let order = |kept: usize| kept.checked_sub(bytes).unwrap_or(usize::MAX - kept);
        let places = self.places.iter().enumerate();
        let (number, _) = places
            .filter(|(_, place)| place.kept.bytes > 0 && useful(place))
            .min_by_key(|(_, place)| order(place.kept.bytes))?;
        Some(self.lend_of(number, bytes))
    }

    /// The pages of a place that has kept them for long, if there is one: to be given back.
    pub(crate) fn lend_old(&mut self) -> Option<Loan> {
        let now = cycle_counter();
        let is_old = |place: &Waiting| now.wrapping_sub(place.since_cycles) > KEPT_CYCLES_MAX;
        let number = self
            .places
            .iter()
            .position(|place| place.kept.bytes > 0 && !place.lends && is_old(place))?;
        Some(self.lend_of(number, usize::MAX))
    }

    /// The pages that have been kept longest, if there are any: to be given back.
    pub(crate) fn lend_oldest(&mut self) -> Option<Loan> {
        let places = self.places.iter().enumerate();
        let (number, _) = places
            .filter(|(_, place)| place.kept.bytes > 0 && !place.lends)
            .min_by_key(|(_, place)| place.since_cycles)?;
        Some(self.lend_of(number, usize::MAX))
    }

    fn lend_of(&mut self, number: usize, bytes: usize) -> Loan {
        let place = &mut self.places[number];
        let PageRange { start, bytes: kept_bytes } = place.kept;
        let bytes = bytes.min(kept_bytes);
        // The last ones stay, which is no reason to lend two parts at once (W2).
        place.kept = PageRange { start: start.wrapping_add(bytes), bytes: kept_bytes - bytes };
        place.lends = true;
        self.kept_bytes -= bytes;
        self.check();
        Loan { place: number, pages: PageRange { start, bytes } }
    }

    /// The pages of a loan are somewhere else, or gone.
    pub(crate) fn end_loan(&mut self, loan: Loan) {
        debug_assert!(self.places[loan.place].lends, "W3");
        self.places[loan.place].lends = false;
    }

    /// In the child of a fork: who was moving pages is not here.
    pub(crate) fn forget_loans(&mut self) {
        self.places.iter_mut().for_each(|place| place.lends = false);
    }

    fn check(&self) {
        if cfg!(debug_assertions) {
            let sums = self.places.iter().fold((0, 0), |(bytes, kept_bytes), place| {
                (bytes + place.bytes, kept_bytes + place.kept.bytes)
            });
            assert_eq!(sums, (self.bytes, self.kept_bytes), "W1");
            assert!(self.bytes <= self.bytes_max, "W1");
            for place in &self.places {
                let before = place.kept.start.addr().wrapping_sub(place.mapping.addr());
                let is_inside = before + place.kept.bytes <= place.bytes;
                assert!(place.kept.bytes == 0 || is_inside, "W2");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::ptr::without_provenance_mut;
    use std::vec::Vec;

    use super::{KEPT_BYTES_MIN, PLACE_COUNT, PageRange, Waiting, WaitingRoom};

    const PAGE: usize = 4096;

    /// A mapping at `number` with a page before and behind `kept` ones.
    fn waiting(number: usize, kept: usize) -> Waiting {
        let place = |page: usize| without_provenance_mut((number * 1000 + page) * PAGE);
        let kept_pages = match kept {
            0 => PageRange::NONE,
            _ => PageRange { start: place(1), bytes: kept * PAGE },
        };
        Waiting::of(place(0), (kept + 2) * PAGE, kept_pages)
    }

    fn room() -> WaitingRoom {
        let mut room = WaitingRoom::new();
        room.begin(1 << 40);
        room
    }

    #[test]
    fn one_leaves_for_each_that_comes_and_those_with_pages_stay_longest() {
        let mut room = room();
        for number in 1..=PLACE_COUNT {
            let old = room.put(waiting(number, number % 2), 7 * number, |_| panic!("room enough"));
            assert_eq!(old.bytes, 0, "places are free");
        }
        for number in 0..PLACE_COUNT / 2 {
            let old = room.put(waiting(100 + number, 1), 5 * number, |_| panic!("room enough"));
            assert_eq!((old.bytes, old.kept.bytes), (2 * PAGE, 0), "none with pages");
        }
        let old = room.put(waiting(200, 0), 3, |_| panic!("room enough"));
        assert_eq!(old.kept.bytes, PAGE, "there are no others any more");
        assert_eq!(room.around(old.mapping.addr()), None);
        assert_eq!(room.around(200 * 1000 * PAGE + PAGE), Some(2 * PAGE));
    }

    #[test]
    fn addresses_that_wait_are_limited() {
        let mut room = WaitingRoom::new();
        room.begin(10 * PAGE);
        assert_eq!(room.put(waiting(1, 20), 0, |_| panic!()).bytes, 22 * PAGE, "too large to wait");
        for number in 1..4 {
            room.put(waiting(number, 1), number, |_| panic!("room enough"));
        }
        let mut gone = Vec::new();
        let old = room.put(waiting(5, 4), 0, |old| gone.push(old.bytes));
        gone.push(old.bytes);
        assert!(gone.iter().sum::<usize>() >= 5 * PAGE, "{gone:?} made room");
        assert_eq!(room.around(5 * 1000 * PAGE), Some(6 * PAGE));
    }

    #[test]
    fn a_block_takes_the_fewest_pages_that_are_enough_or_else_the_most() {
        let mut room = room();
        for (number, kept) in [(1, 100), (2, 40), (3, 50), (4, 30)] {
            room.put(waiting(number, kept), number, |_| panic!("room enough"));
        }
        let loan = room.lend(45 * PAGE).expect("there are some");
        assert_eq!((loan.pages.start.addr() / PAGE, loan.pages.bytes), (3001, 45 * PAGE));
        room.end_loan(loan);
        let rest = room.lend(5 * PAGE).expect("what the block did not need");
        assert_eq!((rest.pages.start.addr() / PAGE, rest.pages.bytes), (3046, 5 * PAGE));
        let most = room.lend(300 * PAGE).expect("a third of what is needed");
        assert_eq!((most.pages.start.addr() / PAGE, most.pages.bytes), (1001, 100 * PAGE));
        let old = room.put(waiting(9, 0), 3, |_| panic!("room enough"));
        assert_eq!(old.bytes, 0, "places that lend stay");
        assert!(room.lend(300 * PAGE).is_none(), "the others are too few to be worth a move");
        room.end_loan(most);
        room.end_loan(rest);
    }

    #[test]
    fn pages_are_given_back_when_there_are_too_many_the_oldest_first() {
        let mut room = room();
        let kept = KEPT_BYTES_MIN / PAGE / 2;
        for number in 1..3 {
            assert!(room.lend_for_room(kept * PAGE, 0).is_none());
            room.put(waiting(number, kept), number, |_| panic!("room enough"));
        }
        assert!(!room.may_keep(KEPT_BYTES_MIN + PAGE, 0));
        assert!(room.may_keep(KEPT_BYTES_MIN + PAGE, 8 * KEPT_BYTES_MIN), "live blocks are many");
        let loan = room.lend_for_room(PAGE, 0).expect("they are full");
        assert_eq!(loan.pages.start.addr() / PAGE, 1001);
        room.end_loan(loan);
        assert!(room.lend_for_room(PAGE, 0).is_none());
        assert!(room.lend_old().is_none(), "none has been there for long");
    }
}
