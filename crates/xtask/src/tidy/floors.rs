//! Dependencies point downwards: the table of floors, and the exceptions.

use crate::workspace::Crate;
use std::fs;

/// The crates by floor. A crate depends on lower floors only.
const FLOORS: [&[&str]; 6] = [
    &["heapwright-core", "heapwright-sync", "heapwright-gc-derive"],
    &["heapwright-os", "heapwright-unwind"],
    &["heapwright-regions", "heapwright-format"],
    &[
        "heapwright-malloc",
        "heapwright-hardened",
        "heapwright-guard",
        "heapwright-gc",
        "heapwright-record",
        "heapwright-site",
        "heapwright-watch",
    ],
    &[
        "heapwright-capi",
        "heapwright-c",
        "heapwright-preload",
        "heapwright-preload-check",
        "heapwright-preload-compact",
        "heapwright-preload-hardened",
        "heapwright-preload-sites",
        "heapwright-recorder",
        "heapwright-peer-jemalloc",
        "heapwright-peer-mimalloc",
        "heapwright-peer-rpmalloc",
        "heapwright-peer-snmalloc",
        "heapwright",
    ],
    &[
        "heapwright-launch",
        "heapwright-symbols",
        "heapwright-collect",
        "heapwright-compare",
        "heapwright-replay",
        "heapwright-advise",
        "heapwright-report",
        "heapwright-monitor",
        "heapwright-tune",
        "heapwright-cli",
    ],
];

/// On one floor these may lean on these, in the order written: never on one further right.
const SAME_FLOOR: [&[&str]; 5] = [
    &["heapwright-os", "heapwright-unwind"],
    &["heapwright-malloc", "heapwright-watch"],
    &[
        "heapwright-capi",
        "heapwright-preload",
        "heapwright-preload-check",
        "heapwright-preload-compact",
        "heapwright-preload-hardened",
    ],
    &[
        "heapwright-capi",
        "heapwright-peer-jemalloc",
        "heapwright-peer-mimalloc",
        "heapwright-peer-rpmalloc",
        "heapwright-peer-snmalloc",
    ],
    &[
        "heapwright-launch",
        "heapwright-symbols",
        "heapwright-collect",
        "heapwright-compare",
        "heapwright-replay",
        "heapwright-advise",
        "heapwright-report",
        "heapwright-monitor",
        "heapwright-tune",
        "heapwright-cli",
    ],
];

/// Never a normal dependency of anything but each other.
pub(crate) const DEVELOPMENT: [&str; 6] = [
    "heapwright-testkit",
    "heapwright-bench",
    "xtask",
    "example-database",
    "example-game",
    "example-web-server",
];

/// Who names libc: the OS floor; and the replay, whose threads and `malloc` must be bare.
const NAMES_LIBC: [&str; 2] = ["heapwright-os", "heapwright-replay"];

/// Runs inside the compiler, so it has std on any floor.
const IN_COMPILER: &str = "heapwright-gc-derive";

/// Lowest floor that has std for free; those below are `no_std`.
const STD_FLOOR: usize = 4;

/// Dependencies that point the wrong way.
pub(super) fn check(crates: &[Crate]) -> Vec<String> {
    let mut problems = Vec::new();
    for one in crates {
        let name = one.name.as_str();
        let development = DEVELOPMENT.contains(&name);
        if floor(name).is_none() && !development {
            problems.push(format!("{name} has no floor; put it into the table of xtask's tidy"));
        }
        if !development
            && one.dependencies.iter().any(|dependency| dependency == "libc")
            && !NAMES_LIBC.contains(&name)
        {
            problems.push(format!("{name} names libc; that is heapwright-os's business"));
        }
        for dependency in &one.dependencies {
            problems.extend(judge(name, dependency));
        }
    }
    problems
}

/// Crates below std that do not say so.
pub(super) fn check_no_std(crates: &[Crate]) -> Vec<String> {
    let low = crates.iter().filter(|one| floor(&one.name).is_some_and(|floor| floor < STD_FLOOR));
    low.filter(|one| {
        one.name != IN_COMPILER && {
            let root = fs::read_to_string(one.directory.join("src/lib.rs")).unwrap_or_default();
            !root.contains("#![no_std]") && !root.contains(", no_std)]")
        }
    })
    .map(|one| format!("{} is on a floor below {STD_FLOOR} and not no_std", one.name))
    .collect()
}

/// What is wrong with `name` depending on `dependency`.
fn judge(name: &str, dependency: &str) -> Option<String> {
    if DEVELOPMENT.contains(&name) {
        return None;
    }
    if DEVELOPMENT.contains(&dependency) {
        return Some(format!("{name} depends on {dependency}, which is for tests only"));
    }
    let (own, other) = (floor(name)?, floor(dependency)?);
    let allowed = other < own || (other == own && leans(name, dependency));
    (!allowed).then(|| format!("{name} (floor {own}) depends on {dependency} (floor {other})"))
}

fn leans(name: &str, dependency: &str) -> bool {
    let place = |order: &[&str], wanted: &str| order.iter().position(|one| *one == wanted);
    SAME_FLOOR.iter().any(|order| match (place(order, name), place(order, dependency)) {
        (Some(own), Some(other)) => other < own,
        _ => false,
    })
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|crates| crates.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn dependencies_point_down() {
        assert_eq!(judge("heapwright-malloc", "heapwright-os"), None);
        assert!(judge("heapwright-os", "heapwright-malloc").is_some());
        assert_eq!(judge("heapwright-malloc", "libc"), None, "not ours to judge");
    }

    #[test]
    fn one_floor_leans_one_way() {
        assert_eq!(judge("heapwright-unwind", "heapwright-os"), None);
        assert!(judge("heapwright-os", "heapwright-unwind").is_some());
        assert!(judge("heapwright-core", "heapwright-sync").is_some());
        assert_eq!(judge("heapwright-cli", "heapwright-report"), None);
    }

    #[test]
    fn test_crates_are_for_tests() {
        assert!(judge("heapwright-cli", "heapwright-testkit").is_some());
        assert_eq!(judge("heapwright-bench", "heapwright-testkit"), None);
    }
}
