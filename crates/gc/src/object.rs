//! An object: a header word, then the payload that the program sees.
//!
//! ```text
//!  arrays only     every object
//! ┌────────────┐┌──────────────────────┐┌─────────────
//! │ length  | 8││ type descriptor | tag ││ payload ...
//! └────────────┘└──────────────────────┘└─────────────
//!                                        ▲ ObjectRef, a multiple of 8
//! ```
//! The descriptor is 16-aligned, which leaves four bits for the tag: forwarded (the word is then
//! the new payload address), marked, seen by the verifier; the fourth is set in length words only,
//! so that a walk over live words tells the two apart.
//!
//! # Invariants
//! - O1: an [`ObjectRef`] is the payload address of an object in a heap that still exists, whose
//!   header holds a descriptor or a forwarding address, and the heap is not shared between threads.
//! - O2: an object whose descriptor says `is_array` has its length in the word before the header.

use core::ptr::NonNull;

use heapwright_sync::atomic::{AtomicPtr, Ordering};

use crate::desc::TypeDesc;
use crate::model::Model;

pub(crate) const WORD_BYTES: usize = 8;
const _: () = assert!(size_of::<usize>() == WORD_BYTES);

const FORWARDED: usize = 1;
/// The mark bit; what it means flips with each full collection.
pub(crate) const MARK: usize = 2;
const SEEN: usize = 4;
/// While several threads copy: one of them copies this object. The verifier's bit, as it does not run
/// then.
const TAKEN: usize = SEEN;
const LENGTH: usize = 8;
const TAG: usize = 15;

/// The address of an object's payload, as visitors and layouts see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct ObjectRef(NonNull<u8>);

impl ObjectRef {
    /// Names the object at `payload`.
    ///
    /// # Safety
    /// - O1 holds for `payload`.
    #[inline]
    pub unsafe fn new(payload: NonNull<u8>) -> Self {
        Self(payload)
    }

    /// Where the payload begins; the head word lies before it.
    #[inline]
    pub fn payload(self) -> NonNull<u8> {
        self.0
    }

    /// The head word without the collectors' four bits: what [`crate::vm::VmHeap::alloc`] was
    /// given.
    #[inline]
    pub fn head(self) -> *const u8 {
        debug_assert!(self.forwarded().is_none(), "a forwarded object has no head");
        self.header().map_addr(|bits| bits & !TAG).cast()
    }

    /// Writes the first head word of a new object.
    #[inline]
    pub(crate) fn write_head_word(self, head: *const u8, mark: usize) {
        debug_assert!(head.addr() & TAG == 0, "the four lowest bits are the collectors'");
        self.set_header(head.cast::<TypeDesc>().map_addr(|bits| bits | mark));
    }

    #[inline]
    pub(crate) fn address(self) -> usize {
        self.0.addr().get()
    }

    #[inline]
    fn header_place(self) -> NonNull<*const TypeDesc> {
        // SAFETY: by O1 the header lies right before the payload, in the same mapping.
        unsafe { self.0.cast::<*const TypeDesc>().sub(1) }
    }

    #[inline]
    fn header(self) -> *const TypeDesc {
        // SAFETY: the header is initialised and aligned (O1); whoever writes it while several
        // threads mark does so atomically, too.
        let header = unsafe { AtomicPtr::from_ptr(self.header_place().as_ptr().cast()) };
        // Relaxed: the descriptor is static, and the mark bit publishes nothing.
        header.load(Ordering::Relaxed)
    }

    /// Gives the object the mark bit `mark`; returns whether it had the other one. Of several
    /// threads one is told so.
    #[inline]
    pub(crate) fn claim(self, mark: usize) -> bool {
        if self.mark_bit() == mark {
            return false;
        }
        // SAFETY: as in `header`.
        let header =
            unsafe { AtomicPtr::<TypeDesc>::from_ptr(self.header_place().as_ptr().cast()) };
        // Relaxed: as there.
        let before = if mark == 0 {
            header.fetch_and(!MARK, Ordering::Relaxed)
        } else {
            header.fetch_or(MARK, Ordering::Relaxed)
        };
        before.addr() & MARK != mark
    }

    #[inline]
    fn set_header(self, word: *const TypeDesc) {
        // SAFETY: the header is ours to write (O1); no reference to it is ever made.
        unsafe { self.header_place().write(word) }
    }

