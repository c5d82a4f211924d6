//! Pages of the table with few live indices: those are kept in a run, and the page goes back.
//!
//! A run holds keys in order: which index of the page, and its pins. Names are equal, or given by
//! a byte or a word each; a place is home, or where the keys before it say it would be but for a
//! byte, or given by 2 or 4 bytes. So most values cost 2 to 4 bytes.

use core::cell::Cell;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;

use super::areas::Part;
use super::pool::CompactingPool;
use super::spot::{DEAD, Spot, key_of, key_offset, key_pins};
use super::table::{
    AWAY, LIVE, NONE, PAGE_TAGS, PIN_MASK, RETIRED, SPREAD, WHOLE, is_live, is_reusable, name_of,
};

/// Runs are cut in units of this many bytes.
pub(super) const CELL_BYTES: usize = 8;
/// What a slot can need of runs, at most: a key, a name and a place, and a share of the header.
pub(super) const RUN_SHARE_BYTES: usize = 11;
/// Pages with at most this many live indices are packed: a whole one costs 5 bytes a value then.
const LIVE_MAX: u32 = PAGE_TAGS / 16 * 13;
/// Names of an index are this far from each other.
const NAME_STEP: u32 = 2 * LIVE;
/// Keys looked at around where one should be, before all are searched.
const NEAR: usize = 24;

/// How places of a run are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Places {
    /// All are home.
    Home,
    /// A byte above the first, one further for each key before.
    InTurn,
    /// Two bytes above the lowest.
    Near,
    /// Four bytes.
    Any,
}

impl Places {
    const fn bytes(self) -> usize {
        match self {
            Self::Home => 0,
            Self::InTurn => 1,
            Self::Near => 2,
            Self::Any => 4,
        }
    }
}

/// How many bytes names and places of a run take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    /// 0, 1 or 4.
    name_bytes: u8,
    places: Places,
}

/// In front of a run: `count` keys, then as many places, then as many names. Runs follow each
/// other.
#[repr(C, align(8))]
#[derive(Debug)]
pub(super) struct Run {
    /// Whose they are; none: nobody's.
    pub(super) page: Cell<u32>,
    /// The least name, and the place from which places count.
    name: u32,
    place: u32,
    /// Keys, dead ones too.
    pub(super) count: u16,
    form: Form,
}

const RUN_CELLS: u32 = (size_of::<Run>() / CELL_BYTES) as u32;
const _: () = assert!(size_of::<Run>() == 16);

impl Run {
    /// Cells from this run to the next.
    pub(super) fn cells(&self) -> u32 {
        cells_of(u32::from(self.count), self.form)
    }
}

const fn cells_of(count: u32, form: Form) -> u32 {
    let each = size_of::<u16>() + form.places.bytes() + form.name_bytes as usize;
    RUN_CELLS + (count as usize * each).div_ceil(CELL_BYTES) as u32
}

/// What a page holds, found in one walk.
#[derive(Debug)]
struct Census {
    live: u32,
    name_min: u32,
    name_max: u32,
    has_away: bool,
    place_min: u32,
    place_max: u32,
    /// The least of places less the number of values before, and the greatest above that.
    turn_min: i64,
    turn_max: i64,
    /// The greatest of the dead tags.
    floor: u32,
}

impl Census {
    const NONE: Self = Self {
        live: 0,
        name_min: u32::MAX,
        name_max: 0,
        has_away: false,
        place_min: u32::MAX,
        place_max: 0,
        turn_min: i64::MAX,
        turn_max: i64::MIN,
        floor: 0,
    };

    fn add(&mut self, name: u32, place: u32, is_away: bool) {
        let turn = i64::from(place) - i64::from(self.live);
        self.live += 1;
        self.name_min = self.name_min.min(name);
        self.name_max = self.name_max.max(name);
        self.has_away |= is_away;
        self.place_min = self.place_min.min(place);
        self.place_max = self.place_max.max(place);
        self.turn_min = self.turn_min.min(turn);
        self.turn_max = self.turn_max.max(turn);
    }

