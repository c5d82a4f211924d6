//! The file of the statistics page: `PID.page` in a directory of the user's own.
//!
//! The directory is `$XDG_RUNTIME_DIR/heapwright`, else `/dev/shm/heapwright-UID`, made with mode
//! 0700; the file has mode 0600 and is removed at exit. What an ended process left (it was killed)
//! the readers remove. Blocks are taken beforehand, so that writing cannot fail where `/dev/shm` is
//! full.

use heapwright_core::live_page::{
    MAGIC, PAGE_BYTES, VERSION, WORD_MAGIC, WORD_PAGE_BYTES, WORD_PROCESS, WORD_VERSION,
};
use heapwright_os::{
    Fd, OpenFlags, Protection, effective_user_id, env_var, map_shared, mkdir, process_id, unlink,
};
use heapwright_sync::atomic::{AtomicU64, Ordering};

use crate::end;
use crate::text::PathText;

/// The directory of the user's pages, by the environment as it is now: at the start, before the
/// program changes it.
pub(crate) fn directory_by_environment() -> PathText {
    let runtime = env_var("XDG_RUNTIME_DIR").map(core::ffi::CStr::to_bytes);
    match runtime.filter(|path| path.first() == Some(&b'/')) {
        Some(path) => PathText::new().push(path).push(b"/heapwright"),
        None => PathText::new()
            .push(b"/dev/shm/heapwright-")
            .push_number(u64::from(effective_user_id())),
    }
}

fn directory() -> PathText {
    end::directory().unwrap_or_else(directory_by_environment)
}

/// The path of this process's file with that ending.
pub(crate) fn path(ending: &[u8]) -> PathText {
    directory().push(b"/").push_number(u64::from(process_id())).push(ending)
}

/// The words of a mapped page.
pub(crate) fn words<'a>(page: *mut AtomicU64) -> &'a [AtomicU64] {
    // SAFETY: mapped by `open` with that length, for the life of the process; words that other
    // processes write are atomics.
    unsafe { core::slice::from_raw_parts(page, PAGE_BYTES / size_of::<u64>()) }
}

/// Makes and maps the page; none when the kernel refuses any step.
pub(crate) fn open() -> Option<*mut AtomicU64> {
    let path = path(b".page");
    let path = path.as_c_str()?;
    // It is there as a rule; whatever else is wrong shows in the next step.
    let _ = mkdir(directory().as_c_str()?, 0o700);
    // An earlier program of this process, or an earlier process with its number.
    let _ = unlink(path);
    let file = Fd::open(path, OpenFlags::CreateNew).ok()?;
    let mapped = file
        .take_blocks(0, PAGE_BYTES as u64)
        .ok()
        .and_then(|()| map_shared(&file, 0, PAGE_BYTES, Protection::ReadWrite).ok());
    let Some(mapping) = mapped else {
        let _ = unlink(path);
        return None;
    };
    let page: *mut AtomicU64 = mapping.start().as_ptr().cast();
    let words = words(page);
    words[WORD_VERSION].store(VERSION, Ordering::Relaxed);
    words[WORD_PAGE_BYTES].store(PAGE_BYTES as u64, Ordering::Relaxed);
    words[WORD_PROCESS].store(u64::from(process_id()), Ordering::Relaxed);
    // Release: a reader that sees it sees the rest.
    words[WORD_MAGIC].store(MAGIC, Ordering::Release);
    Some(page)
}

/// Removes this process's file.
pub(crate) fn remove() {
    for ending in [&b".page"[..], b".profile"] {
        if let Some(path) = path(ending).as_c_str() {
            let _ = unlink(path);
        }
    }
}
