//! The layer below: heaps for virtual machines with an object layout and a value representation of
//! their own, under the same collectors.
//!
//! A [`Layout`] tells how long an object is and where its fields are; the collectors are compiled
//! for it, so that nothing is looked up at run time. The collectors own one word, the head before
//! each payload, of which the machine keeps 60 bits: a class pointer, or kind and length. Fields
//! hold machine words: [`Layout::decode`] tells references from small integers.
//!
//! Nothing here is safe in the sense of [`crate::Heap`]: between two safepoints words may be kept
//! anywhere; at a safepoint every word that is used afterwards has to be shown by [`Roots`], since
//! every object may move. `examples/scheme` is a Scheme machine on this layer.
//!
//! ```
//! use heapwright_gc::vm::{Layout, Roots, VmHeap};
//! use heapwright_gc::{Config, Field, ObjectRef, Visitor};
//! use std::ptr::{NonNull, null, null_mut};
//!
//! /// Pairs of two words, each a reference or null.
//! enum Pairs {}
//! // SAFETY: every object is made below with two fields, both initialised.
//! unsafe impl Layout for Pairs {
//!     fn payload_bytes(_: ObjectRef) -> usize { 16 }
//!     fn fields(object: ObjectRef) -> Option<(NonNull<*mut u8>, usize)> {
//!         Some((object.payload().cast(), 2))
//!     }
//!     fn decode(word: *mut u8) -> Option<NonNull<u8>> { NonNull::new(word) }
//!     fn encode(_: *mut u8, payload: NonNull<u8>) -> *mut u8 { payload.as_ptr() }
//! }
//! struct Stack(Vec<*mut u8>);
//! // SAFETY: the stack is all that is used after a safepoint.
//! unsafe impl Roots for Stack {
//!     fn trace<V: Visitor>(&mut self, visitor: &mut V) {
//!         for word in &mut self.0 {
//!             // SAFETY: null or a payload; the vector is not touched before the visit ends.
//!             visitor.visit(unsafe { Field::new(NonNull::from(word)) });
//!         }
//!     }
//! }
//!
//! let mut heap = VmHeap::<Pairs>::new(Config::default())?;
//! let mut stack = Stack(vec![null_mut()]);
//! for _ in 0..10 {
//!     // SAFETY: both fields are written before the next safepoint.
//!     let pair = unsafe { heap.alloc(null(), 16) }.expect("in the limit").payload();
//!     // SAFETY: a new object of 16 bytes.
//!     unsafe { pair.cast::<[*mut u8; 2]>().write([stack.0[0], null_mut()]) };
//!     stack.0[0] = pair.as_ptr();
//!     // SAFETY: the stack holds the only word that is used again.
//!     unsafe { heap.collect(&mut stack) };
//! }
//! assert_eq!(heap.verify(&mut stack), (10, 10 * 24));
//! # Ok::<(), heapwright_gc::HeapError>(())
//! ```

use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::log;
use crate::mark::Marker;
use crate::model::{Model, Shape};
use crate::mutator::{Barrier, LOST, Mutator};
use crate::object::{Field, ObjectRef, WORD_BYTES};
use crate::plan::Extent;
use crate::relocate::{Copier, Slider};
use crate::root::{HeapRoots, Roots as AllRoots};
use crate::state::State;
use crate::trace::Visitor;
use crate::verify::Verifier;
use crate::write_log::LoggedField;
use crate::{Config, HeapError, LimitReached, Pause, Refusal, Statistics};

/// The head word before each payload.
const HEAD_BYTES: usize = WORD_BYTES;

/// How the objects of a machine look.
///
/// The functions are called during collections, with the object in a place where its payload and
/// its head are whole. What its fields refer to may be elsewhere already: they do not follow them.
///
/// # Safety
/// - `payload_bytes` is what the object was allocated with, as long as it lives.
/// - `fields`, or else `trace`, shows every word of the payload that `decode` may take for a
///   reference exactly once, and no other; neither panics nor changes anything.
/// - `decode` returns none, or the payload of an object of this heap that was reachable at the last
///   safepoint or was allocated since; `decode(encode(old, payload))` is `payload`, whatever
///   reference `old` was.
pub unsafe trait Layout: 'static {
    /// Bytes of the payload.
    fn payload_bytes(object: ObjectRef) -> usize;

    /// The fields, if they are one run of words: the first, and how many. Long objects that answer
    /// are visited a part at a time, so that they make no long slice.
    fn fields(object: ObjectRef) -> Option<(NonNull<*mut u8>, usize)>;

    /// Shows every field to `visitor`; as it stands, the run that `fields` answers.
    #[inline]
    fn trace<V: Visitor>(object: ObjectRef, visitor: &mut V) {
        if let Some((first, count)) = Self::fields(object) {
            visit_run(first, 0, count, visitor);
        }
    }

    /// Whether the object can refer to others at all; if not, it is not traced.
    #[inline]
    fn has_references(_object: ObjectRef) -> bool {
        true
    }

    /// The payload that `word` refers to, tags removed; none if it is no reference.
    fn decode(word: *mut u8) -> Option<NonNull<u8>>;

    /// The word that refers to `payload` with the tags of `old`.
    fn encode(old: *mut u8, payload: NonNull<u8>) -> *mut u8;

    /// What the object is, for messages.
    fn kind(_object: ObjectRef) -> &'static str {
        "object"
    }
}

