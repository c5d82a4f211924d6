//! The barrier of a machine's heap in cycles in slices: what `VmHeap::write` overwrites while the
//! collector marks survives the cycle, and what it writes is found when its target moves.

use heapwright_gc::vm::{Layout, Roots, VmHeap};
use heapwright_gc::{Collector, Config, Field, ObjectRef, Visitor};
use heapwright_testkit::Random;
use std::ptr::{NonNull, null, null_mut};

/// Pairs of a reference, or null, and an odd number.
enum Pairs {}

// SAFETY: every object is made by `pair` with two initialised words, one of them a field.
unsafe impl Layout for Pairs {
    fn payload_bytes(_: ObjectRef) -> usize {
        16
    }

    fn fields(object: ObjectRef) -> Option<(NonNull<*mut u8>, usize)> {
        Some((object.payload().cast(), 2))
    }

    fn decode(word: *mut u8) -> Option<NonNull<u8>> {
        NonNull::new(word).filter(|word| word.addr().get() & 1 == 0)
    }

    fn encode(_: *mut u8, payload: NonNull<u8>) -> *mut u8 {
        payload.as_ptr()
    }
}

/// The words that the machine uses after a safepoint.
struct Machine {
    /// A list, and what was cut off it.
    list: *mut u8,
    tail: *mut u8,
    more: Vec<*mut u8>,
}

impl Machine {
    fn new() -> Self {
        Self { list: null_mut(), tail: null_mut(), more: Vec::new() }
    }
}

// SAFETY: the words are all that the tests keep over a safepoint.
unsafe impl Roots for Machine {
    fn trace<V: Visitor>(&mut self, visitor: &mut V) {
        for word in [&mut self.list, &mut self.tail].into_iter().chain(&mut self.more) {
            // SAFETY: null or a payload, in a struct that stays where it is during the visit.
            visitor.visit(unsafe { Field::new(NonNull::from(word)) });
        }
    }
}

const LEN: usize = 800;

fn pair(heap: &VmHeap<Pairs>, next: *mut u8, number: usize) -> *mut u8 {
    // SAFETY: both words are written before the next safepoint.
    let made = unsafe { heap.alloc(null(), 16) }.expect("in the limit").payload();
    let words = [next, null_mut::<u8>().wrapping_add(2 * number + 1)];
    // SAFETY: a new object of 16 bytes.
    unsafe { made.cast::<[*mut u8; 2]>().write(words) };
    made.as_ptr()
}

fn words(pair: *mut u8) -> [*mut u8; 2] {
    assert!(!pair.is_null(), "a pair is missing");
    // SAFETY: a pair that the test reached without a safepoint in between.
    unsafe { pair.cast::<[*mut u8; 2]>().read() }
}

fn number(pair: *mut u8) -> usize {
    words(pair)[1].addr() / 2
}

#[test]
fn a_tail_cut_off_by_a_write_while_marking_survives() {
    let config = Config {
        slice_us: 0,
        trigger_bytes_min: 1 << 20,
        verify: true,
        ..Config::with(Collector::Incremental)
    };
    let mut heap = VmHeap::<Pairs>::new(config).expect("addresses");
    let mut machine = Machine::new();
    for value in (0..LEN).rev() {
        machine.list = pair(&heap, machine.list, value);
    }
    while heap.statistics().slices < 3 {
        pair(&heap, null_mut(), 0);
        // SAFETY: the machine's words are all that is used afterwards.
        unsafe { heap.safepoint(&mut machine) };
    }
    assert_eq!(heap.statistics().full_collections, 0, "a slice of no time does not mark {LEN}");
    let mut last = machine.list;
    while number(last) < LEN / 2 {
        last = words(last)[0];
    }
    machine.tail = words(last)[0];
    let place = NonNull::new(last.cast::<*mut u8>()).expect("a pair");
    // SAFETY: the first word of a pair is a field, and null is no reference.
    unsafe { heap.write(place, null_mut()) };
    while heap.statistics().full_collections == 0 {
        pair(&heap, null_mut(), 0);
        // SAFETY: as above.
        unsafe { heap.safepoint(&mut machine) };
    }
    let mut rest = machine.tail;
    for expected in LEN / 2 + 1..LEN {
        assert_eq!(number(rest), expected, "a pair of the tail");
        rest = words(rest)[0];
    }
    assert!(rest.is_null(), "the tail ends with the list");
    let reachable = heap.verify(&mut machine).0;
    assert_eq!(reachable, LEN, "both parts, and nothing else");
}

/// Lists behind the machine's words, whose pairs have running numbers, grow at their ends and are
/// cut, with garbage between, so that blocks with little in them are emptied in slices.
#[test]
fn lists_that_change_while_their_pairs_move_stay_as_they_are() {
    (0..2).for_each(change_lists);
}

fn change_lists(seed: u64) {
    const LISTS: usize = 40;
    let config = Config {
        slice_us: 60,
        trigger_bytes_min: 64 << 10,
        growth_percent: 130,
        limit_bytes: 16 << 20,
        verify: true,
        ..Config::with(Collector::Incremental)
    };
    let mut heap = VmHeap::<Pairs>::new(config).expect("addresses");
    let mut machine = Machine::new();
    machine.more = (0..LISTS).map(|_| pair(&heap, null_mut(), 0)).collect();
    // What each list should be, its first pair apart.
    let mut model = vec![Vec::new(); LISTS];
    let mut random = Random::new(seed);
    let mut step = 0;
    let is_enough = |heap: &VmHeap<Pairs>| heap.statistics().evacuated_blocks > 20;
    while step < 3000 || step < 200_000 && !is_enough(&heap) {
        let index = random.below(LISTS as u64) as usize;
        let other = random.below(LISTS as u64) as usize;
        let mut last = machine.more[index];
        // Cut the list, move what another has to its end, or make it longer by one.
        let how = random.below(12);
        let mut next = null_mut();
        if how == 0 {
            model[index].clear();
        } else {
            while !words(last)[0].is_null() {
                last = words(last)[0];
            }
            if how < 5 && other != index {
                next = words(machine.more[other])[0];
                let moved = std::mem::take(&mut model[other]);
                model[index].extend(moved);
                let place = NonNull::new(machine.more[other].cast::<*mut u8>()).expect("a pair");
                // SAFETY: as below.
                unsafe { heap.write(place, null_mut()) };
            } else {
                next = pair(&heap, null_mut(), step);
                model[index].push(step);
            }
        }
        let place = NonNull::new(last.cast::<*mut u8>()).expect("a pair");
        // SAFETY: the first word of a pair is a field; `next` is a pair of this heap or null.
        unsafe { heap.write(place, next) };
        for _ in 0..10 {
            pair(&heap, null_mut(), 0);
        }
        if step % 2 == 0 {
            // SAFETY: the machine's words are all that is used afterwards.
            unsafe { heap.safepoint(&mut machine) };
        }
        let mut at = machine.more[index];
        for wanted in &model[index] {
            at = words(at)[0];
            assert_eq!(number(at), *wanted, "a pair of list {index}");
        }
        assert!(words(at)[0].is_null(), "list {index} ends");
        step += 1;
    }
    assert!(heap.statistics().evacuated_blocks > 0, "{:?}", heap.statistics());
    let pairs = model.iter().map(|list| list.len() + 1).sum::<usize>();
    assert_eq!(heap.verify(&mut machine).0, pairs);
}
