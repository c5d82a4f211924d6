//! A recorder that waits in a program until `heapwright record --pid` switches it on.
//!
//! The page [`CONTROL`] is a static of ours until the program turns out to be dormant; then the
//! control file's page lies in its place, shared with whoever may write the file, and with forked
//! children. While its first word is 0 the hooks jump straight on to the real functions: a load,
//! a branch and a jump.
//!
//! # Invariants
//! - I1: only atomic words are in the page, so replacing it by one with other values is a change
//!   of values.
//! - I2: a request is served or refused once.

use core::ffi::CStr;
use core::ptr::NonNull;

use heapwright_format::dormant::{
    CONTROL_BYTES, Control, DORMANT_MAGIC, DORMANT_PREFIX, REFUSED_CONFINED, REFUSED_SESSION,
};
use heapwright_os::{Fd, OpenFlags, Protection, map_shared_at, process_id, unlink};
use heapwright_sync::atomic::{AtomicU32, Ordering};

use crate::confined::is_confined;
use crate::path_text::PathText;
use crate::session::{fall_asleep, session, wake_into};

/// What the hooks test, and what the control file's page covers.
pub static CONTROL: Control = Control::undecided();

/// The request that was served or refused last, plus one.
static ANSWERED: AtomicU32 = AtomicU32::new(0);
/// The process whose file it is; 0 when the page is only ours.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// Makes the control file and maps it. False when that cannot be done.
pub(crate) fn begin() -> bool {
    let pid = process_id();
    let path = path_of(pid);
    let Some(name) = path.as_c_str() else { return false };
    let create = || Fd::open(name, OpenFlags::CreateNew);
    // The program that had our number before left it: it was killed, or became us by exec.
    let Ok(file) = create().or_else(|_| unlink(name).and_then(|()| create())) else {
        return false;
    };
    let place = NonNull::from(&CONTROL).cast();
    let mapped = file.set_bytes(CONTROL_BYTES as u64).is_ok()
        && file.allocate(0, CONTROL_BYTES as u64).is_ok()
        // SAFETY: the page is our static, aligned and as long as whole OS pages; it holds only
        // atomic words, of which the kernel's fresh zeroes are valid values (I1).
        && unsafe { map_shared_at(place, &file, CONTROL_BYTES, Protection::ReadWrite) }.is_ok();
    if !mapped {
        let _ = unlink(name);
        return false;
    }
    OWNER.store(pid, Ordering::Relaxed);
    CONTROL.pid.store(pid, Ordering::Relaxed);
    // Release: pairs with the Acquire of who wants to switch us on.
    CONTROL.magic.store(DORMANT_MAGIC, Ordering::Release);
    true
}

fn path_of(pid: u32) -> PathText {
    let mut path = PathText::new();
    path.push(DORMANT_PREFIX.as_bytes());
    path.push_number(pid);
    path
}

/// Whether this process can be switched on and off.
pub(crate) fn is_controlled() -> bool {
    OWNER.load(Ordering::Relaxed) != 0
}

/// Removes the control file, if it is this process's own: call at the process's end.
pub fn end_dormancy() {
    let owner = OWNER.load(Ordering::Relaxed);
    if owner != 0
        && owner == process_id()
        && let Some(path) = path_of(owner).as_c_str()
    {
        let _ = unlink(path);
    }
}

/// Begins to record if that has been asked for.
#[cold]
pub(crate) fn wake() {
    // Acquire: pairs with the Release of who asks; the request and its directory are there.
    if CONTROL.awake.load(Ordering::Acquire) == 0 {
        return;
    }
    let request = CONTROL.request.load(Ordering::Acquire).wrapping_add(1);
    if ANSWERED.load(Ordering::Acquire) == request {
        return;
    }
    if is_confined() {
        ANSWERED.store(request, Ordering::Release);
        CONTROL.refusal.store(REFUSED_CONFINED, Ordering::Release);
        return;
    }
    let mut path = PathText::new();
    path.push_words(&CONTROL.directory);
    let Some(entered) = path.as_c_str().and_then(|directory: &CStr| wake_into(directory)) else {
        return;
    };
    ANSWERED.store(request, Ordering::Release);
    if !entered {
        CONTROL.refusal.store(REFUSED_SESSION, Ordering::Release);
    }
}

/// Notices, in a controlled process, that the session is over.
#[cold]
pub(crate) fn rest() {
    if !is_controlled() {
        return;
    }
    let request = CONTROL.request.load(Ordering::Acquire).wrapping_add(1);
    if let Some(session) = session()
        && !session.collector_lives()
        && ANSWERED.load(Ordering::Acquire) == request
    {
        // Killed, it could not switch us off. (Should another one be about to switch us on again,
        // it says so more than once.)
        CONTROL.awake.store(0, Ordering::Release);
    }
    fall_asleep();
}
