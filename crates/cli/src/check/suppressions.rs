//! Findings that are known and not to be told: lines `KIND:PATTERN` with `*` for any letters.

use super::finding::{Finding, Frame};
use crate::failure::Failure;
use std::fs;
use std::path::Path;

/// The lines of a file.
#[derive(Debug, Default)]
pub(crate) struct Suppressions {
    lines: Vec<(String, String)>,
}

impl Suppressions {
    /// Reads a file. Empty lines and those from `#` on are nothing.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path).map_err(|error| {
            Failure::ours(format!("{}: cannot be read ({error})", path.display()))
        })?;
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let Some((kind, pattern)) = line.split_once(':') else {
                let (path, number) = (path.display(), index + 1);
                return Err(Failure::ours(format!(
                    "{path}:{number}: no KIND:PATTERN, such as leak:read_config"
                )));
            };
            lines.push((kind.trim().to_owned(), pattern.trim().to_owned()));
        }
        Ok(Self { lines })
    }

    /// Whether a line covers a finding: its kind, and the function, file or module of any frame
    /// of its stacks.
    pub(crate) fn cover(&self, finding: &Finding) -> bool {
        let block = finding.block.iter();
        let of_block = block.flat_map(|block| block.alloc_stack.iter().chain(&block.free_stack));
        let frames: Vec<&Frame> = finding.stack.iter().chain(of_block).collect();
        self.lines.iter().any(|(kind, pattern)| {
            fits(kind, &finding.kind)
                && frames.iter().any(|frame| {
                    [&frame.function, &frame.file, &frame.module]
                        .iter()
                        .any(|name| fits(pattern, name))
                })
        })
    }
}

/// Whether `text` is what `pattern` says, `*` standing for any letters.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(head) else { return false };
    let starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    starts.into_iter().any(|at| fits(rest, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn stars_stand_for_any_letters() {
        assert!(fits("*", "anything") && fits("read_*", "read_config") && fits("*.so*", "a.so.1"));
        assert!(!fits("read", "read_config") && !fits("*x", "abc"));
    }
}
