//! On which NUMA nodes memory lies: policies, moving, and reading back what the kernel did.
//!
//! Source: mbind(2), move_pages(2), get_mempolicy(2), Linux 6.x.

use core::ptr::NonNull;

use heapwright_core::backing::NodePolicy;

use crate::memory::{bind_raw, mincore};
use crate::syscall::{syscall3, syscall6};
use crate::topology::{NODE_COUNT_MAX, NodeSet};
use crate::{Errno, is_readable, page_bytes};

/// Pages that one system call is asked about.
const BATCH_PAGES: usize = 128;
/// Flags of get_mempolicy: answer with a node, of an address.
const MPOL_F_NODE: usize = 1;
const MPOL_F_ADDR: usize = 2;
/// And of get_mempolicy: answer with the nodes that may be used.
const MPOL_F_MEMS_ALLOWED: usize = 4;
/// Flag of move_pages: pages of this process only.
const MPOL_MF_MOVE: usize = 2;
/// How often pages are touched and asked about again that the kernel had in its hands.
const ATTEMPTS_MAX: u32 = 3;

/// Where the OS pages of a range lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    page_counts: [usize; NODE_COUNT_MAX],
    absent_count: usize,
    unknown_count: usize,
}

impl Placement {
    const NOWHERE: Self =
        Self { page_counts: [0; NODE_COUNT_MAX], absent_count: 0, unknown_count: 0 };

    /// Pages on `node`.
    pub fn pages_on(&self, node: u32) -> usize {
        self.page_counts.get(node as usize).copied().unwrap_or(0)
    }

    /// Pages on any node.
    pub fn present_count(&self) -> usize {
        self.page_counts.iter().sum()
    }

    /// Pages without memory: never touched, purged, or swapped out.
    pub fn absent_count(&self) -> usize {
        self.absent_count
    }

    /// Pages that are in memory, but the kernel did not say where.
    pub fn unknown_count(&self) -> usize {
        self.unknown_count
    }

    /// Whether every page that is in memory is known to lie on a node of `nodes`.
    pub fn is_within(&self, nodes: NodeSet) -> bool {
        let inside: usize = nodes.iter().map(|node| self.pages_on(node)).sum();
        self.unknown_count == 0 && inside == self.present_count()
    }

    fn count(&mut self, node: i32) {
        match usize::try_from(node).ok().and_then(|node| self.page_counts.get_mut(node)) {
            Some(count) => *count += 1,
            None => self.unknown_count += 1,
        }
    }
}

/// The kernel's mode and mask of a policy.
fn mode_of(policy: NodePolicy) -> Result<(i32, u64), Errno> {
    Ok(match policy {
        NodePolicy::Local => (libc::MPOL_LOCAL, 0),
        NodePolicy::Bind(mask) => (libc::MPOL_BIND, mask),
        NodePolicy::Prefer(node) if (node as usize) < NODE_COUNT_MAX => {
            (libc::MPOL_PREFERRED, 1 << node)
        }
        NodePolicy::Prefer(_) => return Err(Errno::EINVAL),
        NodePolicy::Interleave(mask) => (libc::MPOL_INTERLEAVE, mask),
    })
}

/// Says from which nodes pages of `bytes` from `start` come that are not there yet. One call,
/// some 1.6 µs.
///
/// # Safety
/// - The range is whole OS pages of a mapping that the caller owns.
///
/// # Errors
/// The kernel's: `EINVAL` for nodes that are not there, `ENOSYS` without NUMA.
pub unsafe fn bind(start: NonNull<u8>, bytes: usize, policy: NodePolicy) -> Result<(), Errno> {
    let (mode, mask) = mode_of(policy)?;
    // SAFETY: the caller's promise; a policy changes no contents.
    unsafe { bind_raw(start, bytes, mode, mask) }
}

