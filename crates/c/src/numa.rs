//! Nodes, and memory on them.

use core::ptr::NonNull;

use heapwright_os::{NODE_COUNT_MAX, NodePages, Placement, Topology};

use crate::error::{Error, answer, status};
use crate::object;

/// `hw_nodes`: see the header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the header says what each means")]
pub struct HwNodes {
    pub online: u64,
    pub with_memory: u64,
    pub with_cpus: u64,
    pub memory_bytes: [u64; NODE_COUNT_MAX],
}

/// `hw_placement`: see the header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the header says what each means")]
pub struct HwPlacement {
    pub pages_on: [u64; NODE_COUNT_MAX],
    pub absent_pages: u64,
    pub unknown_pages: u64,
}

impl From<Placement> for HwPlacement {
    fn from(seen: Placement) -> Self {
        Self {
            pages_on: core::array::from_fn(|node| seen.pages_on(node as u32) as u64),
            absent_pages: seen.absent_count() as u64,
            unknown_pages: seen.unknown_count() as u64,
        }
    }
}

/// Writes `value` to a structure of C's.
///
/// # Safety
/// - `place` is null or a caller's structure.
unsafe fn put<T>(place: *mut T, value: T) -> Result<(), Error> {
    let place = NonNull::new(place).ok_or(Error::INVALID)?;
    // SAFETY: the caller's promise.
    unsafe { place.write(value) };
    Ok(())
}

/// `hw_page_bytes`: see the header.
#[unsafe(no_mangle)]
pub extern "C" fn hw_page_bytes() -> usize {
    heapwright_os::page_bytes()
}

/// `hw_nodes_read`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_nodes_read(out: *mut HwNodes) -> i32 {
    let machine = Topology::read();
    let nodes = HwNodes {
        online: machine.nodes().0,
        with_memory: machine.nodes_with_memory().0,
        with_cpus: machine.nodes_with_cpus().0,
        memory_bytes: core::array::from_fn(|node| machine.memory_bytes(node as u32)),
    };
    // SAFETY: the caller's structure or null.
    let result = unsafe { put(out, nodes) };
    // SAFETY: there is no place to tell more.
    unsafe { status(result, core::ptr::null_mut()) }
}

/// `hw_node_distance`: see the header.
#[unsafe(no_mangle)]
pub extern "C" fn hw_node_distance(from: u32, to: u32) -> u32 {
    u32::from(Topology::read().distance(from, to))
}

/// `hw_node_current`: see the header.
#[unsafe(no_mangle)]
pub extern "C" fn hw_node_current() -> u32 {
    heapwright_os::current_node()
}

fn pages(result: Result<NodePages, heapwright_os::NodeError>) -> Result<*mut u8, Error> {
    Ok(result?.into_raw().0.as_ptr())
}

/// `hw_pages_on_node`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_pages_on_node(bytes: usize, node: u32, error: *mut Error) -> *mut u8 {
    let made = pages(heapwright_os::alloc_on_node(bytes, node));
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_pages_local`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_pages_local(bytes: usize, error: *mut Error) -> *mut u8 {
    let made = pages(heapwright_os::alloc_local(bytes));
    // SAFETY: the caller's structure or null.
    unsafe { answer(made, error, core::ptr::null_mut()) }
}

/// `hw_pages_free`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_pages_free(start: *mut u8, bytes: usize) {
    let length = bytes.max(1).checked_next_multiple_of(heapwright_os::page_bytes());
    if let (Some(start), Some(length)) = (NonNull::new(start), length) {
        // SAFETY: the caller's promise: of `hw_pages_on_node` or `hw_pages_local`, with the same
        // length, given back once.
        drop(unsafe { NodePages::from_raw(start, length) });
    }
}

/// A range of C's, which must begin at an OS page.
fn range(start: *mut u8) -> Result<NonNull<u8>, Error> {
    object::block(start).and_then(|start| {
        match start.as_ptr().addr().is_multiple_of(heapwright_os::page_bytes()) {
            true => Ok(start),
            false => Err(Error::INVALID),
        }
    })
}

/// `hw_placement_read`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_placement_read(
    start: *mut u8,
    bytes: usize,
    out: *mut HwPlacement,
    error: *mut Error,
) -> i32 {
    let result = range(start).and_then(|start| {
        let seen = heapwright_os::placement(start, bytes)?;
        // SAFETY: the caller's structure or null.
        unsafe { put(out, seen.into()) }
    });
    // SAFETY: the caller's structure or null.
    unsafe { status(result, error) }
}

/// `hw_migrate`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_migrate(
    start: *mut u8,
    bytes: usize,
    node: u32,
    out: *mut HwPlacement,
    error: *mut Error,
) -> i32 {
    let result = range(start).and_then(|start| {
        // SAFETY: the caller's promise: whole OS pages of its own.
        let seen = unsafe { heapwright_os::migrate(start, bytes, node) }?;
        // SAFETY: the caller's structure or null.
        unsafe { put(out, seen.into()) }
    });
    // SAFETY: the caller's structure or null.
    unsafe { status(result, error) }
}

/// `hw_bind_range`: see the header.
///
/// # Safety
/// - As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hw_bind_range(
    start: *mut u8,
    bytes: usize,
    policy: i32,
    nodes: u64,
    error: *mut Error,
) -> i32 {
    let result = range(start).and_then(|start| {
        let policy = crate::backing::policy(policy, nodes)?;
        // SAFETY: the caller's promise: whole OS pages of its own.
        Ok(unsafe { heapwright_os::bind(start, bytes, policy) }?)
    });
    // SAFETY: the caller's structure or null.
    unsafe { status(result, error) }
}
