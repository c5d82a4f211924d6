//! The functions behind the interceptors: those of the next objects.
//!
//! # Invariants
//! - I1: an entry is null or the address of the function it is named for, found by the loader,
//!   whose type is the one given here.

use core::ffi::{CStr, c_char, c_int, c_long, c_void};

use heapwright_os::next_symbol;
use heapwright_sync::atomic::{AtomicPtr, Ordering};

use crate::printf::Arguments;

/// A wide character.
pub(crate) type Wide = i32;

/// Finds a function that was not looked up yet; null when no object has it.
#[cold]
fn find(entry: &AtomicPtr<()>, name: &CStr) -> *mut () {
    let address = next_symbol(name).cast_mut();
    entry.store(address, Ordering::Relaxed);
    address
}

macro_rules! real_functions {
    ($($name:ident: $symbol:literal, fn($($type:ty),*) $(-> $result:ty)?;)*) => {
        $(
            /// The real function. The process is aborted when there is none: libc has them all.
            #[inline(always)]
            pub(crate) fn $name() -> unsafe extern "C" fn($($type),*) $(-> $result)? {
                static ENTRY: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
                let mut address = ENTRY.load(Ordering::Relaxed);
                if address.is_null() {
                    address = find(&ENTRY, $symbol);
                    if address.is_null() {
                        heapwright_os::abort();
                    }
                }
                // SAFETY: I1.
                unsafe {
                    core::mem::transmute::<*mut (), unsafe extern "C" fn($($type),*) $(-> $result)?>(
                        address)
                }
            }
        )*

        /// Looks all functions up that every libc has.
        pub(crate) fn find_all() {
            $( if !$symbol.to_bytes().starts_with(b"__") { $name(); } )*
        }
    };
}

/// libc's `memmove` and `memset`, which are faster than ours, once they were found.
static MEMMOVE: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
static MEMSET: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Finds libc's `memmove` and `memset`.
pub(crate) fn find_memory_functions() {
    find(&MEMMOVE, c"memmove");
    find(&MEMSET, c"memset");
}

type Move = unsafe extern "C" fn(*mut u8, *const u8, usize) -> *mut u8;
type Set = unsafe extern "C" fn(*mut u8, c_int, usize) -> *mut u8;

/// libc's `memmove`; none at the very start.
#[inline(always)]
pub(crate) fn memmove() -> Option<Move> {
    let address = MEMMOVE.load(Ordering::Relaxed);
    // SAFETY: I1; null is none.
    unsafe { core::mem::transmute::<*mut (), Option<Move>>(address) }
}

/// libc's `memset`; none at the very start.
#[inline(always)]
pub(crate) fn memset() -> Option<Set> {
    let address = MEMSET.load(Ordering::Relaxed);
    // SAFETY: I1; null is none.
    unsafe { core::mem::transmute::<*mut (), Option<Set>>(address) }
}

