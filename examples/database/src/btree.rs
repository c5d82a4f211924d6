//! A B+ tree over a store: keys in nodes, rows under the leaves' keys.
//!
//! Nodes split when they are full; a leaf that becomes empty stays, as it does in stores whose
//! deleted keys come back.

use crate::store::{BlockId, Store, StoreError};

/// A node: its kind and count, keys, and children or rows.
pub(crate) const NODE_BYTES: usize = 1024;
/// Keys of a node: 8 bytes each, and 12 for the row with its length.
const KEYS_MAX: usize = 50;
const KEYS_AT: usize = 8;
const LINKS_AT: usize = KEYS_AT + 8 * KEYS_MAX;
const LENGTHS_AT: usize = LINKS_AT + 8 * KEYS_MAX;
const _: () = assert!(LENGTHS_AT + 4 * KEYS_MAX <= NODE_BYTES);

/// The root, how high the tree is, and how many rows it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    root: BlockId,
    height: u64,
    rows: u64,
}

/// A node as it is worked on: a copy, written back.
#[derive(Clone, Copy, Debug)]
struct Node {
    count: usize,
    keys: [u64; KEYS_MAX],
    /// Children whose least keys those are; in a leaf, rows.
    links: [BlockId; KEYS_MAX],
    /// Lengths of rows, in a leaf.
    lengths: [u32; KEYS_MAX],
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(word)
}

impl Node {
    const EMPTY: Self =
        Self { count: 0, keys: [0; KEYS_MAX], links: [0; KEYS_MAX], lengths: [0; KEYS_MAX] };

    fn read(store: &impl Store, at: BlockId) -> Self {
        let bytes = store.bytes(at, NODE_BYTES);
        let mut node = Self { count: u64_at(bytes, 0) as usize, ..Self::EMPTY };
        for index in 0..node.count {
            node.keys[index] = u64_at(bytes, KEYS_AT + 8 * index);
            node.links[index] = u64_at(bytes, LINKS_AT + 8 * index);
            let mut length = [0; 4];
            length.copy_from_slice(&bytes[LENGTHS_AT + 4 * index..][..4]);
            node.lengths[index] = u32::from_ne_bytes(length);
        }
        node
    }

    fn write(&self, store: &mut impl Store, at: BlockId) {
        let bytes = store.bytes_mut(at, NODE_BYTES);
        bytes[..8].copy_from_slice(&(self.count as u64).to_ne_bytes());
        for index in 0..self.count {
            bytes[KEYS_AT + 8 * index..][..8].copy_from_slice(&self.keys[index].to_ne_bytes());
            bytes[LINKS_AT + 8 * index..][..8].copy_from_slice(&self.links[index].to_ne_bytes());
            bytes[LENGTHS_AT + 4 * index..][..4]
                .copy_from_slice(&self.lengths[index].to_ne_bytes());
        }
    }

    fn find(&self, key: u64) -> Result<usize, usize> {
        self.keys[..self.count].binary_search(&key)
    }

    /// The child that has `key`.
    fn child(&self, key: u64) -> usize {
        self.find(key).unwrap_or_else(|next| next.saturating_sub(1))
    }

    fn put(&mut self, at: usize, key: u64, link: BlockId, length: u32) {
        let to = self.count;
        self.keys.copy_within(at..to, at + 1);
        self.links.copy_within(at..to, at + 1);
        self.lengths.copy_within(at..to, at + 1);
        (self.keys[at], self.links[at], self.lengths[at]) = (key, link, length);
        self.count += 1;
    }

    fn take(&mut self, at: usize) {
        self.keys.copy_within(at + 1..self.count, at);
        self.links.copy_within(at + 1..self.count, at);
        self.lengths.copy_within(at + 1..self.count, at);
        self.count -= 1;
    }

    /// The upper half, which this one loses.
    fn split(&mut self) -> Self {
        let half = self.count / 2;
        let mut upper = Self { count: self.count - half, ..Self::EMPTY };
        upper.keys[..upper.count].copy_from_slice(&self.keys[half..self.count]);
        upper.links[..upper.count].copy_from_slice(&self.links[half..self.count]);
        upper.lengths[..upper.count].copy_from_slice(&self.lengths[half..self.count]);
        self.count = half;
        upper
    }
}

impl Tree {
    /// A tree of no rows and no node.
    pub(crate) const fn empty() -> Self {
        Self { root: 0, height: 0, rows: 0 }
    }

    /// The tree as it is kept.
    pub(crate) const fn to_words(self) -> [u64; 3] {
        [self.root, self.height, self.rows]
    }

