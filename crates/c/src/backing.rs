//! Backings, one kind or several around each other.

use core::ffi::{CStr, c_char};
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use heapwright_core::backing::{Backing, NodePolicy};
use heapwright_os::{AnonymousPages, FilePages, FilePagesError, HugePages, HugeWish};
use heapwright_regions::{Bound, Buffer, Chained, Guarded, Kept, Lazy, Limited, Prefaulted};

use crate::error::{Error, answer};
use crate::object;
use crate::statistics::delete_function;

/// What a wrapper has inside: it lies in an object of C's, which the wrapper's own object keeps.
pub(crate) type Inner = &'static dyn Backing;

/// Every kind; wrappers refer to what is in `inside` of the same object.
#[expect(clippy::large_enum_variant, reason = "an object of C's has no other place for it")]
enum Kind {
    Anonymous(AnonymousPages),
    Huge(HugePages),
    File(FilePages),
    Buffer(Buffer<'static>),
    Bound(Bound<Inner>),
    Guarded(Guarded<Inner>),
    Limited(Limited<Inner>),
    Chained(Chained<Inner, Inner>),
    Kept(Kept<Inner>),
    Prefaulted(Prefaulted<Inner>),
    Lazy(Lazy<Inner>),
}

/// `hw_backing`: see the header.
pub struct HwBacking {
    /// Above what it refers to, so that it goes first.
    kind: Kind,
    inside: [Option<Owned>; 2],
}

impl HwBacking {
    fn of(kind: Kind) -> Self {
        Self { kind, inside: [None, None] }
    }

    fn as_dyn(&self) -> &dyn Backing {
        match &self.kind {
            Kind::Anonymous(one) => one,
            Kind::Huge(one) => one,
            Kind::File(one) => one,
            Kind::Buffer(one) => one,
            Kind::Bound(one) => one,
            Kind::Guarded(one) => one,
            Kind::Limited(one) => one,
            Kind::Chained(one) => one,
            Kind::Kept(one) => one,
            Kind::Prefaulted(one) => one,
            Kind::Lazy(one) => one,
        }
    }
}

/// A backing that an allocator or a wrapper has taken over from C.
#[derive(Debug)]
pub(crate) struct Owned(NonNull<HwBacking>);

impl Owned {
    /// Takes `backing` over; null is anonymous pages.
    ///
    /// # Safety
    /// - `backing` is null or of ours, not taken over before.
    pub(crate) unsafe fn take(backing: *mut HwBacking) -> Result<Self, Error> {
        if let Some(backing) = NonNull::new(backing) {
            return Ok(Self(backing));
        }
        let made = object::make(HwBacking::of(Kind::Anonymous(AnonymousPages)));
        made.map_err(|(error, _)| error)
            .and_then(|made| NonNull::new(made).ok_or(Error::INVALID))
            .map(Self)
    }

    /// Gives it back to C, or what was made for null away.
    pub(crate) fn give_back(self, backing: *mut HwBacking) {
        if backing.is_null() {
            drop(self);
        } else {
            core::mem::forget(self);
        }
    }

    /// The backing itself.
    ///
    /// # Safety
    /// - It is not used after this value is dropped: allocators keep it in the field below.
    pub(crate) unsafe fn backing(&self) -> Inner {
        // SAFETY: a live object, in place until it is dropped; the caller sees to the end.
        let backing: &'static HwBacking = unsafe { self.0.as_ref() };
        backing.as_dyn()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: taken over from C and given up here, once.
        drop(unsafe { object::take(self.0) });
    }
}

/// A new backing for C.
///
/// # Safety
/// - `error` is null or a caller's structure.
unsafe fn give(result: Result<HwBacking, Error>, error: *mut Error) -> *mut HwBacking {
    let made = result.and_then(|one| object::make(one).map_err(|(error, _)| error));
    // SAFETY: the caller's promise.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_backing_anonymous`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_backing_anonymous(error: *mut Error) -> *mut HwBacking {
    // SAFETY: the caller's promise.
    unsafe { give(Ok(HwBacking::of(Kind::Anonymous(AnonymousPages))), error) }
}

/// `hw_backing_huge`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_backing_huge(
    wish: i32,
    strict: bool,
    error: *mut Error,
) -> *mut HwBacking {
    let wish = match wish {
        0 => Ok(HugeWish::Advised),
        1 => Ok(HugeWish::Mib2),
        2 => Ok(HugeWish::Gib1),
        _ => Err(Error::INVALID),
    };
    let pages =
        wish.map(|wish| if strict { HugePages::strict(wish) } else { HugePages::new(wish) });
    // SAFETY: the caller's promise.
    unsafe { give(pages.map(|pages| HwBacking::of(Kind::Huge(pages))), error) }
}

