//! The printf families. A function with any number of arguments is a few instructions that put
//! them in order as the `v` form takes them; all checks are in the `v` forms.

use core::ffi::{c_char, c_int, c_void};

use heapwright_guard::check_write;

use crate::format;
use crate::real::{self, Wide};

/// The argument list of x86-64.
#[repr(C)]
#[derive(Debug)]
pub struct Arguments {
    word_offset: u32,
    double_offset: u32,
    overflow: *const usize,
    registers: *const u8,
}

const WORD_OFFSET_END: u32 = 48;
const DOUBLE_OFFSET_END: u32 = 176;

impl Arguments {
    /// The same list, to walk it.
    pub(crate) fn copy(&self) -> Self {
        Self { ..*self }
    }

    fn overflow_word(&mut self) -> usize {
        let place = self.overflow;
        self.overflow = place.wrapping_add(1);
        // SAFETY: the format asks for this argument, so the caller put it there.
        unsafe { place.read() }
    }

    /// The next argument that is an integer or a pointer.
    pub(crate) fn word(&mut self) -> usize {
        if self.word_offset >= WORD_OFFSET_END {
            return self.overflow_word();
        }
        let place = self.registers.wrapping_add(self.word_offset as usize);
        self.word_offset += 8;
        // SAFETY: below the end, so inside the area that the registers were put into.
        unsafe { place.cast::<usize>().read() }
    }

    /// Passes over a double.
    pub(crate) fn skip_double(&mut self) {
        if self.double_offset >= DOUBLE_OFFSET_END {
            self.overflow_word();
        } else {
            self.double_offset += 16;
        }
    }

    /// Passes over a long double: two words on the stack, aligned.
    pub(crate) fn skip_long_double(&mut self) {
        let start = self.overflow.map_addr(|address| address.next_multiple_of(16));
        self.overflow = start.wrapping_add(2);
    }
}

/// Defines `$name` with `$fixed` named arguments, then any: calls `$inner` with the named ones
/// and the list, which goes into the register `$list`.
macro_rules! variadic {
    ($($name:ident($fixed:literal, $list:literal) => $inner:ident;)*) => {$(
        #[cfg(target_arch = "x86_64")]
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        extern "C" fn $name() {
            core::arch::naked_asm!(
                ".cfi_startproc",
                "push rbp",
                ".cfi_def_cfa_offset 16",
                ".cfi_offset rbp, -16",
                "mov rbp, rsp",
                ".cfi_def_cfa_register rbp",
                "sub rsp, 208",
                "mov [rsp + 32], rdi",
                "mov [rsp + 40], rsi",
                "mov [rsp + 48], rdx",
                "mov [rsp + 56], rcx",
                "mov [rsp + 64], r8",
                "mov [rsp + 72], r9",
                "test al, al",
                "je 2f",
                "movaps [rsp + 80], xmm0",
                "movaps [rsp + 96], xmm1",
                "movaps [rsp + 112], xmm2",
                "movaps [rsp + 128], xmm3",
                "movaps [rsp + 144], xmm4",
                "movaps [rsp + 160], xmm5",
                "movaps [rsp + 176], xmm6",
                "movaps [rsp + 192], xmm7",
                "2:",
                concat!("mov dword ptr [rsp], ", $fixed, " * 8"),
                "mov dword ptr [rsp + 4], 48",
                "lea rax, [rbp + 16]",
                "mov [rsp + 8], rax",
                "lea rax, [rsp + 32]",
                "mov [rsp + 16], rax",
                concat!("mov ", $list, ", rsp"),
                "call {inner}",
                "leave",
                ".cfi_def_cfa rsp, 8",
                "ret",
                ".cfi_endproc",
                inner = sym $inner,
            )
        }
    )*};
}

variadic! {
    printf("1", "rsi") => vprintf;
    __printf_chk("2", "rdx") => __vprintf_chk;
    fprintf("2", "rdx") => vfprintf;
    __fprintf_chk("3", "rcx") => __vfprintf_chk;
    dprintf("2", "rdx") => vdprintf;
    sprintf("2", "rdx") => vsprintf;
    __sprintf_chk("4", "r8") => __vsprintf_chk;
    snprintf("3", "rcx") => vsnprintf;
    __snprintf_chk("5", "r9") => __vsnprintf_chk;
    wprintf("1", "rsi") => vwprintf;
    fwprintf("2", "rdx") => vfwprintf;
    swprintf("3", "rcx") => vswprintf;
}

