//! Signal handlers, signal stacks and the interrupted state, without libc's wrappers: those may
//! be interposed by the very code that asks.

use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use crate::Errno;
use crate::syscall::{syscall3, syscall6};

/// The signal of an access that the kernel refuses.
pub const SIGSEGV: i32 = libc::SIGSEGV;
/// The signal of an access to a mapped file beyond its end.
pub const SIGBUS: i32 = libc::SIGBUS;
/// What [`SignalAction::handler`] holds for the default action.
pub const DEFAULT_ACTION: usize = libc::SIG_DFL;
/// What [`SignalAction::handler`] holds for "ignore".
pub const IGNORE_ACTION: usize = libc::SIG_IGN;
/// `siginfo`'s code of a signal that the kernel raised without an address.
pub const CODE_KERNEL: i32 = 0x80;

/// What the kernel does at a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalAction {
    /// Address of the handler, or [`DEFAULT_ACTION`] or [`IGNORE_ACTION`].
    pub handler: usize,
    /// libc's `SA_*` bits.
    pub flags: u64,
    /// Signals blocked while the handler runs; bit `n - 1` is signal `n`.
    pub mask: u64,
}

impl SignalAction {
    /// The default action.
    pub const DEFAULT: Self = Self { handler: DEFAULT_ACTION, flags: 0, mask: 0 };
    /// The handler takes three arguments.
    pub const THREE_ARGUMENTS: u64 = libc::SA_SIGINFO as u64;
    /// The handler runs on the thread's signal stack.
    pub const ON_SIGNAL_STACK: u64 = libc::SA_ONSTACK as u64;
    /// The signal is not blocked in its own handler.
    pub const NOT_BLOCKED: u64 = libc::SA_NODEFER as u64;
    /// The default action returns when the handler is called.
    pub const ONCE: u64 = libc::SA_RESETHAND as u64;
    /// System calls that the signal interrupted go on.
    pub const RESTART: u64 = libc::SA_RESTART as u64;
}

/// The kernel's `struct sigaction`, which is not libc's.
#[repr(C)]
#[cfg(target_arch = "x86_64")]
struct KernelAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

#[repr(C)]
#[cfg(not(target_arch = "x86_64"))]
struct KernelAction {
    handler: usize,
    flags: u64,
    mask: u64,
}

/// Returns from a handler: the bytes by which unwinders know a signal's frame.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
extern "C" fn restore() {
    core::arch::naked_asm!("mov rax, 15", "syscall")
}

#[cfg(target_arch = "x86_64")]
const SA_RESTORER: u64 = 0x0400_0000;

/// Sets what happens at `signal`; returns what happened before.
///
/// # Safety
/// - The handler, if there is one, is a function of the type that the flags say, and does only
///   what a signal handler may.
///
/// # Errors
/// `EINVAL` for a signal that has no handler.
pub unsafe fn set_signal_action(signal: i32, action: SignalAction) -> Result<SignalAction, Errno> {
    #[cfg(target_arch = "x86_64")]
    let new = KernelAction {
        handler: action.handler,
        flags: action.flags | SA_RESTORER,
        restorer: restore as *const () as usize,
        mask: action.mask,
    };
    #[cfg(not(target_arch = "x86_64"))]
    let new = KernelAction { handler: action.handler, flags: action.flags, mask: action.mask };
    let mut old = MaybeUninit::<KernelAction>::zeroed();
    let args = [
        signal as usize,
        (&raw const new).expose_provenance(),
        old.as_mut_ptr().expose_provenance(),
        size_of::<u64>(),
        0,
        0,
    ];
    // SAFETY: both structures are the kernel's and live through the call; the handler is the
    // caller's promise.
    unsafe { syscall6(libc::SYS_rt_sigaction, args) }?;
    // SAFETY: zeroed, and filled by the kernel; every bit pattern is valid.
    let old = unsafe { old.assume_init() };
    Ok(SignalAction { handler: old.handler, flags: old.flags, mask: old.mask })
}

/// Gives the calling thread a signal stack unless it has one that is as large; whether it was done.
/// A smaller one, such as Rust's threads have, is replaced unless it is in use.
///
/// # Safety
/// - The memory is used for nothing else until [`drop_signal_stack`] or the thread's end.
pub unsafe fn offer_signal_stack(start: NonNull<u8>, bytes: usize) -> bool {
    let mut old = MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: the kernel fills the structure.
    let asked =
        unsafe { syscall3(libc::SYS_sigaltstack, 0, old.as_mut_ptr().expose_provenance(), 0) };
    // SAFETY: zeroed above; every bit pattern is valid.
    let old = unsafe { old.assume_init() };
    let has_one = old.ss_flags & libc::SS_DISABLE == 0;
    let is_in_use = old.ss_flags & libc::SS_ONSTACK != 0;
    if asked.is_err() || is_in_use || (has_one && old.ss_size >= bytes) {
        return false;
    }
    let new = libc::stack_t { ss_sp: start.as_ptr().cast(), ss_flags: 0, ss_size: bytes };
    // SAFETY: the caller gives the memory for this.
    let set =
        unsafe { syscall3(libc::SYS_sigaltstack, (&raw const new).expose_provenance(), 0, 0) };
    set.is_ok()
}