    /// The form of the run, its least name, and from where its places count.
    fn form(&self) -> (Form, u32, u32) {
        if self.live == 0 {
            return (Form { name_bytes: 0, places: Places::Home }, 0, 0);
        }
        let name_bytes = match (self.name_max - self.name_min) / NAME_STEP {
            0 => 0,
            1..=255 => 1,
            _ => 4,
        };
        let (places, place) = if !self.has_away {
            (Places::Home, 0)
        } else if self.turn_max - self.turn_min <= i64::from(u8::MAX) {
            // It wraps where the first place is below the number of values before one.
            (Places::InTurn, self.turn_min as u32)
        } else if self.place_max - self.place_min <= u32::from(u16::MAX) {
            (Places::Near, self.place_min)
        } else {
            (Places::Any, 0)
        };
        (Form { name_bytes, places }, self.name_min, place)
    }

    /// Whether a run costs so much less than the page that it is worth a search.
    fn is_worth_packing(&self) -> bool {
        let page_bytes = PAGE_TAGS as usize * size_of::<u32>() * (1 + usize::from(self.has_away));
        let run_bytes = cells_of(self.live, self.form().0) as usize * CELL_BYTES;
        self.live <= LIVE_MAX && run_bytes <= page_bytes / 16 * 13
    }
}

impl<T, B: Backing> CompactingPool<T, B> {
    pub(super) fn run(&self, cell: u32) -> &Run {
        debug_assert!(cell < self.run_cells.get());
        // SAFETY: where a run begins, a header was written, which is not changed but for its cell.
        unsafe { self.cell(cell).cast().as_ref() }
    }

    fn cell(&self, cell: u32) -> NonNull<u8> {
        // SAFETY: cells are inside the part of the runs, or one past it.
        unsafe { self.areas.start(Part::Runs).add(cell as usize * CELL_BYTES) }
    }

    /// Key number `at` of a run.
    pub(super) fn run_key(&self, cell: u32, at: usize) -> &Cell<u16> {
        debug_assert!(at < usize::from(self.run(cell).count));
        // SAFETY: below the count, behind the header.
        let key = unsafe { self.cell(cell + RUN_CELLS).cast::<Cell<u16>>().add(at) };
        // SAFETY: written when the page was packed; changed through cells.
        unsafe { key.as_ref() }
    }

    /// Where the numbers behind the keys of a run are: number `at` of `bytes` each, with
    /// `before` bytes a key in front of them.
    fn run_number(&self, cell: u32, before: usize, bytes: usize, at: usize) -> NonNull<u8> {
        let count = usize::from(self.run(cell).count);
        debug_assert!(at < count);
        // SAFETY: inside the run: keys, places and names follow each other.
        unsafe { self.cell(cell + RUN_CELLS).add(count * before + at * bytes) }
    }

    /// Where value number `at` of a run is.
    pub(super) fn run_place(&self, cell: u32, at: usize) -> u32 {
        let run = self.run(cell);
        let (places, base) = (run.form.places, run.place);
        let from = self.run_number(cell, size_of::<u16>(), places.bytes(), at);
        // SAFETY: as many bytes as its places have, written when the page was packed.
        let number = unsafe { read_number(from, places.bytes()) };
        match places {
            Places::Home => self.run_index(cell, at),
            Places::InTurn => base.wrapping_add(at as u32).wrapping_add(number),
            Places::Near | Places::Any => base + number,
        }
    }

    /// The name of value number `at` of a run.
    pub(super) fn run_name(&self, cell: u32, at: usize) -> u32 {
        let run = self.run(cell);
        let (bytes, before) =
            (usize::from(run.form.name_bytes), size_of::<u16>() + run.form.places.bytes());
        let from = self.run_number(cell, before, bytes, at);
        // SAFETY: as many bytes as its names have, written when the page was packed.
        run.name + unsafe { read_number(from, bytes) } * NAME_STEP
    }

    /// The index of key number `at` of a run.
    pub(super) fn run_index(&self, cell: u32, at: usize) -> u32 {
        self.run(cell).page.get() * PAGE_TAGS + key_offset(self.run_key(cell, at).get())
    }

