//! Finalisers: code of the program that runs once for an object that nothing refers to any more.
//!
//! The collection that finds such an object keeps it, and all that it refers to, and puts it into
//! a queue. Between mutations, after the collection, the finalisers run in the order in which
//! their objects were allocated. So a finaliser sees whole objects only, may allocate, and may
//! store its object somewhere: it lives on then, without a finaliser.
//!
//! # Invariants
//! - F1: an object with a finaliser is in `waiting` or in `queue`, once, until its finaliser runs;
//!   what is in `queue` is a root.

use crate::gc::Gc;
use crate::memory::Table;
use crate::mutation::Mutation;
use crate::object::{Field, ObjectRef};
use crate::trace::{Trace, Visitor};
use crate::weak::Reach;
use crate::{HeapError, LimitReached};

/// A type whose objects want to be told when they are found unreachable.
///
/// ```
/// use heapwright_gc::{Config, Finalise, Gc, GcCell, Heap, Mutation, Static, Trace, rootable};
/// use std::{cell::RefCell, rc::Rc};
///
/// #[derive(Trace)]
/// struct File { name: &'static str, log: Static<Rc<RefCell<Vec<&'static str>>>> }
/// impl<'gc> Finalise<'gc> for File {
///     fn finalise(this: Gc<'gc, Self>, _: &'gc Mutation<'gc>) {
///         this.log.0.borrow_mut().push(this.name);
///     }
/// }
///
/// let log = Rc::new(RefCell::new(Vec::new()));
/// let mut heap = Heap::<rootable!['gc => ()]>::new(Config::default(), |_| ())?;
/// for name in ["first", "second"] {
///     let file = File { name, log: Static(log.clone()) };
///     heap.mutate(|mu, _| mu.alloc_finalised(file).map(|_| ())).expect("room");
/// }
/// heap.collect();
/// assert_eq!(*log.borrow(), ["first", "second"]);
/// # Ok::<(), heapwright_gc::HeapError>(())
/// ```
pub trait Finalise<'gc>: Trace<'gc> + Sized {
    /// Runs once, after the collection that found `this` unreachable. Everything it refers to is
    /// whole; weak references to it still upgrade. A panic leaves the heap usable, and the
    /// finalisers behind it run after the next mutation or collection.
    fn finalise(this: Gc<'gc, Self>, mutation: &'gc Mutation<'gc>);
}

/// Calls the finaliser of one type.
type Run = unsafe fn(ObjectRef, &'static Mutation<'static>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    object: ObjectRef,
    run: Run,
}

/// # Safety
/// - `object` is a `T` of the heap of `mutation`, alive, whatever its brand was.
unsafe fn run<'gc, T: Finalise<'gc>>(object: ObjectRef, mutation: &'static Mutation<'static>) {
    let mutation = core::ptr::from_ref(mutation).cast::<Mutation<'gc>>();
    // SAFETY: the brand is the only difference. The type's code cannot depend on it, since
    // `alloc_finalised` asks for any; and the call does not outlive the caller's borrow.
    let mutation: &'gc Mutation<'gc> = unsafe { &*mutation };
    // SAFETY: the caller's promise.
    let this = unsafe { Gc::from_payload(object.payload().cast::<T>()) };
    T::finalise(this, mutation);
}

/// All objects with finalisers.
#[derive(Debug)]
pub(crate) struct Finals {
    waiting: Table<Entry>,
    /// Entries of `waiting` from here on are younger than the last collection.
    young_from: usize,
    queue: Table<Entry>,
    /// The next of `queue` to run.
    next: usize,
    /// In a cycle in slices: entries of `waiting` before `kept` stay, those from there up to `seen`
    /// mean nothing, and what was found unreachable and is not in the queue yet.
    kept: usize,
    seen: usize,
    found: Table<Entry>,
    /// So many of `found` are in the queue.
    queued: usize,
}

impl Finals {
    pub(crate) const fn new() -> Self {
        Self {
            waiting: Table::new(),
            young_from: 0,
            queue: Table::new(),
            next: 0,
            kept: 0,
            seen: 0,
            found: Table::new(),
            queued: 0,
        }
    }

    /// Puts every waiting object that was not reached into the queue, and reaches it. Returns
    /// whether there was one. O(waiting), or O(young ones).
    pub(crate) fn resurrect<V: Reach>(&mut self, all: bool, visitor: &mut V) -> bool {
        let from = if all { 0 } else { self.young_from };
        let before = self.queue.as_slice().len();
        let mut kept = from;
        for index in from..self.waiting.as_slice().len() {
            let entry = self.waiting.as_slice()[index];
            if visitor.fate(entry.object).is_some() {
                self.waiting.as_mut_slice()[kept] = entry;
                kept += 1;
            } else {
                self.queue.push(entry);
            }
        }
        self.waiting.truncate(kept);
        for entry in &self.queue.as_slice()[before..] {
            visitor.reach(entry.object);
        }
        self.queue.as_slice().len() > before
    }

