//! Nothing names the machine it was written on.

use super::sources::Source;
use std::env;
use std::path::Path;

/// Files that list what others wrote.
const FOREIGN: [&str; 2] = ["package-lock.json", "THIRD_PARTY.md"];

/// Lines with the path of this checkout or of the home directory.
pub(super) fn check(root: &Path, sources: &[Source]) -> Vec<String> {
    let home = env::var("HOME").unwrap_or_default();
    let places: Vec<String> = [root.display().to_string(), home]
        .into_iter()
        .filter(|place| place.len() > 1)
        .map(|place| format!("{place}/"))
        .collect();
    let mut problems = Vec::new();
    for source in sources.iter().filter(|one| !FOREIGN.iter().any(|file| one.path.ends_with(file)))
    {
        for (index, line) in source.text.lines().enumerate() {
            if places.iter().any(|place| stands_alone(line, place)) {
                problems.push(format!(
                    "{}:{}: names a place of this machine",
                    source.path,
                    index + 1
                ));
            }
        }
    }
    problems
}

/// Whether `place` begins a path in `line`, and is not the middle of another.
fn stands_alone(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|letter| !letter.is_alphanumeric() && !"_-./~$}".contains(letter))
    })
}

#[cfg(test)]
mod tests {
    use super::stands_alone;

    #[test]
    fn only_whole_paths_count() {
        assert!(stands_alone("see /somewhere/x", "/somewhere/"));
        assert!(!stands_alone("see docs/somewhere/x", "/somewhere/"));
        assert!(!stands_alone("$HOME/somewhere/x", "/somewhere/"));
    }
}
