//! `heapwright.h` as a C program uses it, with the shared and the static library, also under
//! valgrind. `HEAPWRIGHT_LIB_DIR` names the directory that `cargo xtask build` put them into.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn directory() -> PathBuf {
    let directory = std::env::var_os("HEAPWRIGHT_LIB_DIR")
        .expect("HEAPWRIGHT_LIB_DIR is not set: `cargo xtask build`, and name target/release");
    PathBuf::from(directory).canonicalize().expect("it is there")
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn compile(compiler: &str, flags: &[&str], link: &[&str], into: &Path) {
    let output = Command::new(compiler)
        .args(["-g", "-O1", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(source("../c/include"))
        .args(flags)
        .arg("-o")
        .arg(into)
        .arg(source("tests/library.c"))
        .args(link)
        .output()
        .expect("a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn expect_conforms(output: &Output) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {text}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "conforms\n", "{text}");
}

#[test]
fn every_function_keeps_its_word_with_both_libraries() {
    let here = tempfile::tempdir().expect("a directory");
    let libraries = directory();
    let libraries = libraries.to_str().expect("a plain path");
    let shared = here.path().join("shared");
    compile("cc", &["-std=c11", "-D_GNU_SOURCE"], &["-L", libraries, "-lheapwright"], &shared);
    expect_conforms(
        &Command::new(&shared).env("LD_LIBRARY_PATH", libraries).output().expect("runs"),
    );
    let archive = format!("{libraries}/libheapwright.a");
    let fixed = here.path().join("static");
    compile("cc", &["-std=c11", "-D_GNU_SOURCE"], &[&archive], &fixed);
    expect_conforms(&Command::new(&fixed).output().expect("runs"));
    // C++ reads the header, too.
    let cpp = here.path().join("object.o");
    let text = "#include \"heapwright.h\"\nint main() { return hw_page_bytes() == 0; }\n";
    let file = here.path().join("main.cpp");
    std::fs::write(&file, text).expect("written");
    let status = Command::new("c++")
        .args(["-Wall", "-Wextra", "-Werror", "-c", "-I"])
        .arg(source("../c/include"))
        .arg("-o")
        .args([&cpp, &file])
        .status()
        .expect("a C++ compiler");
    assert!(status.success());
}

#[test]
fn nothing_leaks_and_nothing_is_read_too_early_under_valgrind() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        return; // Not on this machine; `cargo xtask test` installs it where it may.
    }
    let here = tempfile::tempdir().expect("a directory");
    let libraries = directory();
    let libraries = libraries.to_str().expect("a plain path");
    let program = here.path().join("shared");
    compile("cc", &["-std=c11", "-D_GNU_SOURCE"], &["-L", libraries, "-lheapwright"], &program);
    let output = Command::new("valgrind")
        .args(["--quiet", "--leak-check=full", "--show-leak-kinds=all", "--error-exitcode=9"])
        .arg(&program)
        .env("LD_LIBRARY_PATH", libraries)
        .output()
        .expect("it starts");
    expect_conforms(&output);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("lost") && !text.contains("Invalid"), "{text}");
}

#[test]
fn a_program_asks_the_preloaded_object_by_name_or_runs_without_it() {
    let here = tempfile::tempdir().expect("a directory");
    let program = here.path().join("control");
    let status = Command::new("cc")
        .args(["-g", "-O1", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-I"])
        .arg(source("../c/include"))
        .arg("-o")
        .args([&program, &source("tests/life/control.c")])
        .status()
        .expect("a C compiler");
    assert!(status.success());
    let alone = Command::new(&program).output().expect("runs");
    assert_eq!(String::from_utf8_lossy(&alone.stdout), "without\n");
    let output = Command::new(&program)
        .env("LD_PRELOAD", directory().join("libheapwright_preload.so"))
        .env("HEAPWRIGHT_SOFT_LIMIT", "3M")
        .output()
        .expect("runs");
    expect_conforms(&output);
}

/// Names of `text` that begin with `hw_` and are followed by a parenthesis.
fn functions(text: &str) -> BTreeSet<String> {
    let part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.match_indices("hw_")
        .filter(|(at, _)| !text[..*at].ends_with(part))
        .filter_map(|(at, _)| {
            let name = text[at..].split(|letter| !part(letter)).next()?;
            text[at + name.len()..].starts_with('(').then(|| name.to_owned())
        })
        .collect()
}

#[test]
fn the_header_the_library_and_the_test_name_the_same_functions() {
    let header = std::fs::read_to_string(source("../c/include/heapwright.h")).expect("read");
    let header = functions(&header);
    assert!(header.len() > 50, "{header:?}");
    let program = std::fs::read_to_string(source("tests/library.c")).expect("read");
    let used = functions(&program);
    assert_eq!(header.difference(&used).collect::<Vec<_>>(), Vec::<&String>::new(), "not tested");
    let output = Command::new("nm")
        .args(["--dynamic", "--defined-only"])
        .arg(directory().join("libheapwright.so"))
        .output()
        .expect("binutils");
    let exported: BTreeSet<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().last().map(str::to_owned))
        .collect();
    assert_eq!(exported, header, "exactly what the header declares is exported");
}
