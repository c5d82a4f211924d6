//! Several threads for one part of a collection: the caller and helpers, with a pool of work.
//!
//! The helpers exist during that part only: a heap has none in between, so that `fork` and the end
//! of a thread need no care. Where the system refuses one, the others do its work.
//!
//! # Invariants
//! - P1: while helpers run, nobody uses the heap but they and the caller, who share it as the task
//!   says; all have ended when [`run`] returns, or unwinds.
//! - P2: work enters the pool from threads that are not counted as idle; so when all are idle, the
//!   pool is empty and stays so ([`Quiescence`]).

use core::ffi::c_void;
use core::time::Duration;

use heapwright_sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use heapwright_sync::{Lock, Quiescence};

use crate::memory::Table;
use crate::system::{Futex, futex_wait, join_helpers, spawn_helper_with};

/// Pieces of work that change hands at once, at most.
const SHARE_LEN: usize = if cfg!(debug_assertions) { 4 } else { 512 };
/// Looks at the pool between two short sleeps.
const LOOKS: usize = if cfg!(miri) { 2 } else { 1000 };
const SLEEP: Duration = Duration::from_micros(50);
/// A visit recurses as deep as the boxes of one object are nested.
const STACK_BYTES: usize = 1 << 20;

/// What is done by several threads.
pub(crate) trait Task: Sync {
    /// A piece of work.
    type Work: Copy;

    /// Where those who have nothing find some.
    fn pool(&self) -> &Pool<Self::Work>;

    /// A helper's part, from its beginning until nobody has any work.
    fn help(&self);
}

/// Grey objects, which are used by whoever takes them out.
struct Items<T: Copy>(Table<T>);

// SAFETY: the table owns its memory; who may use what the items name is said by the task (P1).
unsafe impl<T: Copy> Send for Items<T> {}

/// Work that any thread may take.
pub(crate) struct Pool<T: Copy> {
    items: Lock<Items<T>, Futex>,
    /// How many there are in it, as a hint.
    len: AtomicUsize,
    quiescence: Quiescence,
    /// The caller has panicked: the heap is lost, and nobody should wait for what it had begun.
    is_lost: AtomicBool,
}

impl<T: Copy> Pool<T> {
    pub(crate) fn new() -> Self {
        Self {
            items: Lock::new(Items(Table::new())),
            len: AtomicUsize::new(0),
            quiescence: Quiescence::new(),
            is_lost: AtomicBool::new(false),
        }
    }

    /// Whether the caller has panicked.
    pub(crate) fn is_lost(&self) -> bool {
        // Relaxed: it only ends waiting.
        self.is_lost.load(Ordering::Relaxed)
    }

    /// Runs `f` with the pool; `me` tells threads apart.
    fn with<R>(&self, me: usize, f: impl FnOnce(&mut Table<T>) -> R) -> R {
        let mut items = self.items.lock(me).expect("no one comes here twice");
        let result = f(&mut items.0);
        // Relaxed: a hint.
        self.len.store(items.0.as_slice().len(), Ordering::Relaxed);
        result
    }

    /// Whether somebody may need work: there is none to be taken.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.len.load(Ordering::Relaxed) == 0
    }

    /// Gives a part of `stack` away if somebody may need it: the half that was pushed first, which
    /// as a rule leads to more than what was pushed last.
    pub(crate) fn share(&self, stack: &mut Table<T>) {
        self.share_as(stack, |item| item);
    }

    /// As [`Pool::share`] from a stack of what becomes work by `convert`.
    pub(crate) fn share_as<S: Copy>(&self, stack: &mut Table<S>, convert: impl Fn(S) -> T) {
        let len = stack.as_slice().len();
        if len < 2 || !self.is_short() {
            return;
        }
        let count = (len / 2).min(SHARE_LEN);
        self.with(core::ptr::from_ref(stack).addr(), |items| {
            for item in &stack.as_slice()[..count] {
                items.push(convert(*item));
            }
        });
        // Their order means nothing.
        stack.as_mut_slice().copy_within(len - count.., 0);
        stack.truncate(len - count);
    }

    /// Gives all of `stack` away if somebody may need it.
    pub(crate) fn give(&self, stack: &mut Table<T>) {
        if self.is_short() {
            self.with(core::ptr::from_ref(stack).addr(), |items| {
                while let Some(item) = stack.pop() {
                    items.push(item);
                }
            });
        }
    }

    /// Takes some work over to `stack`; returns whether there was any.
    fn take(&self, stack: &mut Table<T>) -> bool {
        self.with(core::ptr::from_ref(&*stack).addr(), |items| {
            let count = (items.as_slice().len() / 2).clamp(1, SHARE_LEN);
            for item in (0..count).map_while(|_| items.pop()) {
                stack.push(item);
            }
        });
        !stack.as_slice().is_empty()
    }

    /// Waits for work; returns whether there is some, or else nobody has any more.
    pub(crate) fn next(&self, stack: &mut Table<T>) -> bool {
        let mut looks = 0;
        let pause = || {
            looks += 1;
            core::hint::spin_loop();
            if looks % LOOKS == 0 {
                sleep();
            }
        };
        self.quiescence.next(|| !self.is_short(), || self.take(stack), pause)
    }
}

