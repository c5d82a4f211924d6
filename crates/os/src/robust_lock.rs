//! A lock in shared memory that tells whether its holder lives.
//!
//! It is libc's robust, process-shared mutex: the kernel keeps a list of those that a thread
//! holds and marks the first word of each when the thread ends, by whatever cause.

use crate::Errno;

/// Words of 32 bits that such a lock takes.
pub const ROBUST_LOCK_WORDS: usize = 16;

const _: () = assert!(size_of::<libc::pthread_mutex_t>() <= size_of::<u32>() * ROBUST_LOCK_WORDS);

/// Makes the lock at `place` and takes it for the calling thread.
///
/// # Errors
/// libc's; then the lock is not held.
///
/// # Safety
/// - `place` is [`ROBUST_LOCK_WORDS`] words of zeroed memory, aligned to 8 bytes, that nobody else
///   uses as a lock yet.
/// - The memory stays mapped for as long as the lock is held.
pub unsafe fn hold_robust_lock(place: *mut u32) -> Result<(), Errno> {
    let done = |code: i32| if code == 0 { Ok(()) } else { Err(Errno(code)) };
    let lock = place.cast::<libc::pthread_mutex_t>();
    let mut attributes = core::mem::MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
    let kind = attributes.as_mut_ptr();
    // SAFETY: libc initialises the attributes.
    done(unsafe { libc::pthread_mutexattr_init(kind) })?;
    // SAFETY: initialised above.
    let shared = unsafe { libc::pthread_mutexattr_setpshared(kind, libc::PTHREAD_PROCESS_SHARED) };
    // SAFETY: as above.
    let robust = unsafe { libc::pthread_mutexattr_setrobust(kind, libc::PTHREAD_MUTEX_ROBUST) };
    // SAFETY: room enough (asserted above), zeroed, and nobody else's (the caller).
    let made = unsafe { libc::pthread_mutex_init(lock, kind) };
    // SAFETY: initialised above, used no more.
    unsafe { libc::pthread_mutexattr_destroy(kind) };
    done(shared).and(done(robust)).and(done(made))?;
    // SAFETY: initialised just now.
    done(unsafe { libc::pthread_mutex_lock(lock) })
}

/// Gives up the lock at `place`. False when the calling thread does not hold it: then nothing has
/// changed, and it ends with its holder.
///
/// # Safety
/// - `place` was made a lock by [`hold_robust_lock`] and is still mapped.
pub unsafe fn release_robust_lock(place: *mut u32) -> bool {
    // SAFETY: the caller's promise.
    unsafe { libc::pthread_mutex_unlock(place.cast()) == 0 }
}

#[cfg(test)]
mod tests {
    use super::{ROBUST_LOCK_WORDS, hold_robust_lock, release_robust_lock};

    #[repr(align(8))]
    struct Words([u32; ROBUST_LOCK_WORDS]);

    #[test]
    fn a_held_lock_shows_its_holder() {
        let mut words = Words([0; ROBUST_LOCK_WORDS]);
        let place = words.0.as_mut_ptr();
        // SAFETY: zeroed, aligned, and ours.
        unsafe { hold_robust_lock(place) }.expect("held");
        // SAFETY: our own word.
        let holder = unsafe { place.read_volatile() } & 0x3fff_ffff;
        assert_eq!(holder, crate::thread_id());
        // SAFETY: held above.
        assert!(unsafe { release_robust_lock(place) });
    }
}
