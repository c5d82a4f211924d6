//! Accesses that the kernel refused: what they mean, and how the program goes on or ends.

use core::cell::UnsafeCell;
use core::ffi::c_void;

use heapwright_os::{
    CODE_KERNEL, DEFAULT_ACTION, IGNORE_ACTION, Interrupted, SIGBUS, SIGSEGV, SignalAction,
    interrupted, is_readable, peek, set_signal_action, yield_now,
};
use heapwright_sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use heapwright_unwind::{Memo, Registers};

use crate::canary::filler;
use crate::finding::{Finding, Kind};
use crate::heap::HEAP;
use crate::options::Flag;
use crate::thread::{self, Trace, me, trace_from};
use crate::{end, range};

/// The program's own action for a signal that we handle.
struct Program {
    handler: AtomicUsize,
    flags: AtomicU64,
    mask: AtomicU64,
}

impl Program {
    const fn new() -> Self {
        Self {
            handler: AtomicUsize::new(DEFAULT_ACTION),
            flags: AtomicU64::new(0),
            mask: AtomicU64::new(0),
        }
    }

    fn load(&self) -> SignalAction {
        SignalAction {
            handler: self.handler.load(Ordering::Relaxed),
            flags: self.flags.load(Ordering::Relaxed),
            mask: self.mask.load(Ordering::Relaxed),
        }
    }

    fn store(&self, action: SignalAction) {
        self.flags.store(action.flags, Ordering::Relaxed);
        self.mask.store(action.mask, Ordering::Relaxed);
        self.handler.store(action.handler, Ordering::Relaxed);
    }
}

static PROGRAM: [Program; 2] = [const { Program::new() }; 2];
const SIGNALS: [i32; 2] = [SIGSEGV, SIGBUS];

/// The memo for faults, used by one thread at a time.
struct FaultMemo(UnsafeCell<Memo>);

// SAFETY: reached by the thread that holds `HANDLING` only.
unsafe impl Sync for FaultMemo {}

static MEMO: FaultMemo = FaultMemo(UnsafeCell::new(Memo::new()));
/// Number of the thread that tells a fault; 0 for none.
static HANDLING: AtomicUsize = AtomicUsize::new(0);
/// The last address that the program's handler was called for.
static CHAINED_ADDRESS: AtomicUsize = AtomicUsize::new(0);
static CHAINED_PC: AtomicUsize = AtomicUsize::new(0);

/// Puts our handler in. What was there, if anything, stays the program's.
pub(crate) fn begin() {
    for (signal, program) in SIGNALS.into_iter().zip(&PROGRAM) {
        // SAFETY: our handler has three arguments, and does only what a handler may.
        if let Ok(old) = unsafe { set_signal_action(signal, ours()) }
            && old.handler != ours().handler
        {
            program.store(old);
        }
    }
}

fn ours() -> SignalAction {
    let flags = SignalAction::THREE_ARGUMENTS
        | SignalAction::ON_SIGNAL_STACK
        | SignalAction::NOT_BLOCKED
        | SignalAction::RESTART;
    SignalAction { handler: handle as *const () as usize, flags, mask: 0 }
}

/// In a child after fork: whoever told a fault is not there.
pub(crate) fn after_fork() {
    HANDLING.store(0, Ordering::Relaxed);
}

/// Whether a signal is one that we handle, so that the program's action is kept here.
pub fn is_kept(signal: i32) -> bool {
    SIGNALS.contains(&signal)
}

/// The program's action for a kept signal, and a new one when given.
pub fn exchange_action(signal: i32, new: Option<SignalAction>) -> SignalAction {
    let Some(index) = SIGNALS.iter().position(|one| *one == signal) else {
        return SignalAction::DEFAULT;
    };
    let old = PROGRAM[index].load();
    if let Some(new) = new {
        PROGRAM[index].store(new);
    }
    old
}