    /// Begins what [`Finals::resurrect_some`] does, or [`Finals::settle_some`].
    pub(crate) fn begin_pass(&mut self) {
        (self.kept, self.seen, self.queued) = (0, 0, 0);
    }

    /// As [`Finals::resurrect`] of all, for up to `count` objects at a time, after everything was
    /// reached once. First all are found, so that they are queued in the order of allocation
    /// whichever refers to which. Returns whether there was nothing left to do.
    pub(crate) fn resurrect_some<V: Reach>(&mut self, count: usize, visitor: &mut V) -> bool {
        let len = self.waiting.as_slice().len();
        if self.seen < len {
            for index in self.seen..len.min(self.seen + count) {
                let entry = self.waiting.as_slice()[index];
                self.seen += 1;
                if visitor.fate(entry.object).is_some() {
                    self.waiting.as_mut_slice()[self.kept] = entry;
                    self.kept += 1;
                } else {
                    self.found.push(entry);
                }
            }
            if self.seen == len {
                self.waiting.truncate(self.kept);
                self.seen = self.kept;
            }
            return false;
        }
        let rest = &self.found.as_slice()[self.queued..];
        for entry in rest.iter().take(count) {
            self.queue.push(*entry);
            visitor.reach(entry.object);
            self.queued += 1;
        }
        if self.found.as_slice().is_empty() {
            return true;
        }
        if self.queued == self.found.as_slice().len() {
            self.found.clear();
            self.queued = 0;
        }
        false
    }

    /// As [`Finals::settle`] where nothing has moved, for up to `count` objects that wait: none of
    /// them may move until the cycle ends. What is in the queue is a root, which may. Returns
    /// whether these were the last.
    pub(crate) fn settle_some<V: Reach>(&mut self, count: usize, visitor: &V) -> bool {
        let len = self.waiting.as_slice().len();
        let end = len.min(self.seen + count);
        for entry in &self.waiting.as_slice()[self.seen..end] {
            visitor.settled(entry.object);
        }
        self.seen = end;
        self.young_from = len;
        end == len
    }

    /// Takes over where everything is, when it is known who lives. Newly queued objects have been
    /// reached like any other.
    pub(crate) fn settle<V: Reach>(&mut self, all: bool, visitor: &V) {
        let from = if all { 0 } else { self.young_from };
        for entry in &mut self.waiting.as_mut_slice()[from..] {
            entry.object = visitor.settled(entry.object).unwrap_or(entry.object);
        }
        for entry in &mut self.queue.as_mut_slice()[self.next..] {
            entry.object = visitor.settled(entry.object).unwrap_or(entry.object);
        }
        self.young_from = self.waiting.as_slice().len();
    }

    /// Replaces every reference by its target.
    pub(crate) fn slide(&mut self, mut target: impl FnMut(ObjectRef) -> ObjectRef) {
        for entry in self.waiting.as_mut_slice() {
            entry.object = target(entry.object);
        }
        for entry in &mut self.queue.as_mut_slice()[self.next..] {
            entry.object = target(entry.object);
        }
    }

    /// Shows the queue, which is a root, to `visitor`; only what was there before the collection.
    pub(crate) fn trace<V: Visitor>(&mut self, visitor: &mut V) {
        for entry in &mut self.queue.as_mut_slice()[self.next..] {
            visitor.visit(Field::of(&mut entry.object));
        }
    }

    /// Takes the next finaliser to run out of the queue.
    fn take(&mut self) -> Option<Entry> {
        let entry = self.queue.as_slice().get(self.next).copied();
        self.next += 1;
        if entry.is_none() {
            self.queue.clear();
            self.next = 0;
        }
        entry
    }

    pub(crate) fn has_queue(&self) -> bool {
        self.next < self.queue.as_slice().len()
    }
}

/// Runs the finalisers that are due; each in what is a mutation of its own as far as collections
/// go.
///
/// The caller has the heap to itself, so `mutation` may be lent as any brand.
pub(crate) fn run_finalisers(mutation: &'static Mutation<'static>) {
    loop {
        // The borrow ends before the program's code begins.
        let entry = mutation.state().borrow_mut().common.finals.take();
        let Some(Entry { object, run }) = entry else { return };
        // SAFETY: F1: the object was kept for this, and no collection runs meanwhile.
        unsafe { run(object, mutation) };
    }
}

impl<'gc> Mutation<'gc> {
    /// As [`Mutation::alloc`]; [`Finalise::finalise`] runs when the object is found unreachable,
    /// but not when the heap is dropped. O(1), and one more collection for the object's memory.
    ///
    /// # Errors
    /// [`LimitReached`].
    pub fn alloc_finalised<T: Finalise<'gc>>(&self, value: T) -> Result<Gc<'gc, T>, LimitReached> {
        let made = self.alloc(value)?;
        let entry = Entry { object: made.object(), run: run::<T> };
        let pushed = self.state().borrow_mut().common.finals.waiting.try_push(entry);
        pushed.map_err(|HeapError::Reserve { .. }| LimitReached)?;
        Ok(made)
    }
}
