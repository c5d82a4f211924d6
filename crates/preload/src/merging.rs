//! Giving memory back on request, and what mode compact's merging did. `heapwright.h` declares both
//! weak.

use core::ffi::{c_char, c_int};

use heapwright_malloc::{MergeState, merge_statistics};

const EINVAL: c_int = 22;

/// Gives everything back to the kernel that holds no live block, in mode compact merges what can be
/// merged, and returns the bytes that went back. Milliseconds for each hundred MB of sparse memory;
/// another thread waits for some ten microseconds at most, the caller for all of it.
#[unsafe(no_mangle)]
pub extern "C" fn heapwright_release() -> usize {
    heapwright_malloc::release()
}

/// What merging did so far: `heapwright_merging` of `heapwright.h`. Later versions add fields at
/// the end.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Merging {
    /// Why nothing is merged, or that it is: a NUL-terminated text.
    pub state: *const c_char,
    /// 1 when merging works.
    pub works: u64,
    /// Looks over the heap.
    pub pass_count: u64,
    /// Windows of 16 KiB that share pages now.
    pub window_count: u64,
    /// Windows merged since the start.
    pub merged_count: u64,
    /// Windows that the kernel did not give.
    pub refused_count: u64,
    /// Bytes that merging gave back since the start.
    pub freed_bytes: i64,
    /// CPU time of it.
    pub cpu_ns: u64,
    /// The longest that anybody waited for a window.
    pub step_ns_max: u64,
    /// The same in the merging thread's own time.
    pub step_cpu_ns_max: u64,
    /// The longest that a thread of the program merged at a stretch, in its own time.
    pub stretch_cpu_ns_max: u64,
    /// How many such stretches there were.
    pub stretch_count: u64,
}

/// Writes the first `bytes` bytes of [`Merging`] to `out`: 0, or `EINVAL` when that is null or
/// longer than what is known.
///
/// # Safety
/// - `out` is null or has room for `bytes`, aligned to eight.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heapwright_merging(out: *mut Merging, bytes: usize) -> c_int {
    if out.is_null() || bytes > size_of::<Merging>() {
        return EINVAL;
    }
    let found = merge_statistics();
    let merging = Merging {
        state: found.state.c_name().as_ptr(),
        works: u64::from(found.state == MergeState::Works),
        pass_count: found.pass_count,
        window_count: found.window_count as u64,
        merged_count: found.merged_count,
        refused_count: found.refused_count,
        freed_bytes: found.freed_pages * 4096,
        cpu_ns: found.cpu_ns,
        step_ns_max: found.step_ns_max,
        step_cpu_ns_max: found.step_cpu_ns_max,
        stretch_cpu_ns_max: found.stretch_cpu_ns_max,
        stretch_count: found.stretch_count,
    };
    let source = (&raw const merging).cast::<u8>();
    // SAFETY: no more bytes than the structure has, and than the caller has room for.
    unsafe { source.copy_to_nonoverlapping(out.cast::<u8>(), bytes) };
    0
}
