//! Handles as numbers: for C, for files, for a script's integers.

use core::marker::PhantomData;
use core::num::NonZero;

use super::Handle;

impl<T: ?Sized> Handle<T> {
    /// A handle of its parts; a generation is not zero.
    #[inline(always)]
    pub(crate) const fn of_parts(index: u32, generation: u32) -> Self {
        debug_assert!(generation > 0);
        let bits = (generation as u64) << 32 | index as u64;
        match NonZero::new(bits) {
            Some(bits) => Self { bits, value: PhantomData },
            None => Self { bits: NonZero::<u64>::MAX, value: PhantomData },
        }
    }

    /// A handle of its number.
    ///
    /// # Safety
    /// - `bits` is not zero; nor is its upper half, the generation.
    #[inline(always)]
    pub(super) const unsafe fn of_bits(bits: u64) -> Self {
        debug_assert!(bits >> 32 != 0);
        // SAFETY: the caller's.
        Self { bits: unsafe { NonZero::new_unchecked(bits) }, value: PhantomData }
    }

    #[inline(always)]
    pub(crate) const fn index(self) -> u32 {
        self.bits.get() as u32
    }

    /// Index and generation.
    #[inline(always)]
    pub(crate) const fn parts(self) -> (u32, u32) {
        (self.index(), (self.bits.get() >> 32) as u32)
    }

    /// The handle as a number, never zero.
    #[inline(always)]
    pub const fn to_bits(self) -> u64 {
        self.bits.get()
    }

    /// The handle of a number; none for one that [`Self::to_bits`] cannot have given. A number
    /// that was made up names nothing, or some value of the pool.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match NonZero::new(bits) {
            Some(bits) if bits.get() >> 32 != 0 => Some(Self { bits, value: PhantomData }),
            _ => None,
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

    /// A slot without a value has a generation too, and numbers may be made up.
    #[test]
    fn trap_11_a_made_up_number_names_no_free_slot() {
        let mut memory = [MaybeUninit::uninit(); 1024];
        let mut pool: HandlePool<&str, _> = HandlePool::new_in(Buffer::new(&mut memory));
        let handles: [_; 3] = core::array::from_fn(|_| pool.insert("value").expect("room"));
        for handle in handles {
            assert_eq!(pool.remove(handle), Some("value"));
        }
        for index in 0..4 {
            for generation in 1..5 {
                let made = Handle::from_bits(generation << 32 | index).expect("a generation");
                assert_eq!(pool.get(made), None, "{made:?}");
                assert_eq!(pool.get_mut(made), None, "{made:?}");
                assert_eq!(pool.remove(made), None, "{made:?}");
            }
        }
    }
}
