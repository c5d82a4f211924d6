//! Objects in an arena: values, slices, strings.
//!
//! `alloc` and its kin refuse at compile time a type that needs to be dropped; for those there
//! are [`Linear::alloc_box`] and [`Linear::alloc_drop`].

use core::alloc::Layout;
use core::fmt::{self, Write};
use core::mem::{MaybeUninit, needs_drop};
use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::Counts;

use super::arena::{Linear, out_of_memory};
use super::builder::Builder;

/// Why formatting into an arena failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatError {
    /// There was no memory.
    Alloc(AllocError),
    /// A `Display` or `Debug` of an argument failed.
    Argument,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alloc(error) => error.fmt(f),
            Self::Argument => f.write_str("an argument could not be formatted"),
        }
    }
}

impl core::error::Error for FormatError {}

#[inline(always)]
const fn refuse_drop<T>() {
    const { assert!(!needs_drop::<T>(), "this type needs alloc_box or alloc_drop") };
}

#[allow(clippy::mut_from_ref, reason = "each call returns another block")]
impl<B: Backing, C: Counts, const ALIGN: usize> Linear<B, C, ALIGN> {
    /// Puts `value` into the arena. About ten instructions.
    ///
    /// A type that needs to be dropped does not compile:
    /// ```compile_fail
    /// heapwright_regions::Linear::new().alloc(String::from("never dropped"));
    /// ```
    ///
    /// # Panics
    /// If there is no memory; [`Self::try_alloc`] says so instead.
    #[inline(always)]
    pub fn alloc<T>(&self, value: T) -> &mut T {
        const { refuse_drop::<T>() };
        let place: NonNull<MaybeUninit<T>> = self.place::<T>().cast();
        // SAFETY: a block of that layout, which lives while the arena is borrowed (L8) and which
        // nobody else knows.
        unsafe { &mut *place.as_ptr() }.write(value)
    }

    /// Puts `value` into the arena.
    ///
    /// # Errors
    /// As [`Self::try_alloc_layout`].
    #[inline(always)]
    pub fn try_alloc<T>(&self, value: T) -> Result<&mut T, AllocError> {
        const { refuse_drop::<T>() };
        Ok(self.try_alloc_uninit()?.write(value))
    }

    /// Puts what `f` returns into the arena, made in place if the compiler can. `f` may allocate
    /// here too; if it panics, the place is lost until the reset.
    ///
    /// # Panics
    /// If there is no memory.
    #[inline(always)]
    pub fn alloc_with<T>(&self, f: impl FnOnce() -> T) -> &mut T {
        self.try_alloc_with(f).unwrap_or_else(|error| out_of_memory(error))
    }

    /// As [`Self::alloc_with`]; without memory `f` is not called.
    ///
    /// # Errors
    /// As [`Self::try_alloc_layout`].
    #[inline(always)]
    pub fn try_alloc_with<T>(&self, f: impl FnOnce() -> T) -> Result<&mut T, AllocError> {
        const { refuse_drop::<T>() };
        Ok(self.try_alloc_uninit()?.write(f()))
    }

    /// Room for a `T` that the caller fills; it is never dropped.
    ///
    /// # Errors
    /// As [`Self::try_alloc_layout`].
    #[inline(always)]
    pub fn try_alloc_uninit<T>(&self) -> Result<&mut MaybeUninit<T>, AllocError> {
        let place: NonNull<MaybeUninit<T>> = self.try_place::<T>()?.cast();
        // SAFETY: as in `alloc`.
        Ok(unsafe { &mut *place.as_ptr() })
    }

    /// As [`Self::try_alloc_uninit`].
    ///
    /// # Panics
    /// If there is no memory.
    #[inline(always)]
    pub fn alloc_uninit<T>(&self) -> &mut MaybeUninit<T> {
        self.try_alloc_uninit().unwrap_or_else(|error| out_of_memory(error))
    }

