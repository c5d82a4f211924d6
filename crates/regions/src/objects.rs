//! Objects that are dear to make, kept when their users are done.

use core::alloc::Layout;
use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;

use crate::pool::Pool;

/// An object with what the pool knows of it.
struct Node<T> {
    value: T,
    next: Option<NonNull<Node<T>>>,
    /// The tick of its last return.
    idle_since: u64,
}

/// What an [`ObjectPool`] has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectPoolStatistics {
    /// Objects with users.
    pub live_count: usize,
    /// Objects that wait for one.
    pub idle_count: usize,
    /// Objects made since the beginning.
    pub made_count: usize,
    /// Takes that found an object waiting.
    pub reused_count: usize,
    /// Objects dropped because enough were waiting, or for too long, or refused by the reset.
    pub dropped_count: usize,
}

/// Objects of one type, made when none waits, and kept for the next user when they come back.
///
/// At most `idle_max` wait; those that waited longer than a number of ticks go with
/// [`Self::evict_idle`]. For one thread.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use heapwright_regions::{AnonymousPages, ObjectPool};
///
/// let make = || String::with_capacity(1000);
/// let reset = |text: &mut String| {
///     text.clear();
///     text.capacity() < 100_000
/// };
/// let buffers = ObjectPool::new_in(AnonymousPages, 8, make, reset);
/// let mut buffer = buffers.take()?;
/// buffer.push_str("request");
/// drop(buffer);
/// assert_eq!(buffers.take()?.capacity(), 1000, "the same one, empty");
/// assert_eq!(buffers.statistics().made_count, 1);
/// # }
/// # Ok::<(), heapwright_regions::AllocError>(())
/// ```
/// Objects do not outlive their pool:
/// ```compile_fail,E0505
/// # use heapwright_regions::{AnonymousPages, ObjectPool};
/// let pool = ObjectPool::new_in(AnonymousPages, 8, || 1, |_| true);
/// let object = pool.take().unwrap();
/// drop(pool);
/// drop(object);
/// ```
pub struct ObjectPool<T, B: Backing, M = fn() -> T, R = fn(&mut T) -> bool> {
    nodes: Pool<B>,
    /// Last come, first served: the oldest are at the end.
    idle: Cell<Option<NonNull<Node<T>>>>,
    idle_max: usize,
    tick: Cell<u64>,
    counts: Cell<ObjectPoolStatistics>,
    make: M,
    reset: R,
    value: PhantomData<T>,
}

impl<T, B: Backing, M: Fn() -> T, R: Fn(&mut T) -> bool> ObjectPool<T, B, M, R> {
    /// A pool that keeps up to `idle_max` objects. `make` makes one; `reset` prepares one that
    /// came back for the next user, or says false: it is dropped then.
    pub const fn new_in(backing: B, idle_max: usize, make: M, reset: R) -> Self {
        Self {
            nodes: Pool::new_in(backing, Layout::new::<Node<T>>()),
            idle: Cell::new(None),
            idle_max,
            tick: Cell::new(0),
            counts: Cell::new(ObjectPoolStatistics {
                live_count: 0,
                idle_count: 0,
                made_count: 0,
                reused_count: 0,
                dropped_count: 0,
            }),
            make,
            reset,
            value: PhantomData,
        }
    }

    fn count(&self, change: impl FnOnce(&mut ObjectPoolStatistics)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// The object that came back last, or a new one.
    ///
    /// # Errors
    /// What the backing says.
    pub fn take(&self) -> Result<Object<'_, T, B, M, R>, AllocError> {
        if let Some(node) = self.pop_idle() {
            self.count(|counts| {
                counts.live_count += 1;
                counts.reused_count += 1;
            });
            return Ok(Object { node, pool: self, value: PhantomData });
        }
        let node = self.make_node()?;
        self.count(|counts| counts.live_count += 1);
        Ok(Object { node, pool: self, value: PhantomData })
    }

    /// Makes objects until `count` wait, at most as many as may.
    ///
    /// # Errors
    /// What the backing says; those made so far wait.
    pub fn warm(&self, count: usize) -> Result<(), AllocError> {
        while self.counts.get().idle_count < count.min(self.idle_max) {
            let node = self.make_node()?;
            self.push_idle(node);
        }
        Ok(())
    }

    fn make_node(&self) -> Result<NonNull<Node<T>>, AllocError> {
        // The object first: if making it panics, no slot is lost.
        let value = (self.make)();
        let node = self.nodes.try_alloc()?.cast::<Node<T>>();
        // SAFETY: a fresh block of the layout of a node.
        unsafe { node.write(Node { value, next: None, idle_since: self.tick.get() }) };
        self.count(|counts| counts.made_count += 1);
        Ok(node)
    }

