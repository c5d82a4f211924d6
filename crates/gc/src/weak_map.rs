//! Weak map: entries that last as long as their keys, in the heap.
//!
//! A hash table by identity, of chains of ephemerons. A dead entry is taken out when its chain is
//! walked or the table grows.

use crate::LimitReached;
use crate::cell::GcCell;
use crate::gc::Gc;
use crate::mutation::Mutation;
use crate::trace::{Trace, Visitor};
use crate::weak::Ephemeron;

/// Buckets of a new map.
const BUCKETS_MIN: usize = 8;

type Link<'gc, K, V> = Option<Gc<'gc, Entry<'gc, K, V>>>;
type Buckets<'gc, K, V> = Gc<'gc, [GcCell<Link<'gc, K, V>>]>;

/// An entry: it holds neither key nor value.
struct Entry<'gc, K, V> {
    identity: u64,
    pair: GcCell<Ephemeron<'gc, K, V>>,
    next: GcCell<Link<'gc, K, V>>,
}

// SAFETY: visits both cells, and says that they are cells.
unsafe impl<'gc, K, V> Trace<'gc> for Entry<'gc, K, V> {
    const NEEDS_TRACE: bool = true;
    const HAS_CELLS: bool = true;
    fn trace<W: Visitor>(&mut self, visitor: &mut W) {
        self.pair.trace(visitor);
        self.next.trace(visitor);
    }
}

/// A map from objects to objects that keeps an entry only while its key is reachable otherwise,
/// even if the value refers to the key.
///
/// ```
/// use heapwright_gc::{Config, Gc, GcCell, Heap, Trace, WeakMap, rootable};
///
/// #[derive(Trace)]
/// struct Root<'gc> {
///     key: GcCell<Option<Gc<'gc, u64>>>,
///     notes: WeakMap<'gc, u64, &'static str>,
/// }
///
/// let mut heap = Heap::<rootable!['gc => Root<'gc>]>::new(Config::default(), |mu| {
///     let key = GcCell::new(mu.alloc(7).ok());
///     Root { key, notes: WeakMap::new(mu).expect("room") }
/// })?;
/// heap.mutate(|mu, root| root.notes.insert(mu, root.key.get().unwrap(), mu.alloc("seven")?))
///     .expect("room");
/// heap.collect();
/// let note = heap.mutate(|mu, root| root.notes.get(mu, root.key.get().unwrap()).map(|note| *note));
/// assert_eq!(note, Some("seven"));
/// heap.mutate(|mu, root| root.key.set(mu, None));
/// heap.collect();
/// assert_eq!(heap.mutate(|mu, root| root.notes.live_len(mu)), 0);
/// # Ok::<(), heapwright_gc::HeapError>(())
/// ```
pub struct WeakMap<'gc, K, V> {
    buckets: GcCell<Buckets<'gc, K, V>>,
    /// Entries, dead ones that nobody has met yet included.
    len: GcCell<usize>,
}

// SAFETY: visits the only cell with a reference, and says that it is a cell.
unsafe impl<'gc, K, V> Trace<'gc> for WeakMap<'gc, K, V> {
    const NEEDS_TRACE: bool = true;
    const HAS_CELLS: bool = true;
    fn trace<W: Visitor>(&mut self, visitor: &mut W) {
        self.buckets.trace(visitor);
    }
}

impl<'gc, K: 'gc, V: 'gc> WeakMap<'gc, K, V> {
    /// An empty map.
    ///
    /// # Errors
    /// [`LimitReached`].
    pub fn new(mu: &Mutation<'gc>) -> Result<Self, LimitReached> {
        Ok(Self { buckets: GcCell::new(buckets(mu, BUCKETS_MIN)?), len: GcCell::new(0) })
    }