    /// The tree that was kept.
    pub(crate) const fn from_words([root, height, rows]: [u64; 3]) -> Self {
        Self { root, height, rows }
    }

    /// Rows in it.
    pub(crate) const fn row_count(&self) -> u64 {
        self.rows
    }

    /// The nodes from the root to the leaf of `key`.
    fn path(&self, store: &impl Store, key: u64) -> Vec<BlockId> {
        let mut path = Vec::with_capacity(self.height as usize);
        let mut at = self.root;
        for _ in 1..self.height {
            let node = Node::read(store, at);
            path.push(at);
            at = node.links[node.child(key)];
        }
        path.push(at);
        path
    }

    /// The row under `key`.
    pub(crate) fn find<'a>(&self, store: &'a impl Store, key: u64) -> Option<&'a [u8]> {
        if self.root == 0 {
            return None;
        }
        let leaf = *self.path(store, key).last()?;
        let node = Node::read(store, leaf);
        let index = node.find(key).ok()?;
        Some(store.bytes(node.links[index], node.lengths[index] as usize))
    }

    /// Puts `row` under `key`, in place of what was there.
    pub(crate) fn insert(
        &mut self,
        store: &mut impl Store,
        key: u64,
        row: &[u8],
    ) -> Result<(), StoreError> {
        let block = store.alloc(row.len())?;
        store.bytes_mut(block, row.len()).copy_from_slice(row);
        if self.root == 0 {
            self.root = store.alloc(NODE_BYTES)?;
            Node::EMPTY.write(store, self.root);
            self.height = 1;
        }
        let mut insert = Some((key, block, row.len() as u32));
        for at in self.path(store, key).into_iter().rev() {
            let Some((key, link, length)) = insert.take() else { break };
            let mut node = Node::read(store, at);
            match node.find(key) {
                Ok(index) => {
                    store.free(node.links[index], node.lengths[index] as usize);
                    (node.links[index], node.lengths[index]) = (link, length);
                    self.rows -= 1;
                }
                Err(index) if node.count < KEYS_MAX => node.put(index, key, link, length),
                Err(_) => insert = Some(self.split(store, &mut node, (key, link, length))?),
            }
            node.write(store, at);
        }
        self.rows += 1;
        if let Some((key, upper, _)) = insert {
            self.raise(store, key, upper)?;
        }
        Ok(())
    }

    /// Splits `node` and puts the entry into one half; what its parent has to know of.
    fn split(
        &self,
        store: &mut impl Store,
        node: &mut Node,
        (key, link, length): (u64, BlockId, u32),
    ) -> Result<(u64, BlockId, u32), StoreError> {
        let mut upper = node.split();
        let half = if key < upper.keys[0] { &mut *node } else { &mut upper };
        let index = half.find(key).unwrap_or_else(|next| next);
        half.put(index, key, link, length);
        let block = store.alloc(NODE_BYTES)?;
        upper.write(store, block);
        Ok((upper.keys[0], block, 0))
    }

    /// A new root over the old one and `upper`.
    fn raise(
        &mut self,
        store: &mut impl Store,
        key: u64,
        upper: BlockId,
    ) -> Result<(), StoreError> {
        let mut root = Node::EMPTY;
        root.put(0, 0, self.root, 0);
        root.put(1, key, upper, 0);
        self.root = store.alloc(NODE_BYTES)?;
        root.write(store, self.root);
        self.height += 1;
        Ok(())
    }

    /// Takes the row under `key` out; whether there was one.
    pub(crate) fn remove(&mut self, store: &mut impl Store, key: u64) -> Result<bool, StoreError> {
        let leaf = self.path(store, key).last().copied().unwrap_or(0);
        if leaf == 0 {
            return Ok(false);
        }
        let mut node = Node::read(store, leaf);
        let Ok(index) = node.find(key) else { return Ok(false) };
        store.free(node.links[index], node.lengths[index] as usize);
        node.take(index);
        node.write(store, leaf);
        self.rows -= 1;
        Ok(true)
    }

    /// Calls `each` with every row in the order of keys.
    pub(crate) fn each(&self, store: &impl Store, each: &mut impl FnMut(u64, &[u8])) {
        if self.root != 0 {
            Self::each_below(store, self.root, self.height, each);
        }
    }

    fn each_below(store: &impl Store, at: BlockId, height: u64, each: &mut impl FnMut(u64, &[u8])) {
        let node = Node::read(store, at);
        for index in 0..node.count {
            if height > 1 {
                Self::each_below(store, node.links[index], height - 1, each);
            } else {
                let row = store.bytes(node.links[index], node.lengths[index] as usize);
                each(node.keys[index], row);
            }
        }
    }
}