/// A backing in a file that `open` opens by a path or name of C's.
///
/// # Safety
/// - `name` is null or a string that lives through the call; `error` is null or a structure.
unsafe fn file(
    name: *const c_char,
    open: fn(&CStr) -> Result<FilePages, FilePagesError>,
    error: *mut Error,
) -> *mut HwBacking {
    let result = if name.is_null() {
        Err(Error::INVALID)
    } else {
        // SAFETY: the caller's string.
        let name = unsafe { CStr::from_ptr(name) };
        open(name).map(|file| HwBacking::of(Kind::File(file))).map_err(Error::from)
    };
    // SAFETY: the caller's promise.
    unsafe { give(result, error) }
}

/// `hw_backing_file`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_backing_file(path: *const c_char, error: *mut Error) -> *mut HwBacking {
    // SAFETY: the caller's promise.
    unsafe { file(path, FilePages::create, error) }
}

/// `hw_backing_temporary`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_backing_temporary(
    directory: *const c_char,
    error: *mut Error,
) -> *mut HwBacking {
    // SAFETY: the caller's promise.
    unsafe { file(directory, FilePages::temporary, error) }
}

/// `hw_backing_shared`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_backing_shared(
    name: *const c_char,
    error: *mut Error,
) -> *mut HwBacking {
    // SAFETY: the caller's promise.
    unsafe { file(name, FilePages::named, error) }
}

/// `hw_backing_buffer`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_backing_buffer(
    start: *mut u8,
    bytes: usize,
    error: *mut Error,
) -> *mut HwBacking {
    let result = match NonNull::new(start) {
        Some(start) if isize::try_from(bytes).is_ok() => {
            let place = start.cast::<MaybeUninit<u8>>().as_ptr();
            // SAFETY: the caller's buffer, which lives longer than the backing and is used by
            // nobody else.
            let buffer = unsafe { core::slice::from_raw_parts_mut(place, bytes) };
            Ok(HwBacking::of(Kind::Buffer(Buffer::new(buffer))))
        }
        _ => Err(Error::INVALID),
    };
    // SAFETY: the caller's promise.
    unsafe { give(result, error) }
}

