//! One step outward: from a frame's registers to its caller's.

use crate::registers::Registers;
use crate::resolver::{CACHE, Resolved, lookup_few, resolve};
use crate::rule::{FP_UNCHANGED, Kind, Rule};
use crate::stack::{Home, Window};

/// Where the kernel's signal frame keeps the interrupted registers, in bytes from the stack
/// pointer after the handler has returned: `uc_mcontext` starts at 40, and holds r8 to r15, rdi,
/// rsi, rbp, rbx, rdx, rax, rcx, rsp, rip in this order.
const SIGNAL_FP: usize = 40 + 10 * 8;
const SIGNAL_SP: usize = 40 + 15 * 8;
const SIGNAL_PC: usize = 40 + 16 * 8;

/// Why there is no next frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The frame is the outermost one.
    Outermost,
    /// The frame has address zero: the one before it was the outermost.
    Null,
    /// No rule leads further.
    NoRule,
    /// The address of this frame is not known to be code.
    NotCode,
    /// The resolver was busy.
    Busy,
    /// A slot lies outside the stack.
    OutOfStack,
    /// The caller's frame does not lie above.
    Corrupt,
}

/// A step that was made: the caller's registers and the rule that led there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stepped {
    pub(crate) registers: Registers,
    pub(crate) rule: Rule,
}

/// Steps from `at` to its caller, whatever that takes. The walk does the common cases itself
/// ([`step_fast`]) and comes here for the others.
#[inline(never)]
pub(crate) fn step(at: Registers, window: &mut Window, home: &mut Home) -> Result<Stepped, Stop> {
    let mut rule = lookup(at.pc);
    if rule == Rule::EMPTY {
        if at.pc == 0 {
            return Err(Stop::Null);
        }
        rule = match resolve(at.pc) {
            Resolved::Rule(rule) => rule,
            Resolved::NotCode => return Err(Stop::NotCode),
            Resolved::Busy => return Err(Stop::Busy),
        };
    }
    let base = match rule.kind() {
        Kind::StackPointer => at.sp,
        Kind::FramePointer => at.fp,
        _ => return step_slow(at, rule, window, home),
    };
    step_to(at, base.wrapping_add(rule.cfa_words() * 8), rule, window)
}

/// Steps from `at` to its caller if the rule is cached and of the common kinds, and the slots
/// lie in the window. None says nothing but that [`step`] must be asked.
///
/// Some 20 instructions without a jump between the two kinds, and two dependent loads for the
/// return address.
#[inline(always)]
pub(crate) fn step_fast(at: Registers, window: &Window) -> Option<Stepped> {
    let rule = lookup(at.pc);
    match rule.base_if_common() {
        Some(from_fp) => step_by(rule, from_fp, at, window),
        None => step_by_few(at, window),
    }
}

/// [`step_fast`] by a rule of the small table, where that is in use.
#[cold]
#[inline(never)]
fn step_by_few(at: Registers, window: &Window) -> Option<Stepped> {
    let rule = lookup_few(at.pc);
    step_by(rule, rule.base_if_common()?, at, window)
}

/// The step by `rule`, one of the common kinds, whose base is the frame pointer where `from_fp` has
/// its bits set.
#[inline(always)]
fn step_by(rule: Rule, from_fp: usize, at: Registers, window: &Window) -> Option<Stepped> {
    let base = at.sp ^ ((at.sp ^ at.fp) & from_fp);
    let cfa = base.wrapping_add(rule.cfa_words() * 8);
    let (pc_slot, fp_slot) = (cfa.wrapping_sub(8), cfa.wrapping_sub(rule.fp_words() * 8));
    // From the stack pointer, `Rule::new` has put the slot into the frame.
    if fp_slot < at.sp || !window.holds_above(pc_slot, at.sp) {
        return None;
    }
    // SAFETY: just checked.
    let pc = unsafe { window.load_unchecked(pc_slot) };
    // SAFETY: at or above the stack pointer by the check above, at or below `pc_slot` since
    // `fp_words` is at least 1, and a multiple of 8 away from it.
    let fp = unsafe { window.load_unchecked(fp_slot) };
    let fp = if rule.fp_words() == FP_UNCHANGED { at.fp } else { fp };
    Some(Stepped { registers: Registers { pc, sp: cfa, fp }, rule })
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn lookup(pc: usize) -> Rule {
    CACHE.get(pc)
}

/// Everywhere the frame-pointer chain: the platform's ABI keeps it in all code.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn lookup(_pc: usize) -> Rule {
    Rule::GUESS_IN_MODULE
}

