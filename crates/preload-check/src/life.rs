//! The life of the process: start, loaded modules, given-up system calls, end.

use core::ffi::{c_char, c_int, c_long, c_void};

use heapwright_guard::{Ending, at_exit, at_fatal_signal, confine, start};
use heapwright_unwind::{modules_loaded, modules_unloaded, modules_unloading};

use crate::real;

#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = at_start;

#[used]
#[unsafe(link_section = ".fini_array")]
static AT_END: extern "C" fn() = at_end;

/// `prctl`'s way to a seccomp filter.
const PR_SET_SECCOMP: c_int = 22;
#[cfg(target_arch = "x86_64")]
const SYS_SECCOMP: c_long = 317;
#[cfg(target_arch = "aarch64")]
const SYS_SECCOMP: c_long = 277;

extern "C" fn at_start() {
    real::find_memory_functions();
    real::find_all();
    start(at_start as *const () as usize);
}

extern "C" fn at_end() {
    at_exit(Ending::Exit);
}

/// `_exit` runs no destructors.
#[unsafe(no_mangle)]
extern "C" fn _exit(status: c_int) -> ! {
    at_exit(Ending::AtOnce);
    // SAFETY: the real function takes any status.
    unsafe { real::exit_now()(status) };
    loop {
        core::hint::spin_loop();
    }
}

#[unsafe(no_mangle)]
extern "C" fn _Exit(status: c_int) -> ! {
    _exit(status)
}

#[unsafe(no_mangle)]
extern "C" fn abort() -> ! {
    at_fatal_signal();
    // SAFETY: takes nothing and does not return.
    unsafe { real::abort()() };
    loop {
        core::hint::spin_loop();
    }
}

/// Locking all memory would fill the heap's tables, which are made to be touched here and there;
/// to a program under check it makes no difference.
#[unsafe(no_mangle)]
extern "C" fn mlockall(_flags: c_int) -> c_int {
    0
}

/// `dlopen` looks at who calls it (for the caller's search path), so it is reached by a jump,
/// with the caller's return address in place; before it, the unwinder is told.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn dlopen(_path: *const c_char, _flags: c_int) -> *mut c_void {
    heapwright_os::jump_after!(2, before_dlopen)
}

/// Tells the unwinder; returns where to jump.
extern "C" fn before_dlopen() -> usize {
    modules_loaded();
    real::dlopen() as *const () as usize
}

#[unsafe(no_mangle)]
extern "C" fn dlclose(handle: *mut c_void) -> c_int {
    modules_unloading();
    // SAFETY: the caller answers for the handle.
    let result = unsafe { real::dlclose()(handle) };
    modules_unloaded();
    result
}

#[unsafe(no_mangle)]
extern "C" fn prctl(option: c_int, a: usize, b: usize, c: usize, d: usize) -> c_int {
    if option == PR_SET_SECCOMP {
        confine();
    }
    // SAFETY: the caller answers for its arguments; those it does not give are not used.
    unsafe { real::prctl()(option, a, b, c, d) }
}

/// libc's `syscall` is reached by a jump with all arguments in place: a child of `vfork` may
/// return from it.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn syscall(_number: c_long) -> c_long {
    heapwright_os::jump_after!(7, before_syscall)
}

/// Returns where to jump.
extern "C" fn before_syscall(number: c_long) -> usize {
    if number == SYS_SECCOMP {
        confine();
    }
    real::syscall() as *const () as usize
}
