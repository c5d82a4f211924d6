//! The 27 workloads, and one beside them: which program, how much of it.

use super::options::Size;

/// A workload; its name is that of the program whose shape it has.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    /// Name.
    pub name: &'static str,
    /// What runs.
    pub what: What,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// One of our C programs with its arguments.
    Ours(&'static str, Vec<String>),
    /// A program of this machine, with that many units of work.
    Real(Real, u32),
}

/// Programs of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Real {
    /// `python3` with `PYTHONMALLOC=malloc`.
    Python,
    /// The C++ compiler proper.
    Cc1plus,
    /// `sqlite3`, in memory.
    Sqlite,
    /// `redis-server` under `redis-benchmark`.
    Redis,
    /// `perl`, in the place of ruby.
    Perl,
}

/// Workloads beside the 27, which do not count in the means.
pub(super) const BESIDE: [&str; 1] = ["threads-64"];

/// All workloads at `size`, in the order of the tables.
pub(super) fn all(size: Size) -> Vec<Workload> {
    let ours = |name, program, units, rest: &[&str]| {
        let mut arguments = vec![size.units(units).to_string()];
        arguments.extend(rest.iter().map(|&word| word.to_owned()));
        Workload { name, what: What::Ours(program, arguments) }
    };
    let real = |name, real, units| Workload { name, what: What::Real(real, size.units(units)) };
    vec![
        ours("cfrac", "cfrac", 2500, &[]),
        ours("espresso", "espresso", 25, &[]),
        ours("barnes", "barnes", 25, &[]),
        ours("larsonN", "larson", 100, &[]),
        ours("larsonN-sized", "larson_sized", 100, &[]),
        ours("mstressN", "mstress", 60, &[]),
        ours("rptestN", "rptest", 250, &[]),
        ours("alloc-test1", "alloc_test", 150, &[]),
        ours("alloc-testN", "alloc_test", 100, &["2"]),
        ours("sh6benchN", "batches", 20, &["400"]),
        ours("sh8benchN", "batches", 15, &["400", "crosses"]),
        ours("xmalloc-testN", "xmalloc", 200, &[]),
        ours("cache-scratch1", "cache", 400, &["1", "scratch"]),
        ours("cache-scratchN", "cache", 400, &["2", "scratch"]),
        ours("cache-thrash1", "cache", 400, &["1"]),
        ours("cache-thrashN", "cache", 400, &["2"]),
        ours("glibc-simple", "simple", 800, &[]),
        ours("glibc-thread", "thread", 150, &[]),
        ours("malloc-large", "large", 15, &[]),
        ours("mleak10", "mleak", 150, &[]),
        real("rbstress1", Real::Perl, 40),
        real("python", Real::Python, 8),
        real("cc1plus", Real::Cc1plus, 5),
        real("sqlite", Real::Sqlite, 200),
        ours("z3", "solver", 16, &[]),
        ours("rocksdb", "store", 15, &[]),
        real("redis", Real::Redis, 150),
        ours("threads-64", "thread", 100, &["64"]),
    ]
}

#[cfg(test)]
mod tests {
    use super::{BESIDE, all};
    use crate::malloc_suite::Size;

    #[test]
    fn names_are_unique_and_27_count() {
        let mut names: Vec<_> = all(Size::Full).iter().map(|one| one.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 27 + BESIDE.len());
        assert!(BESIDE.iter().all(|name| names.contains(name)));
    }
}
