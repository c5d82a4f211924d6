//! How a thread's free lists come to end where the next sample is: countdowns by class, and what
//! was cut off the lists.
//!
//! All of it is the owner's of the heap, in slow paths, under the heap's lock.
//!
//! # Why it is unbiased
//! The distance to the next sample is geometric: each block is one with the probability of its
//! class, independently. A list that is no longer than the countdown lowers it by its length, as
//! if its blocks had been drawn for one by one. When lists are taken back unused, the countdowns
//! are drawn again: what was handed out has had its draws, and what comes has had none.

use core::cell::Cell;

use heapwright_core::exponential::Exponential;
use heapwright_core::size_class::{CLASS_COUNT, class_bytes};
use heapwright_sync::atomic::Ordering;

use crate::block::{self, Block};
use crate::heap::Heap;
use crate::pool::lock;
use crate::sampling::{SampleRate, fresh_seed, generation, rate};

/// Who samples: the profiler, the guard.
const CHANNEL_COUNT: usize = 2;
/// A block is due for the profiler.
pub(crate) const DUE_PROFILE: u8 = 1;
/// A block is due for the guard.
pub(crate) const DUE_GUARD: u8 = 2;
/// Countdown of a channel that is off.
const NEVER: u32 = u32::MAX;

/// One thread's countdowns and rests.
#[repr(align(64))]
pub(crate) struct SampledLists {
    /// Blocks before the next sample, by channel and class.
    left: [[Cell<u32>; CLASS_COUNT]; CHANNEL_COUNT],
    /// What was cut off, with its length.
    rests: [Cell<(Block, u32)>; CLASS_COUNT],
    random: Cell<Exponential>,
    /// Of the rates that `left` was drawn for; 0 for none.
    generation: Cell<u32>,
    /// What the last block handed out is due for.
    due: Cell<u8>,
}

impl SampledLists {
    fn new() -> Self {
        Self {
            left: [const { [const { Cell::new(0) }; CLASS_COUNT] }; CHANNEL_COUNT],
            rests: [const { Cell::new((core::ptr::null_mut(), 0)) }; CLASS_COUNT],
            random: Cell::new(Exponential::new(fresh_seed())),
            generation: Cell::new(0),
            due: Cell::new(0),
        }
    }

    /// Draws all countdowns when the rates have changed since they were drawn.
    fn refresh(&self) {
        if self.generation.replace(generation()) == generation() {
            return;
        }
        self.random.set(Exponential::new(fresh_seed()));
        for channel in 0..CHANNEL_COUNT {
            for class_index in 0..CLASS_COUNT {
                self.redraw(channel, class_index);
            }
        }
    }

    fn redraw(&self, channel: usize, class_index: usize) {
        let mean_blocks = match rate(channel) {
            SampleRate::Off => {
                self.left[channel][class_index].set(NEVER);
                return;
            }
            SampleRate::Bytes(bytes) => f64::from(bytes) / class_bytes(class_index) as f64,
            SampleRate::Blocks(1) => 0.0,
            SampleRate::Blocks(count) => {
                -1.0 / heapwright_core::exponential::natural_log(1.0 - 1.0 / f64::from(count))
            }
        };
        let mut random = self.random.get();
        // At least j when the exponential is at least j / mean: geometric, as it has to be.
        let left = (random.draw() * mean_blocks) as u32;
        self.random.set(random);
        self.left[channel][class_index].set(left.min(NEVER - 1));
    }

    /// Cuts `list` of `count` blocks before the next sample, or after it when it comes first.
    fn cut(&self, class_index: usize, list: Block, count: u32) -> Block {
        self.refresh();
        let near = self.left.iter().map(|left| left[class_index].get()).min().unwrap_or(NEVER);
        let handed = if near == 0 { 1 } else { near.min(count) };
        for (channel, left) in self.left.iter().enumerate() {
            let left = &left[class_index];
            match left.get() {
                NEVER => {}
                0 => {
                    self.due.set(self.due.get() | 1 << channel);
                    self.redraw(channel, class_index);
                }
                blocks => left.set(blocks - handed),
            }
        }
        if handed < count {
            let mut last = list;
            for _ in 1..handed {
                // SAFETY: the list has `count` blocks, which are this thread's alone.
                last = unsafe { block::next(last) };
            }
            // SAFETY: as above.
            let rest = unsafe { block::next(last) };
            // SAFETY: as above.
            unsafe { block::set_next(last, core::ptr::null_mut()) };
            self.rests[class_index].set((rest, count - handed));
        }
        list
    }
}

const _: () = assert!(DUE_PROFILE == 1 << 0 && DUE_GUARD == 1 << 1);

#[inline]
fn lists_of(heap: &'static Heap) -> Option<&'static SampledLists> {
    // SAFETY: null, or made by `make_lists` for this heap, whose owner calls; lives for ever.
    unsafe { heap.sampled_lists.load(Ordering::Relaxed).as_ref() }
}

#[cold]
fn make_lists(heap: &'static Heap) -> Option<&'static SampledLists> {
    let place = lock().cut_metadata(size_of::<SampledLists>()).cast::<SampledLists>();
    if place.is_null() {
        return None;
    }
    // SAFETY: fresh metadata of that size, aligned to 64; nobody has it yet.
    unsafe { place.write(SampledLists::new()) };
    heap.sampled_lists.store(place, Ordering::Relaxed);
    lists_of(heap)
}

/// What was cut off an earlier list of the class, with its length; none when there is nothing.
#[inline]
pub(crate) fn take_rest(heap: &'static Heap, class_index: usize) -> Option<(Block, u32)> {
    let rest = lists_of(heap)?.rests[class_index].replace((core::ptr::null_mut(), 0));
    (!rest.0.is_null()).then_some(rest)
}

/// Lets `list`, `count` blocks of the class about to be handed out, end where the next sample is.
#[inline]
pub(crate) fn cut(heap: &'static Heap, class_index: usize, list: Block, count: u32) -> Block {
    if generation() == 0 {
        return list;
    }
    match lists_of(heap).or_else(|| make_lists(heap)) {
        Some(lists) => lists.cut(class_index, list, count),
        None => list,
    }
}

/// The blocks cut off the lists of the heap, linked, class by class: for a walk, which holds the
/// heap's lock.
pub(crate) fn rests(heap: &'static Heap) -> impl Iterator<Item = Block> {
    lists_of(heap).into_iter().flat_map(|lists| lists.rests.iter().map(|rest| rest.get().0))
}

/// What the block that the last refill gave is due for; forgotten then.
#[inline]
pub(crate) fn take_due(heap: &'static Heap) -> u8 {
    lists_of(heap).map_or(0, |lists| lists.due.take())
}

/// The thread's lists are being taken back: countdowns are to be drawn again.
pub(crate) fn forget_countdowns(heap: &'static Heap) {
    if let Some(lists) = lists_of(heap) {
        lists.generation.set(0);
        lists.due.set(0);
    }
}
