//! Heap: the root, the collector and the door between mutations.

use core::num::NonZeroUsize;
use core::ptr::NonNull;

use crate::finalise::run_finalisers;
use crate::log;
use crate::memory::Reserve;
use crate::mutation::Mutation;
use crate::mutator::LOST;
use crate::plan::Extent;
use crate::root::{HeapRoots, Root, Rootable, TracedRoot};
use crate::state::State;
#[cfg(feature = "alloc")]
use crate::verify::Each;
use crate::verify::Verifier;
use crate::{Config, HeapError, Pause, Refusal, Statistics};

/// A garbage-collected heap with one root value of type `R`. It belongs to one thread:
///
/// ```compile_fail,E0277
/// # use heapwright_gc::*;
/// fn send<T: Send>(_: T) {}
/// send(Heap::<rootable!['gc => ()]>::new(Config::default(), |_| ()).unwrap()); // is not Send
/// ```
///
/// # Panics
/// If a payload's destructor panics during a collection, the heap is lost: every later use panics,
/// and its memory is given back when it is dropped, without further destructors.
pub struct Heap<R: ?Sized + for<'gc> Rootable<'gc>> {
    root: Root<'static, R>,
    /// After the root, so that it is dropped later.
    engine: Engine,
}

/// The mutation, in memory of its own, so that its address stays when the heap is moved.
struct Engine {
    mutation: NonNull<Mutation<'static>>,
    _memory: Reserve,
}

impl Engine {
    fn new(config: &Config) -> Result<Self, HeapError> {
        let memory = Reserve::new(size_of::<Mutation<'_>>())?;
        let mutation = memory.start().cast::<Mutation<'static>>();
        let state = State::new(config)?;
        // SAFETY: the reserve is page aligned and long enough, and nobody else knows it.
        unsafe { mutation.write(Mutation::new(state)) };
        Ok(Self { mutation, _memory: memory })
    }

    /// The mutation. The caller does not use it for longer than the engine.
    fn mutation<'a>(&self) -> &'a Mutation<'static> {
        // SAFETY: initialised in `new`, and in place until the engine is dropped; private to this
        // file, whose callers keep it within a borrow of the heap.
        unsafe { self.mutation.as_ref() }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.mutation().core().is_lost.get() {
            let state = &mut *self.mutation().state().borrow_mut();
            log::write(&state.common, state.begin_ns, state.begin_cpu_ns);
            state.drop_all();
        }
        // SAFETY: initialised in `new`, and not used again.
        unsafe { self.mutation.drop_in_place() };
    }
}

impl<R: ?Sized + for<'gc> Rootable<'gc>> Heap<R> {
    /// Makes a heap, whose root is what `root` returns. O(1), some system calls.
    ///
    /// # Errors
    /// [`HeapError::Reserve`] if the kernel gives no address space: up to five times the limit.
    pub fn new<F>(config: Config, root: F) -> Result<Self, HeapError>
    where
        F: for<'gc> FnOnce(&'gc Mutation<'gc>) -> Root<'gc, R>,
    {
        let engine = Engine::new(&config)?;
        let root = root(engine.mutation());
        engine.mutation().core().refresh();
        Ok(Self { root, engine })
    }

    /// Runs `f` with the right to allocate and to follow pointers. Afterwards, what is due of a
    /// collection runs, and every object may move. O(1) if nothing is due.
    ///
    /// # Panics
    /// If an earlier collection panicked. A panic of `f` leaves the heap usable.
    ///
    /// A collection cannot run inside:
    ///
    /// ```compile_fail,E0499
    /// # use heapwright_gc::*;
    /// let mut heap = Heap::<rootable!['gc => ()]>::new(Config::default(), |_| ()).unwrap();
    /// heap.mutate(|_, _| heap.collect());
    /// ```
    #[inline]
    pub fn mutate<T, F>(&mut self, f: F) -> T
    where
        F: for<'gc> FnOnce(&'gc Mutation<'gc>, &'gc Root<'gc, R>) -> T,
    {
        self.mutate_root(|mutation, root| f(mutation, root))
    }

