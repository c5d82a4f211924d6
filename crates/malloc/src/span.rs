//! One small span: a slab of slots of one class, and the three places where its free slots can be:
//! linked in `local_free`, told of by the bitmap, or never handed out yet.
//!
//! The caller of everything here owns the span: it is the owner thread in a slow path with its
//! heap's lock, or the holder of the class's lock when the span is passive.
//!
//! # Invariants
//! design/malloc.md#I1 and #I2: `extended_count` = used slots + slots in `local_free` +
//! `bit_count`.

use core::ptr::NonNull;

use heapwright_os::{Advice, advise, page_bytes};
use heapwright_sync::atomic::{AtomicU32, Ordering};

use crate::block::{self, Block};
use crate::descriptor::{Descriptor, PASSIVE, Place, SliceIndex};
use crate::geometry::{Geometry, UNIT_BYTES};
use crate::heap::Heap;
use crate::huge;
use crate::nodes::Part;
use crate::pressure;
use crate::purge::note_purged;
use crate::region::{
    BIT_BYTES, SLICE_BYTES, WORD_COVERS_BYTES, bitmap_word, descriptor, index_of, slice_start,
};
use crate::runs::ever_used_bytes;

/// A list of up to so many times what is wished is taken whole: walking it to cut it means waiting
/// for one cache miss a block.
const WHOLE_LIST_FACTOR: i32 = 8;
/// `wake_at` of a span that no free has to look at: `until_wake` then never comes down to 0.
const NEVER: i32 = i32::MIN / 2;
/// Fewer pages are not worth a call of the kernel.
const TAIL_PAGES_MIN: u32 = 2;
/// Pages provided at once, at most: a call of the kernel costs as much as one fault.
const POPULATE_PAGES_MAX: usize = 8;
/// But one by one until so much was ever used: in small processes each page counts.
const POPULATE_USED_BYTES_MIN: usize = 4 << 20;
/// 1 when the kernel refused to provide several at once.
static POPULATE_REFUSED: AtomicU32 = AtomicU32::new(0);
/// What one bit of `extra` stands for.
pub(crate) const PAGE_UNIT_BYTES: usize = 4096;
const PAGE_UNIT_WORDS: usize = PAGE_UNIT_BYTES / WORD_COVERS_BYTES;
/// Words of the bitmap that tell of a span.
const SPAN_WORDS: usize = SLICE_BYTES / WORD_COVERS_BYTES;

const _: () = assert!(UNIT_BYTES.is_multiple_of(PAGE_UNIT_BYTES));

/// A small span, by its descriptor and class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    index: SliceIndex,
    class_index: usize,
    head: &'static Descriptor,
}

impl Span {
    /// The span whose first slice is `index`.
    #[inline]
    pub(crate) fn at(index: SliceIndex) -> Self {
        let head = descriptor(index);
        Self { index, class_index: usize::from(head.class_index.load(Ordering::Relaxed)), head }
    }

    /// The span that `head` describes.
    #[inline]
    pub(crate) fn of(head: &'static Descriptor) -> Self {
        Self::at(index_of(head))
    }

    /// Makes a fresh span of `class_index` from a run; passive, in no list.
    pub(crate) fn init(index: SliceIndex, class_index: usize) -> Self {
        let span = Self { index, class_index, head: descriptor(index) };
        let head = span.head;
        head.local_free.store(core::ptr::null_mut(), Ordering::Relaxed);
        head.until_wake.store(0, Ordering::Relaxed);
        head.wake_at.store(0, Ordering::Relaxed);
        head.heap.store(core::ptr::null_mut(), Ordering::Relaxed);
        head.run_slices.store(1, Ordering::Relaxed);
        head.extended_count.store(0, Ordering::Relaxed);
        head.bit_count.store(0, Ordering::Relaxed);
        head.class_index.store(class_index as u8, Ordering::Relaxed);
        head.place.store(Place::Packed as u8, Ordering::Relaxed);
        head.is_dirty.store(0, Ordering::Relaxed);
        head.epoch.store(0, Ordering::Relaxed);
        head.owner.store(PASSIVE, Ordering::Relaxed);
        span
    }

    /// Its first slice.
    #[inline]
    pub(crate) fn index(self) -> SliceIndex {
        self.index
    }