/// Gives the processor to whoever needs it. Nobody wakes a sleeper: it sleeps briefly.
pub(crate) fn sleep() {
    let never = AtomicU32::new(0);
    let _ = futex_wait(&never, 0, Some(SLEEP));
}

/// What a helper needs to begin.
struct Order<'a, T> {
    task: &'a T,
    /// Helpers that have begun or will, and have not ended.
    running: AtomicU32,
}

/// Runs `own` here and [`Task::help`] on up to `threads - 1` helpers, and waits for their end.
/// `own` ends as a helper does, when nobody has any work.
pub(crate) fn run<T: Task>(task: &T, threads: usize, own: impl FnOnce()) {
    let order = Order { task, running: AtomicU32::new(0) };
    let argument = core::ptr::from_ref(&order).cast_mut().cast::<c_void>();
    let mut end = End { order: &order, is_unwinding: true };
    let quiescence = &task.pool().quiescence;
    for _ in 1..threads {
        // Counted before it runs, so that nobody ends without it.
        quiescence.join();
        order.running.fetch_add(1, Ordering::AcqRel);
        // SAFETY: the order lives until `running` is 0 again (`End`); a helper uses it as it is.
        if !unsafe { spawn_helper_with(helper::<T>, argument, STACK_BYTES) } {
            quiescence.unjoin();
            order.running.fetch_sub(1, Ordering::AcqRel);
            break;
        }
    }
    own();
    end.is_unwinding = false;
}

/// Waits for the helpers, also where the caller's own part panics: they use its memory.
struct End<'a, 'b, T: Task> {
    order: &'a Order<'b, T>,
    is_unwinding: bool,
}

impl<T: Task> Drop for End<'_, '_, T> {
    fn drop(&mut self) {
        if self.is_unwinding {
            let pool = self.order.task.pool();
            pool.is_lost.store(true, Ordering::Relaxed);
            pool.quiescence.retire();
        }
        let running = &self.order.running;
        // Acquire: pairs with the Release of a helper's last step; what it did is seen.
        while running.load(Ordering::Acquire) > 0 {
            core::hint::spin_loop();
            let count = running.load(Ordering::Acquire);
            if count > 0 {
                let _ = futex_wait(running, count, Some(SLEEP));
            }
        }
        join_helpers();
    }
}

/// # Safety
/// - `argument` is an [`Order`] for a task `T`, which lives until this counts itself out of
///   `running`.
unsafe extern "C" fn helper<T: Task>(argument: *mut c_void) -> *mut c_void {
    // SAFETY: the caller's promise.
    let order = unsafe { &*argument.cast::<Order<'_, T>>() };
    order.task.help();
    // Release: pairs with the Acquire in `End`. The last use of the order.
    order.running.fetch_sub(1, Ordering::Release);
    core::ptr::null_mut()
}

#[cfg(test)]
mod tests {
    use super::Pool;
    use crate::memory::Table;

    #[test]
    fn half_of_a_stack_is_shared_oldest_first_and_nothing_is_lost() {
        let pool = Pool::<u32>::new();
        let (mut mine, mut other) = (Table::new(), Table::new());
        (0..7).for_each(|item| mine.push(item));
        pool.share(&mut mine);
        assert!(!mine.as_slice().contains(&0), "the oldest went");
        pool.share(&mut mine);
        assert_eq!(mine.as_slice().len(), 4, "nobody needs more");
        while !pool.is_short() {
            assert!(pool.take(&mut other));
        }
        let mut all: [u32; 7] = core::array::from_fn(|at| {
            *mine.as_slice().iter().chain(other.as_slice()).nth(at).expect("seven")
        });
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6]);
    }
}