/// Says from which nodes new pages of the calling thread come where no range says otherwise.
///
/// # Errors
/// As [`bind`].
pub fn bind_thread(policy: NodePolicy) -> Result<(), Errno> {
    let (mode, mask) = mode_of(policy)?;
    // The kernel reads one bit less than it is told.
    let (place, bits) =
        if mask == 0 { (0, 0) } else { ((&raw const mask).expose_provenance(), 65) };
    // SAFETY: the kernel reads the mask, one word.
    unsafe { syscall3(libc::SYS_set_mempolicy, mode as usize, place, bits) }.map(drop)
}

/// The nodes whose memory this thread may use: one system call. Empty where the kernel has no
/// NUMA or does not tell (a sandbox); nodes beyond [`NODE_COUNT_MAX`] are left out.
pub fn allowed_nodes() -> NodeSet {
    // As many nodes as a kernel may be built for: it refuses a shorter mask than its own.
    let mut mask = [0u64; 16];
    let place = mask.as_mut_ptr().expose_provenance();
    let args = [0, place, mask.len() * 64, 0, MPOL_F_MEMS_ALLOWED, 0];
    // SAFETY: the kernel writes at most as many bits as the mask has.
    let answer = unsafe { syscall6(libc::SYS_get_mempolicy, args) };
    NodeSet(if answer.is_ok() { mask[0] } else { 0 })
}

/// The node of the page at `address`, asked in the way that also answers for pages the kernel is
/// sampling. Makes the page present, so only for one that is.
fn node_of_present(address: usize) -> Option<i32> {
    let mut node = -1i32;
    let place = (&raw mut node).expose_provenance();
    let flags = MPOL_F_NODE | MPOL_F_ADDR;
    // SAFETY: the kernel writes one word, which is ours, and reads the page at most.
    unsafe { syscall6(libc::SYS_get_mempolicy, [place, 0, 0, address, flags, 0]) }.ok()?;
    Some(node)
}

fn is_present(address: usize) -> bool {
    let mut seen = [0];
    mincore(address, &mut seen).is_ok() && seen[0] & 1 == 1
}

/// Asks about the pages of `addresses`, or moves them to `node`; the kernel's answer for each in
/// `status`.
fn ask(addresses: &[usize], node: Option<i32>, status: &mut [i32]) -> Result<(), Errno> {
    debug_assert!(addresses.len() == status.len() && addresses.len() <= BATCH_PAGES);
    let wanted = [node.unwrap_or(0); BATCH_PAGES];
    let nodes = if node.is_some() { wanted.as_ptr().expose_provenance() } else { 0 };
    let pages = addresses.as_ptr().expose_provenance();
    let answers = status.as_mut_ptr().expose_provenance();
    let args = [0, addresses.len(), pages, nodes, answers, MPOL_MF_MOVE];
    // SAFETY: the arrays are as long as the count says; moving a page changes neither its address
    // nor its contents.
    unsafe { syscall6(libc::SYS_move_pages, args) }.map(drop)
}

/// Calls `each` with the batches of page addresses from `start`, and a buffer as long.
fn batches(
    start: usize,
    bytes: usize,
    mut each: impl FnMut(&[usize], &mut [i32]) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let page = page_bytes();
    let (mut addresses, mut status) = ([0; BATCH_PAGES], [0; BATCH_PAGES]);
    let pages = bytes.div_ceil(page);
    for first in (0..pages).step_by(BATCH_PAGES) {
        let count = (pages - first).min(BATCH_PAGES);
        for (index, address) in addresses[..count].iter_mut().enumerate() {
            *address = start + (first + index) * page;
        }
        each(&addresses[..count], &mut status[..count])?;
    }
    Ok(())
}

