//! The recorder as a table of C functions, for allocators inside the program.
//!
//! `libheapwright_recorder.so` exports one as [`SYMBOL`]: a program's own allocator then writes
//! into the same streams as the C hooks, and a thread has one busy mark, so that what the allocator
//! asks of `malloc` is not recorded twice. Where no such object is loaded (a static program), the
//! recorder that is linked in serves.

use core::ffi::CStr;

pub use heapwright_format::{AllocKind, FreeKind};
use heapwright_os::any_symbol;
use heapwright_sync::atomic::{AtomicPtr, Ordering};
pub use heapwright_unwind::Registers;

use crate::session::{Mode, start};
pub use crate::thread::Block;
use crate::thread::{Guard, Resize, enter, leave};

/// Name of the table in the recorder object; the number is that of its layout.
pub const SYMBOL: &CStr = c"heapwright_recorder_hooks_v1";

/// Whether a program is recorded, as [`Hooks`] says it.
const RECORDING: u32 = 1;
const NOT_RECORDING: u32 = 2;

/// The functions. All are for the calling thread; a token is valid from `enter` to `leave`.
#[repr(C)]
#[derive(Debug)]
pub struct Hooks {
    state: extern "C" fn() -> u32,
    enter: extern "C" fn() -> *const (),
    leave: unsafe extern "C" fn(token: *const ()),
    alloc: unsafe extern "C" fn(token: *const (), block: *const RawBlock, caller: *const Registers),
    failed:
        unsafe extern "C" fn(token: *const (), block: *const RawBlock, caller: *const Registers),
    free: unsafe extern "C" fn(token: *const (), address: usize, kind: u32),
    resize_begins: unsafe extern "C" fn(token: *const (), old: usize, resize: *mut Resize),
    resized: unsafe extern "C" fn(
        token: *const (),
        resize: *const Resize,
        block: *const RawBlock,
        caller: *const Registers,
    ),
    resize_failed: unsafe extern "C" fn(
        token: *const (),
        resize: *const Resize,
        block: *const RawBlock,
        caller: *const Registers,
    ),
}

/// A [`Block`] whose kind is a number: the caller's version may know others than ours.
#[repr(C)]
struct RawBlock {
    address: usize,
    size: usize,
    kind: u32,
    align_log2: u32,
}

impl RawBlock {
    fn of(block: Block) -> Self {
        let Block { address, size, kind, align_log2 } = block;
        Self { address, size, kind: kind as u32, align_log2: u32::from(align_log2) }
    }

    fn block(&self) -> Block {
        let kind = u8::try_from(self.kind).ok().and_then(AllocKind::from_number);
        let (kind, align_log2) = (kind.unwrap_or_default(), self.align_log2 as u8);
        Block { address: self.address, size: self.size, kind, align_log2 }
    }
}

/// One call of an allocator, being recorded. Dropping it ends it.
#[derive(Debug)]
pub struct Call {
    hooks: &'static Hooks,
    token: *const (),
}

/// The table in use: null while undecided, [`OFF`] when nothing is recorded.
static ACTIVE: AtomicPtr<Hooks> = AtomicPtr::new(core::ptr::null_mut());
const OFF: *mut Hooks = core::ptr::without_provenance_mut(1);

/// The recorder to tell, if this program is recorded. One load and a branch once that is decided.
#[inline(always)]
pub fn active() -> Option<&'static Hooks> {
    let table = ACTIVE.load(Ordering::Acquire);
    if table == OFF {
        return None;
    }
    active_slow(table)
}

#[cold]
#[inline(never)]
fn active_slow(table: *mut Hooks) -> Option<&'static Hooks> {
    let table = if table.is_null() { decide()? } else { table };
    // SAFETY: a table that `decide` has found: a constant of this or of the recorder object, which
    // stays loaded.
    Some(unsafe { &*table })
}

fn decide() -> Option<*mut Hooks> {
    let exported = any_symbol(SYMBOL).cast::<Hooks>().cast_mut();
    let (table, state) = if exported.is_null() {
        (core::ptr::from_ref(&LINKED_IN).cast_mut(), linked_state())
    } else {
        // SAFETY: the symbol's name says what it is: a constant table of this layout.
        let hooks = unsafe { &*exported };
        (exported, (hooks.state)())
    };
    match state {
        RECORDING => ACTIVE.store(table, Ordering::Release),
        NOT_RECORDING => ACTIVE.store(OFF, Ordering::Release),
        // Too early in the life of the process: asked again.
        _ => {}
    }
    (state == RECORDING).then_some(table)
}

impl Hooks {
    /// The recorder that this code is linked with.
    pub const fn linked_in() -> Self {
        Self {
            state: linked_state,
            enter: linked_enter,
            leave: linked_leave,
            alloc: linked_alloc,
            failed: linked_failed,
            free: linked_free,
            resize_begins: linked_resize_begins,
            resized: linked_resized,
            resize_failed: linked_resize_failed,
        }
    }

    /// Begins a call; none when it is not to be recorded (one from inside another).
    #[inline]
    pub fn enter(&'static self) -> Option<Call> {
        let token = (self.enter)();
        (!token.is_null()).then_some(Call { hooks: self, token })
    }
}