/// Shows the words from index `from` to `to` of the run that begins at `first`.
#[inline]
fn visit_run<V: Visitor>(first: NonNull<*mut u8>, from: usize, to: usize, visitor: &mut V) {
    for index in from..to {
        // SAFETY: the layout promises a run of that many words inside the payload.
        let place = unsafe { first.add(index) };
        // SAFETY: a field of an object, which the layout says nobody else shows; objects are not
        // used by the program during a collection.
        visitor.visit(unsafe { Field::new(place) });
    }
}

/// Shows a part of the run of `object`; returns the index after it, if there is more.
fn visit_part<L: Layout, V: Visitor>(
    object: ObjectRef,
    from: usize,
    part_bytes: usize,
    visitor: &mut V,
) -> Option<usize> {
    let (first, count) = L::fields(object)?;
    let next = part_end(count, from, part_bytes);
    visit_run(first, from, next.unwrap_or(count), visitor);
    next
}

/// Where the part ends that begins at `from`, if not with the run.
fn part_end(count: usize, from: usize, part_bytes: usize) -> Option<usize> {
    let to = from + (part_bytes / WORD_BYTES).max(1);
    (to < count).then_some(to)
}

/// What a machine refers to its objects from, apart from the objects themselves.
///
/// # Safety
/// - `trace` shows every word outside the heap that is used after the safepoint, exactly once, and
///   the words stay in place until the collection has ended.
/// - `settle` keeps what it holds weakly up to date, or holds nothing.
pub unsafe trait Roots {
    /// Shows every root to `visitor`.
    fn trace<V: Visitor>(&mut self, visitor: &mut V);

    /// Updates what is held without keeping it, such as a table of symbols: `fate` tells where an
    /// object is now, or that it is dead. A collection may call this more than once; the answers
    /// are about what the last call left.
    fn settle(&mut self, _fate: &mut dyn FnMut(ObjectRef) -> Option<ObjectRef>) {}
}

/// The machine's roots, as the collectors ask for them.
struct Outer<'a, R>(&'a mut R);

impl<R: Roots> AllRoots for Outer<'_, R> {
    fn trace<V: Visitor>(&mut self, visitor: &mut V) {
        self.0.trace(visitor);
    }

    fn settle(&mut self, fate: &mut dyn FnMut(ObjectRef) -> Option<ObjectRef>) {
        self.0.settle(fate);
    }
}

/// The model of a layout.
struct Own<L>(PhantomData<L>);

impl<L> Clone for Own<L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Own<L> {}

impl<L> fmt::Debug for Own<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::any::type_name::<L>())
    }
}

fn total_bytes(payload_bytes: usize) -> Option<usize> {
    payload_bytes.max(WORD_BYTES).checked_next_multiple_of(WORD_BYTES)?.checked_add(HEAD_BYTES)
}

// SAFETY: passes on what `Layout` promises; a head is one word.
unsafe impl<L: Layout> Model for Own<L> {
    #[inline]
    fn start(object: ObjectRef) -> NonNull<u8> {
        // SAFETY: the head lies right before the payload.
        unsafe { object.payload().sub(HEAD_BYTES) }
    }

    #[inline]
    unsafe fn at(start: NonNull<u8>) -> ObjectRef {
        // SAFETY: the payload follows the head of the object that begins at `start`.
        let payload = unsafe { start.add(HEAD_BYTES) };
        // SAFETY: the caller's promise.
        unsafe { ObjectRef::new(payload) }
    }

    #[inline]
    fn total_bytes(object: ObjectRef) -> usize {
        // As in `alloc`, where it was checked for overflow.
        L::payload_bytes(object).max(WORD_BYTES).next_multiple_of(WORD_BYTES) + HEAD_BYTES
    }

    #[inline]
    fn needs_trace(object: ObjectRef) -> bool {
        L::has_references(object)
    }