    fn pop_idle(&self) -> Option<NonNull<Node<T>>> {
        let node = self.idle.get()?;
        // SAFETY: a waiting node, which only the pool reaches.
        self.idle.set(unsafe { node.as_ref() }.next);
        self.count(|counts| counts.idle_count -= 1);
        Some(node)
    }

    fn push_idle(&self, mut node: NonNull<Node<T>>) {
        // SAFETY: a node without a user, which only the pool reaches.
        let waiting = unsafe { node.as_mut() };
        waiting.next = self.idle.get();
        waiting.idle_since = self.tick.get();
        self.idle.set(Some(node));
        self.count(|counts| counts.idle_count += 1);
    }

    /// Takes an object back from its user.
    fn give(&self, mut node: NonNull<Node<T>>) {
        self.count(|counts| counts.live_count -= 1);
        // If the reset panics, the slot is lost with its object, and nothing else.
        // SAFETY: the node's user is gone.
        let keep = (self.reset)(unsafe { &mut node.as_mut().value });
        if keep && self.counts.get().idle_count < self.idle_max {
            self.push_idle(node);
        } else {
            self.drop_node(node);
        }
    }

    fn drop_node(&self, node: NonNull<Node<T>>) {
        self.count(|counts| counts.dropped_count += 1);
        // SAFETY: a node in no list, without a user.
        let value = unsafe { node.read() }.value;
        // SAFETY: a live block of the pool, empty now.
        unsafe { self.nodes.free(node.cast()) };
        drop(value);
    }

    /// Passes one tick: a frame, a second, a request; what the program counts idleness in.
    pub fn tick(&self) {
        self.tick.set(self.tick.get() + 1);
    }

    /// Drops objects that have waited for more than `ticks`; how many.
    pub fn evict_idle(&self, ticks: u64) -> usize {
        let oldest = self.tick.get().saturating_sub(ticks);
        // The list is sorted: young ones first. All are taken off, so that destructors that use
        // the pool find it whole; then the young ones go back.
        let mut young = None;
        let mut count = 0;
        while let Some(mut node) = self.pop_idle() {
            // SAFETY: off the list, without a user.
            let waiting = unsafe { node.as_mut() };
            if waiting.idle_since < oldest {
                self.drop_node(node);
                count += 1;
            } else {
                waiting.next = young;
                young = Some(node);
            }
        }
        while let Some(mut node) = young {
            // SAFETY: as above.
            let waiting = unsafe { node.as_mut() };
            young = waiting.next;
            waiting.next = self.idle.get();
            self.idle.set(Some(node));
            self.count(|counts| counts.idle_count += 1);
        }
        count
    }

    /// What the pool has.
    pub fn statistics(&self) -> ObjectPoolStatistics {
        self.counts.get()
    }
}

impl<T, B: Backing, M, R> Drop for ObjectPool<T, B, M, R> {
    /// Drops the objects that wait.
    fn drop(&mut self) {
        while let Some(node) = self.idle.get() {
            // SAFETY: a waiting node; users are borrows of us, so there are none.
            let Node { value, next, .. } = unsafe { node.read() };
            self.idle.set(next);
            drop(value);
        }
    }
}

impl<T, B: Backing, M, R> fmt::Debug for ObjectPool<T, B, M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectPool").field("counts", &self.counts.get()).finish_non_exhaustive()
    }
}

/// An object of an [`ObjectPool`], which goes back when this is dropped.
pub struct Object<'a, T, B: Backing, M: Fn() -> T, R: Fn(&mut T) -> bool> {
    /// A node with an object; ours alone.
    node: NonNull<Node<T>>,
    pool: &'a ObjectPool<T, B, M, R>,
    value: PhantomData<T>,
}

impl<T, B: Backing, M: Fn() -> T, R: Fn(&mut T) -> bool> Deref for Object<'_, T, B, M, R> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: our node, borrowed as we are.
        unsafe { &self.node.as_ref().value }
    }
}

impl<T, B: Backing, M: Fn() -> T, R: Fn(&mut T) -> bool> DerefMut for Object<'_, T, B, M, R> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: our node, borrowed as we are.
        unsafe { &mut self.node.as_mut().value }
    }
}

impl<T, B: Backing, M: Fn() -> T, R: Fn(&mut T) -> bool> Drop for Object<'_, T, B, M, R> {
    fn drop(&mut self) {
        self.pool.give(self.node);
    }
}

impl<T: fmt::Debug, B: Backing, M: Fn() -> T, R: Fn(&mut T) -> bool> fmt::Debug
    for Object<'_, T, B, M, R>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
