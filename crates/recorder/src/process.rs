//! The life of the process: start, loaded modules, given-up system calls, end.

use core::ffi::{c_char, c_int, c_void};

use heapwright_os::any_symbol;
use heapwright_record::{
    Mode, confine, end_dormancy, flush_touched, mode, modules_changed, start, step_aside,
};
use heapwright_unwind::{modules_unloaded, modules_unloading};

use crate::real;

#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = at_start;

#[used]
#[unsafe(link_section = ".fini_array")]
static AT_END: extern "C" fn() = at_end;

/// `prctl`'s way to a seccomp filter.
const PR_SET_SECCOMP: c_int = 22;

extern "C" fn at_start() {
    real::ready();
    start(true);
}

/// Steps aside unless the program's calls of `malloc` come to us: they do not where the executable
/// has a `malloc` of its own. Then most of its calls cannot be seen, and a part of them misleads.
pub(crate) fn check_order() {
    let first = any_symbol(c"malloc");
    if !first.is_null() && first.addr() != crate::malloc::hook_address() {
        step_aside();
    }
}

extern "C" fn at_end() {
    if mode() == Mode::On {
        flush_touched();
    }
    end_dormancy();
}

/// `_exit` runs no destructors: the last look at the large blocks is taken here.
#[unsafe(no_mangle)]
extern "C" fn _exit(status: c_int) -> ! {
    at_end();
    if let Some(exit) = real::ready().then(real::exit_now).flatten() {
        // SAFETY: the real function takes any status.
        unsafe { exit(status) };
    }
    heapwright_os::abort()
}

#[unsafe(no_mangle)]
extern "C" fn _Exit(status: c_int) -> ! {
    _exit(status)
}

/// `dlopen` looks at who calls it (for the caller's search path), so it is reached by a jump,
/// with the caller's return address in place; before it, the recorder is told.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn dlopen(_path: *const c_char, _flags: c_int) -> *mut c_void {
    heapwright_os::jump_after!(2, before_dlopen)
}

/// Tells the recorder; returns where to jump.
extern "C" fn before_dlopen() -> usize {
    modules_changed();
    match real::ready().then(real::dlopen).flatten() {
        Some(dlopen) => dlopen as *const () as usize,
        None => no_dlopen as *const () as usize,
    }
}

extern "C" fn no_dlopen(_path: *const c_char, _flags: c_int) -> *mut c_void {
    core::ptr::null_mut()
}

#[unsafe(no_mangle)]
extern "C" fn dlclose(handle: *mut c_void) -> c_int {
    let Some(dlclose) = real::ready().then(real::dlclose).flatten() else { return -1 };
    // A dormant one may be switched on in the middle.
    let recording = matches!(mode(), Mode::On | Mode::Dormant);
    if recording {
        modules_unloading();
    }
    // SAFETY: the hook's caller answers for the handle.
    let result = unsafe { dlclose(handle) };
    if recording {
        modules_unloaded();
    }
    result
}

#[unsafe(no_mangle)]
extern "C" fn prctl(option: c_int, a: usize, b: usize, c: usize, d: usize) -> c_int {
    if option == PR_SET_SECCOMP {
        confine();
    }
    let Some(prctl) = real::ready().then(real::prctl).flatten() else { return -1 };
    // SAFETY: the hook's caller answers for its arguments; those it does not give are not used.
    unsafe { prctl(option, a, b, c, d) }
}

/// libc's `syscall` is reached by a jump with all arguments in place: a child of `vfork` may
/// return from it. Before it, the recorder is told the number.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn syscall(_number: isize) -> isize {
    heapwright_os::jump_after!(7, before_syscall)
}

/// Tells the recorder; returns where to jump.
extern "C" fn before_syscall(number: isize) -> usize {
    if number == SYS_SECCOMP {
        confine();
    }
    match real::ready().then(real::syscall).flatten() {
        Some(syscall) => syscall as *const () as usize,
        None => no_syscall as *const () as usize,
    }
}

extern "C" fn no_syscall(_number: isize) -> isize {
    heapwright_os::set_errno(heapwright_os::Errno::ENOSYS);
    -1
}

#[cfg(target_arch = "x86_64")]
const SYS_SECCOMP: isize = 317;
#[cfg(target_arch = "aarch64")]
const SYS_SECCOMP: isize = 277;
