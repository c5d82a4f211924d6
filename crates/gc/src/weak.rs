//! Weak references and ephemerons: small objects whose references do not keep what they point to.
//!
//! # Invariants
//! - E1: a pair is written when it is made and by collections only; so what it names is never
//!   younger than the pair, and it needs no write barrier.
//! - E2: every pair is listed once in `Pairs` until it dies.
//!
//! Source for ephemerons: Hayes, "Ephemerons: a new finalization mechanism", OOPSLA 1997.

use core::cell::Cell;
use core::marker::PhantomData;

use crate::gc::Gc;
use crate::memory::Table;
use crate::mutation::Mutation;
use crate::object::{ObjectRef, prefetch};
use crate::plan::Plan;
use crate::trace::{Trace, Visitor};
use crate::{HeapError, LimitReached};

/// A key that may die, and a value that is kept only while the key lives.
pub(crate) struct Pair {
    key: Cell<Option<ObjectRef>>,
    value: Cell<Option<ObjectRef>>,
}

// SAFETY: the references are looked after by `Pairs`, not by tracing; there is no `Gc` in it.
unsafe impl<'gc> Trace<'gc> for Pair {
    const NEEDS_TRACE: bool = false;
    const HAS_CELLS: bool = false;
    fn trace<V: Visitor>(&mut self, _visitor: &mut V) {}
}

/// A visitor that knows who has been reached.
pub(crate) trait Reach: Visitor {
    /// The present place of an object that has been reached, none for others.
    fn fate(&self, object: ObjectRef) -> Option<ObjectRef>;

    /// As [`Reach::fate`], of an object that a table of the heap holds: it stays there until the
    /// end of the cycle.
    fn settled(&self, object: ObjectRef) -> Option<ObjectRef> {
        self.fate(object)
    }

    /// Reaches `object`, as a visit of a reference to it does.
    fn reach(&mut self, object: ObjectRef);

    /// Visits everything that is reachable from what was visited.
    fn finish(&mut self);
}

/// All pairs of a heap.
#[derive(Debug)]
pub(crate) struct Pairs {
    table: Table<ObjectRef>,
    /// Pairs from this index on are younger than the last collection.
    young_from: usize,
    /// While a cycle in slices marks: the pair to look at next, how many before it were looked at
    /// since the last object was marked, and how many had been marked then.
    next: usize,
    quiet: usize,
    marked: u64,
    /// While it settles: entries before `kept` stay, those from there up to `next` mean nothing.
    kept: usize,
}

impl Pairs {
    pub(crate) const fn new() -> Self {
        Self { table: Table::new(), young_from: 0, next: 0, quiet: 0, marked: 0, kept: 0 }
    }

    fn pair<'a>(object: ObjectRef) -> &'a Pair {
        // SAFETY: the table names payloads of type `Pair` (E2), and its users keep the reference
        // no longer than the object stays in place.
        unsafe { object.payload().cast::<Pair>().as_ref() }
    }

    fn from(&self, all: bool) -> usize {
        if all { 0 } else { self.young_from }
    }

    /// Reaches the values of reached pairs whose keys are reached. Returns whether there was one
    /// that was not; there may be more then. O(pairs).
    pub(crate) fn reach_values<V: Reach>(&self, all: bool, visitor: &mut V) -> bool {
        let mut has_reached = false;
        for object in &self.table.as_slice()[self.from(all)..] {
            has_reached |= Self::reach_value(*object, visitor);
        }
        has_reached
    }

    /// Reaches the value of a reached pair with a reached key; returns whether it was not before.
    fn reach_value<V: Reach>(object: ObjectRef, visitor: &mut V) -> bool {
        let Some(object) = visitor.fate(object) else { return false };
        let Pair { key, value } = Self::pair(object);
        let (Some(key), Some(value)) = (key.get(), value.get()) else { return false };
        let is_new = visitor.fate(key).is_some() && visitor.fate(value).is_none();
        if is_new {
            visitor.reach(value);
        }
        is_new
    }

    /// As [`Pairs::reach_values`] for up to `count` pairs, round and round. Returns whether all were
    /// looked at since the last object was marked, of which there have been `marked`, and nothing was
    /// reached: then there is no more.
    pub(crate) fn reach_some<V: Reach>(
        &mut self,
        count: usize,
        marked: u64,
        visitor: &mut V,
    ) -> bool {
        if self.marked != marked {
            self.marked = marked;
            self.quiet = 0;
        }
        for _ in 0..count {
            let pairs = self.table.as_slice();
            if self.quiet >= pairs.len() {
                break;
            }
            if self.next >= pairs.len() {
                self.next = 0;
            }
            prefetch_later(pairs, self.next);
            self.quiet += 1;
            if Self::reach_value(pairs[self.next], visitor) {
                self.quiet = 0;
            }
            self.next += 1;
        }
        self.quiet >= self.table.as_slice().len()
    }

