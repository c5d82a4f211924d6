//! Memory that the program maps by itself: anonymous private `mmap`, recorded like a block of
//! kind `mmap`, so that replay can account for it. The allocator's own mappings are not the
//! program's: calls from inside a hook, or from the object that `malloc` comes from, are left
//! out.

use core::ffi::{c_int, c_void};

use heapwright_format::AllocKind;
use heapwright_record::{Block, enter, leave};
use heapwright_sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use heapwright_unwind::ReturnSlot;
use heapwright_unwind::{module_generation, visit_modules};

use crate::caller::trampolines;
use crate::real;

const MAP_PRIVATE: c_int = 0x02;
const MAP_TYPE: c_int = 0x0f;
const MAP_ANONYMOUS: c_int = 0x20;
/// What `mmap` and `mremap` return on failure.
const FAILED: usize = usize::MAX;

trampolines! {
    mmap(6) => mmap_at;
    mmap64(6) => mmap_at;
    mremap(6) => mremap_at;
}

extern "C" fn mmap_at(
    place: *mut c_void,
    bytes: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
    slot: ReturnSlot,
    fp: usize,
) -> *mut c_void {
    let Some(mmap) = real::ready().then(real::mmap).flatten() else {
        return core::ptr::without_provenance_mut(FAILED);
    };
    // SAFETY: the hook's caller answers for its arguments.
    let map = || unsafe { mmap(place, bytes, protection, flags, fd, offset) };
    let ours = flags & MAP_ANONYMOUS != 0 && flags & MAP_TYPE == MAP_PRIVATE;
    // SAFETY: the trampoline's own values.
    let caller = unsafe { slot.caller(fp) };
    if !ours || is_allocator(caller.pc) {
        return map();
    }
    let Some(guard) = enter() else { return map() };
    let start = map();
    if start.addr() != FAILED {
        let block =
            Block { address: start.addr(), size: bytes, kind: AllocKind::Mmap, align_log2: 0 };
        // SAFETY: the hook's caller is running: it waits for this call.
        unsafe { guard.alloc(block, caller) };
    }
    leave(guard);
    start
}

#[allow(clippy::too_many_arguments, reason = "the system call's, and the trampoline's two")]
extern "C" fn mremap_at(
    place: *mut c_void,
    old_bytes: usize,
    new_bytes: usize,
    flags: c_int,
    new_place: *mut c_void,
    _unused: usize,
    slot: ReturnSlot,
    fp: usize,
) -> *mut c_void {
    let Some(mremap) = real::ready().then(real::mremap).flatten() else {
        return core::ptr::without_provenance_mut(FAILED);
    };
    // SAFETY: the hook's caller answers for its arguments.
    let remap = || unsafe { mremap(place, old_bytes, new_bytes, flags, new_place) };
    // SAFETY: the trampoline's own values.
    let caller = unsafe { slot.caller(fp) };
    if is_allocator(caller.pc) {
        return remap();
    }
    let Some(guard) = enter() else { return remap() };
    guard.unmap(place.addr(), old_bytes);
    let start = remap();
    let (address, size) =
        if start.addr() == FAILED { (place.addr(), old_bytes) } else { (start.addr(), new_bytes) };
    let block = Block { address, size, kind: AllocKind::Mmap, align_log2: 0 };
    // SAFETY: the hook's caller is running: it waits for this call.
    unsafe { guard.alloc(block, caller) };
    leave(guard);
    start
}

#[unsafe(no_mangle)]
extern "C" fn munmap(place: *mut c_void, bytes: usize) -> c_int {
    let Some(munmap) = real::ready().then(real::munmap).flatten() else {
        return -1;
    };
    let Some(guard) = enter() else {
        // SAFETY: the hook's caller answers for its arguments.
        return unsafe { munmap(place, bytes) };
    };
    guard.unmap(place.addr(), bytes);
    // SAFETY: as above.
    let result = unsafe { munmap(place, bytes) };
    leave(guard);
    result
}

/// The object that `malloc` comes from, as a range of addresses, and the generation of the
/// module list that says so. A torn pair costs at most a mapping counted or left out wrongly.
static START: AtomicUsize = AtomicUsize::new(0);
static END: AtomicUsize = AtomicUsize::new(0);
static GENERATION: AtomicU32 = AtomicU32::new(0);

fn is_allocator(pc: usize) -> bool {
    let generation = module_generation();
    if GENERATION.load(Ordering::Acquire) != generation {
        let malloc = real::malloc_address();
        visit_modules(|module| {
            if (module.start..module.end).contains(&malloc) {
                START.store(module.start, Ordering::Relaxed);
                END.store(module.end, Ordering::Relaxed);
            }
        });
        GENERATION.store(generation, Ordering::Release);
    }
    (START.load(Ordering::Relaxed)..END.load(Ordering::Relaxed)).contains(&pc)
}

const _: () = assert!(MAP_PRIVATE == MAP_PRIVATE & MAP_TYPE);
