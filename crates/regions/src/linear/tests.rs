//! What only the inside can tell.

use super::Linear;
use crate::{Buffer, LocalCounts, NoCounts, Upstream};
use core::alloc::Layout;
use core::mem::MaybeUninit;
use std::alloc::System;

type OverSystem = Linear<Upstream<System>, NoCounts, 8>;

#[test]
fn trap_2_an_empty_block_touches_nothing() {
    let arena: OverSystem = Linear::new_in(Upstream(System));
    assert_eq!(arena.alloc(()), &());
    assert!(arena.alloc_slice_copy::<u64>(&[]).is_empty());
    #[repr(align(4096))]
    struct Wide;
    let wide: *const Wide = arena.alloc(Wide);
    assert!(wide.is_aligned());
    assert!(arena.first.get().is_none() && arena.cursor.get() == OverSystem::NOWHERE);
    arena.alloc(1u64);
    let cursor = arena.cursor.get();
    let layout = Layout::new::<Wide>();
    assert_eq!(arena.alloc_layout(layout).addr().get(), 4096);
    assert!(arena.try_alloc_layout_zeroed(layout).is_ok());
    assert_eq!(arena.cursor.get(), cursor, "nothing is skipped for its alignment");
}

#[test]
fn trap_4_a_block_from_below_the_scope_neither_grows_nor_comes_back_in_it() {
    let mut arena: OverSystem = Linear::new_in(Upstream(System));
    let layout = Layout::new::<[u64; 2]>();
    let outer = arena.alloc_layout(layout);
    let scope = arena.scope();
    assert!(!scope.is_last(outer, layout.size()), "it ends at the cursor, but below the scope");
    let inner = scope.alloc_layout(layout);
    assert!(scope.is_last(inner, layout.size()));
    drop(scope);
    assert!(arena.is_last(outer, layout.size()), "after the scope it is the last again");
}

#[test]
fn trap_14_memory_below_the_high_water_mark_is_cleared() {
    let mut arena = Linear::new();
    arena.alloc_slice_copy(&[1u8; 100]);
    arena.reset();
    assert!(arena.alloc_zeroed(50).iter().all(|byte| *byte == 0));
    assert!(arena.alloc_zeroed(100_000).iter().all(|byte| *byte == 0));
    let layout = Layout::new::<[u8; 64]>();
    let block = arena.alloc_layout(layout);
    // SAFETY: 64 bytes of our own.
    unsafe { block.write_bytes(1, 64) };
    // SAFETY: live, unused from here.
    unsafe { arena.dealloc(block, layout) };
    assert!(arena.alloc_zeroed(64).iter().all(|byte| *byte == 0));
    arena.reset_and_trim(8192);
    assert!(arena.alloc_zeroed(100_000).iter().all(|byte| *byte == 0));
}

#[test]
fn a_reset_keeps_every_chunk() {
    let mut arena: OverSystem = Linear::new_in(Upstream(System));
    for _ in 0..3 {
        for _ in 0..1000 {
            arena.alloc([0u8; 100]);
        }
        arena.alloc_slice_uninit::<u8>(3 << 20);
        let before = arena.statistics();
        arena.reset();
        let after = arena.statistics();
        assert_eq!(before.committed_bytes, after.committed_bytes);
        assert!(after.committed_bytes > 3 << 20);
        assert_eq!(after.live_bytes.value(), Some(0));
    }
    assert!(arena.spare.get().is_some(), "the large block's chunk is kept too");
}

#[test]
fn an_oversize_block_does_not_double_the_arena() {
    let arena: OverSystem = Linear::new_in(Upstream(System));
    arena.alloc(1u64);
    arena.alloc_slice_uninit::<u8>(1 << 20);
    let with_large = arena.statistics().committed_bytes;
    for _ in 0..400 {
        arena.alloc([0u64; 1]);
    }
    let after = arena.statistics().committed_bytes;
    assert!(after - with_large < 16 << 10, "{with_large} became {after}");
}

#[test]
fn trimming_gives_back_what_exceeds() {
    let mut arena = Linear::new();
    arena.alloc_slice_uninit::<u8>(10 << 20);
    assert!(arena.statistics().committed_bytes >= 10 << 20);
    arena.reset_and_trim(1 << 20);
    assert_eq!(arena.statistics().committed_bytes, 1 << 20);
    arena.alloc_slice_copy(&[7u8; 3 << 20]);
    arena.reset_and_trim(0);
    let left = arena.statistics();
    assert_eq!((left.committed_bytes, left.reserved_bytes), (0, 0));
    arena.alloc(1u8);
}

#[test]
fn counts_are_a_type() {
    let mut memory = [MaybeUninit::uninit(); 4096];
    let mut arena: Linear<_, LocalCounts, 16> =
        Linear::counted_in(Buffer::new(&mut memory), LocalCounts::new());
    arena.alloc(1u8);
    arena.alloc([0u8; 17]);
    assert!(arena.try_alloc_slice_uninit::<u8>(8192).is_err());
    let seen = arena.statistics();
    assert_eq!(seen.live_count.value(), Some(2));
    assert_eq!(seen.requested_bytes.value(), Some(18));
    assert_eq!(seen.live_bytes.value(), Some(48));
    assert_eq!(seen.failure_count.value(), Some(1));
    arena.reset();
    assert_eq!(arena.statistics().live_count.value(), Some(0));
    assert_eq!(
        size_of::<OverSystem>() + size_of::<LocalCounts>(),
        size_of::<Linear<Upstream<System>, LocalCounts>>()
    );
}
