//! Every unsafe line has its argument near; clippy sees only what the current target compiles.

use super::sources::Source;

/// Lines above an unsafe one in which its argument must stand.
const REACH_LINES: usize = 12;

/// Unsafe blocks and implementations without an argument near.
pub(super) fn check(sources: &[Source]) -> Vec<String> {
    sources.iter().filter(|source| source.is_rust()).flat_map(check_one).collect()
}

fn check_one(source: &Source) -> Vec<String> {
    let mut argued = None;
    let mut problems = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        if line.contains(concat!("SAFE", "TY:")) || line.contains(concat!("# Saf", "ety")) {
            argued = Some(index);
        }
        let code = line.split("//").next().unwrap_or_default();
        let words = ["{", "impl "].map(|after| ["unsafe", after].join(" "));
        let naked = words.iter().any(|word| code.contains(word.as_str()));
        if naked && argued.is_none_or(|at| index - at > REACH_LINES) {
            problems.push(format!("{}:{}: unsafe without an argument", source.path, index + 1));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::sources::Source;

    #[test]
    fn an_argument_must_be_near() {
        let unsafe_line = concat!("let a = unsafe", " { f() };\n");
        let argued = format!("// {}: because.\n{unsafe_line}", concat!("SAFE", "TY"));
        let source = |text: &str| [Source { path: "a.rs".into(), text: text.into() }];
        assert!(check(&source(&argued)).is_empty());
        assert_eq!(check(&source(unsafe_line)).len(), 1);
        let far = argued.replace("because.\n", &format!("because.\n{}", "\n".repeat(13)));
        assert_eq!(check(&source(&far)).len(), 1);
    }
}