/// Where the pages of `bytes` from `start` (a multiple of the OS page) lie now. Some 60 ns a page.
///
/// A kernel that balances nodes by itself does not tell about pages it is sampling; those are
/// asked about in a second way, and counted as unknown if that fails too.
///
/// # Errors
/// The kernel's: `ENOSYS` without NUMA, `EPERM` where a sandbox forbids the call.
pub fn placement(start: NonNull<u8>, bytes: usize) -> Result<Placement, Errno> {
    let mut seen = Placement::NOWHERE;
    batches(start.as_ptr().addr(), bytes, |addresses, status| {
        ask(addresses, None, status)?;
        for (address, answer) in addresses.iter().zip(status) {
            match *answer {
                node @ 0.. => seen.count(node),
                // A page of zeroes that all share, or none.
                error if error == -libc::EFAULT => seen.absent_count += 1,
                _ if !is_present(*address) => seen.absent_count += 1,
                _ => seen.count(node_of_present(*address).unwrap_or(-1)),
            }
        }
        Ok(())
    })?;
    Ok(seen)
}

/// Moves the pages of `bytes` from `start` that are in memory to `node`, and tells where they lie
/// afterwards: some may have stayed, where the node is full or a page is pinned. Copies each page,
/// some microseconds. Pages that come later follow the range's policy: [`bind`] it too.
///
/// # Safety
/// - The range is whole OS pages of a mapping that the caller owns.
///
/// # Errors
/// The kernel's: `ENODEV` for a node that is not there, `ENOSYS` without NUMA.
pub unsafe fn migrate(start: NonNull<u8>, bytes: usize, node: u32) -> Result<Placement, Errno> {
    let wanted = i32::try_from(node).map_err(|_| Errno::EINVAL)?;
    batches(start.as_ptr().addr(), bytes, |addresses, status| {
        for _ in 0..ATTEMPTS_MAX {
            ask(addresses, Some(wanted), status)?;
            // The kernel skips pages that it is sampling, until somebody touches them.
            let mut again = false;
            for (address, answer) in addresses.iter().zip(&*status) {
                if *answer == -libc::ENOENT && is_present(*address) {
                    again |= is_readable(*address);
                }
            }
            if !again {
                break;
            }
        }
        Ok(())
    })?;
    placement(start, bytes)
}

#[cfg(test)]
mod tests {
    use super::{bind, bind_thread, migrate, placement};
    use crate::topology::{NodeSet, Topology};
    use crate::{Errno, Protection, page_bytes, release, reserve};
    use heapwright_core::backing::NodePolicy;

    #[test]
    fn pages_are_found_where_they_were_bound() {
        let page = page_bytes();
        let bytes = 300 * page;
        let node = Topology::read().nodes_with_memory().iter().next().expect("a node");
        let start = reserve(bytes, Protection::ReadWrite).expect("address space");
        // SAFETY: a mapping of ours.
        match unsafe { bind(start, bytes, NodePolicy::Bind(NodeSet::of(node).0)) } {
            Ok(()) => {
                // SAFETY: the first 200 pages of it.
                unsafe { start.write_bytes(1, 200 * page) };
                let seen = placement(start, bytes).expect("the kernel tells");
                assert_eq!((seen.pages_on(node), seen.absent_count()), (200, 100), "{seen:?}");
                assert!(seen.is_within(NodeSet::of(node)));
                // SAFETY: a mapping of ours.
                let moved = unsafe { migrate(start, bytes, node) }.expect("moves");
                assert_eq!(moved, seen, "they were there already");
                // SAFETY: a mapping of ours.
                assert!(unsafe { migrate(start, bytes, 4000) }.is_err());
            }
            Err(errno) => assert!([Errno::ENOSYS, Errno::EPERM].contains(&errno), "{errno}"),
        }
        // SAFETY: the whole mapping, unused.
        unsafe { release(start, bytes) }.expect("release");
    }

    #[test]
    fn a_thread_may_have_the_usual_policy() {
        let local = bind_thread(NodePolicy::Local);
        assert!(local.is_ok() || local == Err(Errno::ENOSYS) || local == Err(Errno::EPERM));
        assert_eq!(bind_thread(NodePolicy::Prefer(64)), Err(Errno::EINVAL));
    }
}