    /// Its descriptor.
    #[inline]
    pub(crate) fn head(self) -> &'static Descriptor {
        self.head
    }

    /// The NUMA node's part that it lies in.
    #[inline]
    pub(crate) fn part(self) -> Part {
        self.head.node.load(Ordering::Relaxed)
    }

    /// Its class.
    #[inline]
    pub(crate) fn class_index(self) -> usize {
        self.class_index
    }

    /// How it is cut.
    #[inline]
    pub(crate) fn geometry(self) -> &'static Geometry {
        Geometry::of(self.class_index)
    }

    /// Where slot `number` starts, from the start of the span.
    #[inline]
    pub(crate) fn slot_offset(self, number: usize) -> usize {
        self.geometry().slot_offset(self.index, number)
    }

    /// The slot that holds the byte at `offset`, or the first one after it.
    #[inline]
    pub(crate) fn slot_at(self, offset: usize) -> usize {
        self.geometry().slot_at(self.index, offset)
    }

    /// Where it stands.
    #[inline]
    pub(crate) fn place(self) -> Place {
        Place::from_number(self.head.place.load(Ordering::Relaxed))
    }

    /// Notes where it stands.
    #[inline]
    pub(crate) fn set_place(self, place: Place) {
        self.head.place.store(place as u8, Ordering::Relaxed);
    }

    /// Slots of an active span that are live, in a thread's list or on their way home.
    #[inline]
    pub(crate) fn used(self) -> i32 {
        self.head.until_wake.load(Ordering::Relaxed) + self.head.wake_at.load(Ordering::Relaxed)
    }

    #[inline]
    fn set_used(self, used: i32) {
        debug_assert!(used >= 0 && used <= i32::from(self.extended()));
        let wake_at = self.head.wake_at.load(Ordering::Relaxed);
        self.head.until_wake.store(used - wake_at, Ordering::Relaxed);
    }

    /// Slots of a passive span that are live, in a thread's list or on their way home.
    #[inline]
    pub(crate) fn passive_used(self) -> i32 {
        i32::from(self.extended()) - i32::from(self.head.bit_count.load(Ordering::Relaxed))
    }

    /// Slots that were ever linked or handed out.
    #[inline]
    pub(crate) fn extended(self) -> u16 {
        self.head.extended_count.load(Ordering::Relaxed)
    }

    /// Slots of the span.
    #[inline]
    pub(crate) fn slot_count(self) -> i32 {
        i32::from(self.geometry().slot_count)
    }

    /// Whether the span, an active one, was full before, as far as it is known.
    #[inline]
    pub(crate) fn was_full(self) -> bool {
        self.head.is_dirty.load(Ordering::Relaxed) != 0
    }

    /// Notes that it is full.
    #[inline]
    pub(crate) fn note_full(self) {
        self.head.is_dirty.store(1, Ordering::Relaxed);
    }

    /// Lets the free that brings `used` down to `used_count` look at the span; one that takes the
    /// last used slot away always does.
    #[inline]
    pub(crate) fn wake_at(self, used_count: i32) {
        let used = self.used();
        debug_assert!(used_count < used);
        self.head.wake_at.store(used_count, Ordering::Relaxed);
        self.head.until_wake.store(used - used_count, Ordering::Relaxed);
    }

    /// Lets no free look at the span.
    #[inline]
    pub(crate) fn wake_never(self) {
        let used = self.used();
        self.head.wake_at.store(NEVER, Ordering::Relaxed);
        self.head.until_wake.store(used - NEVER, Ordering::Relaxed);
    }

    /// Makes the counters of an active span right, which passive ones do not keep.
    pub(crate) fn start_counting(self) {
        self.head.wake_at.store(NEVER, Ordering::Relaxed);
        self.head.until_wake.store(self.passive_used() - NEVER, Ordering::Relaxed);
    }

    /// Makes the span the one of the thread of `heap`, whose thread pointer is `owner`; its counters
    /// are right then, and no free looks at it. Passive until now, with its class's lock held, or a
    /// span without blocks that nobody else knows.
    pub(crate) fn become_active(self, heap: &'static Heap, owner: usize) {
        self.start_counting();
        self.head.heap.store(core::ptr::from_ref(heap).cast_mut(), Ordering::Relaxed);
        // Release: pairs with the Acquire in `free_slow`; a thread that sees the owner sees the
        // heap.
        self.head.owner.store(owner, Ordering::Release);
    }

    /// Whether a slot is free.
    #[inline]
    pub(crate) fn has_free_slots(self) -> bool {
        !self.head.local_free.load(Ordering::Relaxed).is_null()
            || self.head.bit_count.load(Ordering::Relaxed) > 0
            || self.extended() < self.geometry().slot_count
    }

    /// Takes free slots to hand out, linked, about `wished` of them (at least 1): those freed last,
    /// then those that the bitmap tells of, then new ones. Null when the span is full. They count
    /// as used from here on.
    ///
    /// New ones join those that were freed while these are fewer than `enough`. When that is above
    /// 0, there come as many as there are resident pages for. Pages of a class that is growing are
    /// provided several at once.
    pub(crate) fn take_slots(self, wished: usize, enough: u8, is_growing: bool) -> Block {
        debug_assert!(wished > 0 && wished <= usize::from(self.geometry().slot_count));
        let list = self.head.local_free.load(Ordering::Relaxed);
        let linked = self.passive_used() - self.used();
        // With a slot or two going round, each allocation would be a refill.
        let is_short = linked < i32::from(enough);
        if !list.is_null() && !is_short {
            return self.take_linked(list, wished as i32);
        }
        if list.is_null() && self.head.bit_count.load(Ordering::Relaxed) > 0 {
            return self.harvest(wished, is_growing);
        }
        if !self.extend(wished, enough > 0, is_growing) && list.is_null() {
            return core::ptr::null_mut();
        }
        let list = self.head.local_free.load(Ordering::Relaxed);
        self.take_linked(list, wished as i32)
    }

    /// Takes all that is linked, with its count, when these are `enough` slots or there are no new
    /// ones: without walking or touching any of them. For the owner in a quick refill.
    #[inline]
    pub(crate) fn take_all_linked(self, enough: u8) -> Option<(Block, u32)> {
        let geometry = self.geometry();
        let list = self.head.local_free.load(Ordering::Relaxed);
        let used = self.used();
        let linked = self.passive_used() - used;
        let is_enough = linked >= i32::from(enough) || self.extended() == geometry.slot_count;
        if list.is_null() || !is_enough || geometry.is_coarse() {
            return None;
        }
        reached!(LinksRead);
        self.head.local_free.store(core::ptr::null_mut(), Ordering::Relaxed);
        reached!(LinksTaken);
        self.set_used(used + linked);
        Some((list, linked as u32))
    }

    fn take_linked(self, list: Block, wished: i32) -> Block {
        let used = self.used();
        let linked = self.passive_used() - used;
        let whole_max = match self.geometry().is_coarse() {
            true => wished,
            false => wished.saturating_mul(WHOLE_LIST_FACTOR),
        };
        if linked <= whole_max {
            self.head.local_free.store(core::ptr::null_mut(), Ordering::Relaxed);
            self.set_used(used + linked);
            return list;
        }
        let mut last = list;
        for _ in 1..wished {
            // SAFETY: `linked` blocks are linked (I2), more than `wished`; the list is ours.
            last = unsafe { block::next(last) };
        }
        // SAFETY: as above.
        let rest = unsafe { block::next(last) };
        // SAFETY: as above; the block leaves the span's list together with those before it.
        unsafe { block::set_next(last, core::ptr::null_mut()) };
        self.head.local_free.store(rest, Ordering::Relaxed);
        self.set_used(used + wished);
        list
    }

    /// Links slots that the bitmap tells of: on pages that are there already, if there are any.
    fn harvest(self, wished: usize, is_growing: bool) -> Block {
        let mut list = core::ptr::null_mut();
        let mut taken = self.harvest_pages(wished, true, &mut list);
        if taken == 0 {
            self.populate_last(is_growing);
            taken = self.harvest_pages(wished, false, &mut list);
        }
        debug_assert!(taken > 0, "I2: bits were counted that are not there");
        let left = usize::from(self.head.bit_count.load(Ordering::Relaxed)) - taken;
        self.head.bit_count.store(left as u16, Ordering::Relaxed);
        self.set_used(self.used() + taken as i32);
        list
    }

    fn harvest_pages(self, wished: usize, only_resident: bool, list: &mut Block) -> usize {
        let slot_bytes = self.geometry().slot_bytes as usize;
        let touched = self.touched();
        let mut taken = 0;
        // From the end, so that the list goes up.
        for word in (0..SPAN_WORDS).rev() {
            if only_resident && touched >> (word / PAGE_UNIT_WORDS) & 1 == 0 {
                continue;
            }
            let place = bitmap_word(self.index, word);
            let mut bits = place.load(Ordering::Relaxed);
            let (mut kept, before) = (0, taken);
            while bits != 0 && taken < wished {
                let bit = bits.ilog2() as usize;
                bits &= !(1 << bit);
                let offset = word * WORD_COVERS_BYTES + bit * BIT_BYTES;
                let end_page = (offset + slot_bytes - 1) / PAGE_UNIT_BYTES;
                if only_resident && touched >> end_page & 1 == 0 {
                    kept |= 1 << bit;
                    continue;
                }
                let slot: Block = slice_start(self.index).wrapping_add(offset).cast();
                // SAFETY: a free slot of ours (I1).
                unsafe { block::set_next(slot, *list) };
                *list = slot;
                self.note_touched(offset, slot_bytes);
                taken += 1;
            }
            if taken == before {
                continue;
            }
            place.store(bits | kept, Ordering::Relaxed);
            if taken == wished {
                break;
            }
        }
        taken
    }

    /// Links slots that were never handed out in front of those that were freed, `wished` of them
    /// but a page's at most, since linking touches them and a page fault costs ten times what a
    /// refill does; whether there were any.
    fn extend(self, wished: usize, is_hot: bool, is_growing: bool) -> bool {
        let geometry = self.geometry();
        let slot_bytes = geometry.slot_bytes as usize;
        let extended = usize::from(self.extended());
        let unit_slots = usize::from(geometry.unit_slots);
        let unit_end = extended / unit_slots * unit_slots + unit_slots;
        let offset = self.slot_offset(extended);
        // To the end of the page that the first slot needs, and of those behind it that are there
        // already.
        let mut page = (offset + slot_bytes - 1) / PAGE_UNIT_BYTES;
        if slot_bytes <= PAGE_UNIT_BYTES {
            self.populate(page, is_growing);
        }
        let touched = self.touched();
        while touched >> (page + 1) & 1 == 1 {
            page += 1;
        }
        let there = ((page + 1) * PAGE_UNIT_BYTES - offset) / slot_bytes;
        // The first refills want few: a thread that ends soon would have linked the rest in vain.
        let most = if is_hot { usize::from(geometry.slot_count) } else { wished };
        let end =
            (extended + there.clamp(1, most)).min(unit_end).min(usize::from(geometry.slot_count));
        if extended >= end {
            return false;
        }
        let first = slice_start(self.index).wrapping_add(offset);
        let mut slot = first;
        for _ in extended..end - 1 {
            let next = slot.wrapping_add(slot_bytes);
            // SAFETY: a slot of the span that was never handed out.
            unsafe { block::set_next(slot.cast(), next.cast()) };
            slot = next;
        }
        // SAFETY: as above.
        unsafe { block::set_next(slot.cast(), self.head.local_free.load(Ordering::Relaxed)) };
        self.note_touched(offset, (end - extended) * slot_bytes);
        self.head.extended_count.store(end as u16, Ordering::Relaxed);
        self.head.local_free.store(first.cast(), Ordering::Relaxed);
        true
    }

    /// Has the kernel provide `page`, which is about to be touched, and some behind it, at once.
    fn populate(self, page: usize, is_growing: bool) {
        let most = if is_growing { POPULATE_PAGES_MAX } else { page.min(POPULATE_PAGES_MAX) };
        let free = (self.touched() >> page).trailing_zeros() as usize;
        self.provide(page, most.min(SLICE_BYTES / PAGE_UNIT_BYTES - page).min(free));
    }

    /// The same for the last slot that the bitmap tells of, which has a page that was purged, and
    /// purged pages before it: all of them are free. Where the class is not growing, no more than
    /// are there already.
    fn populate_last(self, is_growing: bool) {
        let touched = self.touched();
        let there = touched.count_ones() as usize;
        let most = if is_growing { POPULATE_PAGES_MAX } else { there.min(POPULATE_PAGES_MAX) };
        let Some(offset) = self.last_free_offset() else { return };
        let is_purged = |page: &usize| touched >> page & 1 == 0;
        let end = (offset + self.geometry().slot_bytes as usize - 1) / PAGE_UNIT_BYTES;
        let last = if is_purged(&end) { end } else { offset / PAGE_UNIT_BYTES };
        // Pages between them that are there cost next to nothing.
        let near = (last + 1).saturating_sub(POPULATE_PAGES_MAX)..=last;
        if let Some(first) = near.rev().filter(is_purged).take(most).last() {
            self.provide(first, last + 1 - first);
        }
    }

    /// Where the last slot that the bitmap tells of begins.
    fn last_free_offset(self) -> Option<usize> {
        (0..SPAN_WORDS).rev().find_map(|word| {
            let bits = bitmap_word(self.index, word).load(Ordering::Relaxed);
            let bit = bits.checked_ilog2()? as usize;
            Some(word * WORD_COVERS_BYTES + bit * BIT_BYTES)
        })
    }

    /// Has the kernel provide `count` pages from `page` on at once, as far as they are not there; not
    /// while memory is short, and a single one comes by a fault as cheaply.
    fn provide(self, page: usize, count: usize) {
        if count < 2
            || page_bytes() > PAGE_UNIT_BYTES
            || ever_used_bytes() < POPULATE_USED_BYTES_MIN
            || POPULATE_REFUSED.load(Ordering::Relaxed) != 0
            || pressure::is_tight()
        {
            return;
        }
        let address = slice_start(self.index).wrapping_add(page * PAGE_UNIT_BYTES);
        let Some(start) = NonNull::new(address) else { return };
        // SAFETY: whole pages of our span; what is on them, if anything, stays.
        if unsafe { advise(start, count * PAGE_UNIT_BYTES, Advice::Populate) }.is_err() {
            // Not on this kernel, or no memory: by faults from here on.
            POPULATE_REFUSED.store(1, Ordering::Relaxed);
        }
        // After a refusal, too: some may be there.
        self.note_touched(page * PAGE_UNIT_BYTES, count * PAGE_UNIT_BYTES);
    }

    /// Gives the pages behind the slots handed out so far to the kernel, if two or more are there;
    /// returns how many went.
    pub(crate) fn give_tail(self) -> u32 {
        let geometry = self.geometry();
        let extended = usize::from(self.extended());
        if extended >= usize::from(geometry.slot_count) {
            return 0;
        }
        let used_bytes = match extended {
            0 => 1,
            _ => self.slot_offset(extended - 1) + geometry.slot_bytes as usize,
        };
        let first = used_bytes.next_multiple_of(page_bytes().max(PAGE_UNIT_BYTES));
        let kept = (1 << (first / PAGE_UNIT_BYTES)) - 1;
        let touched = self.touched();
        let count = (touched & !kept).count_ones();
        let Some(start) = NonNull::new(slice_start(self.index).wrapping_add(first)) else {
            return 0;
        };
        if count < TAIL_PAGES_MIN || huge::keeps_whole(self) {
            return 0;
        }
        // SAFETY: whole pages of our span, on which no slot was handed out yet.
        if unsafe { advise(start, SLICE_BYTES - first, Advice::DontNeed) }.is_err() {
            return 0;
        }
        huge::note_purged(self.index, 1);
        note_purged(count as usize * PAGE_UNIT_BYTES);
        self.set_touched(touched & kept);
        count
    }

    /// Its pages that may be resident, a bit each.
    pub(crate) fn touched(self) -> u64 {
        self.head.extra.load(Ordering::Relaxed)
    }

    /// Notes which pages may be resident.
    pub(crate) fn set_touched(self, touched: u64) {
        self.head.extra.store(touched, Ordering::Relaxed);
    }

    /// Notes that pages are not the kernel's zero pages any more.
    fn note_touched(self, offset: usize, bytes: usize) {
        let touched = self.touched();
        let first = offset / PAGE_UNIT_BYTES;
        let last = (offset + bytes - 1) / PAGE_UNIT_BYTES;
        let added = (u64::MAX >> (63 - (last - first))) << first;
        if touched & added != added {
            self.set_touched(touched | added);
        }
    }

    /// Whether at least half of its pages may be resident.
    pub(crate) fn is_mostly_touched(self) -> bool {
        self.touched().count_ones() as usize * 2 >= SLICE_BYTES / PAGE_UNIT_BYTES
    }

    /// Moves what is linked into the bitmap.
    pub(crate) fn links_to_bits(self) {
        // A swap, since the owner can be in the middle of a free: what it stores later stays.
        let mut list = self.head.local_free.swap(core::ptr::null_mut(), Ordering::Acquire);
        while !list.is_null() {
            let block = list;
            // SAFETY: a free slot of a span that is ours; nobody else reads its link.
            list = unsafe { block::next(block) };
            self.set_bit(block);
        }
    }

    /// Moves what is linked in a pending span into the bitmap, once its owner is in no free: it is
    /// here, or not in this process. When a purger has moved the rest, that is the one block that a
    /// free had in hand, whose link means nothing any more.
    pub(crate) fn settle_links(self) {
        if self.place() == Place::PendingLinked {
            return self.links_to_bits();
        }
        let late = self.head.local_free.swap(core::ptr::null_mut(), Ordering::Relaxed);
        if !late.is_null() {
            self.set_bit(late);
        }
    }

    /// Takes back `block`, a slot of ours.
    pub(crate) fn set_bit(self, block: Block) {
        let (place, mask) = self.bit_of(block);
        let bits = place.load(Ordering::Relaxed);
        debug_assert_eq!(bits & mask, 0, "I1: freed twice");
        place.store(bits | mask, Ordering::Relaxed);
        let count = self.head.bit_count.load(Ordering::Relaxed) + 1;
        self.head.bit_count.store(count, Ordering::Relaxed);
    }

    fn bit_of(self, block: Block) -> (&'static heapwright_sync::atomic::AtomicU64, u64) {
        let offset = block.addr() - slice_start(self.index).addr();
        let word = bitmap_word(self.index, offset / WORD_COVERS_BYTES);
        (word, 1 << (offset / BIT_BYTES % u64::BITS as usize))
    }

    /// Whether the bitmap tells that the slot at `offset` is free.
    pub(crate) fn is_bit_set(self, offset: usize) -> bool {
        let word = bitmap_word(self.index, offset / WORD_COVERS_BYTES).load(Ordering::Relaxed);
        word >> (offset / BIT_BYTES % u64::BITS as usize) & 1 == 1
    }

    /// Whether slot `number` is live, in a list or linked, as far as the bitmap tells.
    pub(crate) fn is_slot_used(self, number: usize) -> bool {
        number < usize::from(self.extended()) && !self.is_bit_set(self.slot_offset(number))
    }

    /// Which share of the slots that [`Span::is_slot_used`] tells of is not linked in the span.
    pub(crate) fn used_share(self) -> f64 {
        let known = self.passive_used();
        if self.head.owner.load(Ordering::Relaxed) == PASSIVE || known <= 0 {
            return 1.0;
        }
        f64::from(self.used().clamp(0, known)) / f64::from(known)
    }

    /// Whether no slot that overlaps page `unit` is used, as far as the bitmap tells.
    pub(crate) fn is_page_free(self, unit: usize) -> bool {
        let end = (unit + 1) * PAGE_UNIT_BYTES;
        let extended = usize::from(self.extended());
        let mut number = self.slot_at(unit * PAGE_UNIT_BYTES);
        while number < extended {
            let offset = self.slot_offset(number);
            if offset >= end {
                return true;
            }
            if !self.is_bit_set(offset) {
                return false;
            }
            number += 1;
        }
        true
    }

    /// Counts the bits anew.
    pub(crate) fn count_bits(self) {
        let words = (0..SPAN_WORDS).map(|word| bitmap_word(self.index, word));
        let count: u32 = words.map(|word| word.load(Ordering::Relaxed).count_ones()).sum();
        self.head.bit_count.store(count as u16, Ordering::Relaxed);
    }

    /// Forgets all bits: the span is empty and goes back to the pool.
    pub(crate) fn clear_bits(self) {
        if self.head.bit_count.load(Ordering::Relaxed) == 0 {
            return;
        }
        for word in 0..SPAN_WORDS {
            let place = bitmap_word(self.index, word);
            if place.load(Ordering::Relaxed) != 0 {
                place.store(0, Ordering::Relaxed);
            }
        }
        self.head.bit_count.store(0, Ordering::Relaxed);
    }
}