real_functions! {
    memchr: c"memchr", fn(*const u8, c_int, usize) -> *mut u8;
    memccpy: c"memccpy", fn(*mut u8, *const u8, c_int, usize) -> *mut u8;
    strdup: c"strdup", fn(*const c_char) -> *mut c_char;
    strndup: c"strndup", fn(*const c_char, usize) -> *mut c_char;
    wcsdup: c"wcsdup", fn(*const Wide) -> *mut Wide;
    strlen: c"strlen", fn(*const c_char) -> usize;
    strnlen: c"strnlen", fn(*const c_char, usize) -> usize;
    strcpy: c"strcpy", fn(*mut c_char, *const c_char) -> *mut c_char;
    stpcpy: c"stpcpy", fn(*mut c_char, *const c_char) -> *mut c_char;
    strncpy: c"strncpy", fn(*mut c_char, *const c_char, usize) -> *mut c_char;
    stpncpy: c"stpncpy", fn(*mut c_char, *const c_char, usize) -> *mut c_char;
    strcat: c"strcat", fn(*mut c_char, *const c_char) -> *mut c_char;
    strncat: c"strncat", fn(*mut c_char, *const c_char, usize) -> *mut c_char;
    strcmp: c"strcmp", fn(*const c_char, *const c_char) -> c_int;
    strncmp: c"strncmp", fn(*const c_char, *const c_char, usize) -> c_int;
    strcasecmp: c"strcasecmp", fn(*const c_char, *const c_char) -> c_int;
    strncasecmp: c"strncasecmp", fn(*const c_char, *const c_char, usize) -> c_int;
    strchr: c"strchr", fn(*const c_char, c_int) -> *mut c_char;
    strrchr: c"strrchr", fn(*const c_char, c_int) -> *mut c_char;
    strstr: c"strstr", fn(*const c_char, *const c_char) -> *mut c_char;
    strspn: c"strspn", fn(*const c_char, *const c_char) -> usize;
    strcspn: c"strcspn", fn(*const c_char, *const c_char) -> usize;
    strpbrk: c"strpbrk", fn(*const c_char, *const c_char) -> *mut c_char;
    puts: c"puts", fn(*const c_char) -> c_int;
    fputs: c"fputs", fn(*const c_char, *mut c_void) -> c_int;
    strcpy_chk: c"__strcpy_chk", fn(*mut c_char, *const c_char, usize) -> *mut c_char;
    stpcpy_chk: c"__stpcpy_chk", fn(*mut c_char, *const c_char, usize) -> *mut c_char;
    strncpy_chk: c"__strncpy_chk", fn(*mut c_char, *const c_char, usize, usize) -> *mut c_char;
    strcat_chk: c"__strcat_chk", fn(*mut c_char, *const c_char, usize) -> *mut c_char;
    strncat_chk: c"__strncat_chk", fn(*mut c_char, *const c_char, usize, usize) -> *mut c_char;
    wcslen: c"wcslen", fn(*const Wide) -> usize;
    wcsnlen: c"wcsnlen", fn(*const Wide, usize) -> usize;
    wcscpy: c"wcscpy", fn(*mut Wide, *const Wide) -> *mut Wide;
    wcsncpy: c"wcsncpy", fn(*mut Wide, *const Wide, usize) -> *mut Wide;
    wcscat: c"wcscat", fn(*mut Wide, *const Wide) -> *mut Wide;
    wcsncat: c"wcsncat", fn(*mut Wide, *const Wide, usize) -> *mut Wide;
    wcscmp: c"wcscmp", fn(*const Wide, *const Wide) -> c_int;
    wcsncmp: c"wcsncmp", fn(*const Wide, *const Wide, usize) -> c_int;
    wcschr: c"wcschr", fn(*const Wide, Wide) -> *mut Wide;
    wcsrchr: c"wcsrchr", fn(*const Wide, Wide) -> *mut Wide;
    wcsstr: c"wcsstr", fn(*const Wide, *const Wide) -> *mut Wide;
    wmemcpy: c"wmemcpy", fn(*mut Wide, *const Wide, usize) -> *mut Wide;
    wmemmove: c"wmemmove", fn(*mut Wide, *const Wide, usize) -> *mut Wide;
    wmemset: c"wmemset", fn(*mut Wide, Wide, usize) -> *mut Wide;
    fputws: c"fputws", fn(*const Wide, *mut c_void) -> c_int;
    fgetws: c"fgetws", fn(*mut Wide, c_int, *mut c_void) -> *mut Wide;
    wcscpy_chk: c"__wcscpy_chk", fn(*mut Wide, *const Wide, usize) -> *mut Wide;
    wcsncpy_chk: c"__wcsncpy_chk", fn(*mut Wide, *const Wide, usize, usize) -> *mut Wide;
    wcscat_chk: c"__wcscat_chk", fn(*mut Wide, *const Wide, usize) -> *mut Wide;
    wcsncat_chk: c"__wcsncat_chk", fn(*mut Wide, *const Wide, usize, usize) -> *mut Wide;
    wmemcpy_chk: c"__wmemcpy_chk", fn(*mut Wide, *const Wide, usize, usize) -> *mut Wide;
    wmemset_chk: c"__wmemset_chk", fn(*mut Wide, Wide, usize, usize) -> *mut Wide;
    read: c"read", fn(c_int, *mut u8, usize) -> isize;
    pread: c"pread", fn(c_int, *mut u8, usize, i64) -> isize;
    pread64: c"pread64", fn(c_int, *mut u8, usize, i64) -> isize;
    write: c"write", fn(c_int, *const u8, usize) -> isize;
    pwrite: c"pwrite", fn(c_int, *const u8, usize, i64) -> isize;
    pwrite64: c"pwrite64", fn(c_int, *const u8, usize, i64) -> isize;
    recv: c"recv", fn(c_int, *mut u8, usize, c_int) -> isize;
    recvfrom: c"recvfrom", fn(c_int, *mut u8, usize, c_int, *mut u8, *mut u32) -> isize;
    send: c"send", fn(c_int, *const u8, usize, c_int) -> isize;
    sendto: c"sendto", fn(c_int, *const u8, usize, c_int, *const u8, u32) -> isize;
    fread: c"fread", fn(*mut u8, usize, usize, *mut c_void) -> usize;
    fwrite: c"fwrite", fn(*const u8, usize, usize, *mut c_void) -> usize;
    fgets: c"fgets", fn(*mut c_char, c_int, *mut c_void) -> *mut c_char;
    vprintf: c"vprintf", fn(*const c_char, *mut Arguments) -> c_int;
    vfprintf: c"vfprintf", fn(*mut c_void, *const c_char, *mut Arguments) -> c_int;
    vdprintf: c"vdprintf", fn(c_int, *const c_char, *mut Arguments) -> c_int;
    vsprintf: c"vsprintf", fn(*mut c_char, *const c_char, *mut Arguments) -> c_int;
    vsnprintf: c"vsnprintf", fn(*mut c_char, usize, *const c_char, *mut Arguments) -> c_int;
    vwprintf: c"vwprintf", fn(*const Wide, *mut Arguments) -> c_int;
    vfwprintf: c"vfwprintf", fn(*mut c_void, *const Wide, *mut Arguments) -> c_int;
    vswprintf: c"vswprintf", fn(*mut Wide, usize, *const Wide, *mut Arguments) -> c_int;
    vprintf_chk: c"__vprintf_chk", fn(c_int, *const c_char, *mut Arguments) -> c_int;
    vfprintf_chk: c"__vfprintf_chk", fn(*mut c_void, c_int, *const c_char, *mut Arguments) -> c_int;
    vsprintf_chk: c"__vsprintf_chk", fn(*mut c_char, c_int, usize, *const c_char, *mut Arguments) -> c_int;
    vsnprintf_chk: c"__vsnprintf_chk", fn(*mut c_char, usize, c_int, usize, *const c_char, *mut Arguments) -> c_int;
    exit_now: c"_exit", fn(c_int);
    abort: c"abort", fn();
    dlopen: c"dlopen", fn(*const c_char, c_int) -> *mut c_void;
    dlclose: c"dlclose", fn(*mut c_void) -> c_int;
    prctl: c"prctl", fn(c_int, usize, usize, usize, usize) -> c_int;
    syscall: c"syscall", fn(c_long) -> c_long;
    sigaction: c"sigaction", fn(c_int, *const c_void, *mut c_void) -> c_int;
    signal: c"signal", fn(c_int, usize) -> usize;
    sigprocmask: c"sigprocmask", fn(c_int, *const u64, *mut u64) -> c_int;
    pthread_sigmask: c"pthread_sigmask", fn(c_int, *const u64, *mut u64) -> c_int;
}
