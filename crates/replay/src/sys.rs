//! The kernel and libc, as far as replay needs them beside `heapwright-os`: shared memory that
//! does not count as the allocator's, clocks, bare threads, and the names of loaded objects.
//!
//! Threads are made by `pthread_create` itself: `std::thread` allocates for each thread, and
//! the allocator under measurement would serve that too.

use std::ffi::{CStr, CString, c_void};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::ptr::{self, NonNull};

/// Stack of a replay thread: it calls nothing but the allocator.
pub(crate) const STACK_BYTES: usize = 512 << 10;

/// An empty file that exists in memory only.
pub(crate) fn memory_file(name: &str) -> io::Result<File> {
    let name = CString::new(name)?;
    // SAFETY: `name` is a C string through the call.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the kernel has just made and nobody else knows.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Lets a child process have `fd` under the same number. Async-signal-safe.
pub(crate) fn keep_on_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: changes a flag of a descriptor, no memory.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Shared memory of this process's lifetime: pages of a file, or (without one) zeroes. All of
/// it is resident on return; the kernel counts it as file or shared memory, not as anonymous.
pub(crate) fn map(file: Option<&File>, bytes: usize, writable: bool) -> io::Result<NonNull<u8>> {
    let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
    let flags = libc::MAP_SHARED
        | libc::MAP_POPULATE
        | if file.is_none() { libc::MAP_ANONYMOUS } else { 0 };
    let fd = file.map_or(-1, AsRawFd::as_raw_fd);
    // SAFETY: a new mapping at a place of the kernel's choice harms nothing.
    let start = unsafe { libc::mmap(ptr::null_mut(), bytes.max(1), protection, flags, fd, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)
}

/// Maps `bytes` of anonymous private memory, as the program did itself; null when refused.
pub(crate) fn map_private(bytes: usize) -> *mut u8 {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at a place of the kernel's choice harms nothing.
    let start = unsafe { libc::mmap(ptr::null_mut(), bytes.max(1), protection, flags, -1, 0) };
    if start == libc::MAP_FAILED { ptr::null_mut() } else { start.cast() }
}

/// Unmaps a part of what [`map_private`] gave.
///
/// # Safety
/// - `start..start + bytes` lies in such a mapping and nobody uses it again.
pub(crate) unsafe fn unmap(start: *mut u8, bytes: usize) {
    // SAFETY: the caller gave the range up.
    unsafe { libc::munmap(start.cast(), bytes) };
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the kernel fills the structure.
    unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) };
    // SAFETY: all zeroes is a valid `timespec` too, should the call have failed.
    let time = unsafe { time.assume_init() };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// CPU time of the process so far.
pub(crate) fn process_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time of the calling thread so far.
pub(crate) fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// What the kernel counts of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Page faults without reading from a disk.
    pub(crate) faults_minor: u64,
    /// Page faults with it.
    pub(crate) faults_major: u64,
    /// CPU time in the kernel.
    pub(crate) kernel_ns: u64,
}

/// What this process has used so far.
pub(crate) fn usage() -> Usage {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills the structure.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    // SAFETY: all zeroes is a valid `rusage` too, should the call have failed.
    let usage = unsafe { usage.assume_init() };
    let kernel = usage.ru_stime;
    Usage {
        faults_minor: usage.ru_minflt as u64,
        faults_major: usage.ru_majflt as u64,
        kernel_ns: kernel.tv_sec as u64 * 1_000_000_000 + kernel.tv_usec as u64 * 1000,
    }
}

/// Lets the kernel kill this process when its parent goes; false if it has gone already.
pub(crate) fn die_with_parent(parent: u32) -> bool {
    // SAFETY: sets an attribute of this process, no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    std::os::unix::process::parent_id() == parent
}

/// Sleeps.
pub(crate) fn sleep_us(micros: u32) {
    sleep_ns(u64::from(micros) * 1000);
}

/// Sleeps.
pub(crate) fn sleep_ns(ns: u64) {
    const SECOND: u64 = 1_000_000_000;
    let time = libc::timespec {
        tv_sec: (ns / SECOND) as libc::time_t,
        tv_nsec: (ns % SECOND) as libc::c_long,
    };
    // SAFETY: the kernel reads `time`; no remainder is asked for.
    unsafe { libc::nanosleep(&raw const time, ptr::null_mut()) };
}

/// A joinable thread.
#[derive(Clone, Copy)]
pub(crate) struct Thread(libc::pthread_t);

type ThreadMain = extern "C" fn(*mut c_void) -> *mut c_void;

/// Starts `main` with `argument` in a new thread.
///
/// # Safety
/// - `argument` is what `main` expects, for as long as the thread runs.
pub(crate) unsafe fn start_thread(main: ThreadMain, argument: *mut c_void) -> io::Result<Thread> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::zeroed();
    // SAFETY: libc fills the structure.
    unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) };
    // SAFETY: initialised by the line before.
    unsafe { libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), STACK_BYTES) };
    let mut thread = 0;
    // SAFETY: both structures are alive through the call; the caller answers for `argument`.
    let result =
        unsafe { libc::pthread_create(&raw mut thread, attributes.as_ptr(), main, argument) };
    // SAFETY: initialised above, not used again.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    if result == 0 { Ok(Thread(thread)) } else { Err(io::Error::from_raw_os_error(result)) }
}

/// Waits until `thread` is gone, its destructors included.
///
/// # Safety
/// - `thread` was started by [`start_thread`] and not joined before.
pub(crate) unsafe fn join(thread: Thread) {
    // SAFETY: the caller says that the thread is joinable.
    unsafe { libc::pthread_join(thread.0, ptr::null_mut()) };
}

/// The address of the dynamic symbol `name`, as the program's own calls resolve it.
pub(crate) fn symbol(name: &CStr) -> Option<NonNull<c_void>> {
    // SAFETY: looks a name up in what is loaded.
    NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) })
}

/// Start address and file name of the loaded object that holds `address`.
pub(crate) fn object_of(address: NonNull<c_void>) -> Option<(usize, &'static CStr)> {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: libc fills the structure; any address may be asked for.
    if unsafe { libc::dladdr(address.as_ptr(), info.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: filled, since the call did not fail.
    let info = unsafe { info.assume_init() };
    if info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: a C string of the loader's that lives as long as the object, which is preloaded.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Some((info.dli_fbase.addr(), name))
}

/// Version of the C library.
pub(crate) fn libc_version() -> &'static str {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: libc gives a string of its own.
        let version = unsafe { libc::gnu_get_libc_version() };
        // SAFETY: a constant C string.
        let version = unsafe { CStr::from_ptr(version) };
        version.to_str().unwrap_or("")
    }
    #[cfg(not(target_env = "gnu"))]
    ""
}

/// Waits until something can be read from `fd` or it is closed; false after `timeout_ms`.
pub(crate) fn wait_readable(fd: RawFd, timeout_ms: i32) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: the kernel reads and writes the one structure.
    (unsafe { libc::poll(&raw mut poll, 1, timeout_ms) }) > 0
}

/// Reads from a file of the kernel's, from its start, into `buffer` without allocating.
pub(crate) fn read_start(fd: RawFd, buffer: &mut [u8]) -> usize {
    // SAFETY: the kernel writes at most the buffer's length.
    let read = unsafe { libc::pread(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(read).unwrap_or(0)
}