    /// Room for `length` items that the caller fills; they are never dropped.
    ///
    /// # Errors
    /// As [`Self::try_alloc_layout`].
    #[inline]
    pub fn try_alloc_slice_uninit<T>(
        &self,
        length: usize,
    ) -> Result<&mut [MaybeUninit<T>], AllocError> {
        let layout = Layout::array::<T>(length).map_err(|_| AllocError::TooLarge {
            requested_bytes: length.saturating_mul(size_of::<T>()),
        })?;
        let start: NonNull<MaybeUninit<T>> = self.try_alloc_layout(layout)?.cast();
        let items = NonNull::slice_from_raw_parts(start, length);
        // SAFETY: as in `alloc`, for an array.
        Ok(unsafe { &mut *items.as_ptr() })
    }

    /// As [`Self::try_alloc_slice_uninit`].
    ///
    /// # Panics
    /// If there is no memory.
    #[inline]
    pub fn alloc_slice_uninit<T>(&self, length: usize) -> &mut [MaybeUninit<T>] {
        self.try_alloc_slice_uninit(length).unwrap_or_else(|error| out_of_memory(error))
    }

    /// `length` zero bytes; memory that was never written is not cleared again.
    ///
    /// # Errors
    /// As [`Self::try_alloc_layout`].
    pub fn try_alloc_zeroed(&self, length: usize) -> Result<&mut [u8], AllocError> {
        let layout = Layout::array::<u8>(length)
            .map_err(|_| AllocError::TooLarge { requested_bytes: length })?;
        let start = self.try_alloc_layout_zeroed(layout)?;
        let bytes = NonNull::slice_from_raw_parts(start, length);
        // SAFETY: as in `alloc`; every byte is zero.
        Ok(unsafe { &mut *bytes.as_ptr() })
    }

    /// As [`Self::try_alloc_zeroed`].
    ///
    /// # Panics
    /// If there is no memory.
    pub fn alloc_zeroed(&self, length: usize) -> &mut [u8] {
        self.try_alloc_zeroed(length).unwrap_or_else(|error| out_of_memory(error))
    }

    /// A copy of `items`.
    ///
    /// # Errors
    /// As [`Self::try_alloc_layout`].
    #[inline]
    pub fn try_alloc_slice_copy<T: Copy>(&self, items: &[T]) -> Result<&mut [T], AllocError> {
        Ok(self.try_alloc_slice_uninit(items.len())?.write_copy_of_slice(items))
    }

    /// As [`Self::try_alloc_slice_copy`].
    ///
    /// # Panics
    /// If there is no memory.
    #[inline]
    pub fn alloc_slice_copy<T: Copy>(&self, items: &[T]) -> &mut [T] {
        self.try_alloc_slice_copy(items).unwrap_or_else(|error| out_of_memory(error))
    }

    /// `length` items, each made by `f` of its index. `f` may allocate here too.
    ///
    /// # Errors
    /// As [`Self::try_alloc_layout`].
    #[inline]
    pub fn try_alloc_slice_fill_with<T>(
        &self,
        length: usize,
        mut f: impl FnMut(usize) -> T,
    ) -> Result<&mut [T], AllocError> {
        const { refuse_drop::<T>() };
        let places = self.try_alloc_slice_uninit(length)?;
        for (index, place) in places.iter_mut().enumerate() {
            place.write(f(index));
        }
        // SAFETY: every place was written.
        Ok(unsafe { places.assume_init_mut() })
    }

    /// As [`Self::try_alloc_slice_fill_with`].
    ///
    /// # Panics
    /// If there is no memory.
    #[inline]
    pub fn alloc_slice_fill_with<T>(&self, length: usize, f: impl FnMut(usize) -> T) -> &mut [T] {
        self.try_alloc_slice_fill_with(length, f).unwrap_or_else(|error| out_of_memory(error))
    }

