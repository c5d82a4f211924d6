//! What may cross threads and what implements `Allocator`: asked of the compiler, so that a bound
//! that is lost or loosened fails a test.

use std::cell::Cell;
use std::rc::Rc;

use allocator_api2_04::alloc::Allocator;
use heapwright_regions::{
    AnonymousPages, BrandedPool, Buddy, Buffer, Frames, Handle, HandlePool, Linear, LinearLocal,
    Locked, ObjectPool, Owned, Pool, PoolLocal, Pooled, Pools, SharedLinear, SharedPool,
    SharedSlab, Slab, SlabLocal, Stack, Tight, TypedPool,
};

/// Whether a type implements a trait: an associated constant of the type itself, which exists only
/// under the bound, goes before one of a trait.
macro_rules! implements {
    ($type:ty: $($bound:tt)+) => {{
        struct Asked<T: ?Sized>(core::marker::PhantomData<T>);
        #[allow(dead_code, reason = "where the bound holds it is not used")]
        trait Otherwise {
            const YES: bool = false;
        }
        impl<T: ?Sized> Otherwise for Asked<T> {}
        #[allow(dead_code, reason = "where the bound does not hold it is not used")]
        impl<T: ?Sized + $($bound)+> Asked<T> {
            const YES: bool = true;
        }
        <Asked<$type>>::YES
    }};
}

/// Asserts of each type whether it is `Send` and whether it is `Sync`.
macro_rules! assert_crosses {
    ($($type:ty: $send:literal, $sync:literal;)*) => {$(
        assert_eq!(implements!($type: Send), $send, "Send: {}", stringify!($type));
        assert_eq!(implements!($type: Sync), $sync, "Sync: {}", stringify!($type));
    )*};
}

type Pages = AnonymousPages;
/// Not to be used by two threads: a buffer's cursor is a cell.
type Lent = &'static Buffer<'static>;

#[test]
fn trap_1_an_allocator_crosses_threads_only_as_its_values_do() {
    assert_crosses! {
        Rc<u8>: false, false;
        HandlePool<u8, Pages>: true, true;
        HandlePool<Cell<u8>, Pages>: true, false;
        HandlePool<Rc<u8>, Pages>: false, false;
        BrandedPool<Rc<u8>, Pages>: false, false;
        TypedPool<u8, Pages>: true, false;
        TypedPool<Rc<u8>, Pages>: false, false;
        Pooled<'static, Rc<u8>, Pages>: false, false;
        ObjectPool<Rc<u8>, Pages>: false, false;
        Owned<'static, Rc<u8>>: false, false;
        Owned<'static, Cell<u8>>: true, false;
        // A name is no value.
        Handle<Rc<u8>>: true, true;
    }
}

#[test]
fn trap_1_an_allocator_crosses_threads_only_as_its_backing_does() {
    assert_crosses! {
        Lent: false, false;
        Linear<Pages>: true, false;
        Linear<Lent>: false, false;
        Frames<Pages, 2>: true, false;
        Frames<Lent, 2>: false, false;
        Stack<Pages>: true, false;
        Stack<Lent>: false, false;
        Pool<Pages>: true, false;
        Pool<Lent>: false, false;
        Pools<Pages, 2>: true, false;
        Pools<Lent, 2>: false, false;
        HandlePool<u8, Lent>: false, false;
        TypedPool<u8, Lent>: false, false;
        ObjectPool<u8, Lent>: false, false;
        Buddy<Pages>: true, false;
        Buddy<Lent>: false, false;
        Slab<Pages>: true, false;
        Slab<Lent>: false, false;
        Tight<Pages>: true, false;
        Tight<Lent>: false, false;
        SharedLinear<Pages>: true, true;
        SharedLinear<Lent>: false, false;
        SharedPool<Pages>: true, true;
        SharedPool<Lent>: false, false;
        SharedSlab<Pages>: true, true;
        SharedSlab<Lent>: false, false;
        // What one lock guards may be used by all, if it may be used by another.
        Locked<Slab<Pages>>: true, true;
        Locked<Slab<Lent>>: false, false;
    }
}

#[test]
fn trap_1_one_threads_side_of_a_shared_allocator_stays_there() {
    assert_crosses! {
        LinearLocal<'static, Pages>: false, false;
        PoolLocal<'static, Pages>: false, false;
        SlabLocal<'static, Pages>: false, false;
    }
}

#[test]
fn trap_3_a_collection_cannot_lend_what_it_could_reset() {
    // `reset` takes the arena exclusively, and a collection has only a shared reference of it.
    macro_rules! assert_by_reference {
        ($($type:ty),*) => {$(
            assert!(implements!(&'static $type: Allocator), "&{}", stringify!($type));
            assert!(!implements!($type: Allocator), "{}", stringify!($type));
            assert!(!implements!(&'static mut $type: Allocator), "&mut {}", stringify!($type));
        )*};
    }
    assert_by_reference!(
        Linear<Pages>, Buddy<Pages>, Slab<Pages>, Tight<Pages>, Pools<Pages, 2>,
        SlabLocal<'static, Pages>, Locked<Slab<Pages>>
    );
}
