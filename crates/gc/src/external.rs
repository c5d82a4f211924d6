//! External bytes: memory outside the heap that lives as long as an object, counted like the
//! heap's own, so that a small object with a large buffer is not taken for a small one.

use crate::LimitReached;
use crate::dynamic_root::RootTable;
use crate::mutation::Mutation;
use crate::trace::{Trace, Visitor};

/// Counts as so many bytes of its heap until it is dropped. Lies in the object that owns the
/// memory.
///
/// ```
/// use heapwright_gc::{Config, External, Gc, Heap, Static, Trace, rootable};
///
/// #[derive(Trace)]
/// struct Image { pixels: Static<Vec<u8>>, _counted: External }
///
/// let config = Config { limit_bytes: 8 << 20, ..Config::default() };
/// let mut heap = Heap::<rootable!['gc => ()]>::new(config, |_| ())?;
/// for _ in 0..100 {
///     // A megabyte each; unreachable at once, and collected in time.
///     heap.mutate(|mu, _| {
///         let pixels = Static(vec![0; 1 << 20]);
///         mu.alloc(Image { pixels, _counted: mu.external(1 << 20)? }).map(|_| ())
///     }).expect("collections make room");
/// }
/// assert!(heap.statistics().pauses() > 10);
/// # Ok::<(), heapwright_gc::HeapError>(())
/// ```
pub struct External {
    table: RootTable,
    bytes: usize,
}

impl External {
    /// How many bytes it counts as.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for External {
    fn drop(&mut self) {
        self.table.change_external(|bytes| bytes - self.bytes);
    }
}

// SAFETY: there is no `Gc` or cell in it, and its destructor looks at a counter outside the heap.
unsafe impl<'gc> Trace<'gc> for External {
    const NEEDS_TRACE: bool = false;
    const HAS_CELLS: bool = false;
    fn trace<V: Visitor>(&mut self, _visitor: &mut V) {}
}

impl<'gc> Mutation<'gc> {
    /// Counts `bytes` of memory outside the heap towards its triggers and its limit, until the
    /// value is dropped. O(1).
    ///
    /// # Errors
    /// [`LimitReached`] if the heap may not hold as many more.
    pub fn external(&self, bytes: usize) -> Result<External, LimitReached> {
        let mut state = self.state().borrow_mut();
        if !state.has_room(bytes) {
            state.refuse(bytes);
            drop(state);
            self.core().note_due();
            return Err(LimitReached);
        }
        state.dynamic.change_external(|counted| counted + bytes);
        let table = state.dynamic.share();
        drop(state);
        self.core().note_due();
        Ok(External { table, bytes })
    }
}
