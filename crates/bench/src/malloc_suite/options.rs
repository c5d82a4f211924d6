//! How the suite is run.

use std::path::PathBuf;

/// How much the programs do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// About half a second each under the system's allocator.
    Full,
    /// A fifth of that: enough to see a large difference.
    Quick,
    /// As little as shows that everything works.
    Tiny,
}

/// How the suite is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where our objects and the peers' lie.
    pub objects: PathBuf,
    /// Where programs and inputs go; some ten MB.
    pub directory: PathBuf,
    /// How much the programs do.
    pub size: Size,
    /// Rounds of each program.
    pub rounds: usize,
    /// Peers: names, paths of `.so`, or `NAME=PATH.so`. None: all there are, when full.
    pub against: Option<Vec<String>>,
    /// Only the workloads of these names, or whose name begins with one that ends in `*`; empty:
    /// all.
    pub only: Vec<String>,
}

impl Options {
    /// Whether the workload called `name` is asked for.
    pub(super) fn wants(&self, name: &str) -> bool {
        let fits = |wanted: &String| match wanted.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == wanted,
        };
        self.only.is_empty() || self.only.iter().any(fits)
    }
}

impl Size {
    /// `full` of a workload's units of work, cut to this size; at least one.
    pub(super) fn units(self, full: u32) -> u32 {
        match self {
            Self::Full => full,
            Self::Quick => (full / 5).max(1),
            Self::Tiny => (full / 200).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Options, Size};
    use std::path::PathBuf;

    #[test]
    fn a_star_stands_for_any_ending() {
        let mut options = Options {
            objects: PathBuf::new(),
            directory: PathBuf::new(),
            size: Size::Tiny,
            rounds: 1,
            against: None,
            only: vec!["larson*".into(), "redis".into()],
        };
        assert!(options.wants("larsonN-sized") && options.wants("redis"));
        assert!(!options.wants("cfrac") && !options.wants("redis2"));
        options.only.clear();
        assert!(options.wants("cfrac"));
    }

    #[test]
    fn every_size_has_work() {
        assert_eq!((Size::Quick.units(10), Size::Tiny.units(10)), (2, 1));
    }
}
