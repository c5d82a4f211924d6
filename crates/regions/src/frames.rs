//! Arenas in turn: what one frame makes lives for the next ones, and no longer.

use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::RegionStatistics;
use heapwright_sync::atomic::{AtomicUsize, Ordering};

use crate::linear::Linear;

/// `N` arenas: one is this frame's, the others hold the frames before. 1: everything dies with the
/// frame; 2: a value lives until the end of the next frame; more: for as many.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use heapwright_regions::{AnonymousPages, Frames};
///
/// let mut frames = Frames::<_, 2>::new_in([AnonymousPages; 2]);
/// let position = frames.keep([1.0f32, 2.0])?;
/// let scratch = frames.arena().alloc(7u32);
/// assert_eq!(*scratch, 7);
/// frames.next_frame();
/// assert_eq!(frames.get(position), Some(&[1.0, 2.0]), "the frame before");
/// frames.next_frame();
/// assert_eq!(frames.get(position), None);
/// # }
/// # Ok::<(), heapwright_regions::AllocError>(())
/// ```
/// What is only borrowed does not live into the next frame:
/// ```compile_fail,E0502
/// # use heapwright_regions::{AnonymousPages, Frames};
/// let mut frames = Frames::<_, 2>::new_in([AnonymousPages; 2]);
/// let scratch = frames.arena().alloc(7u32);
/// frames.next_frame();
/// *scratch = 8;
/// ```
#[derive(Debug)]
pub struct Frames<B: Backing, const N: usize> {
    arenas: [Linear<B>; N],
    /// Frames since the beginning.
    frame: u64,
    id: usize,
}

/// Names a value of one frame of one [`Frames`].
pub struct FrameHandle<T> {
    place: NonNull<T>,
    frame: u64,
    id: usize,
    /// A name owns nothing, and is of no use without its frames.
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for FrameHandle<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for FrameHandle<T> {}
impl<T> fmt::Debug for FrameHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameHandle(frame {})", self.frame)
    }
}

impl<B: Backing, const N: usize> Frames<B, N> {
    /// Arenas over `backings`. Takes no memory until it is used.
    pub fn new_in(backings: [B; N]) -> Self {
        const { assert!(N > 0, "there is a frame") };
        static NEXT_ID: AtomicUsize = AtomicUsize::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self { arenas: backings.map(Linear::new_in), frame: 0, id }
    }

    /// This frame's arena.
    pub fn arena(&self) -> &Linear<B> {
        &self.arenas[(self.frame % N as u64) as usize]
    }

    /// Puts a value into this frame's arena that is found again in the next `N` - 1 frames.
    ///
    /// # Errors
    /// What the backing says.
    pub fn keep<T: Send + Sync + 'static>(&self, value: T) -> Result<FrameHandle<T>, AllocError> {
        let place = NonNull::from(self.arena().try_alloc(value)?);
        Ok(FrameHandle { place, frame: self.frame, id: self.id, value: PhantomData })
    }

    /// The value named `handle`, unless its frame is over or it is of other frames.
    pub fn get<T: Send + Sync + 'static>(&self, handle: FrameHandle<T>) -> Option<&T> {
        let age = self.frame.checked_sub(handle.frame)?;
        if age >= N as u64 || handle.id != self.id {
            return None;
        }
        // SAFETY: put there by `keep` in one of the last `N` frames, whose arenas were not reset
        // since: that is done exclusively, when the frame's number passes. Nobody borrows it
        // exclusively.
        Some(unsafe { handle.place.as_ref() })
    }

    /// Begins the next frame: the arena of the oldest one is reset, its memory stays warm. What
    /// exceeds `keep_bytes` of [`Self::next_frame_and_trim`] stays, too.
    pub fn next_frame(&mut self) {
        self.frame += 1;
        self.arenas[(self.frame % N as u64) as usize].reset();
    }

    /// As [`Self::next_frame`], giving back what the arena has above `keep_bytes`.
    pub fn next_frame_and_trim(&mut self, keep_bytes: usize) {
        self.frame += 1;
        self.arenas[(self.frame % N as u64) as usize].reset_and_trim(keep_bytes);
    }

    /// Frames since the beginning.
    pub const fn frame(&self) -> u64 {
        self.frame
    }

    /// What each arena holds, this frame's first.
    pub fn statistics(&self) -> [RegionStatistics; N] {
        core::array::from_fn(|back| {
            let frame = self.frame.wrapping_sub(back as u64);
            self.arenas[(frame % N as u64) as usize].statistics()
        })
    }
}
