//! What this kernel really does, each thing tried once, and what is done where it does not.
//!
//! An error number or a version does not tell: kernels accept advice and ignore it, and sandboxes
//! refuse calls that are there. So each probe does the thing on a few pages and looks at the
//! effect.

mod probes;

use crate::Errno;

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was done and its effect was seen.
    Works,
    /// The kernel refused.
    Refused(Errno),
    /// The kernel accepted, and nothing happened.
    NoEffect,
}

impl Found {
    /// Whether it works.
    pub const fn works(self) -> bool {
        matches!(self, Self::Works)
    }

    fn seen(effect: bool) -> Self {
        if effect { Self::Works } else { Self::NoEffect }
    }
}

impl From<Result<bool, Errno>> for Found {
    /// Of whether the effect was seen.
    fn from(result: Result<bool, Errno>) -> Self {
        result.map_or_else(Self::Refused, Self::seen)
    }
}

/// Something that not every kernel does.
#[derive(Clone, Copy, Debug)]
pub struct Capability {
    /// What it is, in a few words.
    pub name: &'static str,
    /// What is done where it does not work.
    pub fallback: &'static str,
    probe: fn() -> Found,
}

impl Capability {
    /// Tries it now. Up to some milliseconds, a few pages, given back.
    pub fn probe(&self) -> Found {
        (self.probe)()
    }

    /// Every one there is.
    pub const fn all() -> &'static [Self] {
        &ALL
    }
}

const ALL: [Capability; 19] = [
    Capability {
        name: "reserve 64 GiB",
        fallback: "allocators halve what they ask for until it is given",
        probe: probes::large_reservation,
    },
    Capability {
        name: "lazy purge",
        fallback: "dead pages go back at once (MADV_DONTNEED), and cost a fault when used again",
        probe: probes::lazy_purge,
    },
    Capability {
        name: "guard by advice",
        fallback: "mprotect, two mappings each, up to half of the budget",
        probe: probes::guard_by_advice,
    },
    Capability {
        name: "populate",
        fallback: "pages are touched one by one",
        probe: probes::populate,
    },
    Capability {
        name: "huge pages, advised",
        fallback: "4 KiB pages, until they are collapsed; what grows brings 2 MiB of them in at once",
        probe: probes::advised_huge_pages,
    },
    Capability {
        name: "huge pages, collapsed",
        fallback: "the kernel's own daemon makes them, some day",
        probe: probes::collapse,
    },
    Capability {
        name: "huge pages, 2 MiB pool",
        fallback: "advised huge pages; HugePages::got says so",
        probe: || probes::explicit(crate::HugePage::Mib2),
    },
    Capability {
        name: "huge pages, 1 GiB pool",
        fallback: "2 MiB, then advised huge pages; HugePages::got says so",
        probe: || probes::explicit(crate::HugePage::Gib1),
    },
    Capability {
        name: "alias",
        fallback: "spans are not merged, persistent heaps still work",
        probe: probes::alias,
    },
    Capability {
        name: "hole in shared memory",
        fallback: "purged shared memory is cleared and stays resident",
        probe: probes::hole,
    },
    Capability {
        name: "named shared memory",
        fallback: "shared memory by descriptor (memfd) only",
        probe: probes::named_shared_memory,
    },
    Capability {
        name: "move pages by remap",
        fallback: "contents are copied",
        probe: probes::move_by_remap,
    },
    Capability {
        name: "bind to a node",
        fallback: "one node; policies are refused with ENOSYS or EPERM",
        probe: probes::bind_to_node,
    },
    Capability {
        name: "placement read back",
        fallback: "placements are unknown; alloc_on_node refuses",
        probe: probes::placement_read_back,
    },
    Capability {
        name: "current node, fast",
        fallback: "a system call, some 100 ns",
        probe: || Found::seen(crate::has_fast_current_place()),
    },
    Capability {
        name: "dirty pages, followed",
        fallback: "soft-dirty bits, else every page counts as written",
        probe: || probes::dirty_pages(crate::DirtyMethod::WriteProtect),
    },
    Capability {
        name: "dirty pages, soft bits",
        fallback: "every page counts as written",
        probe: || probes::dirty_pages(crate::DirtyMethod::SoftDirty),
    },
    Capability {
        name: "page scan",
        fallback: "/proc/self/smaps, per mapping instead of per page",
        probe: probes::page_scan,
    },
    Capability { name: "protection keys", fallback: "mprotect", probe: probes::protection_keys },
];

#[cfg(test)]
mod tests {
    use super::{Capability, Found};
    use crate::Errno;
    use std::collections::HashSet;

    #[test]
    fn every_capability_is_tried_and_has_a_fallback() {
        let _alone = crate::dirty::soft_dirty_alone();
        let names: HashSet<_> = Capability::all().iter().map(|one| one.name).collect();
        assert_eq!(names.len(), Capability::all().len(), "each name is there once");
        for one in Capability::all() {
            let found = one.probe();
            assert!(!one.fallback.is_empty(), "{}", one.name);
            assert_ne!(found, Found::Refused(Errno(libc::EFAULT)), "{}: a bad probe", one.name);
            assert_eq!(found.works(), one.probe().works(), "{}: twice the same", one.name);
        }
    }

    #[test]
    fn what_every_linux_does_works() {
        for name in ["lazy purge", "alias", "hole in shared memory", "move pages by remap"] {
            let one = Capability::all().iter().find(|one| one.name == name).expect("it is there");
            assert_eq!(one.probe(), Found::Works, "{name}");
        }
    }
}