/// The step to a caller with this CFA, its return address one word below.
fn step_to(at: Registers, cfa: usize, rule: Rule, window: &mut Window) -> Result<Stepped, Stop> {
    // The caller's frame lies above, so a walk ends; a CFA that wrapped around is caught here.
    if cfa <= at.sp {
        return Err(Stop::Corrupt);
    }
    if !window.reaches(cfa) {
        return Err(Stop::OutOfStack);
    }
    let pc = window.load(cfa - 8).ok_or(Stop::Corrupt)?;
    let fp = match rule.fp_words() {
        FP_UNCHANGED => at.fp,
        words => window.load(cfa.wrapping_sub(words * 8)).ok_or(Stop::Corrupt)?,
    };
    Ok(Stepped { registers: Registers { pc, sp: cfa, fp }, rule })
}

/// The kinds of rule that are rare.
#[inline(never)]
fn step_slow(
    at: Registers,
    rule: Rule,
    window: &mut Window,
    home: &mut Home,
) -> Result<Stepped, Stop> {
    match rule.kind() {
        Kind::Outermost => Err(Stop::Outermost),
        Kind::Realigned => {
            let slot = at.fp.wrapping_sub(rule.cfa_words() * 8);
            let in_frame =
                slot >= at.sp && at.fp >= slot && window.reaches(at.fp.saturating_add(8));
            let cfa = window.load(slot).filter(|_| in_frame).ok_or(Stop::OutOfStack)?;
            let fp = window.load(at.fp).ok_or(Stop::Corrupt)?;
            let mut stepped = step_to(at, cfa, rule, window)?;
            stepped.registers.fp = fp;
            Ok(stepped)
        }
        Kind::Signal => {
            if !window.reaches(at.sp.saturating_add(SIGNAL_PC + 8)) {
                return Err(Stop::OutOfStack);
            }
            let word = |offset| window.load(at.sp + offset).ok_or(Stop::OutOfStack);
            let (pc, sp, fp) = (word(SIGNAL_PC)?, word(SIGNAL_SP)?, word(SIGNAL_FP)?);
            if !sp.is_multiple_of(8) {
                return Err(Stop::Corrupt);
            }
            // The handler may have run on another stack: the walk goes on where it was raised.
            *window = home.window(sp);
            // One byte further, so that like everywhere `pc - 1` lies in the instruction.
            Ok(Stepped { registers: Registers { pc: pc.wrapping_add(1), sp, fp }, rule })
        }
        Kind::Guess => guess(at, rule, window),
        _ => Err(Stop::NoRule),
    }
}

/// The words, by address, that a step over a signal's frame at `at` to `outside` loaded; the frame
/// pointer's comes last.
pub(crate) fn signal_words(at: Registers, outside: Registers) -> [(usize, usize); 3] {
    [
        (at.sp.wrapping_add(SIGNAL_PC), outside.pc.wrapping_sub(1)),
        (at.sp.wrapping_add(SIGNAL_SP), outside.sp),
        (at.sp.wrapping_add(SIGNAL_FP), outside.fp),
    ]
}

/// Steps by frame pointer where no table tells better.
fn guess(at: Registers, rule: Rule, window: &mut Window) -> Result<Stepped, Stop> {
    // The ABI marks the outermost frame by a zero; code without a file may use the register for
    // anything, so there it means nothing.
    if at.fp == 0 && rule == Rule::GUESS_IN_MODULE {
        return Err(Stop::Outermost);
    }
    if at.fp < at.sp || at.fp > at.sp.saturating_add(GUESS_BYTES_MAX) {
        return Err(Stop::NoRule);
    }
    let stepped = step_to(at, at.fp + 16, rule, window).map_err(|_| Stop::NoRule)?;
    let next = stepped.registers;
    let plausible = next.pc == 0 || cfg!(not(target_arch = "x86_64")) || is_code(next.pc);
    // The chain goes outward; what a frame-pointer-less caller keeps in the register is not ours
    // to judge, so the next step does.
    if plausible { Ok(stepped) } else { Err(Stop::NoRule) }
}

/// No function that lacks an unwind table has a larger frame.
const GUESS_BYTES_MAX: usize = 1 << 20;

fn is_code(pc: usize) -> bool {
    CACHE.get(pc) != Rule::EMPTY || matches!(resolve(pc), Resolved::Rule(_))
}