    /// Begins what [`Pairs::settle_some`] does.
    pub(crate) fn begin_settle(&mut self) {
        (self.next, self.kept) = (0, 0);
    }

    /// As [`Pairs::settle`] of all, for up to `count` pairs; returns whether these were the last.
    pub(crate) fn settle_some<V: Reach>(&mut self, count: usize, visitor: &V) -> bool {
        let len = self.table.as_slice().len();
        let end = len.min(self.next + count);
        for index in self.next..end {
            prefetch_later(self.table.as_slice(), index);
            self.kept = self.keep(index, self.kept, &|object| visitor.settled(object));
        }
        self.next = end;
        if end < len {
            return false;
        }
        self.table.truncate(self.kept);
        self.young_from = self.kept;
        (self.next, self.quiet) = (0, 0);
        true
    }

    /// Forgets dead pairs, clears those whose key is dead, and updates the others.
    pub(crate) fn settle<V: Reach>(&mut self, all: bool, visitor: &V) {
        let from = self.from(all);
        self.update(from, |object| visitor.settled(object));
        self.young_from = self.table.as_slice().len();
    }

    /// Replaces every reference by its target, when nothing is dead any more. The pairs themselves
    /// are still in their old places.
    pub(crate) fn slide(&mut self, target: impl Fn(ObjectRef) -> ObjectRef) {
        for object in self.table.as_mut_slice() {
            let Pair { key, value } = Self::pair(*object);
            key.set(key.get().map(&target));
            value.set(value.get().map(&target));
            *object = target(*object);
        }
    }

    /// Replaces every reference by what `place` says, which may be elsewhere for a pair itself: what
    /// is in the table is read there.
    pub(crate) fn relocate(&mut self, place: &mut dyn FnMut(ObjectRef) -> ObjectRef) {
        for object in self.table.as_mut_slice() {
            *object = place(*object);
            let Pair { key, value } = Self::pair(*object);
            key.set(key.get().map(&mut *place));
            value.set(value.get().map(&mut *place));
        }
    }

    fn update(&mut self, from: usize, fate: impl Fn(ObjectRef) -> Option<ObjectRef>) {
        let mut kept = from;
        for index in from..self.table.as_slice().len() {
            kept = self.keep(index, kept, &fate);
        }
        self.table.truncate(kept);
    }

    /// Moves the entry `index` to `kept` if its pair lives; returns where the next one goes.
    fn keep(
        &mut self,
        index: usize,
        kept: usize,
        fate: &impl Fn(ObjectRef) -> Option<ObjectRef>,
    ) -> usize {
        let pairs = self.table.as_mut_slice();
        let Some(object) = fate(pairs[index]) else { return kept };
        pairs[kept] = object;
        let Pair { key, value } = Self::pair(object);
        key.set(key.get().and_then(fate));
        value.set(if key.get().is_some() { value.get().and_then(fate) } else { None });
        kept + 1
    }
}

/// Asks for the pair some entries later, and for its head.
fn prefetch_later(pairs: &[ObjectRef], index: usize) {
    const AHEAD: usize = 16;
    if let Some(later) = pairs.get(index + AHEAD) {
        prefetch(later.payload().as_ptr().wrapping_sub(8));
    }
}

/// A reference that does not keep its object: [`GcWeak::upgrade`] tells whether it still lives.
///
/// ```
/// use heapwright_gc::{Config, Gc, GcWeak, Heap, Trace, rootable};
///
/// #[derive(Trace)]
/// struct Pair<'gc> { strong: Option<Gc<'gc, u64>>, weak: GcWeak<'gc, u64> }
///
/// let mut heap = Heap::<rootable!['gc => Pair<'gc>]>::new(Config::default(), |mu| {
///     let number = mu.alloc(7u64).expect("room");
///     Pair { strong: Some(number), weak: mu.alloc_weak(number).expect("room") }
/// })?;
/// heap.collect();
/// assert_eq!(heap.mutate(|mu, root| root.weak.upgrade(mu).map(|number| *number)), Some(7));
/// heap.mutate_root(|_, root| root.strong = None);
/// heap.collect();
/// assert!(heap.mutate(|mu, root| root.weak.upgrade(mu).is_none()));
/// # Ok::<(), heapwright_gc::HeapError>(())
/// ```
pub struct GcWeak<'gc, T> {
    pair: Gc<'gc, Pair>,
    target: PhantomData<Gc<'gc, T>>,
}

