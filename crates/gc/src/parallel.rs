//! Marking by several threads: each has a stack of its own, and what one can spare goes through a
//! pool to those that have nothing.
//!
//! The threads exist during one marking only: a heap has none in between, so that `fork` and the
//! end of a thread need no care. Where the system refuses one, the others do its work.
//!
//! # Invariants
//! - P1: while helpers run, nobody uses the heap but their markers, which claim each object by an
//!   atomic change of its mark bit (or of its bit in the word map): one of them visits it.
//! - P2: work enters the pool from threads that are not counted in `idle`; so when all are idle,
//!   the pool is empty and stays so.
//!
//! Source for the ending: Flood, Detlefs, Shavit, Zhang, "Parallel garbage collection for shared
//! memory multiprocessors", JVM 2001.

use core::ffi::c_void;
use core::ptr::NonNull;
use core::time::Duration;

use crate::system::{Futex, futex_wait, spawn_helper_with};
use heapwright_sync::Lock;
use heapwright_sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::mark::Marker;
use crate::memory::Table;
use crate::model::Model;
use crate::object::ObjectRef;
use crate::space::LiveSet;

/// Objects that change hands at once.
const SHARE_LEN: usize = if cfg!(debug_assertions) { 4 } else { 512 };
/// Looks at the pool between two short sleeps.
const LOOKS: usize = 1000;
const SLEEP: Duration = Duration::from_micros(50);
/// A visit recurses as deep as the boxes of one object are nested.
const STACK_BYTES: usize = 1 << 20;

/// Grey objects that any thread may take.
struct Objects(Table<ObjectRef>);

// SAFETY: the table owns its memory, and the objects are used by whoever takes them out (P1).
unsafe impl Send for Objects {}

/// What the threads of one marking share.
pub(crate) struct Pool {
    objects: Lock<Objects, Futex>,
    /// How many there are in it, as a hint.
    len: AtomicUsize,
    threads: AtomicUsize,
    idle: AtomicUsize,
}

impl Pool {
    fn new() -> Self {
        Self {
            objects: Lock::new(Objects(Table::new())),
            len: AtomicUsize::new(0),
            threads: AtomicUsize::new(1),
            idle: AtomicUsize::new(0),
        }
    }

    /// Runs `f` with the objects; `me` tells threads apart.
    fn with<T>(&self, me: usize, f: impl FnOnce(&mut Table<ObjectRef>) -> T) -> T {
        let mut objects = self.objects.lock(me).expect("no one comes here twice");
        let result = f(&mut objects.0);
        self.len.store(objects.0.as_slice().len(), Ordering::Relaxed);
        result
    }

    /// Gives a part of `stack` away if somebody may need it.
    pub(crate) fn share(&self, stack: &mut Table<ObjectRef>) {
        let len = stack.as_slice().len();
        if len < 2 * SHARE_LEN || self.len.load(Ordering::Relaxed) >= SHARE_LEN {
            return;
        }
        self.with(core::ptr::from_ref(stack).addr(), |objects| {
            for object in (0..SHARE_LEN).map_while(|_| stack.pop()) {
                objects.push(object);
            }
        });
    }

    /// Takes some objects over to `stack`; returns whether there were any.
    fn take(&self, stack: &mut Table<ObjectRef>) -> bool {
        self.with(core::ptr::from_ref(&*stack).addr(), |objects| {
            for object in (0..SHARE_LEN).map_while(|_| objects.pop()) {
                stack.push(object);
            }
        });
        !stack.as_slice().is_empty()
    }

    /// Waits for work; returns whether there is some, or else nobody has any more.
    fn next(&self, stack: &mut Table<ObjectRef>) -> bool {
        if self.take(stack) {
            return true;
        }
        // AcqRel: what this thread marked is seen by whoever finds all idle, and the reverse.
        self.idle.fetch_add(1, Ordering::AcqRel);
        loop {
            for _ in 0..LOOKS {
                // Acquire: pairs with the releases of `idle`.
                let idle = self.idle.load(Ordering::Acquire);
                if idle == self.threads.load(Ordering::Acquire) {
                    return false;
                }
                if self.len.load(Ordering::Relaxed) > 0 {
                    self.idle.fetch_sub(1, Ordering::AcqRel);
                    if self.take(stack) {
                        return true;
                    }
                    self.idle.fetch_add(1, Ordering::AcqRel);
                }
                core::hint::spin_loop();
            }
            // The others may need this processor. Nobody wakes a sleeper: it sleeps briefly.
            let never = AtomicU32::new(0);
            let _ = futex_wait(&never, 0, Some(SLEEP));
        }
    }

    /// Marks until no thread has any work.
    fn work<M: Model>(&self, marker: &mut Marker<M>) {
        loop {
            marker.drain(None);
            if !self.next(marker.stack_mut()) {
                return;
            }
        }
    }
}

/// What a helper needs to begin.
struct Order {
    pool: Pool,
    live: LiveSet,
    mark: usize,
    /// Helpers that have begun or will, and have not ended.
    running: AtomicU32,
}

/// Marks all that is reachable from the stack of `marker`, by up to `threads` threads.
pub(crate) fn mark<M: Model>(marker: &mut Marker<M>, threads: usize) {
    let (mark, live) = marker.cycle();
    let order = Order { pool: Pool::new(), live, mark, running: AtomicU32::new(0) };
    let argument = core::ptr::from_ref(&order).cast_mut().cast::<c_void>();
    marker.set_pool(Some(NonNull::from(&order.pool)));
    for _ in 1..threads {
        // Counted before it runs, so that nobody ends without it.
        order.pool.threads.fetch_add(1, Ordering::AcqRel);
        order.running.fetch_add(1, Ordering::AcqRel);
        // SAFETY: the order lives until `running` is 0 again, below; a helper uses it as it is.
        if !unsafe { spawn_helper_with(helper::<M>, argument, STACK_BYTES) } {
            order.pool.threads.fetch_sub(1, Ordering::AcqRel);
            order.running.fetch_sub(1, Ordering::AcqRel);
            break;
        }
    }
    order.pool.work(marker);
    // Acquire: pairs with the Release of a helper's last step; what it marked is seen.
    while order.running.load(Ordering::Acquire) > 0 {
        core::hint::spin_loop();
        let running = order.running.load(Ordering::Acquire);
        if running > 0 {
            let _ = futex_wait(&order.running, running, Some(SLEEP));
        }
    }
    marker.set_pool(None);
}

/// # Safety
/// - `argument` is an [`Order`] for objects of the model `M`, which lives until this counts itself
///   out of `running`.
unsafe extern "C" fn helper<M: Model>(argument: *mut c_void) -> *mut c_void {
    // SAFETY: the caller's promise.
    let order = unsafe { &*argument.cast::<Order>() };
    let mut marker = Marker::<M>::new(order.live);
    marker.begin(order.mark, order.live);
    marker.set_pool(Some(NonNull::from(&order.pool)));
    order.pool.work(&mut marker);
    drop(marker);
    // Release: pairs with the Acquire in `mark`. The last use of the order.
    order.running.fetch_sub(1, Ordering::Release);
    core::ptr::null_mut()
}
