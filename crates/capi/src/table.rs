//! The table itself: C names for the functions of `face`, and the C++ operators.

/// Exports the complete set of allocation symbols of C and C++ over the [`CAllocator`]
/// `$allocator`; to be called once, at the root of a `cdylib`.
///
/// [`CAllocator`]: crate::CAllocator
#[macro_export]
macro_rules! export_c_symbols {
    ($allocator:ty) => {
        $crate::export_c_functions!($allocator);
        $crate::export_cpp_operators!($allocator);
    };
}

/// The C half of [`export_c_symbols!`](crate::export_c_symbols).
#[macro_export]
#[doc(hidden)]
macro_rules! export_c_functions {
    (@one $(#[doc = $doc:literal])* $name:literal $function:ident
        ($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block) => {
        $(#[doc = $doc])*
        ///
        /// # Safety
        /// - The C library's rules for the function.
        #[unsafe(export_name = $name)]
        pub unsafe extern "C" fn $function($($argument: $type),*) $(-> $result)? $body
    };
    ($allocator:ty) => {
        /// The C functions; they are found by their exported names.
        pub mod c_functions {
            use core::ffi::{c_int, c_void};

            use super::*;

            $crate::export_c_functions! { @one
                /// `malloc`.
                "malloc" malloc(bytes: usize) -> *mut u8 {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::malloc::<$allocator>(bytes) }
                }
            }
            $crate::export_c_functions! { @one
                /// glibc's double of `malloc`.
                "__libc_malloc" libc_malloc(bytes: usize) -> *mut u8 {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::malloc::<$allocator>(bytes) }
                }
            }
            $crate::export_c_functions! { @one
                /// `calloc`.
                "calloc" calloc(count: usize, unit_bytes: usize) -> *mut u8 {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::calloc::<$allocator>(count, unit_bytes) }
                }
            }
            $crate::export_c_functions! { @one
                /// glibc's double of `calloc`.
                "__libc_calloc" libc_calloc(count: usize, unit_bytes: usize) -> *mut u8 {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::calloc::<$allocator>(count, unit_bytes) }
                }
            }
            $crate::export_c_functions! { @one
                /// `realloc`.
                "realloc" realloc(ptr: *mut u8, bytes: usize) -> *mut u8 {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::realloc::<$allocator>(ptr, bytes) }
                }
            }
            $crate::export_c_functions! { @one
                /// glibc's double of `realloc`.
                "__libc_realloc" libc_realloc(ptr: *mut u8, bytes: usize) -> *mut u8 {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::realloc::<$allocator>(ptr, bytes) }
                }
            }
            $crate::export_c_functions! { @one
                /// `reallocarray`.
                "reallocarray" reallocarray(ptr: *mut u8, count: usize, unit_bytes: usize)
                    -> *mut u8 {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::reallocarray::<$allocator>(ptr, count, unit_bytes) }
                }
            }
            $crate::export_c_functions! { @one
                /// glibc's double of `reallocarray`.
                "__libc_reallocarray" libc_reallocarray(
                    ptr: *mut u8, count: usize, unit_bytes: usize) -> *mut u8 {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::reallocarray::<$allocator>(ptr, count, unit_bytes) }
                }
            }
            $crate::export_c_functions! { @one
                /// `free`.
                "free" free(ptr: *mut u8) {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::free::<$allocator>(ptr, $crate::FreeEntry::Free) }
                }
            }
            $crate::export_c_functions! { @one
                /// glibc's double of `free`.
                "__libc_free" libc_free(ptr: *mut u8) {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::free::<$allocator>(ptr, $crate::FreeEntry::Free) }
                }
            }
            $crate::export_c_functions! { @one
                /// `cfree`, an old name of `free`.
                "cfree" cfree(ptr: *mut u8) {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::free::<$allocator>(ptr, $crate::FreeEntry::Free) }
                }
            }
            $crate::export_c_functions! { @one
                /// glibc's double of `cfree`.
                "__libc_cfree" libc_cfree(ptr: *mut u8) {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::free::<$allocator>(ptr, $crate::FreeEntry::Free) }
                }
            }
            $crate::export_c_functions! { @one
                /// C23 `free_sized`; the size is not relied on.
                "free_sized" free_sized(ptr: *mut u8, bytes: usize) {
                    // SAFETY: the C caller's promise.
                    unsafe {
                        $crate::face::free_told::<$allocator>(
                            ptr, $crate::FreeEntry::FreeSized, Some(bytes), None)
                    }
                }
            }
            $crate::export_c_functions! { @one
                /// C23 `free_aligned_sized`; neither number is relied on.
                "free_aligned_sized" free_aligned_sized(
                    ptr: *mut u8, align_bytes: usize, bytes: usize) {
                    // SAFETY: the C caller's promise.
                    unsafe {
                        $crate::face::free_told::<$allocator>(
                            ptr, $crate::FreeEntry::FreeSized, Some(bytes), Some(align_bytes))
                    }
                }
            }
            $crate::export_c_functions! { @one
                /// `posix_memalign`.
                "posix_memalign" posix_memalign(
                    out: *mut *mut u8, align_bytes: usize, bytes: usize) -> c_int {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::posix_memalign::<$allocator>(out, align_bytes, bytes) }
                }
            }
            $crate::export_c_functions! { @one
                /// glibc's double of `posix_memalign`.
                "__posix_memalign" double_posix_memalign(
                    out: *mut *mut u8, align_bytes: usize, bytes: usize) -> c_int {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::posix_memalign::<$allocator>(out, align_bytes, bytes) }
                }
            }
            $crate::export_c_functions! { @one
                /// `aligned_alloc`.
                "aligned_alloc" aligned_alloc(align_bytes: usize, bytes: usize) -> *mut u8 {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::aligned_alloc::<$allocator>(align_bytes, bytes) }
                }
            }
            $crate::export_c_functions! { @one
                /// `memalign`.
                "memalign" memalign(align_bytes: usize, bytes: usize) -> *mut u8 {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::memalign::<$allocator>(align_bytes, bytes) }
                }
            }
            $crate::export_c_functions! { @one
                /// glibc's double of `memalign`.
                "__libc_memalign" libc_memalign(align_bytes: usize, bytes: usize) -> *mut u8 {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::memalign::<$allocator>(align_bytes, bytes) }
                }
            }
            $crate::export_c_functions! { @one
                /// `valloc`.
                "valloc" valloc(bytes: usize) -> *mut u8 {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::valloc::<$allocator>(bytes) }
                }
            }
            $crate::export_c_functions! { @one
                /// glibc's double of `valloc`.
                "__libc_valloc" libc_valloc(bytes: usize) -> *mut u8 {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::valloc::<$allocator>(bytes) }
                }
            }
            $crate::export_c_functions! { @one
                /// `pvalloc`.
                "pvalloc" pvalloc(bytes: usize) -> *mut u8 {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::pvalloc::<$allocator>(bytes) }
                }
            }
            $crate::export_c_functions! { @one
                /// glibc's double of `pvalloc`.
                "__libc_pvalloc" libc_pvalloc(bytes: usize) -> *mut u8 {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::pvalloc::<$allocator>(bytes) }
                }
            }
            $crate::export_c_functions! { @one
                /// `malloc_usable_size`.
                "malloc_usable_size" malloc_usable_size(ptr: *mut u8) -> usize {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::malloc_usable_size::<$allocator>(ptr) }
                }
            }
            $crate::export_c_functions! { @one
                /// macOS's `malloc_size`.
                "malloc_size" malloc_size(ptr: *mut u8) -> usize {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::malloc_usable_size::<$allocator>(ptr) }
                }
            }
            $crate::export_c_functions! { @one
                /// macOS's `malloc_good_size`.
                "malloc_good_size" malloc_good_size(bytes: usize) -> usize {
                    $crate::extensions::good_bytes::<$allocator>(bytes, 0)
                }
            }
            $crate::export_c_functions! { @one
                /// FreeBSD's `reallocf`.
                "reallocf" reallocf(ptr: *mut u8, bytes: usize) -> *mut u8 {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::extensions::reallocf::<$allocator>(ptr, bytes) }
                }
            }
            $crate::export_c_functions! { @one
                /// NetBSD's `reallocarr`.
                "reallocarr" reallocarr(
                    place: *mut *mut u8, count: usize, unit_bytes: usize) -> c_int {
                    // SAFETY: the C caller's promise.
                    unsafe {
                        $crate::extensions::reallocarr::<$allocator>(place, count, unit_bytes)
                    }
                }
            }
            $crate::export_c_functions! { @one
                /// `malloc_trim`; the pad is not kept back.
                "malloc_trim" malloc_trim(_pad_bytes: usize) -> c_int {
                    $crate::face::malloc_trim::<$allocator>()
                }
            }
            $crate::export_c_functions! { @one
                /// `mallopt`: takes what only glibc's own workings need.
                "mallopt" mallopt(parameter: c_int, value: c_int) -> c_int {
                    $crate::face::mallopt::<$allocator>(parameter, value)
                }
            }
            $crate::export_c_functions! { @one
                /// `mallinfo`.
                "mallinfo" mallinfo() -> $crate::Mallinfo {
                    let usage = <$allocator as $crate::CAllocator>::usage();
                    $crate::Mallinfo2::from(usage).into()
                }
            }
            $crate::export_c_functions! { @one
                /// `mallinfo2`.
                "mallinfo2" mallinfo2() -> $crate::Mallinfo2 {
                    <$allocator as $crate::CAllocator>::usage().into()
                }
            }
            $crate::export_c_functions! { @one
                /// `malloc_stats`.
                "malloc_stats" malloc_stats() {
                    $crate::face::malloc_stats::<$allocator>();
                }
            }
            $crate::export_c_functions! { @one
                /// `malloc_info`.
                "malloc_info" malloc_info(options: c_int, stream: *mut c_void) -> c_int {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::malloc_info::<$allocator>(options, stream) }
                }
            }
        }
    };
}

