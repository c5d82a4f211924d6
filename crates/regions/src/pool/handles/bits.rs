//! Handles as numbers: for C, for files, for a script's integers.

use core::marker::PhantomData;
use core::num::NonZero;

use super::Handle;

impl<T: ?Sized> Handle<T> {
    /// A handle of its parts; a generation is not zero.
    #[inline(always)]
    pub(crate) const fn of_parts(index: u32, generation: u32) -> Self {
        debug_assert!(generation > 0);
        match NonZero::new(generation) {
            Some(generation) => Self { index, generation, value: PhantomData },
            None => Self { index, generation: NonZero::<u32>::MIN, value: PhantomData },
        }
    }

    /// Index and generation.
    #[inline(always)]
    pub(crate) const fn parts(self) -> (u32, u32) {
        (self.index, self.generation.get())
    }

    /// The handle as a number, never zero.
    pub const fn to_bits(self) -> u64 {
        (self.generation.get() as u64) << 32 | self.index as u64
    }

    /// The handle of a number; none for one that [`Self::to_bits`] cannot have given. A number
    /// that was made up names nothing, or some value of the pool.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match NonZero::new((bits >> 32) as u32) {
            Some(generation) => Some(Self { index: bits as u32, generation, value: PhantomData }),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Buffer, Handle, HandlePool};
    use core::mem::MaybeUninit;

    #[test]
    fn a_handle_survives_being_a_number() {
        let mut memory = [MaybeUninit::uninit(); 1024];
        let mut pool: HandlePool<u32, _> = HandlePool::new_in(Buffer::new(&mut memory));
        let handle = pool.insert(7).expect("room");
        let bits = handle.to_bits();
        assert_eq!(Handle::from_bits(bits), Some(handle));
        assert_eq!(Handle::<u32>::from_bits(0), None);
        assert_eq!(Handle::<u32>::from_bits(u64::from(u32::MAX)), None);
        let other = Handle::from_bits(bits + 1).expect("a generation");
        assert_eq!((pool.get(handle), pool.get(other)), (Some(&7), None));
    }
}
