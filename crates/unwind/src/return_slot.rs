//! Where a hook's caller goes on: for objects whose exported functions are trampolines.

use crate::registers::Registers;

/// What a trampoline passes on as the last two arguments: where the return address stands, and
/// the frame pointer register at entry. On aarch64 the first word there is the frame pointer,
/// the second the return address.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct ReturnSlot(*const usize);

impl ReturnSlot {
    /// The state of the function that called the hook.
    ///
    /// # Safety
    /// - The slot and the frame pointer come from a trampoline of this call.
    #[inline(always)]
    pub unsafe fn caller(self, frame_pointer: usize) -> Registers {
        #[cfg(target_arch = "x86_64")]
        {
            // SAFETY: the call instruction put the return address there.
            let pc = unsafe { self.0.read() };
            Registers { pc, sp: self.0.addr() + 8, fp: frame_pointer }
        }
        #[cfg(target_arch = "aarch64")]
        {
            let _ = frame_pointer;
            // SAFETY: the trampoline stored the pair there.
            let fp = unsafe { self.0.read() };
            // SAFETY: the second word of the pair.
            let pc = unsafe { self.0.wrapping_add(1).read() };
            Registers { pc, sp: self.0.addr() + 16, fp }
        }
    }
}
