//! Passing by the recorder: while the process does not record, a hook is a test, a branch and a
//! jump to the real function.
//!
//! # Invariants
//! - I1: the word behind each such hook is the address of its own slow half, or of the real
//!   function, which takes the same arguments (more of them do not hurt).

use heapwright_sync::atomic::{AtomicPtr, Ordering};

use crate::real;

/// A hook's word.
type PassWord = AtomicPtr<()>;

/// The test: on to the real function unless the control page says that we are awake. The slow
/// half follows.
#[cfg(target_arch = "x86_64")]
macro_rules! pass_by {
    ($name:ident) => {
        concat!(
            ".pushsection .data.rel.local,\"aw\",@progbits\n.p2align 3\n",
            ".globl heapwright_recorder_pass_",
            stringify!($name),
            "\n.hidden heapwright_recorder_pass_",
            stringify!($name),
            "\nheapwright_recorder_pass_",
            stringify!($name),
            ":\n",
            ".quad heapwright_recorder_slow_",
            stringify!($name),
            "\n.popsection\n",
            "cmp byte ptr [rip + {awake}], 0\n",
            "jne heapwright_recorder_slow_",
            stringify!($name),
            "\n",
            "jmp qword ptr [rip + heapwright_recorder_pass_",
            stringify!($name),
            "]\n",
            "heapwright_recorder_slow_",
            stringify!($name),
            ":"
        )
    };
}
#[cfg(target_arch = "aarch64")]
macro_rules! pass_by {
    ($name:ident) => {
        concat!(
            ".pushsection .data.rel.local,\"aw\",@progbits\n.p2align 3\n",
            ".globl heapwright_recorder_pass_",
            stringify!($name),
            "\n.hidden heapwright_recorder_pass_",
            stringify!($name),
            "\nheapwright_recorder_pass_",
            stringify!($name),
            ":\n",
            ".quad heapwright_recorder_slow_",
            stringify!($name),
            "\n.popsection\n",
            "adrp x16, {awake}\n",
            "ldrb w16, [x16, :lo12:{awake}]\n",
            "cbnz w16, heapwright_recorder_slow_",
            stringify!($name),
            "\n",
            "adrp x16, heapwright_recorder_pass_",
            stringify!($name),
            "\n",
            "ldr x16, [x16, :lo12:heapwright_recorder_pass_",
            stringify!($name),
            "]\n",
            "br x16\n",
            "heapwright_recorder_slow_",
            stringify!($name),
            ":"
        )
    };
}
pub(crate) use pass_by;

macro_rules! passes {
    ($($name:ident => $real:ident;)*) => {
        /// Leads hooks to those real functions that there are; the others keep their slow halves.
        pub(crate) fn set_passes() {
            $({
                unsafe extern "C" {
                    #[link_name = concat!("heapwright_recorder_pass_", stringify!($name))]
                    static PASS: PassWord;
                }
                if let Some(function) = real::$real() {
                    let function = function as *const () as *mut ();
                    // SAFETY: the word defined beside the hook: an aligned pointer.
                    let word = unsafe { &PASS };
                    // Release: whoever jumps there finds what the loader has set up.
                    word.store(function, Ordering::Release);
                }
            })*
        }
    };
}

passes! {
    malloc => malloc;
    calloc => calloc;
    posix_memalign => posix_memalign;
    aligned_alloc => aligned_alloc;
    memalign => memalign;
    valloc => valloc;
    pvalloc => pvalloc;
    _Znwm => new_throwing;
    _Znam => new_array_throwing;
    _ZnwmSt11align_val_t => new_aligned_throwing;
    _ZnamSt11align_val_t => new_array_aligned_throwing;
    _ZnwmRKSt9nothrow_t => new_nothrow;
    _ZnamRKSt9nothrow_t => new_array_nothrow;
    _ZnwmSt11align_val_tRKSt9nothrow_t => new_aligned_nothrow;
    _ZnamSt11align_val_tRKSt9nothrow_t => new_array_aligned_nothrow;
    realloc => realloc;
    reallocarray => reallocarray;
    free => free;
    cfree => free;
    free_sized => free_sized;
    free_aligned_sized => free_aligned_sized;
    _ZdlPv => delete;
    _ZdaPv => delete_array;
    _ZdlPvm => delete;
    _ZdaPvm => delete_array;
    _ZdlPvRKSt9nothrow_t => delete;
    _ZdaPvRKSt9nothrow_t => delete_array;
    _ZdlPvSt11align_val_t => delete_aligned;
    _ZdaPvSt11align_val_t => delete_array_aligned;
    _ZdlPvSt11align_val_tRKSt9nothrow_t => delete_aligned;
    _ZdaPvSt11align_val_tRKSt9nothrow_t => delete_array_aligned;
}