    /// As [`Heap::mutate`], with the root to change.
    ///
    /// # Panics
    /// As [`Heap::mutate`].
    #[inline]
    pub fn mutate_root<T, F>(&mut self, f: F) -> T
    where
        F: for<'gc> FnOnce(&'gc Mutation<'gc>, &'gc mut Root<'gc, R>) -> T,
    {
        let mutation = self.engine.mutation();
        assert!(!mutation.core().is_lost.get(), "{LOST}");
        // SAFETY: the heap is borrowed during `f`, which cannot keep the reference: it must do
        // with any lifetime, and its result cannot name that.
        let root = unsafe { NonNull::from(&mut self.root).as_mut() };
        let result = f(mutation, root);
        if mutation.should_yield() {
            self.run(Extent::Due);
        }
        result
    }

    /// Runs a full collection, to its end. O(live), or what the collector's page says.
    ///
    /// # Panics
    /// If this or an earlier collection panicked.
    pub fn collect(&mut self) {
        self.run(Extent::Full);
    }

    /// The last allocation that was refused, if any was.
    pub fn refusal(&self) -> Option<Refusal> {
        self.engine.mutation().state().borrow().refusal
    }

    /// What the heap has done so far. O(1).
    pub fn statistics(&self) -> Statistics {
        let state = self.engine.mutation().state().borrow();
        let mut statistics = state.common.statistics;
        statistics.occupied_bytes = state.occupied_bytes();
        statistics
    }

    /// Runs `f` with the pauses so far, in order: those since the heap was made, if
    /// [`Config::record_pauses`] is set.
    pub fn with_pauses<T>(&self, f: impl FnOnce(&[Pause]) -> T) -> T {
        f(self.engine.mutation().state().borrow().common.pauses.as_slice())
    }

    /// Walks all that is reachable and returns the number of objects and their bytes, heads
    /// included. O(live).
    ///
    /// # Panics
    /// If a reference leads to no object: the heap is broken. If an earlier collection panicked.
    pub fn verify(&mut self) -> (usize, usize) {
        let mutation = self.engine.mutation();
        assert!(!mutation.core().is_lost.get(), "{LOST}");
        let state = &mut *mutation.state().borrow_mut();
        let State { plan, common, dynamic, .. } = state;
        let locals = &mutation.core().locals;
        let mut outer = TracedRoot(&mut self.root);
        let mut roots = HeapRoots { outer: &mut outer, dynamic, locals };
        Verifier::run(&mut roots, plan, common, None)
    }

    /// Shows the roots and every reachable object to `each`, as the verifier's list.
    #[cfg(feature = "alloc")]
    pub(crate) fn list(&mut self, each: &mut Each<'_>) {
        let mutation = self.engine.mutation();
        assert!(!mutation.core().is_lost.get(), "{LOST}");
        let state = &mut *mutation.state().borrow_mut();
        let State { plan, common, dynamic, .. } = state;
        let locals = &mutation.core().locals;
        let mut outer = TracedRoot(&mut self.root);
        let mut roots = HeapRoots { outer: &mut outer, dynamic, locals };
        Verifier::list(&mut roots, plan, common, each);
    }

    pub(crate) fn locals_len(&self) -> usize {
        self.engine.mutation().core().locals.len()
    }

    pub(crate) fn address(&self) -> NonZeroUsize {
        self.engine.mutation().address()
    }

    /// Of the handles from `base` on keeps that with this index; returns its new one.
    pub(crate) fn keep_local(&mut self, base: usize, index: usize) -> usize {
        self.engine.mutation().core().keep_local(base, index)
    }

    pub(crate) fn truncate_locals(&mut self, len: usize) {
        self.engine.mutation().core().truncate_locals(len);
    }

    #[cold]
    #[inline(never)]
    fn run(&mut self, extent: Extent) {
        let mutation = self.engine.mutation();
        mutation.core().collect(&mut TracedRoot(&mut self.root), extent);
        mutation.core().refresh();
        if mutation.state().borrow().common.finals.has_queue() {
            run_finalisers(mutation);
            mutation.core().refresh();
        }
    }
}
