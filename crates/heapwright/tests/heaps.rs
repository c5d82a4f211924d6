//! `Heap` under collections, threads and as a name, with every version of allocator-api2.

use std::alloc::Layout;

use allocator_api2_02 as v2;
use allocator_api2_03 as v3;
use allocator_api2_04 as v4;
use heapwright::heap::{Heap, ZoneError, ZoneOptions};

#[test]
fn collections_of_each_version_live_in_a_heap() {
    let heap = Heap::new().expect("memory");
    let mut two = v2::vec::Vec::new_in(&heap);
    let mut three = v3::vec::Vec::new_in(&heap);
    let mut four = v4::vec::Vec::new_in(&heap);
    for value in 0..50_000u64 {
        two.push(value);
        three.push(value);
        four.push(v4::boxed::Box::new_in(value, &heap));
    }
    four.truncate(100);
    four.shrink_to_fit();
    assert!(two.iter().copied().eq(0..50_000) && three.iter().copied().eq(0..50_000));
    assert!(four.iter().map(|value| **value).eq(0..100));
    assert_eq!(heap.statistics().live_count, 3 + 100);
    assert_eq!(heap.live_blocks().expect("memory").count(), 3 + 100);
    drop((two, three, four));
    let seen = heap.statistics();
    assert_eq!((seen.live_count, seen.live_bytes), (0, 0));
    assert!(seen.allocated_count > 50_000);
}

#[test]
fn a_full_heap_is_an_error_of_the_collection_and_not_the_end() {
    let heap = Heap::with(ZoneOptions::new().limit(100_000)).expect("memory");
    let mut numbers = v4::vec::Vec::new_in(&heap);
    let refused = (0..1_000_000u64).find(|number| {
        let is_refused = numbers.try_reserve(1).is_err();
        if !is_refused {
            numbers.push(*number);
        }
        is_refused
    });
    // Doubling: 64 KiB fit, beside the old 32 KiB, and 128 KiB do not.
    assert_eq!(refused, Some(8192));
    assert!(numbers.iter().copied().eq(0..8192));
    assert_eq!(heap.statistics().failure_count, 1);
}

#[test]
fn threads_share_a_heap_and_its_name_outlives_it_harmlessly() {
    let heap = Heap::new().expect("memory");
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let heap = &heap;
            scope.spawn(move || {
                let mut numbers = v4::vec::Vec::new_in(heap);
                numbers.extend((0..1000).map(|step| step * thread));
                let boxes: Vec<_> =
                    (0..1000).map(|step| v4::boxed::Box::new_in([step; 9], heap)).collect();
                assert!(numbers.iter().copied().eq((0..1000).map(|step| step * thread)));
                assert!(boxes.iter().zip(0..).all(|(found, step)| **found == [step; 9]));
            });
        }
    });
    let zone = heap.zone();
    assert_eq!(heap.statistics().live_count, 0);
    drop(heap);
    assert_eq!(zone.alloc(Layout::new::<u64>()), Err(ZoneError::Destroyed));
}