/// Takes the calling thread's signal stack away if it is the one at `start`.
pub fn drop_signal_stack(start: NonNull<u8>) {
    let mut old = MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: the kernel fills the structure.
    let asked =
        unsafe { syscall3(libc::SYS_sigaltstack, 0, old.as_mut_ptr().expose_provenance(), 0) };
    // SAFETY: zeroed above; every bit pattern is valid.
    let old = unsafe { old.assume_init() };
    if asked.is_ok() && old.ss_sp.cast() == start.as_ptr() {
        let off =
            libc::stack_t { ss_sp: core::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // SAFETY: the kernel reads the structure; a stack in use is refused.
        let _ =
            unsafe { syscall3(libc::SYS_sigaltstack, (&raw const off).expose_provenance(), 0, 0) };
    }
}

/// Sends `signal` to thread `thread` of this process.
///
/// # Errors
/// `ESRCH` when it has ended.
pub fn signal_thread(thread: u32, signal: i32) -> Result<(), Errno> {
    let process = crate::process_id() as usize;
    // SAFETY: no memory is involved.
    unsafe { syscall3(libc::SYS_tgkill, process, thread as usize, signal as usize) }.map(drop)
}

/// What a handler with three arguments is told.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted {
    /// The address whose access failed; 0 when the processor does not tell.
    pub address: usize,
    /// `siginfo`'s code.
    pub code: i32,
    /// The next instruction.
    pub pc: usize,
    /// The stack pointer.
    pub sp: usize,
    /// The frame pointer register.
    pub fp: usize,
    /// Whether the access was a write; none when unknown.
    pub is_write: Option<bool>,
    /// The general registers.
    pub registers: [usize; REGISTER_COUNT],
}

/// How many registers [`Interrupted`] has.
#[cfg(target_arch = "x86_64")]
pub const REGISTER_COUNT: usize = 17;
/// How many registers [`Interrupted`] has.
#[cfg(not(target_arch = "x86_64"))]
pub const REGISTER_COUNT: usize = 31;

/// Reads the second and third argument of a handler.
///
/// # Safety
/// - They are the kernel's, of a handler that still runs.
pub unsafe fn interrupted(info: *const c_void, context: *const c_void) -> Interrupted {
    // SAFETY: the caller's promise; the kernel's structures have libc's layout.
    let info = unsafe { &*info.cast::<libc::siginfo_t>() };
    // SAFETY: as above.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    // SAFETY: the member that is an address for the signals of bad accesses, and any word else.
    let address = unsafe { info.si_addr() }.addr();
    let code = info.si_code as c_int;
    #[cfg(target_arch = "x86_64")]
    {
        let raw = &context.uc_mcontext.gregs;
        let register = |index: c_int| raw[index as usize] as usize;
        /// The processor's bit for a write, in the error code of a page fault.
        const WRITE: usize = 2;
        const PAGE_FAULT: usize = 14;
        let is_fault = register(libc::REG_TRAPNO) == PAGE_FAULT;
        let mut registers = [0; REGISTER_COUNT];
        for (place, value) in registers.iter_mut().zip(raw) {
            *place = *value as usize;
        }
        Interrupted {
            address,
            code,
            pc: register(libc::REG_RIP),
            sp: register(libc::REG_RSP),
            fp: register(libc::REG_RBP),
            is_write: is_fault.then_some(register(libc::REG_ERR) & WRITE != 0),
            registers,
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        let raw = &context.uc_mcontext;
        let mut registers = [0; REGISTER_COUNT];
        for (place, value) in registers.iter_mut().zip(raw.regs) {
            *place = value as usize;
        }
        let (pc, sp, fp) = (raw.pc as usize, raw.sp as usize, registers[29]);
        Interrupted { address, code, pc, sp, fp, is_write: None, registers }
    }
}

#[cfg(test)]
mod tests {
    use core::ffi::c_void;
    use core::sync::atomic::{AtomicUsize, Ordering};

    use super::{SignalAction, interrupted, set_signal_action, signal_thread};

    static CALLS: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn handler(_signal: i32, info: *const c_void, context: *const c_void) {
        // SAFETY: the kernel's own arguments.
        let state = unsafe { interrupted(info, context) };
        assert!(state.pc != 0 && state.sp != 0);
        CALLS.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn a_handler_runs_and_returns() {
        let action = SignalAction {
            handler: handler as *const () as usize,
            flags: SignalAction::THREE_ARGUMENTS,
            mask: 0,
        };
        // SAFETY: a handler that may run at any time.
        let old = unsafe { set_signal_action(libc::SIGUSR2, action) }.expect("set");
        signal_thread(crate::thread_id(), libc::SIGUSR2).expect("sent");
        assert_eq!(CALLS.load(Ordering::Relaxed), 1);
        // SAFETY: as it was.
        let was = unsafe { set_signal_action(libc::SIGUSR2, old) }.expect("set back");
        assert_eq!(was.handler, action.handler);
    }
}
