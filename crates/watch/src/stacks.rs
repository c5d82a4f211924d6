//! Stacks, each once.

use crate::grown::Grown;

/// Frames of a stack that are kept, the innermost ones.
pub(crate) const FRAMES_MAX: usize = 128;

#[derive(Clone, Copy)]
struct Entry {
    hash: u64,
    first_frame: u32,
    frame_count: u32,
}

/// All stacks: return addresses, innermost first, and a hash table of where they are.
pub(crate) struct Stacks {
    frames: Grown<usize>,
    entries: Grown<Entry>,
    /// Number of an entry + 1; 0 is free. A power of two of places, at most half of them used.
    places: Grown<u32>,
}

impl Stacks {
    pub(crate) const fn new() -> Self {
        Self { frames: Grown::new(), entries: Grown::new(), places: Grown::new() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.as_slice().len()
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.frames.bytes() + self.entries.bytes() + self.places.bytes()
    }

    /// The return addresses of stack `number`, innermost first.
    pub(crate) fn frames(&self, number: usize) -> &[usize] {
        let Some(entry) = self.entries.as_slice().get(number) else { return &[] };
        let first = entry.first_frame as usize;
        &self.frames.as_slice()[first..first + entry.frame_count as usize]
    }

    /// The number of the stack with these return addresses; none when there is no memory.
    pub(crate) fn number_of(&mut self, frames: &[usize]) -> Option<u32> {
        if self.entries.as_slice().len() * 2 >= self.places.as_slice().len() && !self.widen() {
            return None;
        }
        let hash = hash_of(frames);
        let mask = self.places.as_slice().len() - 1;
        let mut place = hash as usize & mask;
        while let Some(number) = self.places.as_slice()[place].checked_sub(1) {
            let entry = self.entries.as_slice()[number as usize];
            if entry.hash == hash && self.frames(number as usize) == frames {
                return Some(number);
            }
            place = (place + 1) & mask;
        }
        let number = u32::try_from(self.len()).ok()?;
        let first_frame = u32::try_from(self.frames.as_slice().len()).ok()?;
        if !self.frames.extend(frames) {
            return None;
        }
        let entry = Entry { hash, first_frame, frame_count: frames.len() as u32 };
        if !self.entries.extend(&[entry]) {
            return None;
        }
        self.places.as_mut_slice()[place] = number + 1;
        Some(number)
    }

    fn widen(&mut self) -> bool {
        let length = (self.places.as_slice().len() * 2).max(512);
        if !self.places.reset_zeroed(length) {
            return false;
        }
        for (number, entry) in self.entries.as_slice().iter().enumerate() {
            let mut place = entry.hash as usize & (length - 1);
            while self.places.as_slice()[place] != 0 {
                place = (place + 1) & (length - 1);
            }
            self.places.as_mut_slice()[place] = number as u32 + 1;
        }
        true
    }
}

fn hash_of(frames: &[usize]) -> u64 {
    let mut hash = frames.len() as u64;
    for frame in frames {
        hash = (hash.rotate_left(5) ^ *frame as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::Stacks;

    #[test]
    fn equal_stacks_have_one_number() {
        let mut stacks = Stacks::new();
        for round in 0..2 {
            for step in 0..2000usize {
                let frames = [step, step + 1, step % 7];
                assert_eq!(stacks.number_of(&frames[..1 + step % 3]), Some(step as u32), "{round}");
            }
        }
        assert_eq!(stacks.frames(1001), [1001, 1002, 0]);
        assert_eq!(stacks.len(), 2000);
    }
}
