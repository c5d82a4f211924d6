//! The names: a tree of words and numbers, written as patterns in which `*` is a number.

use super::answer::Question as Q;

/// Most components of a name.
pub(super) const DEPTH_MAX: usize = 6;

/// A name and what it asks.
pub(super) struct Name {
    /// The name, `*` for a number.
    pub pattern: &'static str,
    /// What it asks.
    pub question: Q,
}

const fn name(pattern: &'static str, question: Q) -> Name {
    Name { pattern, question }
}

/// All that is answered.
pub(super) const NAMES: &[Name] = &[
    name("version", Q::Version),
    name("epoch", Q::Epoch),
    name("background_thread", Q::Off),
    name("thread.arena", Q::ThreadArena),
    name("thread.tcache.enabled", Q::On),
    name("thread.tcache.flush", Q::Trim),
    name("thread.idle", Q::Trim),
    name("config.cache_oblivious", Q::IsOff),
    name("config.debug", Q::IsOff),
    name("config.fill", Q::IsOff),
    name("config.lazy_lock", Q::IsOff),
    name("config.malloc_conf", Q::Empty),
    name("config.opt_safety_checks", Q::IsOff),
    name("config.prof", Q::IsOff),
    name("config.stats", Q::IsOn),
    name("config.utrace", Q::IsOff),
    name("config.xmalloc", Q::IsOff),
    name("opt.abort", Q::IsOff),
    name("opt.abort_conf", Q::IsOff),
    name("opt.background_thread", Q::IsOff),
    name("opt.junk", Q::False),
    name("opt.narenas", Q::ArenaCount),
    name("opt.prof", Q::IsOff),
    name("opt.retain", Q::IsOn),
    name("opt.stats_print", Q::IsOff),
    name("opt.tcache", Q::IsOn),
    name("opt.xmalloc", Q::IsOff),
    name("opt.zero", Q::IsOff),
    name("arenas.narenas", Q::ArenaCount),
    name("arenas.page", Q::PageBytes),
    name("arenas.quantum", Q::QuantumBytes),
    name("arenas.lookup", Q::Lookup),
    name("arena.*.initialized", Q::IsInitialized),
    name("arena.*.purge", Q::Trim),
    name("arena.*.decay", Q::Trim),
    name("stats.allocated", Q::AllocatedBytes),
    name("stats.active", Q::ActiveBytes),
    name("stats.metadata", Q::MetadataBytes),
    name("stats.resident", Q::ResidentBytes),
    name("stats.mapped", Q::MappedBytes),
    name("stats.retained", Q::RetainedBytes),
    name("stats.arenas.*.pactive", Q::ActivePages),
    name("stats.arenas.*.pdirty", Q::DirtyPages),
    name("stats.arenas.*.pmuzzy", Q::NoPages),
    name("stats.arenas.*.mapped", Q::MappedBytes),
    name("stats.arenas.*.retained", Q::RetainedBytes),
    name("stats.arenas.*.resident", Q::ResidentBytes),
    name("stats.arenas.*.small.allocated", Q::SmallBytes),
    name("stats.arenas.*.large.allocated", Q::LargeBytes),
];

/// A name in numbers: for each component the index of the table's first name that has the same
/// beginning, or the number that stands in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mib {
    pub component: [usize; DEPTH_MAX],
    pub depth: usize,
}

/// The numbers of `name`; none when it is no name, nor the beginning of one.
pub(super) fn mib_of(name: &[u8]) -> Option<Mib> {
    NAMES.iter().enumerate().find_map(|(index, one)| {
        let mut pattern = one.pattern.split('.');
        let mut mib = Mib { component: [0; DEPTH_MAX], depth: 0 };
        for word in name.split(|byte| *byte == b'.') {
            let expected = pattern.next()?;
            let place = mib.component.get_mut(mib.depth)?;
            if expected == "*" {
                *place = number(word)?;
            } else if expected.as_bytes() == word {
                *place = first_with_beginning_of(index, mib.depth);
            } else {
                return None;
            }
            mib.depth += 1;
        }
        Some(mib)
    })
}

/// The name that `mib` stands for, and the number in it (0 if it has none).
pub(super) fn name_of(mib: &[usize]) -> Option<(&'static Name, usize)> {
    NAMES.iter().enumerate().find_map(|(index, one)| {
        if one.pattern.split('.').count() != mib.len() {
            return None;
        }
        let mut argument = 0;
        for (depth, (expected, &component)) in one.pattern.split('.').zip(mib).enumerate() {
            if expected == "*" {
                argument = component;
            } else if first_with_beginning_of(index, depth) != component {
                return None;
            }
        }
        Some((one, argument))
    })
}

/// Index of the first name that agrees with name `index` in its first `depth + 1` components.
fn first_with_beginning_of(index: usize, depth: usize) -> usize {
    let beginning = |one: &Name| one.pattern.split('.').take(depth + 1);
    let Some(own) = NAMES.get(index) else { return index };
    NAMES
        .iter()
        .position(|one| beginning(one).eq(beginning(own)) && one.pattern.split('.').count() > depth)
        .unwrap_or(index)
}

fn number(word: &[u8]) -> Option<usize> {
    core::str::from_utf8(word).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{DEPTH_MAX, NAMES, mib_of, name_of};

    #[test]
    fn every_name_comes_back_from_its_numbers() {
        for one in NAMES {
            let asked = one.pattern.replace('*', "0");
            let mib = mib_of(asked.as_bytes()).expect("a name of the table");
            let (found, argument) = name_of(&mib.component[..mib.depth]).expect("the same");
            assert_eq!((found.pattern, argument), (one.pattern, 0));
            assert!(one.pattern.split('.').count() <= DEPTH_MAX);
        }
    }

    #[test]
    fn a_number_can_be_replaced_in_the_mib() {
        let mut mib = mib_of(b"arena.0.purge").expect("a name");
        mib.component[1] = 4096;
        let (found, argument) = name_of(&mib.component[..mib.depth]).expect("the same");
        assert_eq!((found.pattern, argument), ("arena.*.purge", 4096));
    }

    #[test]
    fn beginnings_have_numbers_but_are_no_names() {
        let mib = mib_of(b"stats.arenas.0").expect("a beginning");
        assert_eq!(mib.depth, 3);
        assert!(name_of(&mib.component[..mib.depth]).is_none());
        for wrong in [&b"stats.nothing"[..], b"", b"arena.x.purge", b"version.0", b"epoch."] {
            assert!(mib_of(wrong).is_none(), "{wrong:?}");
        }
    }
}
