//! One pointer a thread, in initial-exec thread-local storage: two instructions to read, no call,
//! no allocation, valid before constructors and after destructors (zero by then).
//!
//! Stable Rust has no other way to ask for this access model; plain `thread_local!` in a shared
//! object calls the loader.

/// Defines a variable of 8 bytes a thread behind the hidden symbol `$symbol`, which names the crate
/// and its version, and `get` and `set` for it as a pointer to `$target`: null at first.
#[macro_export]
macro_rules! thread_variable {
    ($symbol:literal, $target:ty) => {
        ::core::arch::global_asm!(
            ".pushsection .tbss,\"awT\",@nobits",
            ".p2align 3",
            concat!(".globl ", $symbol),
            concat!(".hidden ", $symbol),
            concat!(".type ", $symbol, ", @object"),
            concat!($symbol, ":"),
            ".zero 8",
            concat!(".size ", $symbol, ", 8"),
            ".popsection",
        );

        /// The calling thread's pointer: null at first.
        #[inline(always)]
        pub(crate) fn get() -> *mut $target {
            let value: *mut $target;
            #[cfg(target_arch = "x86_64")]
            // SAFETY: reads the calling thread's own copy of the variable defined above.
            unsafe {
                ::core::arch::asm!(
                    concat!("mov {0}, qword ptr [rip + ", $symbol, "@GOTTPOFF]"),
                    "mov {0}, qword ptr fs:[{0}]",
                    out(reg) value,
                    options(readonly, nostack, preserves_flags),
                );
            }
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            unsafe {
                ::core::arch::asm!(
                    "mrs {0}, tpidr_el0",
                    concat!("adrp {1}, :gottprel:", $symbol),
                    concat!("ldr {1}, [{1}, :gottprel_lo12:", $symbol, "]"),
                    "ldr {0}, [{0}, {1}]",
                    out(reg) value,
                    out(reg) _,
                    options(readonly, nostack, preserves_flags),
                );
            }
            value
        }

        /// Sets the calling thread's pointer.
        #[inline]
        pub(crate) fn set(value: *mut $target) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: writes the calling thread's own copy of the variable defined above.
            unsafe {
                ::core::arch::asm!(
                    concat!("mov {0}, qword ptr [rip + ", $symbol, "@GOTTPOFF]"),
                    "mov qword ptr fs:[{0}], {1}",
                    out(reg) _,
                    in(reg) value,
                    options(nostack, preserves_flags),
                );
            }
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            unsafe {
                ::core::arch::asm!(
                    "mrs {0}, tpidr_el0",
                    concat!("adrp {1}, :gottprel:", $symbol),
                    concat!("ldr {1}, [{1}, :gottprel_lo12:", $symbol, "]"),
                    "str {2}, [{0}, {1}]",
                    out(reg) _,
                    out(reg) _,
                    in(reg) value,
                    options(nostack, preserves_flags),
                );
            }
        }
    };
}
