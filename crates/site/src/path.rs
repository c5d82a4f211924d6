//! Call paths that mean the same in every run: of frames as module and offset, innermost first.
#![forbid(unsafe_code)]

use heapwright_unwind::PathHash;

/// A frame, the same in each run of the same files: 64 bits, without a key. Two frames are equal
/// when these are, but for one chance in 2^64 a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameKey(u64);

impl FrameKey {
    /// Code that belongs to no file.
    pub const NO_MODULE: Self = Self(0);

    /// The call at `offset` (an address as the file gives it) of the module whose path the kernel
    /// tells as `path`.
    pub fn new(path: &[u8], offset: u64) -> Self {
        let mut hash = PathHash::ROOT;
        for piece in path.chunks(8) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            hash = hash.child(u64::from_le_bytes(word));
        }
        Self(hash.child(path.len() as u64).child(offset).bits())
    }

    /// The key as a number.
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// The key that this number is of.
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The key of a whole file, by its path.
    pub fn of_file(path: &[u8]) -> u64 {
        Self::new(path, u64::MAX).0
    }
}

/// The inner part of a stack: so many frames, from the call of the allocator outwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SitePath(PathHash);

impl SitePath {
    /// No frame yet.
    pub const NONE: Self = Self(PathHash::ROOT);

    /// With one more frame outside.
    pub const fn outwards(self, frame: FrameKey) -> Self {
        Self(self.0.child(frame.0))
    }

    /// The number that stands for it in a table; never 0.
    pub const fn bits(self) -> u64 {
        self.0.bits() | 1
    }
}

#[cfg(test)]
mod tests {
    use super::{FrameKey, SitePath};

    #[test]
    fn a_frame_is_its_file_and_offset_and_order_matters() {
        let key = FrameKey::new(b"/bin/a-program", 100);
        assert_eq!(key, FrameKey::new(b"/bin/a-program", 100));
        for (path, offset) in
            [(&b"/bin/a-program"[..], 101), (b"/bin/a-progran", 100), (b"/bin/a-program\0", 100)]
        {
            assert_ne!(key, FrameKey::new(path, offset));
        }
        let other = FrameKey::new(b"/bin/b", 7);
        let path = SitePath::NONE.outwards(key).outwards(other);
        assert_ne!(path, SitePath::NONE.outwards(other).outwards(key));
        assert_ne!(path.bits(), 0);
    }
}
