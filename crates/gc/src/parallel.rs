//! Marking by several threads: each has a stack of its own, and what one can spare goes through a
//! pool to those that have nothing. They claim each object by an atomic change of its mark bit (or
//! of its bit in the word map): one of them visits it.
//!
//! Where the cycle empties blocks, each remembers what it finds by itself; an object is visited
//! once, so it is remembered once.

use core::ptr::NonNull;

use heapwright_sync::Lock;

use crate::mark::Marker;
use crate::memory::Table;
use crate::model::Model;
use crate::object::ObjectRef;
use crate::remember::{Entry, Remembered};
use crate::space::{CandidateMap, LiveSet};
use crate::system::Futex;
use crate::team::{self, Pool, Task};

/// What the threads of one marking share.
struct Marking<M: Model> {
    pool: Pool<ObjectRef>,
    live: LiveSet,
    mark: usize,
    /// The candidates, if there are some; nobody changes the map while several mark.
    candidates: Option<CandidateMap>,
    /// What helpers that have ended remembered.
    remembered: Lock<Table<Entry<M>>, Futex>,
}

// SAFETY: the maps are changed atomically, the candidates not at all, what is remembered under its
// lock; objects are claimed (P1). A payload's `trace` may run on any thread: `Trace` and
// `vm::Layout` say so.
unsafe impl<M: Model> Sync for Marking<M> {}

impl<M: Model> Task for Marking<M> {
    type Work = ObjectRef;

    fn pool(&self) -> &Pool<ObjectRef> {
        &self.pool
    }

    fn help(&self) {
        let mut marker = match self.candidates {
            Some(map) => Marker::<M>::remembering(self.live, Remembered::part_of(map)),
            None => Marker::<M>::new(self.live),
        };
        marker.begin(self.mark, self.live);
        marker.remember_all(self.candidates.is_some());
        self.work(&mut marker);
        if let Some(remembered) = &marker.remembered {
            let me = core::ptr::from_ref(&marker).addr();
            let mut all = self.remembered.lock(me).expect("no one comes here twice");
            remembered.entries().iter().for_each(|entry| all.push(*entry));
        }
    }
}

impl<M: Model> Marking<M> {
    /// Marks until no thread has any work.
    fn work(&self, marker: &mut Marker<M>) {
        marker.set_pool(Some(NonNull::from(&self.pool)));
        loop {
            marker.drain(None);
            if !self.pool.next(marker.stack_mut()) {
                break;
            }
        }
        marker.set_pool(None);
    }
}

/// Marks all that is reachable from the stack of `marker`, by up to `threads` threads.
pub(crate) fn mark<M: Model>(marker: &mut Marker<M>, threads: usize) {
    let (mark, live) = marker.cycle();
    let marking = Marking {
        pool: Pool::new(),
        live,
        mark,
        candidates: marker.candidates(),
        remembered: Lock::new(Table::new()),
    };
    team::run(&marking, threads, || marking.work(marker));
    if let Some(remembered) = &mut marker.remembered {
        let all = marking.remembered.lock(1).expect("the helpers have ended");
        remembered.add_entries(all.as_slice());
    }
}