    #[inline]
    fn shape(object: ObjectRef) -> Shape {
        Shape {
            start: Self::start(object),
            bytes: Self::total_bytes(object),
            needs_trace: L::has_references(object),
            is_divisible: true,
        }
    }

    #[inline]
    fn has_parts(object: ObjectRef, part_bytes: usize) -> bool {
        L::fields(object).is_some_and(|(_, count)| count * WORD_BYTES > part_bytes)
    }

    fn part_end(object: ObjectRef, from: usize, part_bytes: usize) -> Option<usize> {
        L::fields(object).and_then(|(_, count)| part_end(count, from, part_bytes))
    }

    fn mark_part(
        object: ObjectRef,
        from: usize,
        part_bytes: usize,
        marker: &mut Marker<Self>,
    ) -> Option<usize> {
        visit_part::<L, _>(object, from, part_bytes, marker)
    }

    fn copy_part(
        object: ObjectRef,
        from: usize,
        part_bytes: usize,
        copier: &mut Copier<Self>,
    ) -> Option<usize> {
        visit_part::<L, _>(object, from, part_bytes, copier)
    }

    #[inline]
    fn mark(object: ObjectRef, marker: &mut Marker<Self>) {
        L::trace(object, marker);
    }

    #[inline]
    fn copy(object: ObjectRef, copier: &mut Copier<Self>) {
        L::trace(object, copier);
    }

    #[inline]
    fn slide(object: ObjectRef, slider: &mut Slider<Self>) {
        L::trace(object, slider);
    }

    fn verify(object: ObjectRef, verifier: &mut Verifier<Self>) {
        L::trace(object, verifier);
    }

    #[inline]
    fn decode(word: *mut u8) -> Option<NonNull<u8>> {
        L::decode(word)
    }

    #[inline]
    fn encode(old: *mut u8, payload: NonNull<u8>) -> *mut u8 {
        L::encode(old, payload)
    }

    unsafe fn drop_payload(_object: ObjectRef) {}

    fn kind(object: ObjectRef) -> (&'static str, bool) {
        (L::kind(object), false)
    }
}

/// A heap of objects with the layout `L`. It belongs to one thread; the memory goes with it,
/// without destructors.
///
/// # Panics
/// If a collection panics, which only a broken layout makes it do, the heap is lost: every later
/// collection panics.
pub struct VmHeap<L: Layout> {
    mutator: Mutator<Own<L>>,
}

impl<L: Layout> VmHeap<L> {
    /// Makes a heap. O(1), some system calls.
    ///
    /// # Errors
    /// As [`crate::Heap::new`].
    pub fn new(config: Config) -> Result<Self, HeapError> {
        let mutator = Mutator::new(State::new(&config)?);
        mutator.refresh();
        Ok(Self { mutator })
    }

    /// A new object: `head` above its payload of `payload_bytes`, which is uninitialised. O(1): a
    /// compare, an addition and a store; never collects. The payload is aligned to 8 bytes.
    ///
    /// # Errors
    /// [`LimitReached`]: collect, or give up.
    ///
    /// # Panics
    /// In debug builds, if one of the four lowest bits of `head` is set: they are the collectors'.
    ///
    /// # Safety
    /// - Before the next safepoint or collection the payload is such that `L` answers for it.
    #[inline]
    pub unsafe fn alloc(
        &self,
        head: *const u8,
        payload_bytes: usize,
    ) -> Result<ObjectRef, LimitReached> {
        let Some(bytes) = total_bytes(payload_bytes) else {
            self.mutator.state.borrow_mut().refuse(usize::MAX);
            return Err(LimitReached);
        };
        let start = self.mutator.place(bytes)?;
        // SAFETY: `place` gave as many unused bytes.
        let payload = unsafe { start.add(HEAD_BYTES) };
        // SAFETY: an object of this heap as soon as the head is written, right below.
        let object = unsafe { ObjectRef::new(payload) };
        object.write_head_word(head, self.mutator.mark.get());
        self.mutator.register(object, false, bytes)?;
        Ok(object)
    }

    /// Stores `word` into a field of an object. Fields of objects that were allocated since the
    /// last safepoint may be written without this. O(1): one or two compares and the store.
    ///
    /// # Safety
    /// - `place` is a field of an object of this heap, as `L` shows them, with a word in it.
    /// - `word` is no reference, or one to an object of this heap.
    #[inline]
    pub unsafe fn write(&self, place: NonNull<*mut u8>, word: *mut u8) {
        // A field of an object is never below the heap.
        if self.mutator.is_below_young(place.cast()) {
            let target = L::decode(word).map_or(0, |to| to.addr().get());
            let entry = LoggedField(self.mutator.in_heap(place.cast()));
            if self.mutator.concerns(target) && !self.mutator.fields.try_push(entry) {
                self.write_slow(place, word);
            }
        }
        // SAFETY: the caller's promise: a field of an object.
        unsafe { place.write(word) };
    }