/// jemalloc's functions with flags and its control interface, over the [`CAllocator`]
/// `$allocator`: for an object that stands in for libjemalloc in programs linked with it.
///
/// [`CAllocator`]: crate::CAllocator
#[macro_export]
macro_rules! export_jemalloc_symbols {
    ($allocator:ty) => {
        /// jemalloc's functions; they are found by their exported names.
        pub mod jemalloc_functions {
            use core::ffi::{c_char, c_int, c_void};
            use core::sync::atomic::AtomicPtr;

            use super::*;

            /// Options that a program sets; they are jemalloc's, and read by nobody here.
            #[unsafe(export_name = "malloc_conf")]
            pub static MALLOC_CONF: AtomicPtr<c_char> = AtomicPtr::new(core::ptr::null_mut());

            /// What a program wants messages to go through; there are none.
            #[unsafe(export_name = "malloc_message")]
            pub static MALLOC_MESSAGE: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

            $crate::export_c_functions! { @one
                /// `mallocx`.
                "mallocx" mallocx(bytes: usize, flags: c_int) -> *mut u8 {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::extensions::mallocx::<$allocator>(bytes, flags) }
                }
            }
            $crate::export_c_functions! { @one
                /// `rallocx`.
                "rallocx" rallocx(ptr: *mut u8, bytes: usize, flags: c_int) -> *mut u8 {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::extensions::rallocx::<$allocator>(ptr, bytes, flags) }
                }
            }
            $crate::export_c_functions! { @one
                /// `xallocx`.
                "xallocx" xallocx(
                    ptr: *mut u8, _bytes: usize, _extra_bytes: usize, _flags: c_int) -> usize {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::extensions::xallocx::<$allocator>(ptr) }
                }
            }
            $crate::export_c_functions! { @one
                /// `sallocx`.
                "sallocx" sallocx(ptr: *mut u8, _flags: c_int) -> usize {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::malloc_usable_size::<$allocator>(ptr) }
                }
            }
            $crate::export_c_functions! { @one
                /// `dallocx`.
                "dallocx" dallocx(ptr: *mut u8, _flags: c_int) {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::free::<$allocator>(ptr, $crate::FreeEntry::Free) }
                }
            }
            $crate::export_c_functions! { @one
                /// `sdallocx`; the size is not relied on.
                "sdallocx" sdallocx(ptr: *mut u8, _bytes: usize, _flags: c_int) {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::face::free::<$allocator>(ptr, $crate::FreeEntry::FreeSized) }
                }
            }
            $crate::export_c_functions! { @one
                /// `nallocx`.
                "nallocx" nallocx(bytes: usize, flags: c_int) -> usize {
                    $crate::extensions::good_bytes::<$allocator>(bytes, flags)
                }
            }
            $crate::export_c_functions! { @one
                /// `mallctl`.
                "mallctl" mallctl(
                    name: *const c_char, old: *mut c_void, old_bytes: *mut usize,
                    new: *mut c_void, new_bytes: usize) -> c_int {
                    // SAFETY: the C caller's promise.
                    unsafe {
                        $crate::control::mallctl::<$allocator>(name, old, old_bytes, new, new_bytes)
                    }
                }
            }
            $crate::export_c_functions! { @one
                /// `mallctlnametomib`.
                "mallctlnametomib" mallctlnametomib(
                    name: *const c_char, mib: *mut usize, depth: *mut usize) -> c_int {
                    // SAFETY: the C caller's promise.
                    unsafe { $crate::control::mallctlnametomib(name, mib, depth) }
                }
            }
            $crate::export_c_functions! { @one
                /// `mallctlbymib`.
                "mallctlbymib" mallctlbymib(
                    mib: *const usize, depth: usize, old: *mut c_void, old_bytes: *mut usize,
                    new: *mut c_void, new_bytes: usize) -> c_int {
                    // SAFETY: the C caller's promise.
                    unsafe {
                        $crate::control::mallctlbymib::<$allocator>(
                            mib, depth, old, old_bytes, new, new_bytes)
                    }
                }
            }
            $crate::export_c_functions! { @one
                /// `malloc_stats_print`.
                "malloc_stats_print" malloc_stats_print(
                    write: Option<$crate::control::WriteText>, opaque: *mut c_void,
                    options: *const c_char) {
                    // SAFETY: the C caller's promise.
                    unsafe {
                        $crate::control::malloc_stats_print::<$allocator>(write, opaque, options)
                    }
                }
            }
        }
    };
}

