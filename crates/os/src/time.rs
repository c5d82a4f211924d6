//! Clocks: the CPU's cycle counter, and nanoseconds.

use crate::syscall::syscall3;

/// The CPU's cycle counter (TSC, CNTVCT). May be read a little early by the CPU; never late with
/// respect to a store that follows in program order, since that store commits only after this
/// instruction has retired.
#[inline(always)]
pub fn cycle_counter() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: RDTSC is available in user mode on every Linux that does not forbid it by prctl.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(target_arch = "aarch64")]
    {
        let value: u64;
        // SAFETY: reading the virtual counter is allowed in user mode on Linux.
        unsafe {
            core::arch::asm!("mrs {}, cntvct_el0", out(reg) value, options(nomem, nostack));
        }
        value
    }
}

/// Whether the cycle counter runs at one rate on all CPUs, so that times of different threads
/// can be compared.
pub fn has_invariant_cycle_counter() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let highest = core::arch::x86_64::__cpuid(0x8000_0000).eax;
        highest >= 0x8000_0007 && core::arch::x86_64::__cpuid(0x8000_0007).edx & (1 << 8) != 0
    }
    #[cfg(target_arch = "aarch64")]
    {
        true
    }
}

/// Nanoseconds of the monotonic clock, by a system call (some 100 ns; not for hot paths).
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let start = core::ptr::from_mut(&mut time).expose_provenance();
    // SAFETY: the kernel fills the structure.
    let result =
        unsafe { syscall3(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC as usize, start, 0) };
    debug_assert!(result.is_ok(), "CLOCK_MONOTONIC exists on every Linux");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds of CPU that this thread has used, by a system call.
pub fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let start = core::ptr::from_mut(&mut time).expose_provenance();
    // SAFETY: the kernel fills the structure.
    let result = unsafe {
        syscall3(libc::SYS_clock_gettime, libc::CLOCK_THREAD_CPUTIME_ID as usize, start, 0)
    };
    debug_assert!(result.is_ok(), "CLOCK_THREAD_CPUTIME_ID exists on every Linux");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::{cycle_counter, monotonic_ns};

    #[test]
    fn clocks_do_not_run_backwards() {
        let (cycles, ns) = (cycle_counter(), monotonic_ns());
        assert!(cycle_counter() >= cycles);
        assert!(monotonic_ns() >= ns);
    }
}