    /// Clones of `items`.
    ///
    /// # Errors
    /// As [`Self::try_alloc_layout`].
    pub fn try_alloc_slice_clone<T: Clone>(&self, items: &[T]) -> Result<&mut [T], AllocError> {
        self.try_alloc_slice_fill_with(items.len(), |index| items[index].clone())
    }

    /// As [`Self::try_alloc_slice_clone`].
    ///
    /// # Panics
    /// If there is no memory.
    pub fn alloc_slice_clone<T: Clone>(&self, items: &[T]) -> &mut [T] {
        self.try_alloc_slice_clone(items).unwrap_or_else(|error| out_of_memory(error))
    }

    /// `length` default items.
    ///
    /// # Errors
    /// As [`Self::try_alloc_layout`].
    pub fn try_alloc_slice_fill_default<T: Default>(
        &self,
        length: usize,
    ) -> Result<&mut [T], AllocError> {
        self.try_alloc_slice_fill_with(length, |_| T::default())
    }

    /// As [`Self::try_alloc_slice_fill_default`].
    ///
    /// # Panics
    /// If there is no memory.
    pub fn alloc_slice_fill_default<T: Default>(&self, length: usize) -> &mut [T] {
        self.try_alloc_slice_fill_default(length).unwrap_or_else(|error| out_of_memory(error))
    }

    /// The items of an iterator, however many there are. The slice grows in place unless the
    /// iterator allocates here too.
    ///
    /// # Errors
    /// As [`Self::try_alloc_layout`].
    pub fn try_alloc_iter<T>(
        &self,
        items: impl IntoIterator<Item = T>,
    ) -> Result<&mut [T], AllocError> {
        let items = items.into_iter();
        let mut builder = Builder::new(self);
        builder.reserve(items.size_hint().0)?;
        for item in items {
            builder.push(item)?;
        }
        builder.finish()
    }

    /// As [`Self::try_alloc_iter`].
    ///
    /// # Panics
    /// If there is no memory.
    pub fn alloc_iter<T>(&self, items: impl IntoIterator<Item = T>) -> &mut [T] {
        self.try_alloc_iter(items).unwrap_or_else(|error| out_of_memory(error))
    }

    /// A copy of `text`.
    ///
    /// # Errors
    /// As [`Self::try_alloc_layout`].
    #[inline]
    pub fn try_alloc_str(&self, text: &str) -> Result<&mut str, AllocError> {
        let bytes = self.try_alloc_slice_copy(text.as_bytes())?;
        // SAFETY: a copy of UTF-8.
        Ok(unsafe { core::str::from_utf8_unchecked_mut(bytes) })
    }

    /// As [`Self::try_alloc_str`].
    ///
    /// # Panics
    /// If there is no memory.
    #[inline]
    pub fn alloc_str(&self, text: &str) -> &mut str {
        self.try_alloc_str(text).unwrap_or_else(|error| out_of_memory(error))
    }

    /// Formatted text, as `format!` makes it.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn try_alloc_fmt(&self, arguments: fmt::Arguments<'_>) -> Result<&mut str, FormatError> {
        let mut builder = Builder::<u8, B, C, ALIGN>::new(self);
        if builder.write_fmt(arguments).is_err() {
            return Err(builder.error().map_or(FormatError::Argument, FormatError::Alloc));
        }
        let bytes = builder.finish().map_err(FormatError::Alloc)?;
        // SAFETY: only whole strings were written.
        Ok(unsafe { core::str::from_utf8_unchecked_mut(bytes) })
    }

    /// As [`Self::try_alloc_fmt`].
    ///
    /// # Panics
    /// If there is no memory, or if an argument cannot be formatted.
    pub fn alloc_fmt(&self, arguments: fmt::Arguments<'_>) -> &mut str {
        match self.try_alloc_fmt(arguments) {
            Ok(text) => text,
            Err(error) => panic!("{error}"),
        }
    }
}
