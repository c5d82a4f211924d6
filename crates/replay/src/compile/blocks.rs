//! The blocks alive at a point of the recording, found by object number without hashing.
#![forbid(unsafe_code)]

use heapwright_format::objects::ObjectId;

use super::threads::Place;
use super::touch::WrittenPages;

/// A block's life since the last operation on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version {
    /// Where its pointer is kept.
    pub(super) slot: u32,
    /// The operation that began it.
    pub(super) place: Place,
    /// The epoch of that operation.
    pub(super) epoch: u32,
}

/// What is known of a block whose pages are touched one by one.
#[derive(Clone, Debug)]
pub(super) struct Large {
    /// Pages written so far.
    pub(super) pages: WrittenPages,
    /// The operation that made it what it is, or looked at it last: it has a touch list.
    pub(super) look: Place,
    /// The operation that gave it its size.
    pub(super) sized: Place,
    /// Whether it was looked at since it got its size.
    pub(super) was_looked_at: bool,
    /// Bytes of it before that operation.
    pub(super) old_size: u64,
    /// Whether the program mapped it itself.
    pub(super) is_mapped: bool,
    /// For a mapping the parts not unmapped, as start and end; else empty.
    pub(super) parts: Vec<(u64, u64)>,
}

impl Large {
    /// A block that the operation at `place` has just given its size, `old_size` before.
    pub(super) fn new(place: Place, pages: WrittenPages, old_size: u64) -> Self {
        let (is_mapped, parts) = (false, Vec::new());
        Self { pages, look: place, sized: place, was_looked_at: false, old_size, is_mapped, parts }
    }

    /// Start and end of what there is to give back of `size` bytes.
    pub(super) fn last_part(&self, size: u64) -> (u64, u64) {
        if self.is_mapped { self.parts.last().copied().unwrap_or((0, 0)) } else { (0, size) }
    }
}

/// A live block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Current version.
    pub(super) version: Version,
    /// Bytes requested.
    pub(super) size: u64,
    /// For large blocks and mappings.
    pub(super) large: Option<Box<Large>>,
}

impl Block {
    /// Whether this is memory that the program mapped itself.
    pub(super) fn is_mapped(&self) -> bool {
        self.large.as_ref().is_some_and(|large| large.is_mapped)
    }
}

const NOWHERE: u32 = u32::MAX;

/// Live blocks by object number. 4 bytes for every object ever, a record for each live one.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    place_of: Vec<u32>,
    records: Vec<Option<Block>>,
    free: Vec<u32>,
}

impl Blocks {
    /// Enters a block.
    pub(super) fn insert(&mut self, object: ObjectId, block: Block) {
        let number = object.0 as usize;
        if self.place_of.len() <= number {
            self.place_of.resize(number + 1, NOWHERE);
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.records.push(None);
            self.records.len() as u32 - 1
        });
        self.records[place as usize] = Some(block);
        self.place_of[number] = place;
    }

    /// A live block.
    pub(super) fn get_mut(&mut self, object: ObjectId) -> Option<&mut Block> {
        let place = *self.place_of.get(object.0 as usize)?;
        self.records.get_mut(place as usize)?.as_mut()
    }

    /// Takes a block out at its death.
    pub(super) fn remove(&mut self, object: ObjectId) -> Option<Block> {
        let place = std::mem::replace(self.place_of.get_mut(object.0 as usize)?, NOWHERE);
        let block = self.records.get_mut(place as usize)?.take();
        self.free.push(place);
        block
    }

    /// All live blocks.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Block> {
        self.records.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use heapwright_format::objects::ObjectId;

    use super::{Block, Blocks, Place, Version};

    fn block(size: u64) -> Block {
        let place = Place { thread: 0, word: 0 };
        Block { version: Version { slot: 0, place, epoch: 0 }, size, large: None }
    }

    #[test]
    fn blocks_are_found_until_they_die() {
        let mut blocks = Blocks::default();
        blocks.insert(ObjectId(5), block(50));
        blocks.insert(ObjectId(2), block(20));
        assert_eq!(blocks.get_mut(ObjectId(5)).map(|block| block.size), Some(50));
        assert_eq!(blocks.remove(ObjectId(5)).map(|block| block.size), Some(50));
        assert!(blocks.remove(ObjectId(5)).is_none());
        blocks.insert(ObjectId(9), block(90));
        assert_eq!(blocks.iter().map(|block| block.size).sum::<u64>(), 110);
        assert!(blocks.get_mut(ObjectId(1000)).is_none());
    }
}