#[unsafe(no_mangle)]
unsafe extern "C" fn vprintf(format: *const c_char, arguments: *mut Arguments) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { check_list(format, arguments, "printf") };
    // SAFETY: the caller's promise.
    unsafe { real::vprintf()(format, arguments) }
}

/// # Safety
/// - A format and what it asks for.
unsafe fn check_list<L: format::Letters>(
    format: L,
    arguments: *const Arguments,
    via: &'static str,
) {
    // SAFETY: the caller's promise: a list.
    if let Some(list) = unsafe { arguments.as_ref() } {
        // SAFETY: the caller's promise.
        unsafe { format::check(format, list, via) };
    }
}

/// Checks what was written: the text and its end, in a buffer that takes `limit` characters.
fn check_written(to: usize, count: c_int, limit: usize, unit_bytes: usize, via: &'static str) {
    if let Ok(count) = usize::try_from(count) {
        check_write(to, count.saturating_add(1).min(limit).saturating_mul(unit_bytes), via);
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __vprintf_chk(
    flag: c_int,
    format: *const c_char,
    arguments: *mut Arguments,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { check_list(format, arguments, "printf") };
    // SAFETY: the caller's promise.
    unsafe { real::vprintf_chk()(flag, format, arguments) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn vfprintf(
    stream: *mut c_void,
    format: *const c_char,
    arguments: *mut Arguments,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { check_list(format, arguments, "fprintf") };
    // SAFETY: the caller's promise.
    unsafe { real::vfprintf()(stream, format, arguments) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __vfprintf_chk(
    stream: *mut c_void,
    flag: c_int,
    format: *const c_char,
    arguments: *mut Arguments,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { check_list(format, arguments, "fprintf") };
    // SAFETY: the caller's promise.
    unsafe { real::vfprintf_chk()(stream, flag, format, arguments) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn vdprintf(
    fd: c_int,
    format: *const c_char,
    arguments: *mut Arguments,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { check_list(format, arguments, "dprintf") };
    // SAFETY: the caller's promise.
    unsafe { real::vdprintf()(fd, format, arguments) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn vsprintf(
    to: *mut c_char,
    format: *const c_char,
    arguments: *mut Arguments,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { check_list(format, arguments, "sprintf") };
    // SAFETY: the caller's promise.
    let count = unsafe { real::vsprintf()(to, format, arguments) };
    check_written(to.addr(), count, usize::MAX, 1, "sprintf");
    count
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __vsprintf_chk(
    to: *mut c_char,
    flag: c_int,
    room: usize,
    format: *const c_char,
    arguments: *mut Arguments,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { check_list(format, arguments, "sprintf") };
    // SAFETY: the caller's promise.
    let count = unsafe { real::vsprintf_chk()(to, flag, room, format, arguments) };
    check_written(to.addr(), count, usize::MAX, 1, "sprintf");
    count
}

#[unsafe(no_mangle)]
unsafe extern "C" fn vsnprintf(
    to: *mut c_char,
    limit: usize,
    format: *const c_char,
    arguments: *mut Arguments,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { check_list(format, arguments, "snprintf") };
    // SAFETY: the caller's promise.
    let count = unsafe { real::vsnprintf()(to, limit, format, arguments) };
    check_written(to.addr(), count, limit, 1, "snprintf");
    count
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __vsnprintf_chk(
    to: *mut c_char,
    limit: usize,
    flag: c_int,
    room: usize,
    format: *const c_char,
    arguments: *mut Arguments,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { check_list(format, arguments, "snprintf") };
    // SAFETY: the caller's promise.
    let count = unsafe { real::vsnprintf_chk()(to, limit, flag, room, format, arguments) };
    check_written(to.addr(), count, limit, 1, "snprintf");
    count
}

#[unsafe(no_mangle)]
unsafe extern "C" fn vwprintf(format: *const Wide, arguments: *mut Arguments) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { check_list(format, arguments, "wprintf") };
    // SAFETY: the caller's promise.
    unsafe { real::vwprintf()(format, arguments) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn vfwprintf(
    stream: *mut c_void,
    format: *const Wide,
    arguments: *mut Arguments,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { check_list(format, arguments, "fwprintf") };
    // SAFETY: the caller's promise.
    unsafe { real::vfwprintf()(stream, format, arguments) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn vswprintf(
    to: *mut Wide,
    limit: usize,
    format: *const Wide,
    arguments: *mut Arguments,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { check_list(format, arguments, "swprintf") };
    // SAFETY: the caller's promise.
    let count = unsafe { real::vswprintf()(to, limit, format, arguments) };
    check_written(to.addr(), count, limit, size_of::<Wide>(), "swprintf");
    count
}
