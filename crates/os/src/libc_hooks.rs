//! The few things that only libc can do for us: `errno`, thread ends, forks.
//!
//! On glibc the pthread functions are named with the first version they ever had, and weakly:
//! so an object of ours loads on any glibc, also on one older than 2.34, where they were in a
//! library of their own that a program without threads did not load (and did not need). musl looks
//! at names only, so such an object loads into programs with musl, too. A static program finds no name
//! with a version; an archive brings [`LibcFunctions`] along.

use core::ffi::{c_int, c_void};

use crate::Errno;

// The `libc` crate names the library itself only when its feature `std` is off, and any crate of
// one build may turn that on; our objects without std must not lose it.
#[link(name = "c")]
unsafe extern "C" {}

type KeyCreate = unsafe extern "C" fn(
    *mut libc::pthread_key_t,
    Option<unsafe extern "C" fn(*mut c_void)>,
) -> c_int;
/// With the value as a number: libc does not look into it.
type SetSpecific = unsafe extern "C" fn(libc::pthread_key_t, usize) -> c_int;

/// Functions of libc's, for a program that is linked without shared objects: the crate that makes an
/// archive defines a static of this type, exported as `heapwright_os_libc_functions`.
#[derive(Debug)]
pub struct LibcFunctions {
    key_create: *const (),
    set_specific: *const (),
    create: *const (),
    attr_init: *const (),
    attr_set_stack: *const (),
    attr_set_detach: *const (),
    atfork: *const (),
}

// SAFETY: addresses of functions that any thread may call.
unsafe impl Sync for LibcFunctions {}

impl LibcFunctions {
    /// Those that the linker finds by their plain names.
    pub const LINKED: Self = Self {
        key_create: libc::pthread_key_create as *const (),
        set_specific: libc::pthread_setspecific as *const (),
        create: libc::pthread_create as *const (),
        attr_init: libc::pthread_attr_init as *const (),
        attr_set_stack: libc::pthread_attr_setstacksize as *const (),
        attr_set_detach: libc::pthread_attr_setdetachstate as *const (),
        atfork: libc::pthread_atfork as *const (),
    };
}

/// Addresses of weak functions; null where libc lacks them.
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
pub(crate) mod weak {
    use super::LibcFunctions;

    #[cfg(target_arch = "x86_64")]
    macro_rules! version {
        ($on_x86_64:literal) => {
            concat!("@GLIBC_", $on_x86_64, ", remove")
        };
    }
    // All of them are older than the processor.
    #[cfg(target_arch = "aarch64")]
    macro_rules! version {
        ($on_x86_64:literal) => {
            "@GLIBC_2.17, remove"
        };
    }

    /// The address of `$name`, called `$alias` in the object file; `$version` is the first that
    /// glibc has it with on x86_64. It is given in the block itself, since it holds for one object
    /// file only; so each block stands in a function that is compiled once.
    macro_rules! address {
        ($alias:literal, $name:literal) => {
            address!($alias, $name, "2.2.5")
        };
        ($alias:literal, $name:literal, $version:literal) => {{
            let address: *const ();
            #[cfg(target_arch = "x86_64")]
            // SAFETY: reads one word of the global offset table, which the linker filled.
            unsafe {
                core::arch::asm!(
                    concat!(".weak ", $alias),
                    concat!(".symver ", $alias, ", ", $name, version!($version)),
                    concat!("mov {}, qword ptr [rip + ", $alias, "@GOTPCREL]"),
                    out(reg) address,
                    options(pure, readonly, nostack, preserves_flags),
                );
            }
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            unsafe {
                core::arch::asm!(
                    concat!(".weak ", $alias),
                    concat!(".symver ", $alias, ", ", $name, version!($version)),
                    concat!("adrp {0}, :got:", $alias),
                    concat!("ldr {0}, [{0}, :got_lo12:", $alias, "]"),
                    out(reg) address,
                    options(pure, readonly, nostack, preserves_flags),
                );
            }
            address
        }};
    }

    /// `address`, or where that is null the same function by an archive's word.
    fn or_archived(address: *const (), pick: fn(&LibcFunctions) -> *const ()) -> *const () {
        if address.is_null() { archived().map_or(address, pick) } else { address }
    }

