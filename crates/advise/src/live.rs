//! What is known of the objects alive, found by their number without hashing.

use heapwright_format::objects::ObjectId;

/// Numbers of one page of the index. A page stays while one of its objects lives, so an object
/// that outlives its neighbours costs at most 1 KiB.
const PAGE_OBJECTS: usize = 256;

const NO_PLACE: u32 = u32::MAX;

struct Page {
    places: [u32; PAGE_OBJECTS],
    used: u32,
}

/// A table of the objects alive. Places are reused; a place stays the object's own while it
/// lives, so other structures may refer to it.
pub(crate) struct LiveTable<T> {
    pages: Vec<Option<Box<Page>>>,
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for LiveTable<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> LiveTable<T> {
    /// Enters `object`; returns its place. O(1) amortised.
    pub(crate) fn insert(&mut self, object: ObjectId, value: T) -> u32 {
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = Some(value);
                place
            }
            None => {
                self.slots.push(Some(value));
                self.slots.len() as u32 - 1
            }
        };
        let (page, index) = split(object);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page]
            .get_or_insert_with(|| Box::new(Page { places: [NO_PLACE; PAGE_OBJECTS], used: 0 }));
        debug_assert_eq!(page.places[index], NO_PLACE, "an object is born once");
        page.places[index] = place;
        page.used += 1;
        place
    }

    /// The place of `object`; none when it is not alive. O(1).
    pub(crate) fn place(&self, object: ObjectId) -> Option<u32> {
        let (page, index) = split(object);
        let place = self.pages.get(page)?.as_ref()?.places[index];
        (place != NO_PLACE).then_some(place)
    }

    /// What is known of the object at `place`.
    pub(crate) fn at(&mut self, place: u32) -> &mut T {
        self.slots[place as usize].as_mut().expect("a place belongs to a live object")
    }

    /// Takes `object` out. O(1).
    pub(crate) fn remove(&mut self, object: ObjectId) -> Option<(u32, T)> {
        let place = self.place(object)?;
        let (page_index, index) = split(object);
        let page = self.pages[page_index].as_mut()?;
        page.places[index] = NO_PLACE;
        page.used -= 1;
        if page.used == 0 {
            self.pages[page_index] = None;
        }
        self.free.push(place);
        self.slots[place as usize].take().map(|value| (place, value))
    }

    /// All objects alive, in no order that matters.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }
}

fn split(object: ObjectId) -> (usize, usize) {
    (object.0 as usize / PAGE_OBJECTS, object.0 as usize % PAGE_OBJECTS)
}

#[cfg(test)]
mod tests {
    use heapwright_format::objects::ObjectId;

    use super::LiveTable;

    #[test]
    fn places_are_found_reused_and_forgotten() {
        let mut table = LiveTable::default();
        let first = table.insert(ObjectId(0), 'a');
        let second = table.insert(ObjectId(1000), 'b');
        assert_eq!(table.place(ObjectId(0)), Some(first));
        assert_eq!(table.remove(ObjectId(0)), Some((first, 'a')));
        assert_eq!(table.place(ObjectId(0)), None);
        assert_eq!(table.remove(ObjectId(0)), None);
        assert_eq!(table.insert(ObjectId(1001), 'c'), first);
        *table.at(second) = 'd';
        let mut values: Vec<char> = table.values().copied().collect();
        values.sort_unstable();
        assert_eq!(values, ['c', 'd']);
    }
}
