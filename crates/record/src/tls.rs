//! The calling thread's recorder.

use core::ptr;

use crate::thread::ThreadRecorder;

heapwright_os::thread_variable!("heapwright_record_thread_0_1", ThreadRecorder);

/// What the pointer says of a thread whose exit has been recorded.
pub(crate) const ENDED: *mut ThreadRecorder = ptr::without_provenance_mut(1);
