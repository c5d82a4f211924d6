//! Threads come and go; the first allocation of all makes the heap.
//!
//! A thread gets its cache at its first slow path and gives it up by a pthread key's destructor,
//! in the last of the rounds that libc grants, so that other destructors find it. What allocates
//! later takes single slots from the pools.

use core::ffi::c_void;

use heapwright_os::{Protection, ThreadExit, at_fork, reserve, thread_pointer};
use heapwright_sync::atomic::{AtomicU32, Ordering};

use crate::cache::{Cache, NO_CACHE};
use crate::class::{self, Layout};
use crate::depot::Depot;
use crate::fork::{after_in_child, after_in_parent, before};
use crate::geometry::CUTS;
use crate::options;
use crate::pool::pool;
use crate::random::Seed;
use crate::refill::bring_all_back;
use crate::space::reserve_layout;
use crate::tls;
use crate::wait::{Lock, hold};

/// glibc and musl call destructors in at most four rounds.
const END_ROUNDS: u32 = 3;
/// Caches without a thread that keep their slots for the next one: programs that make threads for
/// short work would bring them back and fetch them each time.
const FULL_COUNT_MAX: usize = 2;
const NO_KEY: u32 = u32::MAX;

/// The key of [`thread_ends`].
static EXIT_KEY: AtomicU32 = AtomicU32::new(NO_KEY);
/// 0 before the start, 1 when it is done, 2 when there are no addresses for small blocks.
static STAGE: AtomicU32 = AtomicU32::new(0);
/// 1 from the first attempt to set the process's hooks on.
static HOOKS: AtomicU32 = AtomicU32::new(0);

/// Threads that have a cache; changed under the lock of the caches.
static THREAD_COUNT: AtomicU32 = AtomicU32::new(0);

/// Whether more than one thread has a cache.
pub(crate) fn has_other_threads() -> bool {
    THREAD_COUNT.load(Ordering::Relaxed) > 1
}

/// The caches.
pub(crate) struct Caches {
    seed: Option<Seed>,
    /// All there ever were, linked by `next`.
    pub(crate) all: *mut Cache,
    /// Those without a thread, linked by `next_idle`; they are empty.
    idle: *mut Cache,
    /// Others without a thread, which have kept their slots, linked likewise.
    full: *mut Cache,
    full_count: usize,
}

// SAFETY: the pointers lead to caches, which live for ever.
unsafe impl Send for Caches {}

static CACHES: Lock<Caches> =
    Lock::new(Caches { seed: None, all: NO_CACHE, idle: NO_CACHE, full: NO_CACHE, full_count: 0 });

/// The caches, to be locked.
pub(crate) fn caches() -> &'static Lock<Caches> {
    &CACHES
}

/// Whether small blocks have addresses.
pub(crate) fn is_started() -> bool {
    // Acquire: pairs with the Release in `start`.
    STAGE.load(Ordering::Acquire) == 1
}

/// Makes the heap if it is not there yet; small blocks have addresses afterwards, or never will.
#[inline]
pub(crate) fn begin() {
    if STAGE.load(Ordering::Acquire) == 0 {
        let mut caches = hold(&CACHES);
        caches.start();
    }
}

/// The calling thread's cache, made when it has none; none at its end and without memory.
pub(crate) fn cache<'a>() -> Option<&'a Cache> {
    if let Some(cache) = tls::cache() {
        return Some(cache);
    }
    if tls::get() == tls::ENDED { None } else { attach() }
}

#[cold]
fn attach<'a>() -> Option<&'a Cache> {
    options::read_environment();
    let cache = {
        let mut caches = hold(&CACHES);
        caches.start();
        if STAGE.load(Ordering::Relaxed) != 1 {
            return None;
        }
        let cache = caches.take()?;
        THREAD_COUNT.fetch_add(1, Ordering::Relaxed);
        cache
    };
    cache.owner.store(thread_pointer(), Ordering::Relaxed);
    // From here on the thread can allocate, which libc may do in the calls below.
    tls::set(core::ptr::from_ref(cache).cast_mut());
    if HOOKS.swap(1, Ordering::Relaxed) == 0 {
        if let Some(key) = ThreadExit::new(thread_ends) {
            EXIT_KEY.store(key.to_raw(), Ordering::Relaxed);
        }
        // A refusal costs children of threaded programs their fork safety only.
        let _ = at_fork(before, after_in_parent, after_in_child);
    }
    let key = EXIT_KEY.load(Ordering::Relaxed);
    if key != NO_KEY {
        // SAFETY: stored from `to_raw`.
        let key = unsafe { ThreadExit::from_raw(key) };
        // A refusal leaves the cache to the dead thread: memory is lost, nothing breaks.
        key.arm(core::ptr::dangling());
    }
    Some(cache)
}

