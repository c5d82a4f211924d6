//! Start and end of a watched process.

use core::ffi::c_int;

use heapwright_malloc::set_heartbeat;
use heapwright_os::{SignalAction, process_id, set_signal_action};
use heapwright_sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::beat::{HOOK, IS_SIGNALLED, open};
use crate::profile::{rate_bytes, start_profile};
use crate::raw_profile::write_profile;
use crate::settings::Settings;
use crate::state::{make_state, state};
use crate::text::PathText;
use crate::{page_file, profile};

static IS_WATCHED: AtomicU32 = AtomicU32::new(0);
/// Rate that the environment asks for; 0 for the default.
static WISHED_RATE: AtomicU32 = AtomicU32::new(0);
/// The process that was started; a fork of it has another number.
static FIRST_PROCESS: AtomicU32 = AtomicU32::new(0);
static IS_STARTED: AtomicU32 = AtomicU32::new(0);
static SETTINGS: AtomicPtr<Settings> = AtomicPtr::new(core::ptr::null_mut());

/// Whether the environment asks for the page.
pub(crate) fn is_watched() -> bool {
    IS_WATCHED.load(Ordering::Relaxed) != 0
}

/// Where the page and profiles on request go; none before the start.
pub(crate) fn directory() -> Option<PathText> {
    kept().map(|settings| settings.directory)
}

/// Whether the environment forbids a thread.
pub(crate) fn is_passive() -> bool {
    kept().is_none_or(|settings| settings.is_passive)
}

/// Reads the environment and does what it asks for. Called when the object is loaded, by
/// [`watch_from_load_to_exit`](crate::watch_from_load_to_exit); later calls do nothing.
pub extern "C" fn at_start() {
    let process = process_id();
    if IS_STARTED.swap(1, Ordering::Relaxed) != 0 {
        return;
    }
    let Some(settings) = Settings::read(process) else { return };
    let Some(state) = make_state() else { return };
    FIRST_PROCESS.store(process, Ordering::Relaxed);
    WISHED_RATE.store(settings.rate_bytes, Ordering::Relaxed);
    keep(settings);
    if settings.is_profiled {
        start_profile(settings.rate_bytes);
    }
    if let Some(signal) = settings.signal {
        let handler = on_signal as *const () as usize;
        let action = SignalAction { handler, flags: SignalAction::RESTART, mask: 0 };
        // SAFETY: the handler takes one argument, as the flags say, and stores one word. A
        // refusal leaves the signal as it was.
        let _ = unsafe { set_signal_action(signal, action) };
    }
    if settings.is_watched {
        IS_WATCHED.store(1, Ordering::Relaxed);
        open(state);
    }
    set_heartbeat(&HOOK);
}

/// Keeps the settings for the end, in a mapping of their own.
fn keep(settings: Settings) {
    let bytes = size_of::<Settings>();
    if let Ok(place) = heapwright_os::reserve(bytes, heapwright_os::Protection::ReadWrite) {
        let place = place.as_ptr().cast::<Settings>();
        // SAFETY: fresh pages, large and aligned enough.
        unsafe { place.write(settings) };
        // Release: pairs with the Acquire in `kept`.
        SETTINGS.store(place, Ordering::Release);
    }
}

fn kept() -> Option<&'static Settings> {
    // SAFETY: null, or written by `keep` and never given back.
    unsafe { SETTINGS.load(Ordering::Acquire).as_ref() }
}

extern "C" fn on_signal(_signal: c_int) {
    // The allocator may be interrupted right here; its next slow path does the work.
    IS_SIGNALLED.store(1, Ordering::Relaxed);
}

/// Writes the profile that a signal asked for, or starts sampling when it is off.
#[cold]
pub(crate) fn write_at_signal() {
    if IS_SIGNALLED.swap(0, Ordering::Relaxed) == 0 {
        return;
    }
    if rate_bytes() == 0 {
        start_profile(WISHED_RATE.load(Ordering::Relaxed));
        return;
    }
    write_where_wished();
}

/// Writes the profile to the path of the environment, or beside the page.
fn write_where_wished() {
    let wished = kept().and_then(|settings| settings.profile_path);
    let process = process_id();
    let is_first = process == FIRST_PROCESS.load(Ordering::Relaxed);
    let path = match wished {
        Some(path) if is_first => path,
        Some(path) => path.push(b".").push_number(u64::from(process)),
        None => page_file::path(b".profile"),
    };
    if let Some(path) = path.as_c_str() {
        // Nobody to tell: a clean run prints nothing.
        let _ = write_profile(path);
    }
}

/// Writes the profile where the environment wants it, and removes the page. Called when the
/// process exits, by [`watch_from_load_to_exit`](crate::watch_from_load_to_exit).
pub extern "C" fn at_end() {
    let Some(state) = state() else { return };
    let is_wished = kept().is_some_and(|settings| settings.profile_path.is_some());
    if is_wished && profile::TAKEN.load(Ordering::Relaxed) > 0 {
        write_where_wished();
    }
    // In the child of a fork that never opened a page the name is nobody's.
    if !state.page.load(Ordering::Relaxed).is_null() {
        page_file::remove();
    }
}