/// The C++ half of [`export_c_symbols!`](crate::export_c_symbols): 8 forms of `operator new`,
/// 12 of `operator delete`.
#[macro_export]
#[doc(hidden)]
macro_rules! export_cpp_operators {
    (@new $allocator:ty, $name:literal, $function:ident, $slow:ident, $entry:ident) => {
        /// A throwing `operator new`: a block at hand, else a jump to the slow form, which may
        /// throw through nothing but its own frame. That it is a jump is checked in the built
        /// object (`capi/tests/disassembly.rs`).
        #[cfg(all(target_arch = "x86_64", not(debug_assertions)))]
        #[unsafe(export_name = $name)]
        pub extern "C" fn $function(bytes: usize) -> *mut u8 {
            let block =
                <$allocator as $crate::CAllocator>::malloc_at_once(bytes, $crate::Entry::$entry);
            if block.is_null() { $slow(bytes) } else { block }
        }

        /// A throwing `operator new`, through a naked function, since calls are not jumps in a
        /// build without optimisation.
        #[cfg(all(target_arch = "x86_64", debug_assertions))]
        #[unsafe(naked)]
        #[unsafe(export_name = $name)]
        pub extern "C" fn $function(bytes: usize) -> *mut u8 {
            core::arch::naked_asm!("jmp {slow}", slow = sym $slow)
        }

        /// A throwing `operator new` when no block is at hand:
        /// [`failed`]($crate::operator_new::failed) when there is no memory.
        #[cfg(target_arch = "x86_64")]
        #[unsafe(naked)]
        extern "C" fn $slow(bytes: usize) -> *mut u8 {
            extern "C" fn again(bytes: usize, _align_bytes: usize) -> *mut u8 {
                // SAFETY: C++'s rules for the block are the caller's.
                unsafe {
                    <$allocator as $crate::CAllocator>::malloc(bytes, $crate::Entry::$entry)
                }
            }
            core::arch::naked_asm!(
                ".cfi_startproc",
                "push rdi",
                ".cfi_adjust_cfa_offset 8",
                "call {again}",
                "pop rdi",
                ".cfi_adjust_cfa_offset -8",
                "test rax, rax",
                "je 2f",
                "ret",
                "2:",
                "xor esi, esi",
                "lea rdx, [rip + {again}]",
                "jmp {failed}",
                ".cfi_endproc",
                again = sym again,
                failed = sym $crate::operator_new::failed,
            )
        }

        /// A throwing `operator new`; aborts when there is no memory.
        #[cfg(not(target_arch = "x86_64"))]
        #[unsafe(export_name = $name)]
        pub extern "C" fn $function(bytes: usize) -> *mut u8 {
            extern "C" fn again(bytes: usize, _align_bytes: usize) -> *mut u8 {
                // SAFETY: C++'s rules for the block are the caller's.
                unsafe {
                    <$allocator as $crate::CAllocator>::malloc(bytes, $crate::Entry::$entry)
                }
            }
            let block = again(bytes, 0);
            if block.is_null() { $crate::operator_new::failed(bytes, 0, again) } else { block }
        }
    };
    (@new_aligned $allocator:ty, $name:literal, $function:ident, $entry:ident) => {
        /// A throwing, aligned `operator new`: [`failed`]($crate::operator_new::failed) when
        /// there is no memory.
        #[cfg(target_arch = "x86_64")]
        #[unsafe(naked)]
        #[unsafe(export_name = $name)]
        pub extern "C" fn $function(bytes: usize, align_bytes: usize) -> *mut u8 {
            extern "C" fn again(bytes: usize, align_bytes: usize) -> *mut u8 {
                $crate::operator_new::aligned::<$allocator>(
                    bytes, align_bytes, $crate::Entry::$entry)
            }
            core::arch::naked_asm!(
                ".cfi_startproc",
                "push rdi",
                ".cfi_adjust_cfa_offset 8",
                "push rsi",
                ".cfi_adjust_cfa_offset 8",
                "sub rsp, 8",
                ".cfi_adjust_cfa_offset 8",
                "call {again}",
                "add rsp, 8",
                ".cfi_adjust_cfa_offset -8",
                "pop rsi",
                ".cfi_adjust_cfa_offset -8",
                "pop rdi",
                ".cfi_adjust_cfa_offset -8",
                "test rax, rax",
                "je 2f",
                "ret",
                "2:",
                "lea rdx, [rip + {again}]",
                "jmp {failed}",
                ".cfi_endproc",
                again = sym again,
                failed = sym $crate::operator_new::failed,
            )
        }

        /// A throwing, aligned `operator new`; aborts when there is no memory.
        #[cfg(not(target_arch = "x86_64"))]
        #[unsafe(export_name = $name)]
        pub extern "C" fn $function(bytes: usize, align_bytes: usize) -> *mut u8 {
            extern "C" fn again(bytes: usize, align_bytes: usize) -> *mut u8 {
                $crate::operator_new::aligned::<$allocator>(
                    bytes, align_bytes, $crate::Entry::$entry)
            }
            let block = again(bytes, align_bytes);
            if block.is_null() {
                $crate::operator_new::failed(bytes, align_bytes, again)
            } else {
                block
            }
        }
    };
    (@nothrow $allocator:ty, $name:literal, $function:ident, $entry:ident) => {
        /// A nothrow `operator new`: null when there is no memory and no new handler helps.
        ///
        /// # Safety
        /// - C++'s rules for the block.
        #[unsafe(export_name = $name)]
        pub unsafe extern "C" fn $function(bytes: usize, _nothrow: *const u8) -> *mut u8 {
            // SAFETY: the caller's promise.
            let block =
                unsafe { <$allocator as $crate::CAllocator>::malloc(bytes, $crate::Entry::$entry) };
            if block.is_null() { $crate::operator_new::nothrow_failed(bytes, None) } else { block }
        }
    };
    (@nothrow_aligned $allocator:ty, $name:literal, $function:ident, $entry:ident) => {
        /// A nothrow, aligned `operator new`: null when there is no memory.
        ///
        /// # Safety
        /// - C++'s rules for the block.
        #[unsafe(export_name = $name)]
        pub unsafe extern "C" fn $function(
            bytes: usize, align_bytes: usize, _nothrow: *const u8) -> *mut u8 {
            let block = $crate::operator_new::aligned::<$allocator>(
                bytes, align_bytes, $crate::Entry::$entry);
            if block.is_null() {
                $crate::operator_new::nothrow_failed(bytes, Some(align_bytes))
            } else {
                block
            }
        }
    };
    (@delete $allocator:ty, $entry:ident:
        $($name:literal $function:ident($($hint:ident: $type:ty),*) $told:expr;)*) => {$(
        /// A form of `operator delete`; sizes and alignments are not relied on.
        ///
        /// # Safety
        /// - `ptr` is null or a live block of this allocator.
        #[unsafe(export_name = $name)]
        pub unsafe extern "C" fn $function(ptr: *mut u8, $($hint: $type),*) {
            // SAFETY: the caller's promise.
            unsafe {
                let (bytes, align_bytes): (Option<usize>, Option<usize>) = $told;
                $crate::face::free_told::<$allocator>(
                    ptr, $crate::FreeEntry::$entry, bytes, align_bytes)
            }
        }
    )*};
    ($allocator:ty) => {
        /// The C++ operators; they are found by their exported names.
        pub mod cpp_operators {
            use super::*;

            $crate::export_cpp_operators!(@new $allocator, "_Znwm", new, new_slow, New);
            $crate::export_cpp_operators!(
                @new $allocator, "_Znam", new_array, new_array_slow, NewArray);
            $crate::export_cpp_operators!(
                @new_aligned $allocator, "_ZnwmSt11align_val_t", new_aligned, NewAligned);
            $crate::export_cpp_operators!(
                @new_aligned $allocator, "_ZnamSt11align_val_t", new_array_aligned,
                NewArrayAligned);
            $crate::export_cpp_operators!(
                @nothrow $allocator, "_ZnwmRKSt9nothrow_t", new_nothrow, NewNothrow);
            $crate::export_cpp_operators!(
                @nothrow $allocator, "_ZnamRKSt9nothrow_t", new_array_nothrow, NewArrayNothrow);
            $crate::export_cpp_operators!(
                @nothrow_aligned $allocator, "_ZnwmSt11align_val_tRKSt9nothrow_t",
                new_aligned_nothrow, NewAligned);
            $crate::export_cpp_operators!(
                @nothrow_aligned $allocator, "_ZnamSt11align_val_tRKSt9nothrow_t",
                new_array_aligned_nothrow, NewArrayAligned);

            $crate::export_cpp_operators! { @delete $allocator, Delete:
                "_ZdlPv" delete() (None, None);
                "_ZdlPvRKSt9nothrow_t" delete_nothrow(_nothrow: *const u8) (None, None);
            }
            $crate::export_cpp_operators! { @delete $allocator, DeleteArray:
                "_ZdaPv" delete_array() (None, None);
                "_ZdaPvRKSt9nothrow_t" delete_array_nothrow(_nothrow: *const u8) (None, None);
            }
            $crate::export_cpp_operators! { @delete $allocator, DeleteSized:
                "_ZdlPvm" delete_sized(bytes: usize) (Some(bytes), None);
            }
            $crate::export_cpp_operators! { @delete $allocator, DeleteArraySized:
                "_ZdaPvm" delete_array_sized(bytes: usize) (Some(bytes), None);
            }
            $crate::export_cpp_operators! { @delete $allocator, DeleteAligned:
                "_ZdlPvSt11align_val_t" delete_aligned(align: usize) (None, Some(align));
                "_ZdlPvmSt11align_val_t"
                    delete_sized_aligned(bytes: usize, align: usize) (Some(bytes), Some(align));
                "_ZdlPvSt11align_val_tRKSt9nothrow_t"
                    delete_aligned_nothrow(align: usize, _nothrow: *const u8) (None, Some(align));
            }
            $crate::export_cpp_operators! { @delete $allocator, DeleteArrayAligned:
                "_ZdaPvSt11align_val_t" delete_array_aligned(align: usize) (None, Some(align));
                "_ZdaPvmSt11align_val_t"
                    delete_array_sized_aligned(bytes: usize, align: usize) (Some(bytes), Some(align));
                "_ZdaPvSt11align_val_tRKSt9nothrow_t"
                    delete_array_aligned_nothrow(align: usize, _nothrow: *const u8) (None, Some(align));
            }
        }
    };
}
