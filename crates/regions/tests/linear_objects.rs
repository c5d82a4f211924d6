//! Objects, scopes and destructors in a linear arena.

use std::alloc::System;
use std::cell::RefCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use heapwright_regions::{
    AllocError, BackingError, Buffer, FormatError, Linear, MarkError, Upstream,
};

#[test]
fn every_way_to_fill_a_slice_gives_its_items() {
    let arena = Linear::new();
    assert_eq!(arena.alloc_slice_copy(&[1, 2, 3]), [1, 2, 3]);
    assert_eq!(arena.alloc_slice_clone(&[Some(1), None]), [Some(1), None]);
    assert_eq!(arena.alloc_slice_fill_with(3, |index| index), [0, 1, 2]);
    assert_eq!(arena.alloc_slice_fill_default::<u64>(2), [0, 0]);
    assert_eq!(arena.alloc_iter((0..100).filter(|n| n % 3 == 0)).len(), 34);
    assert_eq!(arena.alloc_iter(std::iter::repeat_n((), 9)).len(), 9);
    assert_eq!(arena.alloc_iter(0u8..0), []);
    assert_eq!(arena.alloc_str("käse"), "käse");
    assert_eq!(arena.alloc_fmt(format_args!("{}-{:>5}", "a", 7)), "a-    7");
    assert_eq!(arena.alloc_with(|| [7u8; 1000])[999], 7);
    assert_eq!(arena.alloc_uninit::<u32>().write(5), &5);
    assert!(arena.alloc_zeroed(10_000).iter().all(|byte| *byte == 0));
}

#[test]
fn a_growing_slice_stays_in_place() {
    let arena = Linear::new();
    let before = arena.statistics().live_bytes.value();
    let numbers = arena.alloc_iter((0..1_000_000u64).filter(|_| true));
    assert!(numbers.iter().enumerate().all(|(index, number)| index as u64 == *number));
    let used = arena.statistics().live_bytes.value().zip(before).map(|(now, then)| now - then);
    assert_eq!(used, Some(8_000_000), "no copies are left behind, and the end went back");
}

#[test]
fn trap_6_closures_may_allocate_in_the_same_arena() {
    let arena = Linear::new();
    let outer = arena.alloc_with(|| {
        let inner = arena.alloc_slice_fill_with(10, |index| *arena.alloc(index));
        inner.iter().sum::<usize>()
    });
    assert_eq!(*outer, 45);
    let text =
        arena.alloc_iter((0..50).map(|index| arena.alloc_fmt(format_args!("{index}")).len()));
    assert_eq!(text.iter().sum::<usize>(), 90);
    struct Nested<'a>(&'a Linear<heapwright_regions::AnonymousPages>);
    impl fmt::Display for Nested<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0.alloc_fmt(format_args!("in{}", "ner")))
        }
    }
    let text = arena.alloc_fmt(format_args!("{0} {0} {0}", Nested(&arena)));
    assert_eq!(text, "inner inner inner");
}

#[test]
fn trap_6_a_panic_in_a_closure_leaves_the_arena_usable() {
    let mut arena = Linear::new();
    let before = arena.alloc(1u64) as *const u64;
    let caught = catch_unwind(AssertUnwindSafe(|| {
        arena
            .alloc_slice_fill_with(100, |index| if index == 50 { panic!("enough") } else { index });
    }));
    assert!(caught.is_err());
    assert_ne!(arena.alloc(2u64) as *const u64, before);
    arena.reset();
    assert_eq!(arena.alloc(3u64) as *const u64, before, "the reset starts from the front");
}

#[derive(Clone)]
struct Log(Arc<std::sync::Mutex<Vec<u32>>>, u32);

impl Drop for Log {
    fn drop(&mut self) {
        self.0.lock().expect("not poisoned").push(self.1);
    }
}

#[test]
fn registered_values_are_dropped_once_newest_first() {
    let log = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = |log: &Arc<std::sync::Mutex<Vec<u32>>>| log.lock().expect("not poisoned").clone();
    {
        let mut arena = Linear::new();
        arena.alloc_drop(Log(log.clone(), 1));
        {
            let scope = arena.scope();
            scope.alloc_drop(Log(log.clone(), 2));
            scope.alloc_drop(Log(log.clone(), 3));
        }
        assert_eq!(seen(&log), [3, 2]);
        arena.reset();
        assert_eq!(seen(&log), [3, 2, 1]);
        arena.alloc_drop(Log(log.clone(), 4));
    }
    assert_eq!(seen(&log), [3, 2, 1, 4]);
}

