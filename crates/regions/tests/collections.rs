//! Vec, Box and hash tables over regions.

use std::alloc::{Layout, System};
use std::mem::MaybeUninit;

use allocator_api2_02 as v2;
use allocator_api2_03 as v3;
use allocator_api2_04 as v4;
use hashbrown::{DefaultHashBuilder, HashMap};
use heapwright_regions::{AnonymousPages, Buddy, Buffer, Linear, Pools, Tails, Upstream};
use heapwright_testkit::Random;

#[test]
fn a_vec_grows_in_place_at_the_end_of_an_arena() {
    let arena = Linear::new();
    let mut numbers = v4::vec::Vec::new_in(&arena);
    numbers.push(0u64);
    let start = numbers.as_ptr();
    numbers.extend(1..100_000);
    assert_eq!(numbers.as_ptr(), start, "it never moved");
    numbers.shrink_to_fit();
    assert_eq!(arena.statistics().live_bytes.value(), Some(800_000));
    drop(numbers);
    assert_eq!(arena.statistics().live_bytes.value(), Some(0));
}

#[test]
fn two_growing_vecs_keep_their_contents() {
    let mut arena: Linear<_> = Linear::new_in(Upstream(System));
    for _ in 0..3 {
        {
            let mut even = v2::vec::Vec::new_in(&arena);
            let mut odd = v4::vec::Vec::new_in(&arena);
            for number in 0..5000u32 {
                even.push(number * 2);
                odd.push(v2::boxed::Box::new_in(number * 2 + 1, &arena));
            }
            assert!(even.iter().zip(&odd).all(|(even, odd)| even + 1 == **odd));
        }
        arena.reset();
    }
}

#[test]
fn collections_live_inside_a_scope() {
    let mut arena = Linear::new();
    for round in 0..10u32 {
        let scope = arena.scope();
        let mut numbers = v2::vec::Vec::new_in(&*scope);
        numbers.extend((0..1000).map(|number| number * round));
        assert_eq!(numbers[999], 999 * round);
    }
    assert_eq!(arena.statistics().live_bytes.value(), Some(0));
}

#[test]
fn trap_7_grown_memory_is_zero_where_asked() {
    use v2::alloc::Allocator;
    let mut arena = Linear::new();
    arena.alloc_slice_copy(&[0xffu8; 4096]);
    arena.reset();
    let (old, new) = (Layout::new::<[u8; 100]>(), Layout::new::<[u8; 3000]>());
    let block = (&arena).allocate(old).expect("memory").cast::<u8>();
    // SAFETY: 100 bytes of our own.
    unsafe { block.write_bytes(7, 100) };
    // SAFETY: live; only the result is used.
    let grown = unsafe { (&arena).grow_zeroed(block, old, new) }.expect("memory");
    // SAFETY: live, all written.
    let bytes = unsafe { grown.as_ref() };
    assert!(
        bytes[..100].iter().all(|byte| *byte == 7) && bytes[100..].iter().all(|byte| *byte == 0)
    );
}

fn churn_map<A: v2::alloc::Allocator>(allocator: A) {
    let mut map = HashMap::with_hasher_in(DefaultHashBuilder::default(), allocator);
    let mut random = Random::new(3);
    for step in 0..2000u64 {
        map.insert(random.below(500), step);
        map.remove(&random.below(500));
    }
    assert!(map.len() <= 500 && map.iter().all(|(key, value)| *key < 500 && *value < 2000));
}

#[test]
fn hash_maps_work_over_every_allocator() {
    churn_map(&Linear::new());
    let mut memory = vec![MaybeUninit::uninit(); 1 << 16];
    churn_map(&Linear::<_>::new_in(Buffer::new(&mut memory)));
    churn_map(&Buddy::<_>::new_in(AnonymousPages, 1 << 20, 64, Tails::Keep).expect("memory"));
    churn_map(&Pools::new_in(AnonymousPages, [64, 512, 4096, 65536]));
}

#[test]
fn boxes_come_back_to_their_pool() {
    let pools = Pools::new_in(AnonymousPages, [16, 64, 1024]);
    let boxes: Vec<_> = (0..100u64).map(|n| v3::boxed::Box::new_in([n; 5], &pools)).collect();
    assert!(boxes.iter().enumerate().all(|(index, value)| **value == [index as u64; 5]));
    assert_eq!(pools.statistics().live_bytes.value(), Some(6400));
    drop(boxes);
    assert_eq!(pools.statistics().live_count.value(), Some(0));
    let mut text = v4::vec::Vec::new_in(&pools);
    text.extend_from_slice(&[1u8; 10]);
    let start = text.as_ptr();
    text.reserve_exact(6);
    assert_eq!(text.as_ptr(), start, "the block had room");
    text.extend_from_slice(&[1u8; 500]);
    assert!(text.iter().all(|byte| *byte == 1));
}