    /// The value of `key`. O(1) on average.
    pub fn get(&self, mu: &Mutation<'gc>, key: Gc<'gc, K>) -> Option<Gc<'gc, V>> {
        // Without memory for an identity the key cannot have an entry.
        let identity = mu.identity(key).ok()?;
        let pair = self.find(mu, identity)?.pair.get();
        pair.get(mu).map(|(_, value)| value)
    }

    /// Sets the value of `key`. O(1) on average; now and then the table doubles.
    ///
    /// # Errors
    /// [`LimitReached`]; nothing has changed then.
    pub fn insert(
        &self,
        mu: &Mutation<'gc>,
        key: Gc<'gc, K>,
        value: Gc<'gc, V>,
    ) -> Result<(), LimitReached> {
        let identity = mu.identity(key)?;
        let pair = mu.alloc_ephemeron(key, value)?;
        if let Some(entry) = self.find(mu, identity) {
            entry.pair.set(mu, pair);
            return Ok(());
        }
        if self.len.get() >= 2 * self.buckets.get().len() {
            self.grow(mu)?;
        }
        let bucket = self.bucket(identity);
        let (pair, next) = (GcCell::new(pair), GcCell::new(bucket.get()));
        bucket.set(mu, Some(mu.alloc(Entry { identity, pair, next })?));
        self.len.set(mu, self.len.get() + 1);
        Ok(())
    }

    /// Takes the value of `key` out. O(1) on average.
    pub fn remove(&self, mu: &Mutation<'gc>, key: Gc<'gc, K>) -> Option<Gc<'gc, V>> {
        let identity = mu.identity(key).ok()?;
        let mut link = self.bucket(identity);
        while let Some(entry) = link.get() {
            if entry.identity == identity {
                link.set(mu, entry.next.get());
                self.len.set(mu, self.len.get() - 1);
                return entry.pair.get().get(mu).map(|(_, value)| value);
            }
            link = &entry.reference().next;
        }
        None
    }

    /// How many entries have living keys. O(entries).
    pub fn live_len(&self, mu: &Mutation<'gc>) -> usize {
        let mut count = 0;
        for bucket in self.buckets.get().reference() {
            self.sweep(mu, bucket);
            let mut entry = bucket.get();
            while let Some(found) = entry {
                count += 1;
                entry = found.next.get();
            }
        }
        count
    }

    fn bucket(&self, identity: u64) -> &'gc GcCell<Link<'gc, K, V>> {
        let buckets = self.buckets.get().reference();
        &buckets[identity as usize & (buckets.len() - 1)]
    }

    fn find(&self, mu: &Mutation<'gc>, identity: u64) -> Link<'gc, K, V> {
        let bucket = self.bucket(identity);
        self.sweep(mu, bucket);
        let mut entry = bucket.get();
        while let Some(found) = entry.filter(|entry| entry.identity != identity) {
            entry = found.next.get();
        }
        entry
    }

    /// Takes the dead entries out of a chain.
    fn sweep(&self, mu: &Mutation<'gc>, bucket: &'gc GcCell<Link<'gc, K, V>>) {
        let mut link = bucket;
        while let Some(entry) = link.get() {
            if entry.pair.get().get(mu).is_some() {
                link = &entry.reference().next;
            } else {
                link.set(mu, entry.next.get());
                self.len.set(mu, self.len.get() - 1);
            }
        }
    }

    fn grow(&self, mu: &Mutation<'gc>) -> Result<(), LimitReached> {
        let old = self.buckets.get().reference();
        let larger = buckets(mu, 2 * old.len())?;
        self.buckets.set(mu, larger);
        for bucket in old {
            self.sweep(mu, bucket);
            let mut entry = bucket.get();
            while let Some(found) = entry {
                entry = found.next.get();
                let bucket = self.bucket(found.identity);
                found.next.set(mu, bucket.get());
                bucket.set(mu, Some(found));
            }
        }
        Ok(())
    }
}

fn buckets<'gc, K: 'gc, V: 'gc>(
    mu: &Mutation<'gc>,
    count: usize,
) -> Result<Buckets<'gc, K, V>, LimitReached> {
    mu.alloc_slice(count, |_| Ok(GcCell::new(None)))
}
