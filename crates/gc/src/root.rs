//! Roots: the one value that a heap is entered through.

use core::marker::PhantomData;

use crate::dynamic_root::RootTable;
use crate::locals::LocalStack;
use crate::object::ObjectRef;
use crate::trace::{Trace, Visitor};

/// A type for each brand; [`rootable!`](crate::rootable) makes one.
pub trait Rootable<'gc> {
    /// The type under the brand `'gc`.
    type Root: Trace<'gc> + 'gc;
}

/// The type of `R` under the brand `'gc`.
pub type Root<'gc, R> = <R as Rootable<'gc>>::Root;

/// What [`rootable!`](crate::rootable) expands to: names the trait object `T`, of which no value
/// exists.
pub struct RootableBy<T: ?Sized>(PhantomData<T>);

impl<'gc, T: ?Sized + Rootable<'gc>> Rootable<'gc> for RootableBy<T> {
    type Root = T::Root;
}

/// A type with the brand left open: `rootable!['gc => Node<'gc>]`.
#[macro_export]
macro_rules! rootable {
    ($brand:lifetime => $root:ty) => {
        $crate::RootableBy<dyn for<$brand> $crate::Rootable<$brand, Root = $root>>
    };
}

/// All roots of a heap, for every visitor.
pub(crate) trait Roots {
    fn trace<V: Visitor>(&mut self, visitor: &mut V);

    /// Gives up or replaces what is held weakly, when it is known who lives: `fate` tells where an
    /// object is now, or that it is dead.
    fn settle(&mut self, _fate: &mut dyn FnMut(ObjectRef) -> Option<ObjectRef>) {}
}

/// The root value of a [`crate::Heap`].
pub(crate) struct TracedRoot<'a, T>(pub(crate) &'a mut T);

impl<'gc, T: Trace<'gc>> Roots for TracedRoot<'_, T> {
    fn trace<V: Visitor>(&mut self, visitor: &mut V) {
        self.0.trace(visitor);
    }
}

/// What comes from outside the heap, the dynamic roots and the handles.
pub(crate) struct HeapRoots<'a, R> {
    pub(crate) outer: &'a mut R,
    pub(crate) dynamic: &'a RootTable,
    pub(crate) locals: &'a LocalStack,
}

impl<R: Roots> Roots for HeapRoots<'_, R> {
    fn trace<V: Visitor>(&mut self, visitor: &mut V) {
        self.outer.trace(visitor);
        self.dynamic.trace(visitor);
        self.locals.trace(visitor);
    }

    fn settle(&mut self, fate: &mut dyn FnMut(ObjectRef) -> Option<ObjectRef>) {
        self.outer.settle(fate);
    }
}
