//! Memory on a node that the caller names, with proof.

use core::fmt;
use core::ptr::NonNull;

use heapwright_core::backing::NodePolicy;

use crate::current_node::current_node;
use crate::memory::{Protection, advise_raw, release, reserve};
use crate::placement::{Placement, bind, placement};
use crate::topology::{NodeSet, node_free_bytes};
use crate::{Errno, page_bytes};

/// Free memory that a node keeps when pages are taken from it: the kernel ends a process that is
/// bound to a node without any.
const NODE_RESERVE_BYTES: u64 = 16 << 20;

/// Why there is no memory on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeError {
    /// The node has less free memory than asked for. Nothing was taken.
    NodeFull {
        /// The node.
        node: u32,
        /// What was asked for.
        requested_bytes: usize,
        /// What it could have given.
        available_bytes: u64,
    },
    /// Some pages came from elsewhere; all were given back.
    Elsewhere {
        /// The node.
        node: u32,
        /// Pages asked for.
        wanted_pages: usize,
        /// Pages that lay there.
        got_pages: usize,
    },
    /// The kernel's reason: `EINVAL` for a node that is not there, `ENOSYS` without NUMA.
    Kernel {
        /// The error number.
        errno: Errno,
        /// What was asked for.
        bytes: usize,
    },
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeFull { node, requested_bytes, available_bytes } => {
                write!(f, "{requested_bytes} bytes wanted on node {node}, {available_bytes} free")
            }
            Self::Elsewhere { node, wanted_pages, got_pages } => {
                write!(f, "{got_pages} of {wanted_pages} pages are on node {node}")
            }
            Self::Kernel { errno, bytes } => write!(f, "{bytes} bytes on a node: {errno}"),
        }
    }
}

impl core::error::Error for NodeError {}

/// Whole OS pages, readable, writable, zero at first, present; given back when dropped.
#[derive(Debug)]
pub struct NodePages {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the pages belong to this value alone.
unsafe impl Send for NodePages {}
// SAFETY: by shared reference only addresses are given out.
unsafe impl Sync for NodePages {}

impl NodePages {
    /// The first byte.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The length in bytes, whole OS pages.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The memory.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: mapped, writable and ours alone; the pages were zero when they came.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }

    /// Where its pages lie now.
    ///
    /// # Errors
    /// The kernel's.
    pub fn placement(&self) -> Result<Placement, Errno> {
        placement(self.start, self.bytes)
    }

    /// Gives the memory up without giving it back: [`Self::from_raw`] takes it again.
    pub fn into_raw(self) -> (NonNull<u8>, usize) {
        let raw = (self.start, self.bytes);
        core::mem::forget(self);
        raw
    }

    /// Takes over what [`Self::into_raw`] gave up.
    ///
    /// # Safety
    /// - Both come from one call of it, and are taken over once.
    pub unsafe fn from_raw(start: NonNull<u8>, bytes: usize) -> Self {
        Self { start, bytes }
    }

