//! Which functions belong together: a block is given back by those of the family that made it.

/// The family of functions that made a block, or took it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// `malloc` and its like; `free`.
    Malloc = 0,
    /// `operator new`; `operator delete`.
    New = 1,
    /// `operator new[]`; `operator delete[]`.
    NewArray = 2,
    /// `operator new` with an alignment.
    NewAligned = 3,
    /// `operator new[]` with an alignment.
    NewArrayAligned = 4,
}

impl Family {
    /// All families, by their numbers.
    pub const ALL: [Self; 5] =
        [Self::Malloc, Self::New, Self::NewArray, Self::NewAligned, Self::NewArrayAligned];

    /// The family whose number, by `as u8`, it is; `Malloc` for what is no family's.
    pub fn from_number(number: u32) -> Self {
        Self::ALL.get(number as usize).copied().unwrap_or(Self::Malloc)
    }

    /// The function that makes such a block.
    pub fn allocator(self) -> &'static str {
        match self {
            Self::Malloc => "malloc",
            Self::New => "operator new",
            Self::NewArray => "operator new[]",
            Self::NewAligned => "aligned operator new",
            Self::NewArrayAligned => "aligned operator new[]",
        }
    }

    /// The function that takes such a block back.
    pub fn deallocator(self) -> &'static str {
        match self {
            Self::Malloc => "free",
            Self::New => "operator delete",
            Self::NewArray => "operator delete[]",
            Self::NewAligned => "aligned operator delete",
            Self::NewArrayAligned => "aligned operator delete[]",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Family;

    #[test]
    fn a_family_comes_back_from_its_number() {
        for (number, family) in Family::ALL.into_iter().enumerate() {
            assert_eq!(family as usize, number);
            assert_eq!(Family::from_number(number as u32), family);
        }
        assert_eq!(Family::from_number(5), Family::Malloc);
    }
}