impl Caches {
    #[cold]
    fn start(&mut self) {
        if STAGE.load(Ordering::Relaxed) != 0 {
            return;
        }
        let mut seed = Seed::new((&raw const CACHES).cast());
        let stage = match reserve_layout() {
            Some(layout) => {
                class::set(layout, &mut seed);
                let mut places = layout.depots;
                for (class_index, cut) in CUTS.iter().enumerate() {
                    let first = class::class(class_index).first_span();
                    hold(pool(class_index)).begin_at(first, Depot::at(places, cut));
                    // SAFETY: at most the end of the mapping, which has them all.
                    places = unsafe { places.add(Layout::depot_bytes(class_index)) };
                }
                1
            }
            None => 2,
        };
        self.seed = Some(seed);
        // Release: pairs with the Acquire in `is_started`.
        STAGE.store(stage, Ordering::Release);
    }

    /// A cache for a new thread: empty, or as another one left it.
    fn take<'a>(&mut self) -> Option<&'a Cache> {
        for list in [&mut self.full, &mut self.idle] {
            // SAFETY: caches live for ever, and this one leaves its list here.
            if let Some(cache) = unsafe { list.as_ref() } {
                *list = cache.next_idle.load(Ordering::Relaxed);
                self.full_count = self.full_count.saturating_sub(1);
                return Some(cache);
            }
        }
        // With room for a guard of the kernel's choice on both sides: mappings of their own.
        let place = reserve(size_of::<Cache>(), Protection::ReadWrite).ok()?;
        // SAFETY: fresh memory, zeroed, which is a cache without slots; it is never given back.
        let cache: &'static Cache = unsafe { place.cast().as_ref() };
        cache.begin(self.seed.as_mut().map_or(1, Seed::next));
        cache.next.store(self.all, Ordering::Relaxed);
        self.all = place.as_ptr().cast();
        Some(cache)
    }

    /// Keeps a cache whose thread is gone, with its slots while few are kept so.
    pub(crate) fn keep(&mut self, cache: &Cache) {
        let list = if self.full_count < FULL_COUNT_MAX {
            self.full_count += 1;
            &mut self.full
        } else {
            bring_all_back(cache);
            &mut self.idle
        };
        THREAD_COUNT.fetch_sub(1, Ordering::Relaxed);
        cache.owner.store(0, Ordering::Relaxed);
        cache.end_rounds.set(0);
        cache.next_idle.store(*list, Ordering::Relaxed);
        *list = core::ptr::from_ref(cache).cast_mut();
    }
}

/// Takes the slots of all caches without a thread back to their spans.
pub(crate) fn empty_idle() {
    let caches = hold(&CACHES);
    let mut next = caches.full;
    // SAFETY: caches live for ever; nobody has those in the list, which ends with null.
    while let Some(cache) = unsafe { next.as_ref() } {
        next = cache.next_idle.load(Ordering::Relaxed);
        bring_all_back(cache);
    }
}

unsafe extern "C" fn thread_ends(_: *mut c_void) {
    let Some(cache) = tls::cache() else { return };
    let round = cache.end_rounds.get();
    let key = EXIT_KEY.load(Ordering::Relaxed);
    if round < END_ROUNDS && key != NO_KEY {
        cache.end_rounds.set(round + 1);
        // SAFETY: stored from `to_raw`.
        let key = unsafe { ThreadExit::from_raw(key) };
        if key.arm(core::ptr::dangling()) {
            return;
        }
    }
    tls::set(tls::ENDED);
    hold(&CACHES).keep(cache);
}
