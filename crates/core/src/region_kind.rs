//! The kinds of regions, as advice, replay and runs of call sites name them.
#![forbid(unsafe_code)]

/// A region allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionKind {
    /// Blocks end together.
    Linear,
    /// Last in, first out.
    Stack,
    /// One size.
    Pool,
    /// A few sizes.
    Slab,
    /// Large blocks near powers of two.
    Buddy,
}

impl RegionKind {
    /// All of them, from the simplest on.
    pub const ALL: [Self; 5] = [Self::Linear, Self::Stack, Self::Pool, Self::Slab, Self::Buddy];

    /// As the advice calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Stack => "stack",
            Self::Pool => "pool",
            Self::Slab => "slab",
            Self::Buddy => "buddy",
        }
    }

    /// The one that is called so; none for `general` and everything else.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
