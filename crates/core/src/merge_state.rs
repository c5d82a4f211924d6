//! Whether pages are merged in mode compact, and why not: said by the allocator, and by whoever
//! reads its statistics page.

use core::ffi::CStr;

/// Why windows are not merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum MergeState {
    /// The mode is not compact, or `HEAPWRIGHT_MERGE=0`.
    Off = 0,
    /// It was not tried yet.
    Untried = 1,
    /// It works.
    Works = 2,
    /// The kernel's pages are not of 4 KiB.
    PageSize = 3,
    /// No userfaultfd: forbidden (a sandbox), or older than Linux 6.8.
    NoUserFaults = 4,
    /// The process has threads, and lacks the right (`CAP_SYS_PTRACE`) to let their system calls
    /// wait.
    NoRightWithThreads = 5,
    /// No helper thread, or it cannot have descriptors of its own (before Linux 5.9).
    NoHelper = 6,
    /// No memfd: forbidden, or the length of files is limited.
    NoMemoryFile = 7,
    /// The mappings are used up to the share that merging may take.
    NoMappings = 8,
    /// Most of what was merged was written again, so that nothing more is merged for a while unless
    /// somebody asks for it.
    WrittenAgain = 9,
}

impl MergeState {
    /// In a few words, what it is.
    pub fn name(self) -> &'static str {
        self.c_name().to_str().unwrap_or_default()
    }

    /// The same for C.
    pub fn c_name(self) -> &'static CStr {
        match self {
            Self::Off => c"off",
            Self::Untried => c"not tried yet",
            Self::Works => c"works",
            Self::PageSize => c"refused: the page size is not 4 KiB",
            Self::NoUserFaults => c"refused: no userfaultfd that moves pages (Linux 6.8)",
            Self::NoRightWithThreads => c"refused: threads, and no CAP_SYS_PTRACE",
            Self::NoHelper => c"refused: no helper thread with descriptors of its own",
            Self::NoMemoryFile => c"refused: no memfd",
            Self::NoMappings => c"paused: mappings used up",
            Self::WrittenAgain => c"paused: what was merged is written again",
        }
    }

    /// The state of that number; [`MergeState::Off`] where there is none.
    pub fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Untried,
            2 => Self::Works,
            3 => Self::PageSize,
            4 => Self::NoUserFaults,
            5 => Self::NoRightWithThreads,
            6 => Self::NoHelper,
            7 => Self::NoMemoryFile,
            8 => Self::NoMappings,
            9 => Self::WrittenAgain,
            _ => Self::Off,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::MergeState;

    #[test]
    fn numbers_lead_back_to_their_states() {
        for number in 0..10 {
            let state = MergeState::from_number(number);
            assert_eq!(state as u32, number, "{}", state.name());
        }
        assert_eq!(MergeState::from_number(10), MergeState::Off);
    }
}
