//! Which operation made or freed a block.

/// The operation that allocated a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum AllocKind {
    /// `malloc`.
    #[default]
    Malloc = 0,
    /// `calloc`.
    Calloc = 1,
    /// `realloc`.
    Realloc = 2,
    /// `reallocarray`.
    Reallocarray = 3,
    /// `posix_memalign`.
    PosixMemalign = 4,
    /// `aligned_alloc`.
    AlignedAlloc = 5,
    /// `memalign`.
    Memalign = 6,
    /// `valloc`.
    Valloc = 7,
    /// `pvalloc`.
    Pvalloc = 8,
    /// `operator new`.
    New = 9,
    /// `operator new[]`.
    NewArray = 10,
    /// `operator new(nothrow)`.
    NewNothrow = 11,
    /// `operator new[](nothrow)`.
    NewArrayNothrow = 12,
    /// `operator new(align_val_t)`, throwing or not.
    NewAligned = 13,
    /// `operator new[](align_val_t)`, throwing or not.
    NewArrayAligned = 14,
    /// Rust's `GlobalAlloc::alloc`.
    Rust = 15,
    /// Rust's `GlobalAlloc::alloc_zeroed`.
    RustZeroed = 16,
    /// Rust's `GlobalAlloc::realloc`.
    RustRealloc = 17,
    /// `mmap` of anonymous private memory by the program itself.
    Mmap = 18,
}

impl AllocKind {
    /// All kinds, by number.
    pub const ALL: [Self; 19] = [
        Self::Malloc,
        Self::Calloc,
        Self::Realloc,
        Self::Reallocarray,
        Self::PosixMemalign,
        Self::AlignedAlloc,
        Self::Memalign,
        Self::Valloc,
        Self::Pvalloc,
        Self::New,
        Self::NewArray,
        Self::NewNothrow,
        Self::NewArrayNothrow,
        Self::NewAligned,
        Self::NewArrayAligned,
        Self::Rust,
        Self::RustZeroed,
        Self::RustRealloc,
        Self::Mmap,
    ];

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }

    /// The name of the function or operator.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malloc => "malloc",
            Self::Calloc => "calloc",
            Self::Realloc => "realloc",
            Self::Reallocarray => "reallocarray",
            Self::PosixMemalign => "posix_memalign",
            Self::AlignedAlloc => "aligned_alloc",
            Self::Memalign => "memalign",
            Self::Valloc => "valloc",
            Self::Pvalloc => "pvalloc",
            Self::New => "new",
            Self::NewArray => "new[]",
            Self::NewNothrow => "new(nothrow)",
            Self::NewArrayNothrow => "new[](nothrow)",
            Self::NewAligned => "new(align)",
            Self::NewArrayAligned => "new[](align)",
            Self::Rust => "alloc",
            Self::RustZeroed => "alloc_zeroed",
            Self::RustRealloc => "GlobalAlloc::realloc",
            Self::Mmap => "mmap",
        }
    }

    /// Whether the operation promises zeroed memory.
    pub fn is_zeroed(self) -> bool {
        matches!(self, Self::Calloc | Self::RustZeroed | Self::Mmap)
    }
}

/// The operation that freed a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum FreeKind {
    /// `free`, `cfree`.
    #[default]
    Free = 0,
    /// `free_sized`, `free_aligned_sized`.
    FreeSized = 1,
    /// `operator delete`.
    Delete = 2,
    /// `operator delete[]`.
    DeleteArray = 3,
    /// `operator delete` with a size.
    DeleteSized = 4,
    /// `operator delete[]` with a size.
    DeleteArraySized = 5,
    /// `operator delete` with an alignment, with or without a size.
    DeleteAligned = 6,
    /// `operator delete[]` with an alignment, with or without a size.
    DeleteArrayAligned = 7,
    /// Rust's `GlobalAlloc::dealloc`.
    Rust = 8,
    /// `realloc(p, 0)`.
    ReallocZero = 9,
}

impl FreeKind {
    /// All kinds, by number.
    pub const ALL: [Self; 10] = [
        Self::Free,
        Self::FreeSized,
        Self::Delete,
        Self::DeleteArray,
        Self::DeleteSized,
        Self::DeleteArraySized,
        Self::DeleteAligned,
        Self::DeleteArrayAligned,
        Self::Rust,
        Self::ReallocZero,
    ];

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }

    /// The name of the function or operator.
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::FreeSized => "free_sized",
            Self::Delete => "delete",
            Self::DeleteArray => "delete[]",
            Self::DeleteSized => "delete(size)",
            Self::DeleteArraySized => "delete[](size)",
            Self::DeleteAligned => "delete(align)",
            Self::DeleteArrayAligned => "delete[](align)",
            Self::Rust => "dealloc",
            Self::ReallocZero => "realloc(p, 0)",
        }
    }
}

/// What the innermost node of a stack says besides the return address: operation, alignment,
/// and whether the stack is whole.
///
/// Plain `malloc` with a whole stack needs no leaf node; everything else is a child of the
/// caller's frame whose "return address" is this, packed. Real return addresses have bit 63
/// clear on Linux, leaves have it set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LeafKind {
    /// The operation.
    pub kind: AllocKind,
    /// log2 of the alignment asked for; 0 when none was.
    pub align_log2: u8,
    /// Whether the stack lacks outer frames.
    pub truncated: bool,
}

const LEAF_BIT: u64 = 1 << 63;
const TRUNCATED_BIT: u64 = 1 << 16;

impl LeafKind {
    /// Whether this is a plain `malloc` with a whole stack, which has no leaf node.
    pub fn is_default(self) -> bool {
        self == Self::default()
    }

    /// The packed form.
    pub fn pack(self) -> u64 {
        let truncated = if self.truncated { TRUNCATED_BIT } else { 0 };
        LEAF_BIT | truncated | u64::from(self.align_log2) << 8 | self.kind as u64
    }

    /// Takes the packed form apart; none when `word` is a return address.
    pub fn unpack(word: u64) -> Option<Self> {
        if word & LEAF_BIT == 0 {
            return None;
        }
        Some(Self {
            kind: AllocKind::from_number(word as u8)?,
            align_log2: (word >> 8) as u8,
            truncated: word & TRUNCATED_BIT != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{AllocKind, FreeKind, LeafKind};

    #[test]
    fn numbers_and_kinds_agree() {
        for (number, kind) in AllocKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            assert_eq!(AllocKind::from_number(number as u8), Some(kind));
        }
        for (number, kind) in FreeKind::ALL.into_iter().enumerate() {
            assert_eq!(FreeKind::from_number(number as u8), Some(kind));
        }
        assert_eq!(AllocKind::from_number(19), None);
    }

    #[test]
    fn a_leaf_survives_packing() {
        let leaf = LeafKind { kind: AllocKind::Memalign, align_log2: 21, truncated: true };
        assert_eq!(LeafKind::unpack(leaf.pack()), Some(leaf));
        assert_eq!(LeafKind::unpack(0x7fff_1234_5678), None);
    }
}
