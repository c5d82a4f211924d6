//! rpmalloc as a preloadable object, for comparisons, over the same table of symbols as every
//! other subject.
//!
//! The version is the newest on crates.io, 1.4.3; rpmalloc 2 is not there. It is built as its
//! own drop-in is: a thread gets its heap at its first call and gives it back at its end. For
//! the latter rpmalloc wraps `pthread_create`, and so does this object.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicU32, Ordering};

use heapwright_os::ThreadExit;
// Links the C library.
use rpmalloc_sys as _;

unsafe extern "C" {
    fn rpmalloc_initialize() -> c_int;
    fn rpmalloc_thread_initialize();
    fn rpmalloc_thread_finalize(release_caches: c_int);
    fn dlsym(object: *mut c_void, name: *const c_char) -> *const c_void;
}

heapwright_capi::c_library_allocator! {
    /// rpmalloc behind the C table.
    pub struct Rpmalloc;
    version: "rpmalloc 1.4.3",
    malloc: rpmalloc,
    calloc: rpcalloc,
    realloc: rprealloc,
    aligned: rpmemalign(align_bytes, bytes),
    free: rpfree,
    usable_bytes: rpmalloc_usable_size,
}

heapwright_capi::export_c_symbols!(Rpmalloc);

type StartRoutine = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
type PthreadCreate =
    unsafe extern "C" fn(*mut c_void, *const c_void, StartRoutine, *mut c_void) -> c_int;

/// What a new thread shall run.
struct Start {
    routine: StartRoutine,
    argument: *mut c_void,
}

const NO_KEY: u32 = u32::MAX;
static EXIT_KEY: AtomicU32 = AtomicU32::new(NO_KEY);

unsafe extern "C" fn thread_ends(_: *mut c_void) {
    // SAFETY: the thread's heap is not used by this thread's own code after its last destructor;
    // what comes later gets a heap anew.
    unsafe { rpmalloc_thread_finalize(1) };
}

/// The key whose destructor gives a thread's heap back; made at the first thread.
fn exit_key() -> Option<ThreadExit> {
    let known = EXIT_KEY.load(Ordering::Acquire);
    if known != NO_KEY {
        // SAFETY: stored below from `to_raw`.
        return Some(unsafe { ThreadExit::from_raw(known) });
    }
    let key = ThreadExit::new(thread_ends)?;
    let stored =
        EXIT_KEY.compare_exchange(NO_KEY, key.to_raw(), Ordering::AcqRel, Ordering::Acquire);
    // SAFETY: the stored number came from `to_raw`; a key that lost the race is never armed.
    Some(stored.map_or_else(|winner| unsafe { ThreadExit::from_raw(winner) }, |_| key))
}

unsafe extern "C" fn start(argument: *mut c_void) -> *mut c_void {
    let place = argument.cast::<Start>();
    // SAFETY: `pthread_create` below wrote it, for this thread alone.
    let Start { routine, argument } = unsafe { place.read() };
    // SAFETY: rpmalloc is set up (it gave the block); once per thread is what it asks for.
    unsafe { rpmalloc_thread_initialize() };
    // SAFETY: allocated by `pthread_create` below and read above.
    unsafe { rpfree(place.cast()) };
    if let Some(key) = exit_key() {
        key.arm(core::ptr::dangling());
    }
    // SAFETY: the program's own routine with its own argument.
    unsafe { routine(argument) }
}

/// `pthread_create`, so that the new thread's heap is given back at its end.
///
/// # Safety
/// - The C library's rules for the function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_create(
    thread: *mut c_void,
    attributes: *const c_void,
    routine: StartRoutine,
    argument: *mut c_void,
) -> c_int {
    const EAGAIN: c_int = 11;
    const RTLD_NEXT: usize = usize::MAX;
    let next = core::ptr::without_provenance_mut::<c_void>(RTLD_NEXT);
    // SAFETY: asks for the next definition after this object, libc's.
    let create = unsafe { dlsym(next, c"pthread_create".as_ptr()) };
    if create.is_null() {
        return EAGAIN;
    }
    // SAFETY: libc's function of that name has this type.
    let create = unsafe { core::mem::transmute::<*const c_void, PthreadCreate>(create) };
    // SAFETY: may be called any number of times.
    unsafe { rpmalloc_initialize() };
    // SAFETY: any size may be asked for.
    let place = unsafe { rpmalloc(size_of::<Start>()) }.cast::<Start>();
    if place.is_null() {
        return EAGAIN;
    }
    // SAFETY: a fresh block, large enough and aligned to 16.
    unsafe { place.write(Start { routine, argument }) };
    // SAFETY: the caller's arguments, with our routine in front of theirs.
    let result = unsafe { create(thread, attributes, start, place.cast()) };
    if result != 0 {
        // SAFETY: no thread came to be, so the block is still ours.
        unsafe { rpfree(place.cast()) };
    }
    result
}
