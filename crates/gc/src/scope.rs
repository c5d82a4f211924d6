//! Handle scopes: for programs that never leave, such as an interpreter's loop. Handles keep
//! objects between the short mutations inside a scope and go all at once with it.
//!
//! # Invariants
//! - H1: the locals of a heap are a stack; a scope owns those above its base and takes them away
//!   when it ends. A [`Local`] cannot outlive its scope, so its index is below the top and still
//!   names the object that it was made for.

use core::marker::PhantomData;
use core::num::NonZeroUsize;

use crate::gc::{Gc, Invariant};
use crate::heap::Heap;
use crate::mutation::Mutation;
use crate::root::{Root, Rootable};
use crate::{HeapError, LimitReached};

/// A handle of the scope `'s` to an object of type `K`: `Copy`, and valid over collections.
pub struct Local<'s, K: ?Sized> {
    index: usize,
    /// The address of the heap's mutation, which tells heaps apart. Never 0, so that a handle or
    /// none is returned in two registers.
    heap: NonZeroUsize,
    scope: Invariant<'s>,
    kind: PhantomData<K>,
}

impl<K: ?Sized> Clone for Local<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: ?Sized> Copy for Local<'_, K> {}

impl<'s, K: ?Sized + for<'gc> Rootable<'gc>> Local<'s, K> {
    /// The object. O(1).
    ///
    /// # Panics
    /// If `mutation` is of another heap.
    #[inline]
    pub fn get<'gc>(self, mutation: &Mutation<'gc>) -> Gc<'gc, Root<'gc, K>> {
        assert!(self.heap == mutation.address(), "a handle of another heap");
        let object = mutation.core().locals.get(self.index);
        // SAFETY: H1: the object was a `Gc` of this type under an earlier brand of the same heap;
        // collections keep the stack up to date.
        unsafe { Gc::from_payload(object.payload().cast()) }
    }
}

/// A scope of handles in a heap with the root `R`.
pub struct HandleScope<'s, R: ?Sized + for<'gc> Rootable<'gc>> {
    heap: &'s mut Heap<R>,
    base: usize,
}

/// What makes handles inside one mutation of the scope `'s`.
#[derive(Clone, Copy)]
pub struct Locals<'s, 'gc> {
    mutation: &'gc Mutation<'gc>,
    scope: Invariant<'s>,
}

impl<'s, 'gc> Locals<'s, 'gc> {
    /// Keeps `object` until the scope ends. O(1).
    ///
    /// # Errors
    /// [`LimitReached`] if there is no memory for the handle.
    #[inline]
    pub fn keep<K: ?Sized + for<'a> Rootable<'a>>(
        self,
        object: Gc<'gc, Root<'gc, K>>,
    ) -> Result<Local<'s, K>, LimitReached> {
        let pushed = self.mutation.core().locals.push(object.object());
        let index = pushed.map_err(|HeapError::Reserve { .. }| LimitReached)?;
        let heap = self.mutation.address();
        Ok(Local { index, heap, scope: PhantomData, kind: PhantomData })
    }
}

impl<'s, R: ?Sized + for<'gc> Rootable<'gc>> HandleScope<'s, R> {
    /// Runs `f` as [`Heap::mutate`] does, with the right to make handles; its end is a safepoint.
    /// O(1) if nothing is due.
    ///
    /// # Panics
    /// As [`Heap::mutate`].
    #[inline]
    pub fn mutate<T, F>(&mut self, f: F) -> T
    where
        F: for<'gc> FnOnce(&'gc Mutation<'gc>, &'gc Root<'gc, R>, Locals<'s, 'gc>) -> T,
    {
        self.heap
            .mutate(|mutation, root| f(mutation, root, Locals { mutation, scope: PhantomData }))
    }