    /// The first key of a run that is not below `offset`.
    pub(super) fn position(&self, cell: u32, offset: u32) -> usize {
        let count = usize::from(self.run(cell).count);
        let key = |at| key_offset(self.run_key(cell, at).get());
        // Where it is if keys are even, or not far from there.
        let guess = count * offset as usize / PAGE_TAGS as usize;
        let (mut low, mut high) = (guess.saturating_sub(NEAR), (guess + NEAR).min(count));
        if low > 0 && key(low - 1) >= offset {
            low = 0;
        }
        if high < count && key(high) < offset {
            high = count;
        }
        while low < high {
            let middle = (low + high) / 2;
            if key(middle) < offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The live value of an index whose page is packed.
    #[cold]
    pub(super) fn find_packed(&self, index: u32) -> Option<Spot<'_>> {
        let cell = self.record(index / PAGE_TAGS).packed()?;
        let offset = index % PAGE_TAGS;
        let at = self.position(cell, offset);
        if at == usize::from(self.run(cell).count) {
            return None;
        }
        let key = self.run_key(cell, at);
        let is_it = key_offset(key.get()) == offset && key_pins(key.get()) != DEAD;
        is_it.then_some(Spot::Run { key, cell, at })
    }

    /// The name of a live value.
    pub(super) fn name_at(&self, spot: &Spot<'_>) -> u32 {
        match spot {
            Spot::Table(tag) => name_of(tag.get()),
            Spot::Run { cell, at, .. } => self.run_name(*cell, *at),
        }
    }

    /// Ends a packed value, whose index would have the tag `dead`.
    pub(super) fn bury_packed(&self, index: u32, cell: u32, at: usize, dead: u32) {
        let record = self.record(index / PAGE_TAGS);
        // The next use of any index of the page begins above this one's.
        record.floor.set(floor_of(record.floor.get(), dead));
        self.run_key(cell, at).set(key_of(index % PAGE_TAGS, DEAD));
    }

    fn census(&self, page: u32) -> Census {
        let mut census = Census::NONE;
        for index in page * PAGE_TAGS..(page + 1) * PAGE_TAGS {
            let tag = self.tag(index).get();
            if is_live(tag) {
                let is_away = tag & AWAY != 0;
                let place = if is_away { self.place(index) } else { index };
                census.add(name_of(tag), place, is_away);
            } else {
                census.floor = floor_of(census.floor, tag);
            }
        }
        census
    }

    /// Packs a page whose dead indices are in no list, if that is worth it. The bytes that went
    /// back are added.
    pub(super) fn pack(&self, page: u32, released_bytes: &mut usize) {
        let first = page * PAGE_TAGS;
        if first + PAGE_TAGS > self.tag_count.get() || !self.areas.purges() {
            return;
        }
        let census = self.census(page);
        let (form, name, place) = census.form();
        let (cell, cells) = (self.run_cells.get(), cells_of(census.live, form));
        let bytes = (cell as usize + cells as usize) * CELL_BYTES;
        if !census.is_worth_packing() || self.areas.commit(Part::Runs, bytes).is_err() {
            return;
        }
        self.run_cells.set(cell + cells);
        let count = census.live as u16;
        let header = Run { page: Cell::new(page), name, place, count, form };
        // SAFETY: committed above, behind all runs.
        unsafe { self.cell(cell).cast::<Run>().write(header) };
        let mut at = 0;
        for index in first..first + PAGE_TAGS {
            let tag = self.tag(index).get();
            if is_live(tag) {
                let place = if tag & AWAY != 0 { self.place(index) } else { index };
                self.write_packed(cell, at, index, tag, place);
                at += 1;
            }
            self.tag(index).set(0);
        }
        debug_assert_eq!(at, usize::from(count));
        let record = self.record(page);
        let had_places = record.run.get() == SPREAD;
        record.floor.set(census.floor);
        record.run.set(cell);
        self.next_index.set(self.next_index.get().min(first));
        let page_bytes = PAGE_TAGS as usize * size_of::<u32>();
        let range = page as usize * page_bytes..(page as usize + 1) * page_bytes;
        // SAFETY: tags of the page, which were just made zero; a multiple of the step.
        *released_bytes += unsafe { self.areas.purge(Part::Tags, range.clone()) };
        if had_places {
            let places = self.areas.start(Part::Places);
            // SAFETY: the places of the page, committed as far as the tags are.
            let places = unsafe { places.add(range.start) };
            // SAFETY: as above; nobody reads them until they are written again.
            unsafe { places.write_bytes(0, page_bytes) };
            // SAFETY: they were just made zero.
            *released_bytes += unsafe { self.areas.purge(Part::Places, range) };
        }
    }

    /// Writes value number `at` of a run.
    fn write_packed(&self, cell: u32, at: usize, index: u32, tag: u32, place: u32) {
        self.run_key(cell, at).set(key_of(index % PAGE_TAGS, tag & PIN_MASK));
        let run = self.run(cell);
        let (form, keys) = (run.form, size_of::<u16>());
        let place = match form.places {
            Places::Home => 0,
            Places::InTurn => place.wrapping_sub(run.place).wrapping_sub(at as u32),
            Places::Near | Places::Any => place - run.place,
        };
        let name = (name_of(tag) - run.name) / NAME_STEP;
        let (place_bytes, name_bytes) = (form.places.bytes(), usize::from(form.name_bytes));
        let to = self.run_number(cell, keys, place_bytes, at);
        // SAFETY: inside the run, whose form has room for every place of the page.
        unsafe { write_number(to, place_bytes, place) };
        let to = self.run_number(cell, keys + place_bytes, name_bytes, at);
        // SAFETY: as above, for names.
        unsafe { write_number(to, name_bytes, name) };
    }

    /// Makes a packed page whole again.
    pub(super) fn thaw(&self, page: u32) {
        let record = self.record(page);
        let Some(cell) = record.packed() else { return };
        let floor = record.floor.get();
        let first = page * PAGE_TAGS;
        for index in first..first + PAGE_TAGS {
            self.tag(index).set(floor);
        }
        record.run.set(WHOLE);
        for at in 0..usize::from(self.run(cell).count) {
            let pins = key_pins(self.run_key(cell, at).get());
            if pins != DEAD {
                let index = self.run_index(cell, at);
                self.tag(index).set(self.run_name(cell, at) | pins);
                self.set_place(index, self.run_place(cell, at));
            }
        }
        self.run(cell).page.set(NONE);
    }

    /// Moves the run at `from` down to `to`; where the next goes.
    pub(super) fn slide_run(&self, from: u32, to: u32) -> u32 {
        let run = self.run(from);
        let (page, cells) = (run.page.get(), run.cells());
        if page == NONE {
            return to;
        }
        // SAFETY: the run and, at or below it, what is nobody's; nobody refers to it.
        unsafe { self.cell(from).copy_to(self.cell(to), cells as usize * CELL_BYTES) };
        self.record(page).run.set(to);
        to + cells
    }
}

/// A number of 0, 1, 2 or 4 bytes.
///
/// # Safety
/// - So many bytes at `from` were written.
unsafe fn read_number(from: NonNull<u8>, bytes: usize) -> u32 {
    match bytes {
        0 => 0,
        // SAFETY: the caller's.
        1 => u32::from(unsafe { from.read() }),
        // SAFETY: the caller's.
        2 => u32::from(unsafe { from.cast::<u16>().read_unaligned() }),
        // SAFETY: the caller's.
        _ => unsafe { from.cast::<u32>().read_unaligned() },
    }
}

/// Writes what [`read_number`] reads.
///
/// # Safety
/// - So many bytes at `to` may be written.
unsafe fn write_number(to: NonNull<u8>, bytes: usize, number: u32) {
    match bytes {
        0 => debug_assert!(number == 0),
        1 => {
            debug_assert!(number <= u32::from(u8::MAX));
            // SAFETY: the caller's.
            unsafe { to.write(number as u8) }
        }
        2 => {
            debug_assert!(number <= u32::from(u16::MAX));
            // SAFETY: the caller's.
            unsafe { to.cast::<u16>().write_unaligned(number as u16) }
        }
        // SAFETY: the caller's.
        _ => unsafe { to.cast::<u32>().write_unaligned(number) },
    }
}

/// The greater of two dead tags, in no list; [`RETIRED`] if one is that.
fn floor_of(one: u32, other: u32) -> u32 {
    let is_retired = !is_reusable(one) || !is_reusable(other);
    if is_retired { RETIRED } else { name_of(one).max(name_of(other)) }
}
