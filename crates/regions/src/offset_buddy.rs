//! The buddy system over memory that the CPU does not see, or sees elsewhere each time: offsets
//! only.

use heapwright_core::backing::BackingError;
use heapwright_core::buddy::{Buddy as Offsets, LEAVES_MAX, table_words};
use heapwright_core::region_error::{AllocError, FreeError};
use heapwright_core::region_statistics::{Figure, RegionStatistics};

use crate::buddy::{State, Tails};

/// Ranges of bytes out of `capacity_bytes`, as offsets from wherever they lie: a GPU's heap, a
/// ring of shared memory, a file. It never touches what it hands out.
///
/// Its bits are in two pieces of `T` that the caller gives (a `Vec<u64>`, an array, a slice of
/// mapped memory), about three bits a leaf in all.
///
/// ```
/// use heapwright_regions::{OffsetBuddy, Tails};
///
/// let (table, starts) = OffsetBuddy::<Vec<u64>>::words(1 << 30, 256)?;
/// let mut heap =
///     OffsetBuddy::new(vec![0; table], vec![0; starts], 1 << 30, 256, Tails::Trim)?;
/// let texture = heap.alloc(3_000_000, 65_536)?;
/// assert!(texture.is_multiple_of(65_536));
/// heap.free(texture, 3_000_000, 65_536)?;
/// assert!(heap.free(texture, 3_000_000, 65_536).is_err(), "it is free already");
/// assert_eq!(heap.largest_free_bytes(), 1 << 30);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OffsetBuddy<T> {
    state: State<T>,
    leaf_shift: u32,
    trim: bool,
}

/// How many leaves of `leaf_bytes` a heap of `bytes` has.
fn leaf_count(bytes: u64, leaf_bytes: u64) -> Result<u32, AllocError> {
    let count = bytes.checked_div(leaf_bytes).and_then(|count| u32::try_from(count).ok());
    match count {
        Some(count) if leaf_bytes.is_power_of_two() && count <= LEAVES_MAX => Ok(count),
        _ => Err(AllocError::Unfit {
            requested_bytes: bytes as usize,
            align_bytes: leaf_bytes as usize,
            largest_bytes: (LEAVES_MAX as usize).saturating_mul(leaf_bytes as usize),
        }),
    }
}

impl<T: AsRef<[u64]> + AsMut<[u64]>> OffsetBuddy<T> {
    /// How many words the table and the starts of a heap have.
    ///
    /// # Errors
    /// [`AllocError::Unfit`] for a leaf that is no power of two and for more than 2^31 leaves.
    pub fn words(bytes: u64, leaf_bytes: u64) -> Result<(usize, usize), AllocError> {
        let leaves = leaf_count(bytes, leaf_bytes)?;
        Ok((table_words(leaves), (leaves as usize).div_ceil(64)))
    }

    /// A heap of `bytes`, rounded down to whole leaves of `leaf_bytes`, all free. Writes both
    /// pieces.
    ///
    /// # Errors
    /// As [`Self::words`]; [`BackingError::Exhausted`] if a piece is shorter than that says.
    pub fn new(
        mut table: T,
        mut starts: T,
        bytes: u64,
        leaf_bytes: u64,
        tails: Tails,
    ) -> Result<Self, AllocError> {
        let leaves = Self::fit(&table, &starts, bytes, leaf_bytes)?;
        table.as_mut().fill(0);
        starts.as_mut().fill(0);
        let state = State::new(Offsets::new(table, leaves), starts);
        let trim = tails == Tails::Trim;
        Ok(Self { state, leaf_shift: leaf_bytes.trailing_zeros(), trim })
    }

