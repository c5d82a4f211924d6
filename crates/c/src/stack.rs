//! Double-ended stacks.

use heapwright_core::backing::Backing;
use heapwright_regions::{End, LocalCounts, OutOfOrder, Stack, StackMark};

use crate::backing::HwBacking;
use crate::error::{Error, answer, status};
use crate::object;
use crate::over::Over;
use crate::statistics::{delete_function, statistics_function};

/// `hw_stack`: see the header.
pub type HwStack = Over<Stack<&'static dyn Backing, LocalCounts>>;

/// `hw_stack_mark`: see the header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HwStackMark {
    opaque: [usize; 2],
}

const _: () = assert!(size_of::<StackMark>() <= size_of::<HwStackMark>());
const _: () = assert!(align_of::<StackMark>() <= align_of::<HwStackMark>());

/// `hw_stack_new`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_stack_new(
    backing: *mut HwBacking,
    bytes: usize,
    defer: bool,
    error: *mut Error,
) -> *mut HwStack {
    let out_of_order = if defer { OutOfOrder::Defer } else { OutOfOrder::Refuse };
    let make = |inner| Stack::counted_in(inner, bytes, out_of_order, LocalCounts::new());
    // SAFETY: the caller gives the backing up.
    let made = unsafe { Over::make(backing, make) };
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_stack_alloc`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_stack_alloc(
    stack: *mut HwStack,
    high: bool,
    bytes: usize,
    align_bytes: usize,
    error: *mut Error,
) -> *mut u8 {
    // SAFETY: the caller's promise: null or a stack of ours.
    let made = unsafe { object::get(stack) }.and_then(|stack| {
        let layout = object::layout(bytes, align_bytes)?;
        let end = if high { End::High } else { End::Low };
        Ok(stack.allocator.try_alloc(end, layout)?.as_ptr())
    });
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_stack_free`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_stack_free(
    stack: *mut HwStack,
    block: *mut u8,
    error: *mut Error,
) -> i32 {
    // SAFETY: the caller's promise: null or a stack of ours.
    let result = unsafe { object::get(stack) }.and_then(|stack| {
        let block = object::block(block)?;
        // SAFETY: the caller's promise: a block of this stack.
        Ok(unsafe { stack.allocator.free(block) }?)
    });
    // SAFETY: the caller's structure or null.
    unsafe { status(result, error) }
}

/// `hw_stack_get_mark`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_stack_get_mark(stack: *const HwStack, mark: *mut HwStackMark) -> i32 {
    // SAFETY: the caller's promise: null or a stack of ours.
    let result = unsafe { object::get(stack) }.and_then(|stack| {
        let place = core::ptr::NonNull::new(mark).ok_or(Error::INVALID)?;
        // SAFETY: the caller's structure.
        unsafe { place.write(HwStackMark { opaque: [0; 2] }) };
        // SAFETY: as above; it is larger than a mark and aligned for one.
        unsafe { place.cast::<StackMark>().write(stack.allocator.mark()) };
        Ok(())
    });
    // SAFETY: there is no place to tell more.
    unsafe { status(result, core::ptr::null_mut()) }
}

/// `hw_stack_rewind`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_stack_rewind(
    stack: *mut HwStack,
    mark: *const HwStackMark,
    error: *mut Error,
) -> i32 {
    // SAFETY: the caller's promise: null or a stack of ours.
    let result = unsafe { object::get(stack) }.and_then(|stack| {
        if mark.is_null() {
            return Err(Error::INVALID);
        }
        // SAFETY: the caller's promise: `hw_stack_get_mark` wrote a mark there.
        let mark = unsafe { mark.cast::<StackMark>().read() };
        // SAFETY: the caller's promise: nobody uses a block made since.
        Ok(unsafe { stack.allocator.rewind(mark) }?)
    });
    // SAFETY: the caller's structure or null.
    unsafe { status(result, error) }
}

statistics_function!(hw_stack_statistics, HwStack, allocator);
delete_function!(hw_stack_delete, HwStack);