    /// Runs `f` with a scope inside this one, whose handles go when it returns. Handles of this
    /// scope stay usable in it.
    pub fn scope<T>(&mut self, f: impl for<'i> FnOnce(&mut HandleScope<'i, R>) -> T) -> T {
        self.heap.scope(f)
    }

    /// As [`HandleScope::scope`], for one object that comes out of it: the handle that `f` returns
    /// is exchanged for one of this scope.
    ///
    /// ```
    /// use heapwright_gc::{Config, Heap, rootable};
    ///
    /// type Number = rootable!['gc => u64];
    /// let mut heap = Heap::<rootable!['gc => ()]>::new(Config::default(), |_| ())?;
    /// let sum = heap.scope(|scope| {
    ///     let sum = scope.escape::<Number>(|inner| {
    ///         let part = inner.mutate(|mu, _, locals| locals.keep::<Number>(mu.alloc(20)?))?;
    ///         inner.mutate(|mu, _, locals| locals.keep(mu.alloc(*part.get(mu) + 1)?))
    ///     })?;
    ///     Ok::<_, heapwright_gc::LimitReached>(scope.mutate(|mu, _, _| *sum.get(mu)))
    /// });
    /// assert_eq!(sum, Ok(21));
    /// # Ok::<(), heapwright_gc::HeapError>(())
    /// ```
    ///
    /// # Errors
    /// What `f` returns.
    pub fn escape<K: ?Sized + for<'gc> Rootable<'gc>>(
        &mut self,
        f: impl for<'i> FnOnce(&mut HandleScope<'i, R>) -> Result<Local<'i, K>, LimitReached>,
    ) -> Result<Local<'s, K>, LimitReached> {
        let base = self.heap.locals_len();
        let mut inner = HandleScope { heap: self.heap, base };
        let Local { index, heap, .. } = f(&mut inner)?;
        // H1: the inner scope has not ended, so the handle is there, unless it is of another heap.
        assert!(heap == inner.heap.address(), "a handle of another heap");
        let index = inner.heap.keep_local(inner.base, index);
        // It has ended: what it had is gone but for that one, which is this scope's now.
        core::mem::forget(inner);
        Ok(Local { index, heap, scope: PhantomData, kind: PhantomData })
    }
}

impl<R: ?Sized + for<'gc> Rootable<'gc>> Drop for HandleScope<'_, R> {
    fn drop(&mut self) {
        self.heap.truncate_locals(self.base);
    }
}

impl<R: ?Sized + for<'gc> Rootable<'gc>> Heap<R> {
    /// Runs `f` with a scope of handles: objects kept by a [`Local`] live until it returns.
    ///
    /// ```
    /// use heapwright_gc::{Config, Heap, Local, rootable};
    ///
    /// type Number = rootable!['gc => u64];
    /// let mut heap = Heap::<rootable!['gc => ()]>::new(Config::default(), |_| ())?;
    /// let sum = heap.scope(|scope| {
    ///     let mut sum: Local<'_, Number> =
    ///         scope.mutate(|mu, _, locals| locals.keep(mu.alloc(0)?))?;
    ///     for value in 1..=10 {
    ///         // Collections run between these.
    ///         sum = scope.mutate(|mu, _, locals| locals.keep(mu.alloc(*sum.get(mu) + value)?))?;
    ///     }
    ///     Ok::<_, heapwright_gc::LimitReached>(scope.mutate(|mu, _, _| *sum.get(mu)))
    /// });
    /// assert_eq!(sum, Ok(55));
    /// # Ok::<(), heapwright_gc::HeapError>(())
    /// ```
    ///
    /// A handle stays inside its scope:
    ///
    /// ```compile_fail
    /// # use heapwright_gc::*;
    /// type Number = rootable!['gc => u64];
    /// let mut heap = Heap::<rootable!['gc => ()]>::new(Config::default(), |_| ()).unwrap();
    /// let escaped: Local<'_, Number> = heap.scope(|scope| {
    ///     scope.mutate(|mu, _, locals| locals.keep(mu.alloc(1).unwrap())).unwrap()
    /// });
    /// ```
    pub fn scope<T>(&mut self, f: impl for<'s> FnOnce(&mut HandleScope<'s, R>) -> T) -> T {
        let base = self.locals_len();
        f(&mut HandleScope { heap: self, base })
    }
}
