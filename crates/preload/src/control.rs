//! What a program that knows Heapwright may ask of the object it was started with: options, and a
//! walk over all live blocks. `heapwright.h` declares the functions weak, so that a program runs
//! without the object, too.

use core::ffi::{CStr, c_char, c_int, c_void};

use heapwright_malloc::{LiveBlocks, OptionError, option, set_option};

/// Linux's numbers, the same on every machine that we build for.
const ENOENT: c_int = 2;
const ENOMEM: c_int = 12;
const EBUSY: c_int = 16;
const EINVAL: c_int = 22;

/// Is told of a block: context, address, usable bytes, number of its heap (0 for malloc's own),
/// size class (-1 for none); says whether to go on.
pub type Visit = unsafe extern "C" fn(*mut c_void, *mut u8, usize, u64, c_int) -> bool;

/// The text of an argument of C's; none for null and for what is no UTF-8.
///
/// # Safety
/// - `text` is null or a string that outlives the result.
unsafe fn text_of<'a>(text: *const c_char) -> Option<&'a str> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller's string.
    unsafe { CStr::from_ptr(text) }.to_str().ok()
}

/// Sets an option of the table in docs/design/heaps.md: 0, `ENOENT` for an unknown name, `EINVAL`
/// for a value that it cannot have, `EBUSY` for one of the process's start.
///
/// # Safety
/// - Both are null or strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heapwright_set_option(name: *const c_char, value: *const c_char) -> c_int {
    // SAFETY: the caller's strings.
    let Some(name) = (unsafe { text_of(name) }) else { return EINVAL };
    // SAFETY: as above.
    let Some(value) = (unsafe { text_of(value) }) else { return EINVAL };
    match set_option(name, value) {
        Ok(()) => 0,
        Err(OptionError::Unknown) => ENOENT,
        Err(OptionError::TooLate) => EBUSY,
        Err(_) => EINVAL,
    }
}

/// Stores the value of an option in force (bytes, `SIZE_MAX` for none; or 0 or 1): 0, `ENOENT` or
/// `EINVAL`.
///
/// # Safety
/// - `name` is null or a string; `value` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heapwright_option(name: *const c_char, value: *mut usize) -> c_int {
    // SAFETY: the caller's string.
    let Some(name) = (unsafe { text_of(name) }) else { return EINVAL };
    let Some(found) = option(name) else { return ENOENT };
    if value.is_null() {
        return EINVAL;
    }
    // SAFETY: the caller's word.
    unsafe { value.write(found) };
    0
}

/// Calls `visit` with every live block, until it says no: 0, `EINVAL` for null, `ENOMEM`. What is
/// reported: docs/design/heaps.md#walk. `visit` may allocate and free.
///
/// # Safety
/// - `visit` is null or such a function, and `context` what it expects.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heapwright_walk(visit: Option<Visit>, context: *mut c_void) -> c_int {
    let Some(visit) = visit else { return EINVAL };
    let Ok(blocks) = LiveBlocks::take() else { return ENOMEM };
    for block in blocks {
        let heap = block.zone.map_or(0, |zone| zone.id());
        let class = block.class_index.map_or(-1, |class_index| class_index as c_int);
        // SAFETY: the caller's function and context.
        if !unsafe { visit(context, block.start, block.usable_bytes, heap, class) } {
            break;
        }
    }
    0
}