    /// The new address, if the object has been copied.
    #[inline]
    pub(crate) fn forwarded(self) -> Option<Self> {
        let word = self.header();
        if word.addr() & FORWARDED == 0 {
            return None;
        }
        let payload = word.map_addr(|bits| bits & !FORWARDED).cast::<u8>().cast_mut();
        NonNull::new(payload).map(Self)
    }

    /// Leaves the address of the copy behind. The payload here is dead from now on.
    #[inline]
    pub(crate) fn forward_to(self, copy: Self) {
        let word = copy.0.as_ptr().cast_const().cast::<TypeDesc>();
        self.set_header(word.map_addr(|bits| bits | FORWARDED));
    }

    /// Takes the object for the caller to copy, while other threads copy, too. It has its head
    /// until [`ObjectRef::forward_taken`]. If another has it, waits for the copy; none if `gives_up`
    /// says so, which is asked now and then.
    #[inline]
    pub(crate) fn take(self, gives_up: impl Fn() -> bool) -> Take {
        // SAFETY: as in `header`.
        let header =
            unsafe { AtomicPtr::<TypeDesc>::from_ptr(self.header_place().as_ptr().cast()) };
        let mut looks = 0u32;
        loop {
            // Relaxed, also below: what is used of another's copy is its address. Whoever visits
            // the copy got it from the pool of work, or made it.
            let word = header.load(Ordering::Relaxed);
            if word.addr() & FORWARDED != 0 {
                let payload = word.map_addr(|bits| bits & !FORWARDED).cast::<u8>();
                return NonNull::new(payload).map_or(Take::Lost, |copy| Take::Copied(Self(copy)));
            }
            if word.addr() & TAKEN == 0 {
                let taken = word.map_addr(|bits| bits | TAKEN);
                let exchanged =
                    header.compare_exchange_weak(word, taken, Ordering::Relaxed, Ordering::Relaxed);
                if exchanged.is_ok() {
                    return Take::Mine;
                }
                continue;
            }
            looks += 1;
            if looks.is_multiple_of(256) {
                if gives_up() {
                    return Take::Lost;
                }
                crate::team::sleep();
            }
            core::hint::spin_loop();
        }
    }

    /// Leaves the address of the copy of an object that the caller took, as
    /// [`ObjectRef::forward_to`] does; the copy is like any object from now on.
    #[inline]
    pub(crate) fn forward_taken(self, copy: Self) {
        copy.set_header(copy.header().map_addr(|bits| bits & !TAKEN));
        // SAFETY: as in `header`.
        let header =
            unsafe { AtomicPtr::<TypeDesc>::from_ptr(self.header_place().as_ptr().cast()) };
        let word = copy.0.as_ptr().cast::<TypeDesc>();
        // Relaxed: as in `take`.
        header.store(word.map_addr(|bits| bits | FORWARDED), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn desc(self) -> &'static TypeDesc {
        debug_assert!(self.forwarded().is_none(), "a forwarded object has no descriptor");
        let desc = self.header().map_addr(|bits| bits & !TAG);
        // SAFETY: headers are made of `&'static TypeDesc` only (O1), tag bits removed.
        unsafe { &*desc }
    }

    /// The number of items of an array, 1 for all others.
    #[inline]
    pub(crate) fn len(self, desc: &TypeDesc) -> usize {
        if !desc.is_array {
            return 1;
        }
        // SAFETY: an array has its length word two words before the payload (O2).
        let place = unsafe { self.0.cast::<usize>().sub(2) };
        // SAFETY: initialised with the object (O2).
        unsafe { place.read() >> 4 }
    }

    /// Bytes from [`ObjectRef::start`] to the end.
    #[inline]
    pub(crate) fn total_bytes(self, desc: &TypeDesc) -> usize {
        desc.total_bytes(self.len(desc))
    }

    /// The first byte, header and length word included.
    #[inline]
    pub(crate) fn start(self, desc: &TypeDesc) -> NonNull<u8> {
        // SAFETY: by O1 and O2 the words before the payload belong to the object.
        unsafe { self.0.sub(desc.head_bytes()) }
    }

    #[inline]
    pub(crate) fn mark_bit(self) -> usize {
        self.header().addr() & MARK
    }

    /// As [`ObjectRef::claim`] where one thread marks.
    #[inline]
    pub(crate) fn claim_alone(self, mark: usize) -> bool {
        let header = self.header();
        let is_new = header.addr() & MARK != mark;
        if is_new {
            self.set_header(header.map_addr(|bits| bits ^ MARK));
        }
        is_new
    }

    pub(crate) fn is_seen(self) -> bool {
        self.header().addr() & SEEN != 0
    }

    pub(crate) fn flip_seen(self) {
        self.set_header(self.header().map_addr(|bits| bits ^ SEEN));
    }

    /// Runs the payload's destructor.
    ///
    /// # Safety
    /// - The object is dead and its payload is never used again.
    pub(crate) unsafe fn drop_payload(self) {
        let desc = self.desc();
        if let Some(drop) = desc.drop {
            // SAFETY: the payload is a value of the descriptor's type with this length (O1); the
            // caller gives it up.
            unsafe { drop(self.0, self.len(desc)) };
        }
    }
}

/// What became of [`ObjectRef::take`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Take {
    /// The caller copies the object.
    Mine,
    /// Another thread has, to this place.
    Copied(ObjectRef),
    /// Another thread has begun and will not end: the heap is lost.
    Lost,
}