impl Call {
    /// `block` was allocated, or with address 0: was not to be had.
    ///
    /// # Safety
    /// - `caller` is the state of a function of this thread that is still running.
    #[inline]
    pub unsafe fn alloc(&self, block: Block, caller: Registers) {
        let tell = if block.address == 0 { self.hooks.failed } else { self.hooks.alloc };
        let block = RawBlock::of(block);
        // SAFETY: our token, and the caller's promise.
        unsafe { tell(self.token, &raw const block, &raw const caller) };
    }

    /// The block at `address` is about to be freed.
    #[inline]
    pub fn free(&self, address: usize, kind: FreeKind) {
        // SAFETY: our token.
        unsafe { (self.hooks.free)(self.token, address, kind as u32) };
    }

    /// The block at `old` is about to be resized.
    #[inline]
    pub fn resize_begins(&self, old: usize) -> Resize {
        let mut resize = Resize::default();
        // SAFETY: our token; the function writes the value.
        unsafe { (self.hooks.resize_begins)(self.token, old, &raw mut resize) };
        resize
    }

    /// The resizing gave `block`, or with address 0: failed, and the block is as it was.
    ///
    /// # Safety
    /// - As for [`Call::alloc`].
    #[inline]
    pub unsafe fn resized(&self, resize: Resize, block: Block, caller: Registers) {
        let hooks = self.hooks;
        let tell = if block.address == 0 { hooks.resize_failed } else { hooks.resized };
        let block = RawBlock::of(block);
        // SAFETY: our token, and the caller's promise.
        unsafe { tell(self.token, &raw const resize, &raw const block, &raw const caller) };
    }
}

impl Drop for Call {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: our token, not used afterwards.
        unsafe { (self.hooks.leave)(self.token) };
    }
}

static LINKED_IN: Hooks = Hooks::linked_in();

extern "C" fn linked_state() -> u32 {
    match start(false) {
        // A dormant one answers call by call.
        Mode::On | Mode::Dormant => RECORDING,
        Mode::Off => NOT_RECORDING,
        Mode::Unknown => 0,
    }
}

extern "C" fn linked_enter() -> *const () {
    enter().map_or(core::ptr::null(), Guard::into_token)
}

unsafe extern "C" fn linked_leave(token: *const ()) {
    // SAFETY: the caller's promise: a token from `enter`.
    leave(unsafe { Guard::from_token(token) });
}

unsafe extern "C" fn linked_alloc(
    token: *const (),
    block: *const RawBlock,
    caller: *const Registers,
) {
    // SAFETY: as above.
    let guard = unsafe { Guard::from_token(token) };
    // SAFETY: the caller's promise: a block.
    let block = unsafe { &*block }.block();
    // SAFETY: the caller's promise: registers.
    let caller = unsafe { *caller };
    // SAFETY: the caller's promise: of a running function.
    unsafe { guard.alloc(block, caller) };
}

unsafe extern "C" fn linked_failed(
    token: *const (),
    block: *const RawBlock,
    caller: *const Registers,
) {
    // SAFETY: as above.
    let guard = unsafe { Guard::from_token(token) };
    // SAFETY: as above.
    let Block { size, kind, .. } = unsafe { &*block }.block();
    // SAFETY: as above.
    let caller = unsafe { *caller };
    // SAFETY: as above.
    unsafe { guard.failed(size, kind, caller) };
}

unsafe extern "C" fn linked_free(token: *const (), address: usize, kind: u32) {
    // SAFETY: as above.
    let guard = unsafe { Guard::from_token(token) };
    let kind = u8::try_from(kind).ok().and_then(FreeKind::from_number).unwrap_or_default();
    guard.free(address, kind);
}

unsafe extern "C" fn linked_resize_begins(token: *const (), old: usize, resize: *mut Resize) {
    // SAFETY: as above.
    let guard = unsafe { Guard::from_token(token) };
    let begun = guard.resize_begins(old);
    // SAFETY: the caller's promise: a place for the value.
    unsafe { resize.write(begun) };
}

unsafe extern "C" fn linked_resized(
    token: *const (),
    resize: *const Resize,
    block: *const RawBlock,
    caller: *const Registers,
) {
    // SAFETY: as above.
    let guard = unsafe { Guard::from_token(token) };
    // SAFETY: the caller's promise: what `resize_begins` wrote.
    let resize = unsafe { *resize };
    // SAFETY: as above.
    let block = unsafe { &*block }.block();
    // SAFETY: as above.
    let caller = unsafe { *caller };
    // SAFETY: as above.
    unsafe { guard.resized(resize, block, caller) };
}

unsafe extern "C" fn linked_resize_failed(
    token: *const (),
    resize: *const Resize,
    block: *const RawBlock,
    caller: *const Registers,
) {
    // SAFETY: as above.
    let guard = unsafe { Guard::from_token(token) };
    // SAFETY: as above.
    let resize = unsafe { *resize };
    // SAFETY: as above.
    let Block { size, kind, .. } = unsafe { &*block }.block();
    // SAFETY: as above.
    let caller = unsafe { *caller };
    // SAFETY: as above.
    unsafe { guard.resize_failed(resize, size, kind, caller) };
}
