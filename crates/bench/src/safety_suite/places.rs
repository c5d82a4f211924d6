//! Whether a report's stacks lead to the right lines.
//!
//! The programs of the corpus say so themselves: a line that ends in `// made` makes the block, one
//! with `// freed` frees it, and the error happens at `// told`. The innermost frame of a stack
//! that lies in the corpus must be on such a line.

use serde_json::Value;
use std::fs;
use std::path::Path;

/// A line that does something to the block.
#[derive(Debug)]
struct Mark {
    what: &'static str,
    file: String,
    line: u64,
}

/// All marked lines of a program, those of its helpers too.
#[derive(Debug)]
pub(super) struct Marks(Vec<Mark>);

const WHAT: [&str; 3] = ["told", "made", "freed"];

impl Marks {
    /// The marks of the program at `source`.
    ///
    /// # Errors
    /// A sentence when a file cannot be read or the error's line has no mark.
    pub(super) fn read(source: &Path) -> Result<Self, String> {
        let mut marks = Vec::new();
        for path in [source.to_owned(), source.with_file_name("twin.h")] {
            let text = fs::read_to_string(&path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for (index, line) in text.lines().enumerate() {
                let marked = WHAT.iter().find(|what| line.ends_with(&format!("// {what}")));
                if let Some(what) = marked {
                    marks.push(Mark { what, file: file.clone(), line: index as u64 + 1 });
                }
            }
        }
        let marks = Self(marks);
        match marks.own_line("told") {
            Some(_) => Ok(marks),
            None => Err(format!("{} does not say where its error is", source.display())),
        }
    }

    fn own_line(&self, what: &str) -> Option<u64> {
        self.0.iter().find(|mark| mark.what == what).map(|mark| mark.line)
    }

    /// Line of the program at which the error happens.
    pub(super) fn bug_line(&self) -> u64 {
        self.own_line("told").unwrap_or_default()
    }

    /// Whether the innermost frame of `stack` that lies in the corpus is on a line marked `what`,
    /// and names its function.
    fn leads_to(&self, what: &str, stack: &Value) -> bool {
        let frames = stack.as_array().map_or(&[][..], Vec::as_slice);
        let name = |frame: &Value| {
            let path = Path::new(frame["file"].as_str()?);
            Some(path.file_name()?.to_string_lossy().into_owned())
        };
        let of_corpus = |frame: &&Value| {
            name(frame).is_some_and(|file| self.0.iter().any(|mark| mark.file == file))
        };
        let Some(frame) = frames.iter().find(of_corpus) else { return false };
        let (file, line) = (name(frame).unwrap_or_default(), frame["line"].as_u64());
        frame["function"].as_str().is_some_and(|function| !function.is_empty())
            && self
                .0
                .iter()
                .any(|mark| mark.what == what && mark.file == file && Some(mark.line) == line)
    }

    /// Whether all stacks that a finding of its kind has are there, and each is right.
    pub(super) fn agree(&self, finding: &Value) -> bool {
        let kind = finding["kind"].as_str().unwrap_or_default();
        // A leak and an unset byte belong to where the block was made; a broken canary is seen
        // when the block is freed.
        let told = match kind {
            "leak" | "uninitialised" => "made",
            "overwritten-after" | "overwritten-before" => "freed",
            _ => "told",
        };
        let block = &finding["block"];
        let is_of_block = block.is_object();
        let was_freed = matches!(kind, "use-after-free" | "double-free" | "write-after-free");
        self.leads_to(told, &finding["stack"])
            && (!is_of_block || self.leads_to("made", &block["alloc_stack"]))
            && (!was_freed || self.leads_to("freed", &block["free_stack"]))
    }
}

#[cfg(test)]
mod tests {
    use super::{Mark, Marks};
    use serde_json::json;

    #[test]
    fn one_wrong_line_of_three_is_seen() {
        let mark = |what, line| Mark { what, file: "case.c".into(), line };
        let marks = Marks(vec![mark("told", 3), mark("made", 5), mark("freed", 7)]);
        let frames = |line: u64| {
            json!([
                { "function": "memcpy", "file": "elsewhere.S", "line": 3 },
                { "function": "at", "file": "/sources/case.c", "line": line },
                { "function": "main", "file": "/sources/case.c", "line": 3 },
            ])
        };
        let finding = |told: u64, made: u64, freed: u64| {
            json!({
                "kind": "use-after-free",
                "stack": frames(told),
                "block": { "alloc_stack": frames(made), "free_stack": frames(freed) },
            })
        };
        assert!(marks.agree(&finding(3, 5, 7)));
        for wrong in [finding(4, 5, 7), finding(3, 6, 7), finding(3, 5, 3)] {
            assert!(!marks.agree(&wrong), "{wrong}");
        }
        let nameless = json!([{ "function": "", "file": "case.c", "line": 5 }]);
        assert!(!marks.agree(&json!({ "kind": "leak", "stack": nameless, "block": null })));
    }
}