/// The place of a reference: in an object, in a root or in a table of the heap.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Field(NonNull<*mut u8>);

impl Field {
    /// Names the word at `place`.
    ///
    /// # Safety
    /// - `place` holds the payload address of an object (O1), or what the heap's
    ///   [`crate::vm::Layout`] takes for a reference or for none. It stays where it is, readable
    ///   and writable, until the visit of everything has ended; nobody else uses it meanwhile.
    #[inline]
    pub unsafe fn new(place: NonNull<*mut u8>) -> Self {
        Self(place)
    }

    /// The word of `object`, which the caller keeps in place until the visit has ended.
    #[inline]
    pub(crate) fn of(object: &mut ObjectRef) -> Self {
        Self(NonNull::from(object).cast())
    }

    /// The word. A logged cell may be listed twice, and two threads that copy may visit it at once:
    /// both find the same copy.
    #[inline]
    fn cell(&self) -> &AtomicPtr<u8> {
        // SAFETY: a field stays readable and writable until the visit ends (`new`), and is used
        // through here only.
        unsafe { AtomicPtr::from_ptr(self.0.as_ptr()) }
    }

    #[inline]
    fn word(self) -> *mut u8 {
        // Relaxed: see `cell`.
        self.cell().load(Ordering::Relaxed)
    }

    /// Whether there is nothing in the field, not even a word of a machine's.
    #[inline]
    pub(crate) fn is_null(self) -> bool {
        self.word().is_null()
    }

    /// The object that the field refers to, if it refers to one.
    #[inline]
    pub(crate) fn object<M: Model>(self) -> Option<ObjectRef> {
        M::decode(self.word()).map(ObjectRef)
    }

    #[inline]
    pub(crate) fn set<M: Model>(self, object: ObjectRef) {
        let word = M::encode(self.word(), object.0);
        // Relaxed: see `cell`.
        self.cell().store(word, Ordering::Relaxed);
    }
}

/// Asks for the cache line at `address`.
#[inline]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(heapwright_gc_without = "prefetch")))]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint and faults on no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast::<i8>()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(heapwright_gc_without = "prefetch"))))]
    let _ = address;
}

/// Writes the words before the payload of a new object at `start`; the payload is not written.
///
/// # Safety
/// - `desc.total_bytes(len)` bytes from `start`, a multiple of 8, are unused memory of a heap.
#[inline]
pub(crate) unsafe fn write_head(
    start: NonNull<u8>,
    desc: &'static TypeDesc,
    len: usize,
    mark: usize,
) -> ObjectRef {
    // SAFETY: the head is a part of the caller's bytes.
    let payload = unsafe { start.add(desc.head_bytes()) };
    if desc.is_array {
        // SAFETY: an array's head has two words, and `start` is the first.
        unsafe { start.cast::<usize>().write(len << 4 | LENGTH) };
    }
    let object = ObjectRef(payload);
    object.set_header(core::ptr::from_ref(desc).map_addr(|bits| bits | mark));
    object
}

/// The object whose first word lies at `start`.
///
/// # Safety
/// - `start` is the first byte of an object of a heap that exists.
pub(crate) unsafe fn object_at(start: NonNull<u8>) -> ObjectRef {
    // SAFETY: the first word of an object is a length or a header; both are initialised words.
    let word = unsafe { start.cast::<*const TypeDesc>().read() };
    let head = if word.addr() & LENGTH == 0 { 1 } else { 2 };
    // SAFETY: as many words belong to the object's head.
    ObjectRef(unsafe { start.add(head * WORD_BYTES) })
}
