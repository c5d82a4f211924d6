//! Blocks on their way home: freed by other threads, waiting for their owner.
//!
//! Any thread pushes, one takes everything at once. There is no single pop, so the stack has no
//! ABA problem, and a push is one compare-and-swap. The owner can close the queue when it goes
//! away; a push then fails, and the pusher looks for the new owner.
//! Source: Treiber, "Systems Programming: Coping with Parallelism", 1986.
//!
//! # Invariants
//! - I1: a block is in the queue from its push until the one take or close that returns it.
//! - I2: nothing is pushed to a closed queue.

use crate::atomic::{AtomicPtr, Ordering};

/// The first word of a block in a queue or free list.
#[derive(Debug)]
#[repr(C)]
pub struct Link {
    /// The next block; null at the end.
    pub next: *mut Link,
}

/// The queue's owner has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// A stack of blocks that others push to and one owner empties.
#[derive(Debug)]
pub struct RemoteQueue {
    head: AtomicPtr<Link>,
}

/// Head of a closed queue: an address that no block has.
fn closed() -> *mut Link {
    core::ptr::without_provenance_mut(1)
}

impl RemoteQueue {
    /// An empty, open queue.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { head: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// An empty, open queue.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { head: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// Adds the chain of blocks from `first` to `last`. Lock-free.
    ///
    /// # Errors
    /// [`Closed`]; the chain is then the caller's still, its last link overwritten.
    ///
    /// # Safety
    /// - The blocks from `first` to `last` are linked, given up by everybody, aligned for a
    ///   [`Link`] and in no other list.
    pub unsafe fn push(&self, first: *mut Link, last: *mut Link) -> Result<(), Closed> {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            if head == closed() {
                // Acquire: pairs with the Release half of the swap in `close`; what the owner
                // did before closing (changing owners) is seen by whoever looks again.
                crate::atomic::fence(Ordering::Acquire);
                return Err(Closed);
            }
            // SAFETY: the caller gave the block up to us; it is aligned for a link.
            unsafe { last.write(Link { next: head }) };
            // Release: pairs with the Acquire in `take` and `close`; publishes the links.
            match self.head.compare_exchange_weak(head, first, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(now) => head = now,
            }
        }
    }

    /// Whether there seems to be nothing to take: a single relaxed load.
    #[inline(always)]
    pub fn is_empty_hint(&self) -> bool {
        self.head.load(Ordering::Relaxed).is_null()
    }

    /// The block pushed last, which leads to all others; null when there are none or the queue is
    /// closed. They stay where they are, so this is for who keeps the owner from taking them.
    pub fn first(&self) -> *mut Link {
        // Acquire: pairs with the Release in `push`; the links can be read.
        let head = self.head.load(Ordering::Acquire);
        if head == closed() { core::ptr::null_mut() } else { head }
    }

    /// All blocks, linked, the last pushed first; null when there are none. For the owner, who is
    /// also the only one to close the queue: a closed one stays closed and gives null. (In the
    /// child of a fork that nobody announced, the owner may have been about to end.)
    pub fn take(&self) -> *mut Link {
        if self.head.load(Ordering::Relaxed) == closed() {
            return core::ptr::null_mut();
        }
        // Acquire: pairs with the Release in `push`.
        self.head.swap(core::ptr::null_mut(), Ordering::Acquire)
    }

    /// Closes the queue and returns what is left in it.
    pub fn close(&self) -> *mut Link {
        // Acquire: as in `take`. Release: pairs with the Acquire fence in `push`.
        let head = self.head.swap(closed(), Ordering::AcqRel);
        debug_assert_ne!(head, closed(), "closed once");
        head
    }

    /// Opens a closed queue for a new owner.
    pub fn open(&self) {
        debug_assert_eq!(self.head.load(Ordering::Relaxed), closed());
        self.head.store(core::ptr::null_mut(), Ordering::Release);
    }
}

impl Default for RemoteQueue {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;

    use std::boxed::Box;

    use super::{Closed, Link, RemoteQueue};

    fn block() -> *mut Link {
        Box::into_raw(Box::new(Link { next: core::ptr::null_mut() }))
    }

    fn count_and_free(mut block: *mut Link) -> usize {
        let mut count = 0;
        while !block.is_null() {
            // SAFETY: made by `block` above, and taken from the queue once.
            let owned = unsafe { Box::from_raw(block) };
            block = owned.next;
            count += 1;
        }
        count
    }

