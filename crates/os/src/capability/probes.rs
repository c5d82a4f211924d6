//! The probes: each does one thing on pages of its own and looks at the effect.

use core::ptr::NonNull;

use heapwright_core::backing::NodePolicy;

use super::Found;
use crate::memory::{Advice, advise, advise_raw, map, mincore, move_pages, release, reserve};
use crate::placement::{bind, placement};
use crate::syscall::{syscall3, syscall6};
use crate::topology::{NodeSet, Topology};
use crate::{
    DirtyMethod, DirtyPages, Errno, Fd, FileMapping, GuardKind, HugePage, Protection, huge_bytes,
    is_readable, page_bytes, transparent_huge_page_bytes,
};

/// Addresses that an allocator of large heaps wants to have in one piece.
const LARGE_BYTES: usize = 64 << 30;

/// Writable pages of a probe; unmapped when dropped.
struct Pages {
    start: NonNull<u8>,
    bytes: usize,
}

impl Pages {
    fn take(bytes: usize) -> Result<Self, Errno> {
        Ok(Self { start: reserve(bytes, Protection::ReadWrite)?, bytes })
    }

    fn at(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset < self.bytes);
        // SAFETY: inside the mapping.
        unsafe { self.start.add(offset) }
    }

    fn write(&self, offset: usize, value: u8) {
        // SAFETY: a byte of ours, writable.
        unsafe { self.at(offset).write_volatile(value) };
    }

    fn read(&self, offset: usize) -> u8 {
        // SAFETY: a byte of ours.
        unsafe { self.at(offset).read_volatile() }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, unused from here.
        let _ = unsafe { release(self.start, self.bytes) };
    }
}

pub(super) fn large_reservation() -> Found {
    let tried = reserve(LARGE_BYTES, Protection::None).map(|start| {
        // SAFETY: the whole mapping, unused.
        unsafe { release(start, LARGE_BYTES) }.is_ok()
    });
    tried.into()
}

/// The contents are there or are zero afterwards; the advice is taken. When the page goes is the
/// kernel's business.
pub(super) fn lazy_purge() -> Found {
    let tried = Pages::take(page_bytes()).and_then(|pages| {
        pages.write(0, 7);
        // SAFETY: pages of ours whose contents nobody needs.
        unsafe { advise(pages.start, pages.bytes, Advice::Free) }?;
        Ok([0, 7].contains(&pages.read(0)))
    });
    tried.into()
}

pub(super) fn guard_by_advice() -> Found {
    let tried = Pages::take(page_bytes()).and_then(|pages| {
        // SAFETY: a page of ours that nobody uses.
        let kind = unsafe { crate::guard(pages.start, pages.bytes) }?;
        let shut = !is_readable(pages.start.as_ptr().addr());
        Ok(shut && kind == GuardKind::Installed)
    });
    tried.into()
}

pub(super) fn populate() -> Found {
    let page = page_bytes();
    let tried = Pages::take(4 * page).and_then(|pages| {
        // SAFETY: pages of ours; they are made present.
        unsafe { advise_raw(pages.start, pages.bytes, libc::MADV_POPULATE_WRITE as usize) }?;
        let mut present = [0; 4];
        mincore(pages.start.as_ptr().addr(), &mut present)?;
        Ok(present.iter().all(|seen| seen & 1 == 1))
    });
    tried.into()
}

/// A range that has a whole huge page in it, and where that begins.
fn with_huge_page() -> Result<(Pages, usize), Errno> {
    let huge = transparent_huge_page_bytes();
    let pages = Pages::take(2 * huge)?;
    let lead = pages.start.as_ptr().addr().wrapping_neg() & (huge - 1);
    Ok((pages, lead))
}

pub(super) fn advised_huge_pages() -> Found {
    let tried = with_huge_page().and_then(|(pages, lead)| {
        // SAFETY: pages of ours.
        unsafe { advise(pages.start, pages.bytes, Advice::HugePage) }?;
        pages.write(lead, 1);
        Ok(huge_bytes(pages.at(lead), transparent_huge_page_bytes()).unwrap_or(0) > 0)
    });
    tried.into()
}

fn try_collapse() -> Result<bool, Errno> {
    let huge = transparent_huge_page_bytes();
    let (pages, lead) = with_huge_page()?;
    // SAFETY: pages of ours; small ones are made, to be collapsed.
    let _ = unsafe { advise(pages.start, pages.bytes, Advice::NoHugePage) };
    for offset in (0..huge).step_by(page_bytes()) {
        pages.write(lead + offset, 1);
    }
    // SAFETY: as above.
    unsafe { advise(pages.start, pages.bytes, Advice::HugePage) }?;
    // SAFETY: a huge page of ours, aligned.
    unsafe { crate::collapse(pages.at(lead), huge) }?;
    Ok(huge_bytes(pages.at(lead), huge).unwrap_or(0) > 0)
}

pub(super) fn collapse() -> Found {
    try_collapse().into()
}

pub(super) fn explicit(page: HugePage) -> Found {
    let tried = crate::map_huge(page.bytes(), page).map(|start| {
        // SAFETY: a mapping just made, readable and writable.
        unsafe { start.write_volatile(1) };
        let seen = huge_bytes(start, page.bytes());
        // SAFETY: the whole mapping, unused.
        let _ = unsafe { release(start, page.bytes()) };
        seen.is_none_or(|bytes| bytes > 0)
    });
    tried.into()
}