    /// The functions that an archive brings along under this name; none in a shared object.
    #[inline(never)]
    fn archived() -> Option<&'static LibcFunctions> {
        let functions: *const LibcFunctions;
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as in `address!`.
        unsafe {
            core::arch::asm!(
                ".weakref heapwright_os_archived, heapwright_os_libc_functions",
                "mov {}, qword ptr [rip + heapwright_os_archived@GOTPCREL]",
                out(reg) functions,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        unsafe {
            core::arch::asm!(
                ".weakref heapwright_os_archived, heapwright_os_libc_functions",
                "adrp {0}, :got:heapwright_os_archived",
                "ldr {0}, [{0}, :got_lo12:heapwright_os_archived]",
                out(reg) functions,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        // SAFETY: null, or a static of that type.
        unsafe { functions.as_ref() }
    }

    #[inline(never)]
    pub(super) fn key_create() -> *const () {
        or_archived(address!("heapwright_os_key_create", "pthread_key_create"), |libc| {
            libc.key_create
        })
    }

    #[inline(never)]
    pub(super) fn set_specific() -> *const () {
        or_archived(address!("heapwright_os_setspecific", "pthread_setspecific"), |libc| {
            libc.set_specific
        })
    }

    #[inline(never)]
    pub(crate) fn list_lock() -> *const () {
        address!("heapwright_os_list_lock", "_IO_list_lock")
    }

    #[inline(never)]
    pub(crate) fn list_unlock() -> *const () {
        address!("heapwright_os_list_unlock", "_IO_list_unlock")
    }

    #[inline(never)]
    pub(crate) fn list_reset() -> *const () {
        address!("heapwright_os_list_reset", "_IO_list_resetlock")
    }

    #[inline(never)]
    pub(crate) fn create() -> *const () {
        or_archived(address!("heapwright_os_create", "pthread_create"), |libc| libc.create)
    }

    #[inline(never)]
    pub(crate) fn attr_init() -> *const () {
        or_archived(address!("heapwright_os_attr_init", "pthread_attr_init"), |libc| libc.attr_init)
    }

    #[inline(never)]
    pub(crate) fn attr_set_stack() -> *const () {
        or_archived(address!("heapwright_os_attr_stack", "pthread_attr_setstacksize"), |libc| {
            libc.attr_set_stack
        })
    }

    #[inline(never)]
    pub(crate) fn attr_set_detach() -> *const () {
        or_archived(address!("heapwright_os_attr_detach", "pthread_attr_setdetachstate"), |libc| {
            libc.attr_set_detach
        })
    }

    /// What `pthread_atfork` is in glibc, whose libc.so has no function of that name.
    #[inline(never)]
    pub(super) fn register_atfork() -> *const () {
        address!("heapwright_os_register_atfork", "__register_atfork", "2.3.2")
    }

    /// musl's.
    #[inline(never)]
    pub(super) fn atfork() -> *const () {
        or_archived(address!("heapwright_os_atfork", "pthread_atfork", "2.2.5"), |libc| libc.atfork)
    }
}

#[cfg(not(all(target_env = "gnu", not(target_feature = "crt-static"))))]
pub(crate) mod weak {
    use super::LibcFunctions;

    pub(super) fn key_create() -> *const () {
        LibcFunctions::LINKED.key_create
    }

    pub(super) fn set_specific() -> *const () {
        LibcFunctions::LINKED.set_specific
    }

    /// Not there: musl takes its locks in an order of its own.
    pub(crate) fn list_lock() -> *const () {
        core::ptr::null()
    }

    pub(crate) fn list_unlock() -> *const () {
        core::ptr::null()
    }

    pub(crate) fn list_reset() -> *const () {
        core::ptr::null()
    }

    pub(crate) fn create() -> *const () {
        LibcFunctions::LINKED.create
    }

    pub(crate) fn attr_init() -> *const () {
        LibcFunctions::LINKED.attr_init
    }

    pub(crate) fn attr_set_stack() -> *const () {
        LibcFunctions::LINKED.attr_set_stack
    }

    pub(crate) fn attr_set_detach() -> *const () {
        LibcFunctions::LINKED.attr_set_detach
    }

    pub(super) fn register_atfork() -> *const () {
        core::ptr::null()
    }

    pub(super) fn atfork() -> *const () {
        LibcFunctions::LINKED.atfork
    }
}

/// Sets the calling thread's `errno`.
pub fn set_errno(errno: Errno) {
    // SAFETY: libc gives the address of the calling thread's own variable.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above; it lives as long as the thread.
    unsafe { place.write(errno.0) };
}

/// Whether the calling thread's `errno` is `EFAULT`: the kernel was given a bad address.
pub fn last_error_is_fault() -> bool {
    // SAFETY: libc gives the address of the calling thread's own variable.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { place.read() == libc::EFAULT }
}

/// A function that libc calls when a thread ends, for threads that armed it. The main thread's
/// return from `main` is not a thread's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadExit(libc::pthread_key_t);

impl ThreadExit {
    /// Registers `at_exit`, which gets the value given to [`ThreadExit::arm`]. None when libc has
    /// no threads or its keys are used up.
    ///
    /// Create it early: glibc's first 32 keys need no memory in any thread, later ones make
    /// [`ThreadExit::arm`] call `calloc` once per thread.
    pub fn new(at_exit: unsafe extern "C" fn(*mut c_void)) -> Option<Self> {
        let create = weak::key_create();
        if create.is_null() {
            return None;
        }
        // SAFETY: the address of libc's pthread_key_create, which has this type.
        let create = unsafe { core::mem::transmute::<*const (), KeyCreate>(create) };
        let mut key = 0;
        // SAFETY: libc writes the key.
        let result = unsafe { create(&raw mut key, Some(at_exit)) };
        (result == 0).then_some(Self(key))
    }

    /// Makes libc call the function with `value` (not null) when the calling thread ends; called
    /// again inside that function it asks for another round, which libc grants at least three
    /// times. Whether it was done.
    pub fn arm(self, value: *const c_void) -> bool {
        let set = weak::set_specific();
        if set.is_null() {
            return false;
        }
        // SAFETY: the address of libc's pthread_setspecific, which has this type.
        let set = unsafe { core::mem::transmute::<*const (), SetSpecific>(set) };
        // SAFETY: the key was created by `new`; libc keeps the value and does not look into it.
        (unsafe { set(self.0, value.expose_provenance()) }) == 0
    }

    /// The key's number, to keep in an atomic.
    pub fn to_raw(self) -> u32 {
        self.0
    }

    /// The key with this number.
    ///
    /// # Safety
    /// - `raw` came from [`ThreadExit::to_raw`] in this process.
    pub unsafe fn from_raw(raw: u32) -> Self {
        Self(raw)
    }
}

type ForkHandler = unsafe extern "C" fn();
type AtFork = unsafe extern "C" fn(ForkHandler, ForkHandler, ForkHandler) -> c_int;
type RegisterAtFork =
    unsafe extern "C" fn(ForkHandler, ForkHandler, ForkHandler, *const c_void) -> c_int;

unsafe extern "C" {
    /// The object that this code was linked into, by the name that libc has for it.
    #[link_name = "__dso_handle"]
    static THIS_OBJECT: u8;
}

/// Registers functions that libc's `fork` calls: `prepare` before it in the parent, then
/// `parent` in the parent and `child` in the child. Raw fork system calls, `vfork` and `_Fork`
/// do not call them. Whether it was done: libc may lack memory (it allocates a little).
pub fn at_fork(prepare: ForkHandler, parent: ForkHandler, child: ForkHandler) -> bool {
    let register = weak::register_atfork();
    if !register.is_null() {
        // SAFETY: the address of glibc's __register_atfork, which has this type.
        let register = unsafe { core::mem::transmute::<*const (), RegisterAtFork>(register) };
        // SAFETY: the functions stay for as long as this object is loaded; libc, told of it, drops
        // them with it.
        return (unsafe { register(prepare, parent, child, &raw const THIS_OBJECT as _) }) == 0;
    }
    let register = weak::atfork();
    if register.is_null() {
        return false;
    }
    // SAFETY: the address of libc's pthread_atfork, which has this type.
    let register = unsafe { core::mem::transmute::<*const (), AtFork>(register) };
    // SAFETY: the functions stay for as long as this code is loaded.
    (unsafe { register(prepare, parent, child) }) == 0
}

/// The process's limit on address space in bytes (`RLIMIT_AS`); none when there is no limit.
pub fn address_space_limit_bytes() -> Option<usize> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let place = core::ptr::from_mut(&mut limit).expose_provenance();
    let args = [0, libc::RLIMIT_AS as usize, 0, place, 0, 0];
    // SAFETY: the kernel fills the structure.
    unsafe { crate::syscall::syscall6(libc::SYS_prlimit64, args) }.ok()?;
    (limit.rlim_cur != libc::RLIM64_INFINITY).then_some(limit.rlim_cur as usize)
}

#[cfg(test)]
mod tests {
    use core::ffi::c_void;
    use core::sync::atomic::{AtomicUsize, Ordering};

    use super::{ThreadExit, set_errno};
    use crate::Errno;

    extern crate std;

    static ROUNDS: AtomicUsize = AtomicUsize::new(0);
    static KEY: AtomicUsize = AtomicUsize::new(usize::MAX);

    unsafe extern "C" fn at_exit(_: *mut c_void) {
        if ROUNDS.fetch_add(1, Ordering::Relaxed) == 0 {
            // SAFETY: stored by the test below from `to_raw`.
            let key = unsafe { ThreadExit::from_raw(KEY.load(Ordering::Relaxed) as u32) };
            assert!(key.arm(core::ptr::dangling()));
        }
    }

    #[test]
    fn an_armed_thread_calls_at_its_end_and_once_more_when_asked() {
        let key = ThreadExit::new(at_exit).expect("a key");
        KEY.store(key.to_raw() as usize, Ordering::Relaxed);
        std::thread::spawn(move || assert!(key.arm(core::ptr::dangling())))
            .join()
            .expect("no panic");
        assert_eq!(ROUNDS.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn errno_is_set() {
        set_errno(Errno::EINVAL);
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(22));
    }
}
