//! Call sites of a real program: names, files and lines, wrappers left out.

use std::path::{Path, PathBuf};
use std::process::Command;

use heapwright_advise::Analysis;
use heapwright_advise::schema::{Flame, Site};
use heapwright_symbols::Symbolizer;

use synthetic::Synthetic;

mod synthetic;

const BIAS: u64 = 0x5555_0000_0000;

const PROGRAM: &str = r#"#include <stdlib.h>
void *plain(unsigned long n) { return malloc(n); }
void *inner(unsigned long n) { return malloc(n); }
void *my_malloc(unsigned long n) { return inner(n); }
void *load(unsigned long n) { return my_malloc(n); }
void *store(unsigned long n) { return my_malloc(n); }
int main(void) { return load(1) == store(2) || plain(3) == 0; }
"#;

struct Program {
    path: PathBuf,
    symbols: Vec<(String, u64)>,
    _folder: tempfile::TempDir,
}

impl Program {
    fn compile() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (source, path) = (folder.path().join("shop.c"), folder.path().join("shop"));
        std::fs::write(&source, PROGRAM).expect("write");
        let mut compiler = Command::new("cc");
        compiler.args(["-g", "-O0", "-o"]).args([&path, &source]);
        assert!(compiler.status().expect("a C compiler").success());
        let output = Command::new("nm").arg(&path).output().expect("nm");
        let text = String::from_utf8(output.stdout).expect("plain names");
        let symbol = |line: &str| {
            let mut words = line.split(' ');
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            Some((words.nth(1)?.to_owned(), address))
        };
        Self { path, symbols: text.lines().filter_map(symbol).collect(), _folder: folder }
    }

    /// A return address in the function `name`.
    fn call(&self, name: &str) -> u64 {
        let found = self.symbols.iter().find(|symbol| symbol.0 == name).expect("a function");
        BIAS + found.1 + 9
    }

    fn stack(&self, names: &[&str]) -> Vec<u64> {
        names.iter().map(|name| self.call(name)).collect()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

#[test]
fn wrappers_and_what_they_call_are_no_sites() {
    let program = Program::compile();
    let mut recording = Synthetic::new();
    recording.module(0, BIAS, 0x10_0000, text(&program.path));
    for (size, stack) in [
        (100, ["inner", "my_malloc", "load", "main"].as_slice()),
        (50, &["inner", "my_malloc", "store", "main"]),
        (20, &["plain", "main"]),
        (10, &["inner", "my_malloc"]),
    ] {
        recording.malloc(0, size, &program.stack(stack));
    }
    let (_folder, recording) = recording.finish();
    let analysis = Analysis::new(&recording, 0, &mut Symbolizer::new(), &mut |_, _| {});
    let analysis = analysis.expect("allocations");
    let plain = |site: &Site| (site.function.clone(), site.line, site.bytes);
    let sites: Vec<_> = analysis.sites.iter().map(plain).collect();
    let expected = [("load", 5, 100), ("store", 6, 50), ("plain", 2, 20), ("my_malloc", 4, 10)];
    assert_eq!(sites, expected.map(|(name, line, bytes)| (name.to_owned(), line, bytes)));
    let load = &analysis.sites[0];
    assert!(load.file.ends_with("/shop.c"));
    let names: Vec<&str> = load.stack.iter().map(|frame| frame.function.as_str()).collect();
    assert_eq!(names, ["inner", "my_malloc", "load", "main"]);
    assert_eq!(load.stack[3].module, "shop");
    assert_eq!(load.stack[3].offset, program.call("main") - BIAS - 1);
    assert!(!load.stack[3].build_id.is_empty() || load.stack[3].line > 0);
    let flame = Flame::new(&analysis);
    assert_eq!(flame.names[flame.name[1] as usize], "main");
    assert_eq!(flame.bytes[1], 170);
}