impl<T> Clone for GcWeak<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for GcWeak<'_, T> {}

impl<'gc, T> GcWeak<'gc, T> {
    /// The object, unless a collection found that it was not reachable otherwise. O(1).
    #[inline]
    pub fn upgrade(self, mutation: &Mutation<'gc>) -> Option<Gc<'gc, T>> {
        let object = self.pair.key.get().filter(|object| mutation.before_upgrade(*object))?;
        // SAFETY: the key was a `Gc<T>` of this heap; it lives, or the collection had cleared it.
        Some(unsafe { Gc::from_payload(object.payload().cast()) })
    }
}

// SAFETY: visits the only `Gc`, to the pair.
unsafe impl<'gc, T> Trace<'gc> for GcWeak<'gc, T> {
    const NEEDS_TRACE: bool = true;
    const HAS_CELLS: bool = false;
    #[inline]
    fn trace<V: Visitor>(&mut self, visitor: &mut V) {
        self.pair.trace(visitor);
    }
}

/// A value that is kept only while its key is reachable otherwise, even if the value refers to the
/// key: the entry of a weak map.
pub struct Ephemeron<'gc, K, V> {
    pair: Gc<'gc, Pair>,
    kinds: PhantomData<(Gc<'gc, K>, Gc<'gc, V>)>,
}

impl<K, V> Clone for Ephemeron<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Ephemeron<'_, K, V> {}

impl<'gc, K, V> Ephemeron<'gc, K, V> {
    /// Key and value, while the key lives. O(1).
    #[inline]
    pub fn get(self, mutation: &Mutation<'gc>) -> Option<(Gc<'gc, K>, Gc<'gc, V>)> {
        let key = self.pair.key.get().filter(|key| mutation.before_upgrade(*key))?;
        let value = self.pair.value.get().filter(|value| mutation.before_upgrade(*value))?;
        // SAFETY: the key was a `Gc<K>` of this heap, and lives, or the pair had been cleared.
        let key = unsafe { Gc::from_payload(key.payload().cast()) };
        // SAFETY: the value was a `Gc<V>` of this heap, and is kept while the key lives.
        Some((key, unsafe { Gc::from_payload(value.payload().cast()) }))
    }
}

// SAFETY: visits the only `Gc`, to the pair.
unsafe impl<'gc, K, V> Trace<'gc> for Ephemeron<'gc, K, V> {
    const NEEDS_TRACE: bool = true;
    const HAS_CELLS: bool = false;
    #[inline]
    fn trace<W: Visitor>(&mut self, visitor: &mut W) {
        self.pair.trace(visitor);
    }
}

impl<'gc> Mutation<'gc> {
    /// Makes a weak reference to `target`: one small object. O(1).
    ///
    /// # Errors
    /// [`LimitReached`].
    pub fn alloc_weak<T>(&self, target: Gc<'gc, T>) -> Result<GcWeak<'gc, T>, LimitReached> {
        let pair = self.alloc_pair(target.object(), None)?;
        Ok(GcWeak { pair, target: PhantomData })
    }

    /// Makes an ephemeron: one small object. O(1).
    ///
    /// # Errors
    /// [`LimitReached`].
    pub fn alloc_ephemeron<K, V>(
        &self,
        key: Gc<'gc, K>,
        value: Gc<'gc, V>,
    ) -> Result<Ephemeron<'gc, K, V>, LimitReached> {
        let pair = self.alloc_pair(key.object(), Some(value.object()))?;
        Ok(Ephemeron { pair, kinds: PhantomData })
    }

    fn alloc_pair(
        &self,
        key: ObjectRef,
        value: Option<ObjectRef>,
    ) -> Result<Gc<'gc, Pair>, LimitReached> {
        let pair = self.alloc(Pair { key: Cell::new(Some(key)), value: Cell::new(value) })?;
        let state = &mut *self.state().borrow_mut();
        core::iter::once(key).chain(value).for_each(|object| state.plan.pin(object));
        let pushed = state.common.pairs.table.try_push(pair.object());
        pushed.map_err(|HeapError::Reserve { .. }| LimitReached)?;
        Ok(pair)
    }
}