pub(super) fn alias() -> Found {
    let page = page_bytes();
    let tried = Fd::shared_memory(c"heapwright-probe").and_then(|memory| {
        memory.take_blocks(0, page as u64)?;
        let pages = Pages::take(2 * page)?;
        for offset in [0, page] {
            let file = Some((&memory, 0));
            let at = Some(pages.at(offset));
            // SAFETY: a page of ours that nobody uses is replaced.
            unsafe { map(at, page, Protection::ReadWrite, libc::MAP_SHARED, file) }?;
        }
        pages.write(0, 42);
        Ok(pages.read(page) == 42)
    });
    tried.into()
}

pub(super) fn hole() -> Found {
    let page = page_bytes();
    let tried = Fd::shared_memory(c"heapwright-probe").and_then(|memory| {
        memory.take_blocks(0, page as u64)?;
        let mapping =
            FileMapping::new(&memory, 0, page, Protection::ReadWrite).map_err(|_| Errno::ENOMEM)?;
        // SAFETY: a byte of the mapping.
        unsafe { mapping.start().write_volatile(7) };
        memory.punch_hole(0, page as u64)?;
        // SAFETY: as above; the file is still as long.
        Ok(unsafe { mapping.start().read_volatile() } == 0)
    });
    tried.into()
}

pub(super) fn named_shared_memory() -> Found {
    let name = c"heapwright-probe";
    let tried = crate::open_shared_memory(name).and_then(|memory| {
        let stat = memory.stat();
        let other = crate::open_existing_shared_memory(name).and_then(|other| other.stat());
        // Another process may probe at the same time and be the one to take the name away.
        let _ = crate::unlink_shared_memory(name);
        Ok(stat?.inode == other.or(stat)?.inode)
    });
    tried.into()
}

pub(super) fn move_by_remap() -> Found {
    let page = page_bytes();
    let tried = Pages::take(2 * page).and_then(|pages| {
        pages.write(0, 42);
        // SAFETY: two pages of ours that do not overlap; nobody needs what they held.
        unsafe { move_pages(pages.start, pages.at(page), page) }?;
        Ok(pages.read(page) == 42 && pages.read(0) == 0)
    });
    tried.into()
}

pub(super) fn bind_to_node() -> Found {
    let machine = Topology::read();
    let nodes = machine.nodes_with_memory();
    let tried = Pages::take(page_bytes()).and_then(|pages| {
        // The last one: where there are several, the first touch alone would not choose it.
        let node = nodes.iter().last().ok_or(Errno::ENOSYS)?;
        // SAFETY: a page of ours.
        unsafe { bind(pages.start, pages.bytes, NodePolicy::Bind(NodeSet::of(node).0)) }?;
        pages.write(0, 1);
        Ok(placement(pages.start, pages.bytes).is_ok_and(|seen| seen.pages_on(node) == 1))
    });
    tried.into()
}

pub(super) fn placement_read_back() -> Found {
    let tried = Pages::take(2 * page_bytes()).and_then(|pages| {
        pages.write(0, 1);
        let seen = placement(pages.start, pages.bytes)?;
        Ok((seen.present_count(), seen.absent_count()) == (1, 1))
    });
    tried.into()
}

pub(super) fn dirty_pages(method: DirtyMethod) -> Found {
    let page = page_bytes();
    let tried = Pages::take(2 * page).and_then(|pages| {
        // SAFETY: pages of ours, there until the end of this.
        let mut followed = unsafe { DirtyPages::follow_by(pages.start, pages.bytes, method) }?;
        pages.write(page, 1);
        let (mut first, mut second) = (0, 0);
        followed.take(|run| first += run.len())?;
        followed.take(|run| second += run.len())?;
        Ok(first == page && second == 0)
    });
    tried.into()
}

pub(super) fn page_scan() -> Found {
    let page = page_bytes();
    let tried = Pages::take(2 * page).and_then(|pages| {
        pages.write(page, 1);
        let first = pages.start.as_ptr().expose_provenance();
        let pagemap = crate::page_scan::open_pagemap()?;
        let mut seen = 0;
        let range = first..first + 2 * page;
        crate::page_scan::scan(&pagemap, range, crate::page_scan::PRESENT, false, |piece| {
            seen += piece.len();
        })?;
        Ok(seen == page)
    });
    tried.into()
}

pub(super) fn protection_keys() -> Found {
    let tried = Pages::take(page_bytes()).and_then(|pages| {
        // SAFETY: a key is made, without rights taken away; no memory.
        let key = unsafe { syscall3(libc::SYS_pkey_alloc, 0, 0, 0) }?;
        let start = pages.start.as_ptr().expose_provenance();
        let bits = Protection::ReadWrite.bits();
        // SAFETY: a page of ours, as accessible as before.
        let put =
            unsafe { syscall6(libc::SYS_pkey_mprotect, [start, pages.bytes, bits, key, 0, 0]) };
        // SAFETY: the key is ours; the page that has it goes with `pages`.
        let freed = unsafe { syscall3(libc::SYS_pkey_free, key, 0, 0) };
        Ok(put.is_ok() && freed.is_ok())
    });
    tried.into()
}