    fn take(bytes: usize, policy: NodePolicy) -> Result<Self, NodeError> {
        let refused = |errno| NodeError::Kernel { errno, bytes };
        let page = page_bytes();
        let length = bytes.max(1).checked_next_multiple_of(page).ok_or(refused(Errno::ENOMEM))?;
        let start = reserve(length, Protection::ReadWrite).map_err(refused)?;
        let pages = Self { start, bytes: length };
        // SAFETY: a mapping of ours.
        unsafe { bind(start, length, policy) }.map_err(refused)?;
        // SAFETY: whole pages of ours; they are made present. Linux 5.14 has the advice.
        if unsafe { advise_raw(start, length, libc::MADV_POPULATE_WRITE as usize) }.is_err() {
            for offset in (0..length).step_by(page) {
                // SAFETY: a byte of ours.
                let byte = unsafe { start.add(offset) };
                // SAFETY: as above.
                unsafe { byte.write_volatile(0) };
            }
        }
        Ok(pages)
    }
}

impl Drop for NodePages {
    fn drop(&mut self) {
        // SAFETY: our whole mapping, unused from here.
        let _ = unsafe { release(self.start, self.bytes) };
    }
}

/// Memory of at least `bytes` on `node`, every page of it read back from the kernel. O(pages):
/// some 1.5 µs each.
///
/// # Errors
/// [`NodeError`]; nothing was taken then.
pub fn alloc_on_node(bytes: usize, node: u32) -> Result<NodePages, NodeError> {
    if let Some(free) = node_free_bytes(node) {
        let available_bytes = free.saturating_sub(NODE_RESERVE_BYTES);
        if bytes as u64 > available_bytes {
            return Err(NodeError::NodeFull { node, requested_bytes: bytes, available_bytes });
        }
    }
    let nodes = NodeSet::of(node);
    if nodes.is_empty() {
        return Err(NodeError::Kernel { errno: Errno::EINVAL, bytes });
    }
    let pages = NodePages::take(bytes, NodePolicy::Bind(nodes.0))?;
    let seen = pages.placement().map_err(|errno| NodeError::Kernel { errno, bytes })?;
    let (wanted_pages, got_pages) = (pages.bytes / page_bytes(), seen.pages_on(node));
    if got_pages != wanted_pages {
        return Err(NodeError::Elsewhere { node, wanted_pages, got_pages });
    }
    Ok(pages)
}

/// Memory of at least `bytes` near the CPU that the thread runs on, or as near as there is. Where
/// the kernel has no NUMA it is just memory.
///
/// # Errors
/// [`NodeError::Kernel`].
pub fn alloc_local(bytes: usize) -> Result<NodePages, NodeError> {
    match NodePages::take(bytes, NodePolicy::Prefer(current_node())) {
        Err(NodeError::Kernel { errno: Errno::ENOSYS | Errno::EPERM, .. }) => {
            NodePages::without_policy(bytes)
        }
        answer => answer,
    }
}

impl NodePages {
    /// Pages of whatever node.
    fn without_policy(bytes: usize) -> Result<Self, NodeError> {
        let refused = |errno| NodeError::Kernel { errno, bytes };
        let length =
            bytes.max(1).checked_next_multiple_of(page_bytes()).ok_or(refused(Errno::ENOMEM))?;
        let start = reserve(length, Protection::ReadWrite).map_err(refused)?;
        Ok(Self { start, bytes: length })
    }
}

#[cfg(test)]
mod tests {
    use super::{NodeError, alloc_local, alloc_on_node};
    use crate::topology::{NodeSet, Topology};
    use crate::{Errno, page_bytes};

    #[test]
    fn memory_is_on_the_node_it_was_asked_on() {
        for node in Topology::read().nodes_with_memory().iter() {
            match alloc_on_node(100_000, node) {
                Ok(mut pages) => {
                    assert!(pages.bytes().is_multiple_of(page_bytes()));
                    assert!(pages.as_mut_slice().iter().all(|byte| *byte == 0));
                    let seen = pages.placement().expect("the kernel tells");
                    assert!(seen.is_within(NodeSet::of(node)) && seen.absent_count() == 0);
                }
                Err(NodeError::Kernel { errno, .. }) => {
                    assert!([Errno::ENOSYS, Errno::EPERM].contains(&errno), "{errno}");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_node_that_is_not_there_and_too_much_are_refused_with_the_numbers() {
        assert!(matches!(alloc_on_node(1, 63), Err(NodeError::Kernel { .. })));
        assert!(matches!(alloc_on_node(1, 64), Err(NodeError::Kernel { .. })));
        let node = Topology::read().nodes_with_memory().iter().next().expect("a node");
        let refused = alloc_on_node(1 << 46, node);
        assert!(matches!(refused, Err(NodeError::NodeFull { .. } | NodeError::Kernel { .. })));
    }

    #[test]
    fn local_memory_is_zero_and_writable() {
        let mut pages = alloc_local(5000).expect("memory");
        pages.as_mut_slice().fill(7);
        assert_eq!(pages.as_mut_slice()[4999], 7);
    }
}
