//! Free blocks of a shared pool as a state machine, checked by loom: two lists for each handle,
//! whole batches under a lock, a rest.
//! docs/design/regions.md#P4 and #P5 have the rules; `heapwright-regions` has it as `pool::shared`.
//! What is kept here is who has which block when; a block's link is a cell of loom's, so that two
//! who touch one at once end the model.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex};

const BATCH: usize = 2;
const BLOCKS: usize = 4;
/// No block.
const NONE: usize = usize::MAX;

/// What a free block has in it: the next one, and the next batch.
type Links = UnsafeCell<(usize, usize)>;

#[derive(Clone, Copy)]
struct List {
    head: usize,
    count: usize,
}

const EMPTY: List = List { head: NONE, count: 0 };

/// What the lock guards.
struct Common {
    fresh: usize,
    batches: usize,
    rest: List,
}

struct Pool {
    links: [Links; BLOCKS],
    common: Mutex<Common>,
}

impl Pool {
    fn new() -> Self {
        Self {
            links: std::array::from_fn(|_| UnsafeCell::new((NONE, NONE))),
            common: Mutex::new(Common { fresh: 0, batches: NONE, rest: EMPTY }),
        }
    }

    fn read(&self, block: usize) -> (usize, usize) {
        // SAFETY: loom ends the model if another thread writes it now.
        self.links[block].with(|links| unsafe { *links })
    }

    fn write(&self, block: usize, links: (usize, usize)) {
        // SAFETY: as in `read`.
        self.links[block].with_mut(|place| unsafe { *place = links });
    }

    fn push(&self, list: &mut List, block: usize) {
        self.write(block, (list.head, NONE));
        *list = List { head: block, count: list.count + 1 };
    }

    fn pop(&self, list: &mut List) -> Option<usize> {
        let block = list.head;
        if block == NONE {
            return None;
        }
        *list = List { head: self.read(block).0, count: list.count - 1 };
        Some(block)
    }

    /// `Common::take`.
    fn take(&self) -> List {
        let mut common = self.common.lock().expect("nobody panicked");
        if common.batches != NONE {
            let head = common.batches;
            common.batches = self.read(head).1;
            return List { head, count: BATCH };
        }
        if common.rest.count > 0 {
            return std::mem::replace(&mut common.rest, EMPTY);
        }
        let mut list = EMPTY;
        while list.count < BATCH && common.fresh < BLOCKS {
            self.push(&mut list, common.fresh);
            common.fresh += 1;
        }
        list
    }

    fn put_batch(&self, common: &mut Common, first: usize) {
        let (next, _) = self.read(first);
        self.write(first, (next, common.batches));
        common.batches = first;
    }
}

/// `PoolLocal`.
struct Handle<'a> {
    pool: &'a Pool,
    list: List,
    second: usize,
}

impl<'a> Handle<'a> {
    fn of(pool: &'a Pool) -> Self {
        Self { pool, list: EMPTY, second: NONE }
    }

    fn alloc(&mut self) -> Option<usize> {
        if self.list.head == NONE {
            self.list = match std::mem::replace(&mut self.second, NONE) {
                NONE => self.pool.take(),
                head => List { head, count: BATCH },
            };
        }
        let block = self.pool.pop(&mut self.list)?;
        // Its user writes over the link.
        self.pool.write(block, (block, block));
        Some(block)
    }

    fn free(&mut self, block: usize) {
        if self.list.count == BATCH {
            if self.second != NONE {
                let mut common = self.pool.common.lock().expect("nobody panicked");
                self.pool.put_batch(&mut common, self.second);
            }
            self.second = std::mem::replace(&mut self.list, EMPTY).head;
        }
        self.pool.push(&mut self.list, block);
    }
}

impl Drop for Handle<'_> {
    /// `PoolLocal::flush`.
    fn drop(&mut self) {
        let mut common = self.pool.common.lock().expect("nobody panicked");
        if self.second != NONE {
            self.pool.put_batch(&mut common, self.second);
        }
        while let Some(block) = self.pool.pop(&mut self.list) {
            let mut rest = common.rest;
            self.pool.push(&mut rest, block);
            common.rest = rest;
            if rest.count == BATCH {
                common.rest = EMPTY;
                self.pool.put_batch(&mut common, rest.head);
            }
        }
    }
}

/// One thread allocates two blocks and gives them to the other, which frees them among its own;
/// then each block is in one place.
#[test]
fn a_block_is_in_one_list_whoever_frees_it() {
    loom::model(|| {
        let pool = Arc::new(Pool::new());
        let handed = Arc::new(Mutex::new(Vec::new()));
        let producer = {
            let (pool, handed) = (Arc::clone(&pool), Arc::clone(&handed));
            loom::thread::spawn(move || {
                let mut handle = Handle::of(&pool);
                for _ in 0..2 {
                    let block = handle.alloc().expect("four blocks, and two are another's");
                    handed.lock().expect("nobody panicked").push(block);
                }
            })
        };
        {
            let mut handle = Handle::of(&pool);
            let own: Vec<usize> = (0..2).filter_map(|_| handle.alloc()).collect();
            for block in handed.lock().expect("nobody panicked").drain(..) {
                handle.free(block);
            }
            own.into_iter().for_each(|block| handle.free(block));
        }
        producer.join().expect("no panic");
        let mut handle = Handle::of(&pool);
        for block in handed.lock().expect("nobody panicked").drain(..) {
            handle.free(block);
        }
        drop(handle);
        let mut handle = Handle::of(&pool);
        let mut seen = [false; BLOCKS];
        while let Some(block) = handle.alloc() {
            assert!(!std::mem::replace(&mut seen[block], true), "P4: block {block} is there twice");
        }
        assert_eq!(seen, [true; BLOCKS], "P4: a block is lost");
    });
}
