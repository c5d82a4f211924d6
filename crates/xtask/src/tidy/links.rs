//! Links lead somewhere: from code into design pages, and between documents.

use super::sources::Source;
use std::collections::HashSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Links that lead nowhere.
pub(super) fn check(root: &Path, sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        for cited in design_links(&source.text) {
            if let Some(problem) = judge_design(root, &cited) {
                problems.push(format!("{}: {problem}", source.path));
            }
        }
    }
    for source in sources.iter().filter(|source| source.is_document()) {
        for target in markdown_links(&source.text) {
            if let Some(problem) = judge_document(root, source, &target) {
                problems.push(format!("{}: {problem}", source.path));
            }
        }
    }
    problems
}

/// What follows `design/` wherever a page is cited: `malloc#I3`, `recording.md`.
fn design_links(text: &str) -> Vec<String> {
    let part = |letter: char| letter.is_ascii_alphanumeric() || "-_.#".contains(letter);
    text.match_indices(concat!("des", "ign/"))
        .filter_map(|(at, mark)| {
            let rest = &text[at + mark.len()..];
            let end = rest.find(|letter| !part(letter)).unwrap_or(rest.len());
            let cited = rest[..end].trim_end_matches(['.', '#']);
            (!cited.is_empty()).then(|| cited.to_owned())
        })
        .collect()
}

fn judge_design(root: &Path, cited: &str) -> Option<String> {
    let (page, anchor) = cited.split_once('#').unwrap_or((cited, ""));
    let page = page.strip_suffix(".md").unwrap_or(page);
    let Ok(text) = fs::read_to_string(root.join(format!("docs/design/{page}.md"))) else {
        return Some(format!("cites docs/design/{page}.md, which does not exist"));
    };
    let missing = !anchor.is_empty() && !anchors(&text).contains(anchor);
    missing.then(|| format!("cites {anchor} of docs/design/{page}.md, which has no such anchor"))
}

/// Targets of `[text](target)` and `src="target"` that are files of ours.
fn markdown_links(text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for line in outside_code(text) {
        let mut rest = line.as_str();
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") && !target.is_empty() {
                targets.push(target.to_owned());
            }
        }
    }
    targets
}

/// The lines of a document without fenced blocks and code spans.
fn outside_code(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced && !line.starts_with("    ") {
            lines.push(line.split('`').step_by(2).collect());
        }
    }
    lines
}

fn judge_document(root: &Path, source: &Source, target: &str) -> Option<String> {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let text = if file.is_empty() {
        source.text.clone()
    } else {
        let folder = Path::new(&source.path).parent().unwrap_or(Path::new(""));
        let path = root.join(normal(&folder.join(file)));
        if path.is_dir() {
            return None;
        }
        match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(_) if path.is_file() => return None,
            Err(_) => return Some(format!("links to {target}, which does not exist")),
        }
    };
    let missing = !anchor.is_empty() && !anchors(&text).contains(anchor);
    missing.then(|| format!("links to {target}, which has no such anchor"))
}

/// `a/../b` as `b`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

/// What a link can aim at: `id="..."`, and headings as the forges name them.
fn anchors(text: &str) -> HashSet<String> {
    let ids = text.split("id=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let headings =
        outside_code(text).into_iter().filter(|line| line.starts_with('#')).map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept =
                title.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
            kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
        });
    ids.map(str::to_owned).chain(headings).collect()
}

#[cfg(test)]
mod tests {
    use super::{check, design_links, markdown_links};
    use crate::tidy::sources::Source;
    use std::fs;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    #[test]
    fn citations_and_links_are_found() {
        let cited = concat!("des", "ign/malloc#I3, `docs/des", "ign/recording.md`.");
        assert_eq!(design_links(cited), ["malloc#I3", "recording.md"]);
        let text = "a [b](c.md) `[no](x.md)` [web](https://a.b) [d](#here)\n```\n[no](y.md)\n```\n";
        assert_eq!(markdown_links(text), ["c.md", "#here"]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_told() {
        let root = tempfile::tempdir().expect("a directory");
        let pages = root.path().join("docs").join("design");
        fs::create_dir_all(&pages).expect("created");
        fs::write(pages.join("page.md"), "# A Title\n- <a id=\"I1\"></a>**I1** holds.\n")
            .expect("written");
        let rust = |anchor: &str| source("a.rs", &format!("// {}/page#{anchor}", "design"));
        assert!(check(root.path(), &[rust("I1")]).is_empty());
        assert_eq!(check(root.path(), &[rust("I2")]).len(), 1);
        let page = |anchor: &str| format!("{}/page.md#{anchor}", "design");
        let document = |target: &str| source("docs/other.md", &format!("[x]({target})"));
        assert!(check(root.path(), &[document(&page("a-title"))]).is_empty());
        assert!(check(root.path(), &[document("../docs/design")]).is_empty());
        assert_eq!(check(root.path(), &[document(&page("another"))]).len(), 1);
        assert_eq!(check(root.path(), &[document("missing.md")]).len(), 1);
    }
}
