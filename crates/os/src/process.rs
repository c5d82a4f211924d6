//! The process and its threads.

use core::ffi::CStr;

use crate::Errno;
use crate::syscall::syscall3;

/// The process id, asked of the kernel each time (right after any kind of fork).
pub fn process_id() -> u32 {
    // SAFETY: no arguments, no memory.
    unsafe { syscall3(libc::SYS_getpid, 0, 0, 0) }.unwrap_or(0) as u32
}

/// The parent's process id.
pub fn parent_process_id() -> u32 {
    // SAFETY: no arguments, no memory.
    unsafe { syscall3(libc::SYS_getppid, 0, 0, 0) }.unwrap_or(0) as u32
}

/// The calling thread's id, asked of the kernel each time.
pub fn thread_id() -> u32 {
    // SAFETY: no arguments, no memory.
    unsafe { syscall3(libc::SYS_gettid, 0, 0, 0) }.unwrap_or(0) as u32
}

/// The user whose rights this process has.
pub fn effective_user_id() -> u32 {
    // SAFETY: no arguments, no memory.
    unsafe { syscall3(libc::SYS_geteuid, 0, 0, 0) }.unwrap_or(0) as u32
}

/// Whether a process with this id exists (also one that we may not signal).
pub fn process_alive(id: u32) -> bool {
    // SAFETY: signal 0 only asks.
    let answer = unsafe { syscall3(libc::SYS_kill, id as usize, 0, 0) };
    answer != Err(Errno::ESRCH)
}

/// Makes the programs that this process starts from now on lie at the same addresses in each
/// run. Whether the kernel agreed.
pub fn fix_addresses_of_children() -> bool {
    const ADDR_NO_RANDOMIZE: usize = 0x004_0000;
    const ASK: usize = 0xffff_ffff;
    // SAFETY: no memory; the value asks for the present one.
    let Ok(now) = (unsafe { syscall3(libc::SYS_personality, ASK, 0, 0) }) else { return false };
    // SAFETY: no memory; this process's own addresses stay.
    unsafe { syscall3(libc::SYS_personality, now | ADDR_NO_RANDOMIZE, 0, 0) }.is_ok()
}

/// Gives the CPU to another thread.
pub fn yield_now() {
    // SAFETY: no arguments, no memory.
    let _ = unsafe { syscall3(libc::SYS_sched_yield, 0, 0, 0) };
}

/// Ends the process by `SIGABRT`, or by an illegal instruction where that is caught.
pub fn abort() -> ! {
    // SAFETY: libc's abort takes nothing and does not return.
    unsafe { libc::abort() }
}

/// Ends the process with `status` at once: nothing is flushed, no function of the program runs.
pub fn exit_now(status: u8) -> ! {
    loop {
        // SAFETY: one number, no memory; the call does not return.
        let _ = unsafe { syscall3(libc::SYS_exit_group, usize::from(status), 0, 0) };
    }
}

/// An entry of the auxiliary vector, such as `AT_PAGESZ`; none when it is absent or zero.
pub fn raw_auxv(kind: u64) -> Option<usize> {
    // SAFETY: getauxval reads the vector that the kernel put on the stack.
    let value = unsafe { libc::getauxval(kind) };
    (value != 0).then_some(value as usize)
}

/// Whether the program runs with more rights than its caller (setuid, capabilities); its
/// environment is then not to be trusted.
pub fn is_secure() -> bool {
    raw_auxv(libc::AT_SECURE).is_some()
}

/// Version of the C library, as `2.36`.
#[cfg(target_env = "gnu")]
pub fn libc_version() -> Option<&'static str> {
    // SAFETY: takes nothing and returns a string constant of the library.
    let version = unsafe { libc::gnu_get_libc_version() };
    // SAFETY: the constant is NUL-terminated and lives as long as the library.
    unsafe { CStr::from_ptr(version) }.to_str().ok()
}

/// Version of the C library; not known for this one.
#[cfg(not(target_env = "gnu"))]
pub fn libc_version() -> Option<&'static str> {
    None
}

/// Whether libc has its environment yet: it lacks one until its own initialisation, which comes
/// after the first calls of `malloc`.
pub fn has_environment() -> bool {
    unsafe extern "C" {
        static environ: *const *const core::ffi::c_char;
    }
    // SAFETY: a word of libc's.
    !unsafe { environ }.is_null()
}

/// The value of environment variable `name` (without `=`), without locking or allocating.
///
/// The bytes are the process's own environment: valid until the program changes it, so read
/// them at start-up only.
pub fn env_var(name: &str) -> Option<&'static CStr> {
    unsafe extern "C" {
        static environ: *const *const core::ffi::c_char;
    }
    // SAFETY: libc's `environ` is set before any code of ours runs, or null.
    let mut entry = unsafe { environ };
    if entry.is_null() {
        return None;
    }
    loop {
        // SAFETY: the array is ended by a null pointer, which ends the loop below.
        let text = unsafe { entry.read() };
        if text.is_null() {
            return None;
        }
        // SAFETY: entries of the environment are NUL-terminated.
        let text = unsafe { CStr::from_ptr(text) };
        let bytes = text.to_bytes_with_nul();
        if bytes.len() > name.len() + 1
            && bytes[name.len()] == b'='
            && &bytes[..name.len()] == name.as_bytes()
        {
            return CStr::from_bytes_with_nul(&bytes[name.len() + 1..]).ok();
        }
        // SAFETY: the terminating null has not been reached, so there is a next entry.
        entry = unsafe { entry.add(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::{env_var, process_alive, process_id, thread_id};

    #[test]
    fn the_main_facts_agree() {
        assert!(process_alive(process_id()));
        assert_ne!(thread_id(), 0);
        assert!(!process_alive(0x3fff_ffff));
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        assert!(env_var("PATH").is_some_and(|path| !path.to_bytes().is_empty()));
        assert!(env_var("PAT").is_none());
    }
}
