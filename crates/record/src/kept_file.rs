//! Descriptors of ours in a program that may close any descriptor.

use core::mem::ManuallyDrop;

use heapwright_os::Fd;
use heapwright_sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Descriptors are put above the first of these that the program's limit allows, out of the way
/// of programs that count on low numbers.
const FD_LEAST: [i32; 4] = [700, 200, 60, 20];
/// No descriptor: the file is opened by its path each time.
const NO_FD: u32 = u32::MAX;

/// The ring file as this process or, after a fork, its parent opened it.
pub(crate) static RING_FILE: KeptFile = KeptFile::none();
/// The session's directory: a process that has changed its root finds it by no path.
pub(crate) static SPOOL_DIRECTORY: KeptFile = KeptFile::none();

/// A descriptor, and which file it is to mean.
pub(crate) struct KeptFile {
    fd: AtomicU32,
    device: AtomicU64,
    inode: AtomicU64,
}

impl KeptFile {
    const fn none() -> Self {
        Self { fd: AtomicU32::new(NO_FD), device: AtomicU64::new(0), inode: AtomicU64::new(0) }
    }

    /// The descriptor, if it still means the file: the program may have closed it, and opened
    /// something else under its number.
    pub(crate) fn held(&self) -> Option<ManuallyDrop<Fd>> {
        let held = ManuallyDrop::new(Fd::from_raw(self.fd.load(Ordering::Relaxed) as i32));
        let stat = held.stat().ok()?;
        let same = stat.device == self.device.load(Ordering::Relaxed)
            && stat.inode == self.inode.load(Ordering::Relaxed);
        same.then_some(held)
    }

    pub(crate) fn keep(&self, file: Fd) -> Option<()> {
        let stat = file.stat().ok()?;
        self.device.store(stat.device, Ordering::Relaxed);
        self.inode.store(stat.inode, Ordering::Relaxed);
        let high = FD_LEAST.iter().find_map(|&least| file.duplicate_above(least).ok());
        self.fd.store(high.map_or(NO_FD, |fd| fd.into_raw() as u32), Ordering::Relaxed);
        Some(())
    }

    /// Closes it, if it is still ours: a child has inherited it, or it is of an earlier session.
    pub(crate) fn close(&self) {
        if let Some(inherited) = self.held() {
            drop(ManuallyDrop::into_inner(inherited));
        }
        self.fd.store(NO_FD, Ordering::Relaxed);
    }
}