extern "C" fn handle(signal: i32, info: *const c_void, context: *const c_void) {
    // SAFETY: the kernel's own arguments.
    let state = unsafe { interrupted(info, context) };
    // A code above 0 is the kernel's: an access. Others were sent by somebody.
    let is_access = state.code > 0;
    let is_ours = is_access && HEAP.holds(state.address) && HEAP.explain(state.address).is_some();
    if is_ours {
        let may_go_on = HEAP.options.has(Flag::KeepGoing);
        tell_access(&state, signal, !may_go_on);
        if may_go_on && HEAP.pages.give_way(state.address) {
            return;
        }
    }
    let index = SIGNALS.iter().position(|one| *one == signal).unwrap_or(0);
    let program = PROGRAM[index].load();
    let again = CHAINED_ADDRESS.swap(state.address, Ordering::Relaxed) == state.address
        && CHAINED_PC.swap(state.pc, Ordering::Relaxed) == state.pc;
    let has_handler = program.handler != DEFAULT_ACTION && program.handler != IGNORE_ACTION;
    // A handler that returns to a guard would be called for ever.
    if has_handler && !(is_ours && again) {
        if program.flags & SignalAction::ONCE != 0 {
            PROGRAM[index].store(SignalAction::DEFAULT);
        }
        // SAFETY: the program's own function for this signal, with the kernel's arguments.
        unsafe { call(program, signal, info, context) };
        return;
    }
    if !is_access && program.handler == IGNORE_ACTION {
        return;
    }
    if is_access && !is_ours {
        tell_access(&state, signal, true);
    }
    end::at_fatal_signal();
    // Returning repeats the access, or the sender's signal is sent again: both end the program
    // as it would have ended without us.
    // SAFETY: the default action has no handler.
    let _ = unsafe { set_signal_action(signal, SignalAction::DEFAULT) };
    if !is_access {
        let _ = heapwright_os::signal_thread(heapwright_os::thread_id(), signal);
    }
}

/// Calls the program's handler.
///
/// # Safety
/// - It is a handler of the type that its flags say; the others are the kernel's arguments.
unsafe fn call(program: SignalAction, signal: i32, info: *const c_void, context: *const c_void) {
    type Three = unsafe extern "C" fn(i32, *const c_void, *const c_void);
    type One = unsafe extern "C" fn(i32);
    let address = core::ptr::with_exposed_provenance::<()>(program.handler);
    if program.flags & SignalAction::THREE_ARGUMENTS != 0 {
        // SAFETY: the caller's promise.
        let handler = unsafe { core::mem::transmute::<*const (), Three>(address) };
        // SAFETY: the caller's promise.
        unsafe { handler(signal, info, context) };
    } else {
        // SAFETY: the caller's promise.
        let handler = unsafe { core::mem::transmute::<*const (), One>(address) };
        // SAFETY: the caller's promise.
        unsafe { handler(signal) };
    }
}

/// Tells an access that was refused.
fn tell_access(state: &Interrupted, signal: i32, is_fatal: bool) {
    let thread = thread::id();
    if range::was_told(state.address, thread) {
        return;
    }
    let Some(trace) = trace_fault(state) else { return };
    let mut finding = match HEAP.explain(state.address).filter(|_| HEAP.holds(state.address)) {
        Some((kind, view)) => Finding { block: Some(view), ..Finding::new(kind, state.address) },
        None => crash(state, signal),
    };
    finding.is_write = state.is_write;
    finding.is_fatal = is_fatal;
    finding.stack = trace.stack;
    finding.thread = thread;
    HEAP.tell(finding);
}

/// A crash outside the heap: whether a register holds bytes of ours, which a pointer then was.
fn crash(state: &Interrupted, signal: i32) -> Finding {
    // The processor does not tell addresses that are none; the registers may.
    let suspects = state.registers.iter().chain([&state.address]);
    let no_address = state.code == CODE_KERNEL;
    let filler = suspects.copied().filter_map(filler).next().filter(|_| no_address);
    Finding { filler, signal, ..Finding::new(Kind::Crash, state.address) }
}

/// The stack of the interrupted code. None when this thread faulted in here.
fn trace_fault(state: &Interrupted) -> Option<Trace> {
    let me = me();
    let order = (Ordering::Acquire, Ordering::Relaxed);
    while let Err(other) = HANDLING.compare_exchange(0, me, order.0, order.1) {
        if other == me {
            return None;
        }
        yield_now();
    }
    // SAFETY: `HANDLING` is ours.
    let memo = unsafe { &mut *MEMO.0.get() };
    memo.change_thread();
    let registers = Registers { pc: state.pc + 1, sp: state.sp & !7, fp: state.fp };
    let is_code = is_readable(state.pc & !7);
    let trace = if is_code {
        // SAFETY: the interrupted function's own state; it stands still while we run.
        unsafe { trace_from(memo, registers, &HEAP.depot) }
    } else {
        // A call of an address that is no code: the return address is on top of the stack.
        let mut word = [0; 8];
        let _ = peek(state.sp, &mut word);
        let pc = usize::from_ne_bytes(word);
        let caller = Registers { pc, sp: (state.sp & !7) + 8, fp: state.fp };
        // SAFETY: as above, of the caller.
        unsafe { trace_from(memo, caller, &HEAP.depot) }
    };
    // Release: pairs with the Acquire above.
    HANDLING.store(0, Ordering::Release);
    Some(trace)
}
