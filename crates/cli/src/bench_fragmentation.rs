//! `heapwright bench fragmentation`: regions and malloc on one workload each, by the program that has
//! the regions, and the burst beside all peers, by the one that has malloc's suite.

use crate::bench::find;
use crate::failure::Failure;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const REGIONS: &str = "heapwright-bench-regions";
const MALLOC: &str = "heapwright-bench-malloc";
/// Workloads of malloc's suite that belong here.
const BURST: &str = "burst";
/// Options of malloc's suite alone, all with a value.
const OF_MALLOC: [&str; 4] = ["--against", "--rounds", "--objects", "--in"];

/// The two programs' arguments; a program that is not wanted has none.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    regions: Option<Vec<OsString>>,
    malloc: Option<Vec<OsString>>,
}

/// Runs both and prints what they say one after the other; as JSON one object, the regions' with what
/// malloc's suite says as `burst`.
pub(crate) fn run(rest: &[OsString], json: bool) -> Result<u8, Failure> {
    let json = json || rest.iter().any(|word| word == "--json");
    let mut all = rest.to_vec();
    if json && !all.iter().any(|word| word == "--json") {
        all.push("--json".into());
    }
    let words = words(&all)?;
    let regions = words.regions.map(|words| Part::new(REGIONS, words));
    let malloc = words.malloc.map(|words| Part::new(MALLOC, words));
    let parts: Vec<Part> = [regions, malloc].into_iter().flatten().collect::<Result<_, _>>()?;
    if !json {
        for part in parts {
            part.run(Stdio::inherit())?;
        }
        return Ok(0);
    }
    let mut whole = serde_json::Map::new();
    for part in parts {
        let name = part.name;
        let said: Value = serde_json::from_slice(&part.run(Stdio::piped())?)
            .map_err(|error| Failure::ours(format!("{name}: no JSON ({error})")))?;
        match said {
            Value::Object(fields) if name == REGIONS => whole.extend(fields),
            said => drop(whole.insert(BURST.to_owned(), said)),
        }
    }
    println!("{}", Value::Object(whole));
    Ok(0)
}

/// One of the two programs.
struct Part {
    name: &'static str,
    command: Command,
}

impl Part {
    fn new(name: &'static str, words: Vec<OsString>) -> Result<Self, Failure> {
        let program = find(name)?;
        let mut command = Command::new(&program);
        command.args(&words);
        let is_plain = !words.iter().any(|word| word == "--against" || word == "--quick");
        if name == MALLOC
            && is_plain
            && let Some(directory) = program.parent()
        {
            command.arg("--against").arg(subjects(directory));
        }
        Ok(Self { name, command })
    }

    /// Runs it to its end; what it printed, where `stdout` is a pipe.
    fn run(mut self, stdout: Stdio) -> Result<Vec<u8>, Failure> {
        let name = self.name;
        let cannot = |error| Failure::ours(format!("{name}: cannot be run ({error})"));
        let child = self.command.stdout(stdout).spawn().map_err(cannot)?;
        let output = child.wait_with_output().map_err(cannot)?;
        if !output.status.success() {
            return Err(Failure::ours(format!("{name} ended with {}", output.status)));
        }
        Ok(output.stdout)
    }
}

/// All peers whose objects lie in `directory`, and mode compact.
fn subjects(directory: &Path) -> OsString {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    let peer = |name: String| {
        Some(name.strip_prefix("libheapwright_peer_")?.strip_suffix(".so")?.to_owned())
    };
    let mut subjects: Vec<OsString> = names.filter_map(peer).map(OsString::from).collect();
    subjects.sort();
    let compact = directory.join("libheapwright_compact.so");
    if compact.is_file() {
        let mut named = OsString::from("heapwright-compact=");
        named.push(compact);
        subjects.push(named);
    }
    subjects.join(OsStr::new(","))
}

/// Whom each word is for.
fn words(rest: &[OsString]) -> Result<Words, Failure> {
    let mut regions = vec![OsString::from("fragmentation")];
    let mut malloc = Vec::new();
    let (mut only, mut has_rounds) = (None, false);
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        let name = word.to_str().unwrap_or_default();
        if OF_MALLOC.contains(&name) || name == "--only" {
            let value =
                rest.next().ok_or_else(|| Failure::ours(format!("{name} needs a value")))?;
            if name == "--only" {
                only = Some(value.clone());
                continue;
            }
            has_rounds |= name == "--rounds";
            malloc.extend([word.clone(), value.clone()]);
        } else {
            regions.push(word.clone());
            malloc.push(word.clone());
        }
    }
    if !has_rounds && !malloc.iter().any(|word| word == "--quick") {
        malloc.extend(["--rounds".into(), "1".into()]);
    }
    let wanted = only.clone().unwrap_or_else(|| BURST.into());
    malloc.extend(["--only".into(), wanted]);
    Ok(match only {
        None => Words { regions: Some(regions), malloc: Some(malloc) },
        Some(only) if only.to_string_lossy().starts_with(BURST) => {
            Words { regions: None, malloc: Some(malloc) }
        }
        Some(only) => {
            regions.extend(["--only".into(), only]);
            Words { regions: Some(regions), malloc: None }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{Words, subjects, words};
    use std::ffi::OsString;
    use std::fs;

    fn told(text: &str) -> Words {
        let list: Vec<OsString> = text.split_whitespace().map(OsString::from).collect();
        words(&list).expect("they are complete")
    }

    fn list(text: &str) -> Option<Vec<OsString>> {
        Some(text.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn each_program_gets_its_words() {
        assert_eq!(
            told(""),
            Words { regions: list("fragmentation"), malloc: list("--rounds 1 --only burst") }
        );
        assert_eq!(
            told("--quick --json"),
            Words {
                regions: list("fragmentation --quick --json"),
                malloc: list("--quick --json --only burst")
            }
        );
        assert_eq!(
            told("--only creep"),
            Words { regions: list("fragmentation --only creep"), malloc: None }
        );
        assert_eq!(
            told("--only burst,burst-alone --rounds 3 --against jemalloc"),
            Words {
                regions: None,
                malloc: list("--rounds 3 --against jemalloc --only burst,burst-alone")
            }
        );
        assert!(words(&["--only".into()]).is_err());
    }

    #[test]
    fn peers_that_lie_there_are_compared_and_mode_compact() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        for name in ["libheapwright_peer_b.so", "libheapwright_peer_a.so", "libheapwright_x.so"] {
            fs::write(at(name), "").expect("written");
        }
        assert_eq!(subjects(directory.path()), "a,b");
        fs::write(at("libheapwright_compact.so"), "").expect("written");
        let expected =
            format!("a,b,heapwright-compact={}", at("libheapwright_compact.so").display());
        assert_eq!(subjects(directory.path()), expected.as_str());
    }
}
