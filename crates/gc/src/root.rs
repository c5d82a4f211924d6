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

    /// Begins a cycle in slices: shows the roots that are looked at as a whole. The others follow by
    /// [`Roots::scan_some`].
    fn begin_scan<V: Visitor>(&mut self, visitor: &mut V) {
        self.trace(visitor);
    }

    /// Shows about `count` more of the roots that there were when the cycle began; returns whether
    /// that was all.
    fn scan_some(&mut self, _count: usize, _visit: &mut dyn FnMut(ObjectRef)) -> bool {
        true
    }

    /// Shows `most` of the roots that were added since the cycle began, if there are more; returns
    /// whether nothing was shown.
    fn scan_new(&mut self, _most: usize, _visit: &mut dyn FnMut(ObjectRef)) -> bool {
        true
    }

    /// Shows the roots that neither [`Roots::scan_some`] nor [`Roots::scan_new`] has shown, and
    /// that [`crate::plan::Plan::pin`] was not told of: those whose objects move.
    fn trace_rest<V: Visitor>(&mut self, visitor: &mut V) {
        self.trace(visitor);
    }

    /// Ends the cycle in slices.
    fn end_scan(&mut self) {}

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

    fn begin_scan<V: Visitor>(&mut self, visitor: &mut V) {
        self.outer.trace(visitor);
        self.dynamic.begin_scan();
        self.locals.begin_scan();
    }

    fn scan_some(&mut self, count: usize, visit: &mut dyn FnMut(ObjectRef)) -> bool {
        self.dynamic.scan_some(count, visit) && self.locals.scan_some(count, visit)
    }

    fn scan_new(&mut self, most: usize, visit: &mut dyn FnMut(ObjectRef)) -> bool {
        self.locals.scan_new(most, visit)
    }

    fn trace_rest<V: Visitor>(&mut self, visitor: &mut V) {
        self.outer.trace(visitor);
        self.locals.trace_new(visitor);
    }

    fn end_scan(&mut self) {
        self.locals.end_scan();
    }

    fn settle(&mut self, fate: &mut dyn FnMut(ObjectRef) -> Option<ObjectRef>) {
        self.outer.settle(fate);
    }
}