    #[test]
    fn a_closed_queue_stays_closed_and_gives_nothing() {
        let queue = RemoteQueue::new();
        assert!(queue.close().is_null());
        assert!(queue.take().is_null());
        let refused = block();
        // SAFETY: a block of our own.
        assert_eq!(unsafe { queue.push(refused, refused) }, Err(Closed));
        // The refused push has overwritten its link.
        // SAFETY: made by `block`, and in no list.
        unsafe { (*refused).next = core::ptr::null_mut() };
        assert_eq!(count_and_free(refused), 1);
        queue.open();
        assert!(queue.take().is_null());
    }

    #[test]
    fn everything_pushed_is_taken_once() {
        let queue = RemoteQueue::new();
        let mut taken = 0;
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let block = block();
                        // SAFETY: a fresh block, in no list.
                        unsafe { queue.push(block, block) }.expect("open");
                    }
                });
            }
            for _ in 0..1000 {
                taken += count_and_free(queue.take());
            }
        });
        assert_eq!(taken + count_and_free(queue.close()), 30_000);
    }

    #[test]
    fn a_closed_queue_takes_nothing_until_it_is_opened() {
        let queue = RemoteQueue::new();
        let first = block();
        // SAFETY: a fresh block.
        unsafe { queue.push(first, first) }.expect("open");
        assert_eq!(count_and_free(queue.close()), 1);
        let second = block();
        // SAFETY: a fresh block.
        assert_eq!(unsafe { queue.push(second, second) }, Err(Closed));
        queue.open();
        // SAFETY: the failed push left the block to us.
        unsafe { queue.push(second, second) }.expect("open again");
        assert_eq!(count_and_free(queue.take()), 1);
    }
}

#[cfg(all(test, loom))]
mod model {
    extern crate std;

    use loom::sync::Arc;
    use std::boxed::Box;

    use super::{Link, RemoteQueue};

    /// Two threads push while the owner takes and closes: every block comes back exactly once,
    /// by the owner or by a refused push. Two pushers, one owner: under a minute.
    #[test]
    fn a_block_comes_back_exactly_once() {
        loom::model(|| {
            let queue = Arc::new(RemoteQueue::new());
            let pushers: std::vec::Vec<_> = (0..2)
                .map(|_| {
                    let queue = Arc::clone(&queue);
                    loom::thread::spawn(move || {
                        let block = Box::into_raw(Box::new(Link { next: core::ptr::null_mut() }));
                        // SAFETY: a fresh block.
                        let pushed = unsafe { queue.push(block, block) };
                        if pushed.is_err() {
                            // SAFETY: refused, so still ours.
                            drop(unsafe { Box::from_raw(block) });
                            return 1;
                        }
                        0
                    })
                })
                .collect();
            let mut seen = count(queue.take());
            seen += count(queue.close());
            seen += pushers.into_iter().map(|pusher| pusher.join().unwrap()).sum::<usize>();
            assert_eq!(seen, 2);
        });
    }

    /// The protocol of the slabs: whoever is refused puts the block under the lock, where the
    /// leaving owner puts what it still had; a newcomer opens the queue under the lock and takes
    /// what comes. No block is lost, none arrives twice. One sender, one leaver: under a minute.
    #[test]
    fn a_block_for_an_owner_that_leaves_arrives_once() {
        loom::model(|| {
            let queue = Arc::new(RemoteQueue::new());
            let orphans = Arc::new(loom::sync::Mutex::new((0usize, true)));
            let sender = {
                let (queue, orphans) = (Arc::clone(&queue), Arc::clone(&orphans));
                loom::thread::spawn(move || {
                    let block = Box::into_raw(Box::new(Link { next: core::ptr::null_mut() }));
                    // SAFETY: a fresh block.
                    if unsafe { queue.push(block, block) }.is_ok() {
                        return;
                    }
                    let mut common = orphans.lock().unwrap();
                    if common.1 {
                        // SAFETY: refused, so still ours; the owner exists under the lock.
                        unsafe { queue.push(block, block) }.expect("open while the owner exists");
                    } else {
                        common.0 += 1;
                        // SAFETY: refused, so still ours.
                        drop(unsafe { Box::from_raw(block) });
                    }
                })
            };
            {
                let mut common = orphans.lock().unwrap();
                common.0 += count(queue.close());
                common.1 = false;
            }
            {
                // A newcomer in the same place.
                let mut common = orphans.lock().unwrap();
                queue.open();
                common.1 = true;
            }
            sender.join().unwrap();
            let arrived = count(queue.close());
            assert_eq!(orphans.lock().unwrap().0 + arrived, 1);
        });
    }

    fn count(mut block: *mut Link) -> usize {
        let mut count = 0;
        while !block.is_null() {
            // SAFETY: made by a pusher, taken once.
            let owned = unsafe { Box::from_raw(block) };
            block = owned.next;
            count += 1;
        }
        count
    }
}
