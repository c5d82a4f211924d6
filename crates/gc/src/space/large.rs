//! Large objects: whole OS pages each, marked in place, never moved.
//!
//! # Invariants
//! - L1: `objects` names every large object once; `free` holds the unused page runs below `top`,
//!   sorted by address, none adjacent to another.

use core::ptr::NonNull;

use crate::system::page_bytes;

use crate::memory::{Table, purge};
use crate::object::ObjectRef;
use crate::space::AddressRange;

/// Bytes from an offset in the space.
#[derive(Clone, Copy, Debug)]
struct Run {
    offset: usize,
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct LargeObject {
    object: ObjectRef,
    run: Run,
}

/// A range of addresses cut into page runs.
#[derive(Debug)]
pub(crate) struct LargeSpace {
    start: NonNull<u8>,
    bytes: usize,
    top: usize,
    occupied_bytes: usize,
    objects: Table<LargeObject>,
    /// Objects from this index on are younger than the last collection.
    young_from: usize,
    free: Table<Run>,
    /// While a sweep runs: the next object to look at, and how many were kept.
    swept: usize,
    kept: usize,
    /// A dead run that is being given back, from the end.
    leaving: Option<Run>,
    /// What this sweep freed; usable when it has ended.
    freed: Table<Run>,
}

impl LargeSpace {
    pub(crate) fn new(start: NonNull<u8>, bytes: usize) -> Self {
        Self {
            start,
            bytes,
            top: 0,
            occupied_bytes: 0,
            objects: Table::new(),
            young_from: 0,
            free: Table::new(),
            swept: 0,
            kept: 0,
            leaving: None,
            freed: Table::new(),
        }
    }

    pub(crate) fn occupied_bytes(&self) -> usize {
        self.occupied_bytes
    }

    pub(crate) fn range(&self) -> AddressRange {
        AddressRange::new(self.start, self.bytes)
    }

    /// Memory for one object of `bytes`: first fit. O(free runs). [`LargeSpace::add`] follows.
    pub(crate) fn place(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let bytes = run_bytes(bytes)?;
        let offset = self.take_free(bytes).or_else(|| self.take_top(bytes))?;
        // SAFETY: runs lie inside the space.
        Some(unsafe { self.start.add(offset) })
    }

    /// Registers the object that was made in the last place. Gives the memory up if there is no
    /// room in the table.
    pub(crate) fn add(
        &mut self,
        object: ObjectRef,
        start: NonNull<u8>,
        total_bytes: usize,
    ) -> Option<()> {
        let start = start.addr().get();
        let run = Run { offset: start - self.start.addr().get(), bytes: run_bytes(total_bytes)? };
        self.objects.try_push(LargeObject { object, run }).ok()?;
        self.occupied_bytes += run.bytes;
        Some(())
    }

    /// Takes a place back that got no object. O(free runs, sorted).
    pub(crate) fn unplace(&mut self, start: NonNull<u8>, bytes: usize) {
        let offset = start.addr().get() - self.start.addr().get();
        if let Some(bytes) = run_bytes(bytes) {
            // Without memory for the entry the addresses are lost, and nothing else.
            let _ = self.free.try_push(Run { offset, bytes });
            self.join_free();
        }
    }

    /// The number of objects.
    pub(crate) fn count(&self) -> usize {
        self.objects.as_slice().len()
    }

    /// The `index`-th object; the order changes with each sweep.
    pub(crate) fn object(&self, index: usize) -> ObjectRef {
        self.objects.as_slice()[index].object
    }

    /// Indices from here on are younger than the last collection.
    pub(crate) fn young_from(&self) -> usize {
        self.young_from
    }

    /// Ends a collection: no object is young any more.
    pub(crate) fn age(&mut self) {
        self.young_from = self.count();
    }

    /// Frees every object whose mark bit is not `mark`. O(objects + free runs, sorted).
    pub(crate) fn sweep(&mut self, mark: usize) {
        self.begin_sweep();
        while !self.sweep_some(mark, usize::MAX) {}
    }

    /// Starts a sweep, which [`LargeSpace::sweep_some`] does. Until it ends the entries between
    /// `kept` and `swept` mean nothing.
    pub(crate) fn begin_sweep(&mut self) {
        (self.swept, self.kept) = (0, 0);
    }

    /// Looks at one object, or gives up to `bytes` of a dead one back; returns whether the sweep
    /// has ended.
    pub(crate) fn sweep_some(&mut self, mark: usize, bytes: usize) -> bool {
        if let Some(run) = self.leaving.take() {
            self.give_back(run, bytes);
            return false;
        }
        if self.swept == self.count() {
            self.objects.truncate(self.kept);
            self.age();
            while let Some(run) = self.freed.pop() {
                self.free.push(run);
            }
            self.join_free();
            return true;
        }
        let one = self.objects.as_slice()[self.swept];
        self.swept += 1;
        if one.object.mark_bit() == mark {
            self.objects.as_mut_slice()[self.kept] = one;
            self.kept += 1;
        } else {
            self.occupied_bytes -= one.run.bytes;
            self.freed.push(one.run);
            self.give_back(one.run, bytes);
        }
        false
    }

    /// Gives up to `bytes` of the end of a dead run back to the kernel. It is not used again
    /// before the sweep ends.
    fn give_back(&mut self, run: Run, bytes: usize) {
        let rest = run.bytes.saturating_sub(bytes);
        // SAFETY: runs lie inside the space.
        let start = unsafe { self.start.add(run.offset + rest) };
        // SAFETY: the run's only object is dead.
        unsafe { purge(start, run.bytes - rest) };
        self.leaving = (rest > 0).then_some(Run { offset: run.offset, bytes: rest });
    }

    fn take_free(&mut self, bytes: usize) -> Option<usize> {
        let runs = self.free.as_mut_slice();
        let index = runs.iter().position(|run| run.bytes >= bytes)?;
        let offset = runs[index].offset;
        runs[index] = Run { offset: offset + bytes, bytes: runs[index].bytes - bytes };
        if runs[index].bytes == 0 {
            runs.copy_within(index + 1.., index);
            let len = runs.len() - 1;
            self.free.truncate(len);
        }
        Some(offset)
    }

    fn take_top(&mut self, bytes: usize) -> Option<usize> {
        let offset = self.top;
        if bytes > self.bytes - offset {
            return None;
        }
        self.top += bytes;
        Some(offset)
    }

    /// Restores L1 after runs were appended.
    fn join_free(&mut self) {
        let runs = self.free.as_mut_slice();
        runs.sort_unstable_by_key(|run| run.offset);
        let mut kept = 0;
        for index in 0..runs.len() {
            let run = runs[index];
            if kept > 0 && runs[kept - 1].offset + runs[kept - 1].bytes == run.offset {
                runs[kept - 1].bytes += run.bytes;
            } else {
                runs[kept] = run;
                kept += 1;
            }
        }
        self.free.truncate(kept);
    }
}

fn run_bytes(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(page_bytes())
}
