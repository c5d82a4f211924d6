//! One snapshot for every allocator.

use heapwright_regions::{Figure, RegionStatistics};

/// What stands for a number that is not known.
const UNKNOWN: u64 = u64::MAX;

/// `hw_statistics`: see the header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the header says what each means")]
pub struct Statistics {
    pub live_count: u64,
    pub live_bytes: u64,
    pub peak_live_bytes: u64,
    pub requested_bytes: u64,
    pub reserved_bytes: u64,
    pub committed_bytes: u64,
    pub resident_bytes: u64,
    pub free_bytes: u64,
    pub largest_free_bytes: u64,
    pub failure_count: u64,
}

fn number(figure: Figure) -> u64 {
    figure.value().map_or(UNKNOWN, |value| value as u64)
}

impl From<RegionStatistics> for Statistics {
    fn from(seen: RegionStatistics) -> Self {
        Self {
            live_count: number(seen.live_count),
            live_bytes: number(seen.live_bytes),
            peak_live_bytes: number(seen.peak_live_bytes),
            requested_bytes: number(seen.requested_bytes),
            reserved_bytes: seen.reserved_bytes as u64,
            committed_bytes: seen.committed_bytes as u64,
            resident_bytes: number(seen.resident_bytes),
            free_bytes: number(seen.free_bytes),
            largest_free_bytes: seen.largest_free_bytes as u64,
            failure_count: number(seen.failure_count),
        }
    }
}

/// Functions of the form `hw_X_statistics(const hw_X *, hw_statistics *)`.
macro_rules! statistics_function {
    ($name:ident, $object:ty, $($field:tt)+) => {
        #[doc = concat!("`", stringify!($name), "`: see the header.")]
        ///
        /// # Safety
        /// - As the header says.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            object: *const $object,
            out: *mut $crate::statistics::Statistics,
        ) -> i32 {
            // SAFETY: the caller's promise: null or an object of ours.
            let found = unsafe { $crate::object::get(object) };
            let result = found.and_then(|object| {
                let out = core::ptr::NonNull::new(out).ok_or($crate::error::Error::INVALID)?;
                // SAFETY: the caller's structure.
                unsafe { out.write(object.$($field)+.statistics().into()) };
                Ok(())
            });
            // SAFETY: there is no place to tell more.
            unsafe { $crate::error::status(result, core::ptr::null_mut()) }
        }
    };
}

/// Functions of the form `hw_X_delete(hw_X *)`: null is nothing.
macro_rules! delete_function {
    ($name:ident, $object:ty) => {
        #[doc = concat!("`", stringify!($name), "`: see the header.")]
        ///
        /// # Safety
        /// - As the header says.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(object: *mut $object) {
            if let Some(object) = core::ptr::NonNull::new(object) {
                // SAFETY: the caller's promise: an object of ours, given up.
                drop(unsafe { $crate::object::take(object) });
            }
        }
    };
}

pub(crate) use {delete_function, statistics_function};
