//! The programs, and how they are built.

use super::places::Marks;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Sizes of the block: within a word, within slack, a page and more, far more.
const SIZES: [usize; 5] = [1, 24, 100, 5000, 200_000];

/// The sizes to run.
pub(super) fn sizes(quick: bool) -> impl Iterator<Item = usize> {
    SIZES.into_iter().filter(move |bytes| !quick || *bytes == 24)
}

/// A program.
#[derive(Debug)]
pub(super) struct Case {
    /// Its file's name.
    pub(super) name: String,
    source: PathBuf,
    /// Kinds of error that name it rightly.
    pub(super) kinds: Vec<String>,
    /// Where it errs, and what it does to the block.
    pub(super) marks: Marks,
}

impl Case {
    pub(super) fn is_rust(&self) -> bool {
        self.name.ends_with(".rs")
    }
}

/// The directory of sources, and that of programs.
#[derive(Debug)]
pub(super) struct Corpus {
    sources: PathBuf,
    programs: PathBuf,
}

impl Corpus {
    pub(super) fn new(directory: &Path) -> Result<Self, String> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("safety");
        fs::create_dir_all(directory).map_err(|error| error.to_string())?;
        Ok(Self { sources, programs: directory.to_owned() })
    }

    /// All programs whose name contains `only`.
    pub(super) fn cases(&self, only: Option<&str>) -> Result<Vec<Case>, String> {
        let mut cases = Vec::new();
        for entry in fs::read_dir(&self.sources).map_err(|error| error.to_string())? {
            let source = entry.map_err(|error| error.to_string())?.path();
            let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&source).map_err(|error| error.to_string())?;
            let first = text.lines().next().unwrap_or_default();
            let kinds = first.strip_prefix("// ").filter(|kinds| !kinds.ends_with('.'));
            if name.starts_with("twin.") || only.is_some_and(|only| !name.contains(only)) {
                continue;
            }
            // Other programs begin with a sentence.
            let Some(kinds) = kinds.filter(|kinds| !kinds.contains(':')) else { continue };
            let marks = Marks::read(&source)?;
            let kinds = kinds.split(' ').map(str::to_owned).collect();
            cases.push(Case { name, source, kinds, marks });
        }
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(cases)
    }

    /// Builds one twin; a twin that is there already is taken.
    pub(super) fn build(
        &self,
        case: &Case,
        bytes: usize,
        bad: bool,
        sanitize: bool,
    ) -> Result<PathBuf, String> {
        let twin = if bad { "bad" } else { "good" };
        let how = if sanitize { "asan" } else { "plain" };
        let program = self.programs.join(format!("{}-{bytes}-{twin}-{how}", case.name));
        if program.exists() {
            return Ok(program);
        }
        let mut command = match case.source.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => {
                let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
                let mut rustc = Command::new(rustc);
                rustc.args(["--edition", "2024", "-g", "-A", "warnings"]);
                rustc.env("BYTES", bytes.to_string());
                if bad {
                    rustc.args(["--cfg", "bad"]);
                }
                rustc
            }
            extension => {
                let cpp = extension == Some("cpp");
                let mut compiler = Command::new(if cpp { "c++" } else { "cc" });
                compiler.args(["-g", "-O0", "-fno-builtin", "-w", &format!("-DBYTES={bytes}")]);
                if cpp {
                    compiler.arg("-fsized-deallocation");
                }
                if bad {
                    compiler.arg("-DBAD");
                }
                if sanitize {
                    compiler.arg("-fsanitize=address");
                }
                compiler
            }
        };
        let output = command.arg(&case.source).arg("-o").arg(&program).output();
        let output = output.map_err(|error| format!("the compiler of {}: {error}", case.name))?;
        match output.status.success() {
            true => Ok(program),
            false => {
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                Err(format!("{} does not compile: {text}", case.name))
            }
        }
    }
}