#[test]
fn an_owned_value_is_dropped_with_its_owner() {
    let arena = Linear::new();
    let shared = Arc::new(5);
    let owned = arena.alloc_box(shared.clone());
    assert_eq!((**owned, Arc::strong_count(&shared)), (5, 2));
    drop(owned);
    assert_eq!(Arc::strong_count(&shared), 1);
    let inner = arena.alloc_box(shared.clone()).into_inner();
    assert_eq!(Arc::strong_count(&inner), 2);
    let kept = RefCell::new(Some(arena.alloc_box(RefCell::new(1))));
    *kept.borrow().as_ref().expect("there").borrow_mut() += 1;
    assert_eq!(kept.take().expect("there").into_inner().into_inner(), 2);
}

#[test]
fn a_destructor_that_panics_leaves_the_others_registered() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("boom");
        }
    }
    let log = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut arena = Linear::new();
    arena.alloc_drop(Log(log.clone(), 1));
    arena.alloc_drop(Bomb);
    arena.alloc_drop(Log(log.clone(), 2));
    assert!(catch_unwind(AssertUnwindSafe(|| arena.reset())).is_err());
    assert_eq!(*log.lock().expect("not poisoned"), [2]);
    arena.reset();
    assert_eq!(*log.lock().expect("not poisoned"), [2, 1]);
}

#[test]
fn scopes_nest_and_give_back_what_they_took() {
    let mut arena = Linear::new();
    let kept = arena.alloc(1u64) as *const u64 as usize;
    let mut outer = arena.scope();
    let first = outer.alloc(2u64) as *const u64 as usize;
    {
        let inner = outer.scope();
        assert_eq!(inner.alloc(3u64) as *const u64 as usize, first + 8);
        inner.alloc_slice_uninit::<u8>(1 << 20);
    }
    assert_eq!(outer.alloc(4u64) as *const u64 as usize, first + 8);
    outer.reset();
    assert_eq!(outer.alloc(5u64) as *const u64 as usize, first);
    drop(outer);
    assert_eq!(arena.alloc(6u64) as *const u64 as usize, kept + 8);
    assert_eq!(arena.scoped(|scope| scope.alloc_slice_copy(&[1u8, 2, 3]).len()), 3);
}

#[test]
fn trap_12_a_forgotten_scope_frees_nothing() {
    let mut arena = Linear::new();
    let scope = arena.scope();
    let number: *const u64 = scope.alloc(7u64);
    std::mem::forget(scope);
    assert_ne!(arena.alloc(8u64) as *const u64, number);
}

#[test]
fn trap_5_a_mark_is_checked() {
    let mut arena = Linear::new();
    let other: Linear<_> = Linear::new_in(Upstream(System));
    other.alloc(1);
    let foreign = other.mark();
    let early = arena.mark();
    arena.alloc(1u64);
    let late = arena.mark();
    // SAFETY: no block is used any more; likewise below.
    assert_eq!(unsafe { arena.rewind(foreign) }, Err(MarkError::Gone));
    // SAFETY: as above.
    assert_eq!(unsafe { arena.rewind(early) }, Ok(()));
    // SAFETY: as above.
    assert_eq!(unsafe { arena.rewind(late) }, Err(MarkError::Gone));
    arena.reset();
    // SAFETY: as above.
    assert_eq!(unsafe { arena.rewind(early) }, Err(MarkError::Reset { count: 1 }));
}

#[test]
fn exhaustion_has_its_numbers_and_breaks_nothing() {
    let mut memory = [MaybeUninit::uninit(); 512];
    let arena: Linear<_> = Linear::new_in(Buffer::new(&mut memory));
    let kept = arena.alloc(11u64);
    let refused = arena.try_alloc_slice_uninit::<u64>(100);
    assert!(
        matches!(refused, Err(AllocError::Backing(BackingError::Exhausted { requested_bytes, .. })) if requested_bytes >= 800),
        "{refused:?}"
    );
    let refused = arena.try_alloc_fmt(format_args!("{:600}", 1));
    assert!(matches!(refused, Err(FormatError::Alloc(_))));
    assert_eq!((*kept, *arena.alloc(12u64)), (11, 12));
}

#[test]
fn trap_15_lengths_that_overflow_are_refused() {
    let arena = Linear::new();
    let refused = arena.try_alloc_slice_uninit::<u64>(usize::MAX / 4);
    assert_eq!(refused.err(), Some(AllocError::TooLarge { requested_bytes: usize::MAX }));
    let refused = arena.try_alloc_slice_uninit::<u8>(isize::MAX as usize);
    assert_eq!(refused.err(), Some(AllocError::TooLarge { requested_bytes: isize::MAX as usize }));
    assert!(arena.try_alloc_slice_uninit::<u8>(1 << 62).is_err());
    assert!(arena.try_alloc_zeroed(usize::MAX).is_err());
}

#[test]
fn an_arena_moves_with_its_blocks_ended_and_its_memory_kept() {
    let mut arena = Linear::new();
    arena.alloc([1u8; 1000]);
    arena.reset();
    let sum = std::thread::spawn(move || arena.alloc_iter(0..10u32).iter().sum::<u32>()).join();
    assert_eq!(sum.expect("no panic"), 45);
}