/// A wrapper around the first `count` of `inner`; after an error they are C's as before.
///
/// # Safety
/// - Each of `inner` is null or a backing of ours that C gives up; `error` is null or a structure.
unsafe fn wrap(
    inner: [*mut HwBacking; 2],
    count: usize,
    kind: impl FnOnce(Inner, Inner) -> Result<Kind, Error>,
    error: *mut Error,
) -> *mut HwBacking {
    if inner[..count].iter().any(|one| one.is_null()) || inner[0] == inner[1] {
        // SAFETY: the caller's promise.
        return unsafe { give(Err(Error::INVALID), error) };
    }
    let inside = inner.map(|one| NonNull::new(one).map(Owned));
    let refer = |index: usize| -> Inner {
        match &inside[index] {
            // SAFETY: the kind stands above `inside` in its object and goes first.
            Some(one) => unsafe { one.backing() },
            None => &AnonymousPages,
        }
    };
    let made = kind(refer(0), refer(1))
        .and_then(|kind| object::make(HwBacking::of(kind)).map_err(|(error, _)| error));
    match made {
        // SAFETY: just made, known to nobody else.
        Ok(object) => unsafe { (*object).inside = inside },
        Err(_) => core::mem::forget(inside),
    }
    // SAFETY: the caller's promise.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// The policy of C's numbers.
pub(crate) fn policy(policy: i32, nodes: u64) -> Result<NodePolicy, Error> {
    match policy {
        0 => Ok(NodePolicy::Local),
        1 if nodes != 0 => Ok(NodePolicy::Bind(nodes)),
        2 if nodes.is_power_of_two() => Ok(NodePolicy::Prefer(nodes.trailing_zeros())),
        3 if nodes != 0 => Ok(NodePolicy::Interleave(nodes)),
        _ => Err(Error::INVALID),
    }
}

/// `hw_backing_on_nodes`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_backing_on_nodes(
    inner: *mut HwBacking,
    policy_number: i32,
    nodes: u64,
    error: *mut Error,
) -> *mut HwBacking {
    let inside = [inner, core::ptr::null_mut()];
    let make = |inner, _| Ok(Kind::Bound(Bound::new(inner, policy(policy_number, nodes)?)));
    // SAFETY: the caller's promise.
    unsafe { wrap(inside, 1, make, error) }
}

/// `hw_backing_guarded`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_backing_guarded(
    inner: *mut HwBacking,
    guard_bytes: usize,
    error: *mut Error,
) -> *mut HwBacking {
    let guard_bytes = if guard_bytes == 0 { heapwright_os::page_bytes() } else { guard_bytes };
    let make = |inner, _| Ok(Kind::Guarded(Guarded::new(inner, guard_bytes)));
    // SAFETY: the caller's promise.
    unsafe { wrap([inner, core::ptr::null_mut()], 1, make, error) }
}

/// `hw_backing_limited`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_backing_limited(
    inner: *mut HwBacking,
    limit_bytes: usize,
    error: *mut Error,
) -> *mut HwBacking {
    let make = |inner, _| Ok(Kind::Limited(Limited::new(inner, limit_bytes)));
    // SAFETY: the caller's promise.
    unsafe { wrap([inner, core::ptr::null_mut()], 1, make, error) }
}

/// `hw_backing_kept`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_backing_kept(
    inner: *mut HwBacking,
    bytes_max: usize,
    error: *mut Error,
) -> *mut HwBacking {
    let make = |inner, _| Ok(Kind::Kept(Kept::new(inner, bytes_max)));
    // SAFETY: the caller's promise.
    unsafe { wrap([inner, core::ptr::null_mut()], 1, make, error) }
}

/// `hw_backing_prefaulted`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_backing_prefaulted(
    inner: *mut HwBacking,
    error: *mut Error,
) -> *mut HwBacking {
    let make = |inner, _| Ok(Kind::Prefaulted(Prefaulted::new(inner)));
    // SAFETY: the caller's promise.
    unsafe { wrap([inner, core::ptr::null_mut()], 1, make, error) }
}

/// `hw_backing_lazy`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_backing_lazy(
    inner: *mut HwBacking,
    error: *mut Error,
) -> *mut HwBacking {
    let make = |inner, _| Ok(Kind::Lazy(Lazy::new(inner)));
    // SAFETY: the caller's promise.
    unsafe { wrap([inner, core::ptr::null_mut()], 1, make, error) }
}

/// `hw_backing_chained`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_backing_chained(
    first: *mut HwBacking,
    second: *mut HwBacking,
    error: *mut Error,
) -> *mut HwBacking {
    let make = |first, second| Ok(Kind::Chained(Chained::new(first, second)));
    // SAFETY: the caller's promise.
    unsafe { wrap([first, second], 2, make, error) }
}

delete_function!(hw_backing_delete, HwBacking);