    /// The heap that left `table` and `starts` behind, made with the same numbers. Reads both,
    /// changes nothing; whether they fit together, [`Self::is_sound`] tells.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn reopen(
        table: T,
        starts: T,
        bytes: u64,
        leaf_bytes: u64,
        tails: Tails,
    ) -> Result<Self, AllocError> {
        let leaves = Self::fit(&table, &starts, bytes, leaf_bytes)?;
        let state = State::new(Offsets::reopen(table, leaves), starts);
        let trim = tails == Tails::Trim;
        Ok(Self { state, leaf_shift: leaf_bytes.trailing_zeros(), trim })
    }

    fn fit(table: &T, starts: &T, bytes: u64, leaf_bytes: u64) -> Result<u32, AllocError> {
        let wanted = Self::words(bytes, leaf_bytes)?;
        for (piece, words) in [(table, wanted.0), (starts, wanted.1)] {
            let given = piece.as_ref().len();
            if given < words {
                let (requested_bytes, available_bytes) = (words * 8, given * 8);
                return Err(BackingError::Exhausted { requested_bytes, available_bytes }.into());
            }
        }
        leaf_count(bytes, leaf_bytes)
    }

    /// Leaves for `bytes`, and for an alignment.
    fn leaves(&self, bytes: u64, align_bytes: u64) -> Option<(u32, u32)> {
        let unit = 1u64 << self.leaf_shift;
        let leaves = u32::try_from(bytes.checked_add(unit - 1)? >> self.leaf_shift).ok()?;
        let align = u32::try_from((align_bytes >> self.leaf_shift).max(1)).ok()?;
        align_bytes.is_power_of_two().then_some((leaves, align))
    }

    /// A range of `bytes` whose offset is a multiple of `align_bytes`, a power of two; also for no
    /// bytes. O(log n).
    ///
    /// # Errors
    /// [`AllocError::Full`] with the largest range there is; [`AllocError::Unfit`] for what can
    /// never be had.
    pub fn alloc(&mut self, bytes: u64, align_bytes: u64) -> Result<u64, AllocError> {
        let placed = self.leaves(bytes, align_bytes).and_then(|(leaves, align)| {
            let start = self.state.offsets.alloc_aligned(leaves, align, self.trim)?;
            let (word, bit) = self.state.start_bit(start);
            *word |= bit;
            Some(u64::from(start) << self.leaf_shift)
        });
        placed.ok_or_else(|| self.refusal(bytes, align_bytes))
    }

    #[cold]
    fn refusal(&self, bytes: u64, align_bytes: u64) -> AllocError {
        let capacity_bytes = self.capacity_bytes() as usize;
        let requested_bytes = bytes as usize;
        if self.leaves(bytes, align_bytes).is_none()
            || bytes.max(align_bytes) > self.capacity_bytes()
        {
            let align_bytes = align_bytes as usize;
            return AllocError::Unfit {
                requested_bytes,
                align_bytes,
                largest_bytes: capacity_bytes,
            };
        }
        let largest_free_bytes = self.largest_free_bytes() as usize;
        AllocError::Full { requested_bytes, largest_free_bytes, capacity_bytes }
    }

    /// Gives the range at `offset` back, with the numbers it was asked for with. O(log n).
    ///
    /// # Errors
    /// [`FreeError`], whose addresses are offsets here, for an offset where no live range begins;
    /// nothing has changed then. A length that is not the one asked for is not noticed in release
    /// builds if it stays inside the heap: ranges behind may then be handed out twice.
    pub fn free(&mut self, offset: u64, bytes: u64, align_bytes: u64) -> Result<(), FreeError> {
        let address = offset as usize;
        let not_owned = FreeError::NotOwned { address };
        let leaf_bytes = 1usize << self.leaf_shift;
        let start = u32::try_from(offset >> self.leaf_shift).map_err(|_| not_owned)?;
        let (leaves, align) = self.leaves(bytes, align_bytes).ok_or(not_owned)?;
        let taken = Offsets::<T>::taken_leaves(leaves, align, self.trim);
        let end = start.checked_add(taken).ok_or(not_owned)?;
        if end > self.state.offsets.leaf_count() {
            return Err(not_owned);
        }
        let distance_bytes = address & (leaf_bytes - 1);
        if distance_bytes != 0 {
            return Err(FreeError::NotBlockStart { address, distance_bytes });
        }
        let (word, bit) = self.state.start_bit(start);
        if *word & bit == 0 {
            return Err(self.state.no_start(start, leaf_bytes, address));
        }
        *word &= !bit;
        self.state.offsets.free(start, taken);
        Ok(())
    }

    /// Bytes in all.
    pub fn capacity_bytes(&self) -> u64 {
        u64::from(self.state.offsets.leaf_count()) << self.leaf_shift
    }

    /// Bytes that no range has.
    pub fn free_bytes(&self) -> u64 {
        u64::from(self.state.offsets.free_leaves()) << self.leaf_shift
    }

    /// The largest range that could be had now. O(1).
    pub fn largest_free_bytes(&self) -> u64 {
        u64::from(self.state.offsets.largest_free_leaves()) << self.leaf_shift
    }

    /// Whether no live range begins in a free leaf or beyond the end.
    fn starts_are_sound(&self) -> bool {
        let leaves = u64::from(self.state.offsets.leaf_count());
        self.state.starts.as_ref().iter().enumerate().all(|(index, word)| {
            let set = (0..64).filter(|bit| word >> bit & 1 == 1);
            set.map(|bit| index as u64 * 64 + bit)
                .all(|leaf| leaf < leaves && !self.state.offsets.is_free(leaf as u32))
        })
    }

    /// Whether the pieces are such that a heap can have left them: after [`Self::reopen`] of what
    /// may have been torn. Reads all of both.
    pub fn is_sound(&self) -> bool {
        self.state.offsets.is_sound() && self.starts_are_sound()
    }

    /// What the heap holds now. O(1) but for debug builds.
    pub fn statistics(&self) -> RegionStatistics {
        self.state.offsets.check();
        let (all, free) = (self.capacity_bytes() as usize, self.free_bytes() as usize);
        RegionStatistics {
            live_bytes: Figure::Exact(all - free),
            reserved_bytes: all,
            committed_bytes: all,
            free_bytes: Figure::Exact(free),
            largest_free_bytes: self.largest_free_bytes() as usize,
            ..RegionStatistics::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::OffsetBuddy;
    use crate::{AllocError, FreeError, Tails};
    use heapwright_core::backing::BackingError;
    use heapwright_testkit::Random;
    use std::vec;
    use std::vec::Vec;

    fn heap(bytes: u64, leaf_bytes: u64, tails: Tails) -> OffsetBuddy<Vec<u64>> {
        let (table, starts) = OffsetBuddy::<Vec<u64>>::words(bytes, leaf_bytes).expect("fits");
        OffsetBuddy::new(vec![0; table], vec![0; starts], bytes, leaf_bytes, tails).expect("fits")
    }

    #[test]
    fn ranges_do_not_overlap_and_all_come_back() {
        for (seed, tails) in [(1, Tails::Keep), (2, Tails::Trim), (3, Tails::Trim)] {
            let random = &mut Random::new(seed);
            let mut heap = heap(1 << 18, 64, tails);
            let mut live: Vec<(u64, u64, u64)> = vec![];
            for step in 0..1500 {
                if random.below(3) > 0 {
                    let (bytes, align) = (random.log_uniform(1, 20_000), 1 << random.below(14));
                    if let Ok(offset) = heap.alloc(bytes, align) {
                        assert!(offset.is_multiple_of(align) && offset + bytes <= 1 << 18);
                        let clash = live.iter().any(|(start, length, _)| {
                            offset < start + length && *start < offset + bytes
                        });
                        assert!(!clash, "seed {seed}: {offset} + {bytes}");
                        live.push((offset, bytes, align));
                    }
                } else if !live.is_empty() {
                    let index = random.below(live.len() as u64) as usize;
                    let (offset, bytes, align) = live.swap_remove(index);
                    heap.free(offset, bytes, align).expect("live");
                    assert!(heap.free(offset, bytes, align).is_err(), "freed twice");
                }
                assert!(step % 64 != 0 || heap.is_sound());
            }
            for (offset, bytes, align) in live {
                heap.free(offset, bytes, align).expect("live");
            }
            assert_eq!((heap.free_bytes(), heap.largest_free_bytes()), (1 << 18, 1 << 18));
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_numbers() {
        let mut heap = heap(1 << 16, 256, Tails::Trim);
        let unfit = |result| matches!(result, Err(AllocError::Unfit { largest_bytes: 65_536, .. }));
        assert!(unfit(heap.alloc(65_537, 1)) && unfit(heap.alloc(u64::MAX, 1)));
        assert!(
            unfit(heap.alloc(1, 1 << 40)) && unfit(heap.alloc(1, 3)) && unfit(heap.alloc(1, 0))
        );
        let offset = heap.alloc(40_000, 256).expect("room");
        let full = AllocError::Full {
            requested_bytes: 40_000,
            largest_free_bytes: 16_384,
            capacity_bytes: 65_536,
        };
        assert_eq!(heap.alloc(40_000, 1), Err(full));
        let inside = FreeError::NotBlockStart { address: 512, distance_bytes: 512 };
        assert_eq!(heap.free(offset + 512, 1, 1), Err(inside));
        let between = FreeError::NotBlockStart { address: 5, distance_bytes: 5 };
        assert_eq!(heap.free(offset + 5, 1, 1), Err(between));
        assert_eq!(heap.free(1 << 40, 1, 1), Err(FreeError::NotOwned { address: 1 << 40 }));
        assert_eq!(heap.free(offset, 70_000, 1), Err(FreeError::NotOwned { address: 0 }));
        let short = OffsetBuddy::new(vec![0; 1], vec![0; 1], 1 << 16, 256, Tails::Keep).map(drop);
        let Err(AllocError::Backing(BackingError::Exhausted { requested_bytes, available_bytes })) =
            short
        else {
            panic!("{short:?}");
        };
        assert!(requested_bytes > available_bytes && available_bytes == 8);
        assert!(OffsetBuddy::<Vec<u64>>::words(1 << 40, 3).is_err());
    }
}