    /// The barrier where the log has no room; in a cycle in slices it never has.
    #[cold]
    #[inline(never)]
    fn write_slow(&self, place: NonNull<*mut u8>, word: *mut u8) {
        if self.mutator.barrier.get() == Barrier::Generational {
            let entry = LoggedField(self.mutator.in_heap(place.cast()));
            return self.mutator.fields.push_slow(entry);
        }
        // SAFETY: the caller of `write` promises that the field holds a word.
        let old = unsafe { place.read() };
        if let Some(payload) = L::decode(old) {
            // SAFETY: what a field refers to is an object of this heap.
            self.mutator.show(unsafe { ObjectRef::new(payload) });
        }
        self.mutator.remember_write(place.cast(), copy_word::<L>, |marker| {
            let mut word = word;
            // SAFETY: a word that the caller of `write` vouches for, in place during the visit.
            marker.visit(unsafe { Field::new(NonNull::from(&mut word)) });
        });
    }

    /// Tells that a word that was held weakly ([`Roots::settle`]) is used from now on: what is
    /// looked up in a table of symbols, for example. Free unless a snapshot is being marked.
    #[inline]
    pub fn revive(&self, object: ObjectRef) {
        self.mutator.show(object);
    }

    /// Whether a collection is due at the next safepoint.
    #[inline]
    pub fn is_due(&self) -> bool {
        self.mutator.is_due.get()
    }

    /// Runs what is due of a collection, if something is: every object may move. O(1) if not.
    ///
    /// # Panics
    /// If the heap is lost.
    ///
    /// # Safety
    /// - Words that are used afterwards are shown by `roots`, and every object reachable from
    ///   there is initialised.
    #[inline]
    pub unsafe fn safepoint<R: Roots>(&mut self, roots: &mut R) {
        if self.is_due() {
            self.mutator.collect(&mut Outer(roots), Extent::Due);
            self.mutator.refresh();
        }
    }

    /// Runs a full collection, to its end.
    ///
    /// # Panics
    /// If the heap is lost.
    ///
    /// # Safety
    /// - As for [`VmHeap::safepoint`].
    pub unsafe fn collect<R: Roots>(&mut self, roots: &mut R) {
        self.mutator.collect(&mut Outer(roots), Extent::Full);
        self.mutator.refresh();
    }

    /// Walks all that is reachable; returns the number of objects and their bytes, heads included.
    ///
    /// # Panics
    /// If a reference leads to no object, or the heap is lost.
    pub fn verify<R: Roots>(&mut self, roots: &mut R) -> (usize, usize) {
        assert!(!self.mutator.is_lost.get(), "{LOST}");
        let State { plan, common, dynamic, .. } = self.mutator.state.get_mut();
        let mut outer = Outer(roots);
        let locals = &self.mutator.locals;
        let mut roots = HeapRoots { outer: &mut outer, dynamic, locals };
        Verifier::run(&mut roots, plan, common, None)
    }

    /// As [`crate::Heap::statistics`].
    pub fn statistics(&self) -> Statistics {
        let state = self.mutator.state.borrow();
        let mut statistics = state.common.statistics;
        statistics.occupied_bytes = state.occupied_bytes();
        statistics
    }

    /// As [`crate::Heap::refusal`].
    pub fn refusal(&self) -> Option<Refusal> {
        self.mutator.state.borrow().refusal
    }

    /// As [`crate::Heap::with_pauses`].
    pub fn with_pauses<T>(&self, f: impl FnOnce(&[Pause]) -> T) -> T {
        f(self.mutator.state.borrow().common.pauses.as_slice())
    }
}

impl<L: Layout> Drop for VmHeap<L> {
    fn drop(&mut self) {
        if !self.mutator.is_lost.get() {
            let state = self.mutator.state.get_mut();
            log::write(&state.common, state.begin_ns, state.begin_cpu_ns);
        }
    }
}

/// Shows the word at `place` to the copier.
///
/// # Safety
/// - A field of an object lies at `place`, and nobody else uses it during the collection.
unsafe fn copy_word<L: Layout>(place: NonNull<u8>, copier: &mut Copier<Own<L>>) {
    // SAFETY: the caller's promise.
    copier.visit(unsafe { Field::new(place.cast()) });
}
