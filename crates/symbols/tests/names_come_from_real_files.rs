//! Programs compiled here and now: what the compiler was told must come back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use heapwright_format::merge::Module;
use heapwright_symbols::{Frame, Place, Source, Symbolizer, build_id};
use object::{Object, ObjectSymbol};

const C_PROGRAM: &str = r#"#include <stdlib.h>
void *volatile sink;
static inline __attribute__((always_inline)) void *make_row(unsigned long n) {
    void *row = malloc(n); /* line 4 */
    sink = row;
    return row;
}
__attribute__((noinline)) void *load_table(unsigned long n) {
    void *row = make_row(n); /* line 9 */
    free(sink);
    return row;
}
int main(int argc, char **argv) { return load_table(argc) == (void *)argv; }
"#;

const CPP_PROGRAM: &str = r#"#include <memory>
#include <vector>
namespace shop {
struct Cart {
    std::vector<int> items;
    __attribute__((noinline)) int *add(int item) { /* line 6 */
        int *more = new int[item]; // line 7
        items.push_back(item);
        return more;
    }
};
}
int main(int argc, char **) { shop::Cart cart; return *cart.add(argc); }
"#;

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().expect("a C toolchain");
    assert!(status.success(), "{program} {arguments:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn compile(folder: &Path, compiler: &str, source: &str, name: &str, flags: &[&str]) -> PathBuf {
    let source_path = folder.join(name).with_extension(if compiler == "cc" { "c" } else { "cc" });
    fs::write(&source_path, source).expect("write");
    let program = folder.join(name);
    let mut arguments = vec!["-O2", "-Wl,--build-id", "-o", text(&program), text(&source_path)];
    arguments.extend(flags);
    run(compiler, &arguments);
    program
}

/// Address and size of the function with this linker name.
fn function(path: &Path, name: &str) -> (u64, u64) {
    let data = fs::read(path).expect("read");
    let file = object::File::parse(&*data).expect("an ELF file");
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(name));
    let symbol = symbol.unwrap_or_else(|| panic!("{name} is in the table"));
    (symbol.address(), symbol.size())
}

fn places(symbolizer: &mut Symbolizer, path: &Path, (start, size): (u64, u64)) -> Vec<Place> {
    (start..start + size).map(|at| symbolizer.resolve_in_file(path, at)).collect()
}

fn short(frames: &[Frame]) -> Vec<(&str, &str, u32)> {
    let file =
        |frame: &Frame| frame.file.rsplit_once('/').map_or(0, |(folder, _)| folder.len() + 1);
    frames.iter().map(|frame| (&*frame.function, &frame.file[file(frame)..], frame.line)).collect()
}

#[test]
fn inlined_functions_are_frames_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    for compression in ["-gz=none", "-gz=zlib"] {
        let program = compile(folder.path(), "cc", C_PROGRAM, "table", &["-g", compression]);
        let mut symbolizer = Symbolizer::with_debug_roots(vec![]);
        let found = places(&mut symbolizer, &program, function(&program, "load_table"));
        let expected = [("make_row", "table.c", 4), ("load_table", "table.c", 9)];
        assert!(found.iter().any(|place| short(&place.frames) == expected), "{compression}");
        for place in &found {
            assert_eq!(place.source, Source::DebugInformation);
            assert_eq!(place.frames.last().map(|frame| &*frame.function), Some("load_table"));
        }
    }
}

#[test]
fn cpp_names_lose_parameters_and_keep_namespaces() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = compile(folder.path(), "c++", CPP_PROGRAM, "cart", &["-g"]);
    let mut symbolizer = Symbolizer::with_debug_roots(vec![]);
    let found = places(&mut symbolizer, &program, function(&program, "_ZN4shop4Cart3addEi"));
    assert!(found.iter().all(|place| &*place.frames.last().unwrap().function == "shop::Cart::add"));
    assert!(found.iter().any(|place| short(&place.frames) == [("shop::Cart::add", "cart.cc", 7)]));
    let is_vector = |place: &Place| place.frames[0].function.starts_with("std::");
    assert!(found.iter().any(|place| place.frames.len() > 1 && is_vector(place)));
}

#[test]
fn without_debug_information_the_symbol_table_names_the_function() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = compile(folder.path(), "cc", C_PROGRAM, "table", &["-g0"]);
    let range = function(&program, "load_table");
    let mut symbolizer = Symbolizer::with_debug_roots(vec![]);
    for place in places(&mut symbolizer, &program, range) {
        assert_eq!(short(&place.frames), [("load_table", "", 0)]);
        assert_eq!((place.source, place.function_start), (Source::SymbolTable, Some(range.0)));
    }
}

#[test]
fn a_stripped_program_still_tells_where_its_functions_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = compile(folder.path(), "cc", C_PROGRAM, "table", &["-g0"]);
    let range = function(&program, "load_table");
    run("strip", &[text(&program)]);
    let mut symbolizer = Symbolizer::with_debug_roots(vec![]);
    for place in places(&mut symbolizer, &program, range) {
        assert_eq!(short(&place.frames), [("", "", 0)]);
        assert_eq!((place.source, place.function_start), (Source::FunctionStart, Some(range.0)));
    }
}

/// Compiles, and moves the debug information into `debug`.
fn split(folder: &Path, debug: &Path, flags: &[&str]) -> (PathBuf, (u64, u64)) {
    let program = compile(folder, "cc", C_PROGRAM, "table", flags);
    let range = function(&program, "load_table");
    fs::create_dir_all(debug.parent().expect("a folder")).expect("make the folder");
    run("objcopy", &["--only-keep-debug", text(&program), text(debug)]);
    run("strip", &["--strip-all", text(&program)]);
    (program, range)
}

fn is_resolved(symbolizer: &mut Symbolizer, program: &Path, range: (u64, u64)) -> bool {
    let expected = [("make_row", "table.c", 4), ("load_table", "table.c", 9)];
    let found = places(symbolizer, program, range);
    found.iter().any(|place| short(&place.frames) == expected)
}

#[test]
fn separate_debug_files_are_found_by_build_id() {
    let folder = tempfile::tempdir().expect("a folder");
    let debug = folder.path().join("keep.debug");
    let (program, range) = split(folder.path(), &debug, &["-g"]);
    let roots = vec![folder.path().join("debug")];
    assert!(!is_resolved(&mut Symbolizer::with_debug_roots(roots.clone()), &program, range));
    let id = build_id(&program).expect("the linker was asked for one");
    let place = roots[0].join(".build-id").join(&id[..2]);
    fs::create_dir_all(&place).expect("make the folder");
    fs::rename(&debug, place.join(format!("{}.debug", &id[2..]))).expect("move");
    assert!(is_resolved(&mut Symbolizer::with_debug_roots(roots.clone()), &program, range));

    // The program itself may be gone or replaced: the recorded build id is enough.
    let recorded: Vec<u8> = (0..id.len() / 2)
        .map(|byte| u8::from_str_radix(&id[2 * byte..2 * byte + 2], 16).expect("hex"))
        .collect();
    let bias = 0x5555_0000_0000;
    for path in ["/nonexistent/table", "/bin/sh"] {
        let module = Module {
            start: bias,
            end: bias + 0x10000,
            bias,
            build_id: recorded.clone(),
            path: path.into(),
            time: 0,
        };
        let addresses = (range.0..range.0 + range.1).map(|at| (bias + at + 1, 5));
        let table = Symbolizer::with_debug_roots(roots.clone()).resolve(&[module], addresses);
        assert_eq!(table.len() as u64, range.1);
        let lines = |place: &Place| short(&place.frames).first().map(|frame| frame.2);
        assert!(table.places().iter().any(|place| lines(place) == Some(4)), "{path}");
        assert_eq!(table.modules()[0].problem, "");
    }
}

#[test]
fn separate_debug_files_are_found_by_debug_link_and_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let debug = folder.path().join(".debug/table.debug");
    // Without a build id only the link and its checksum are left.
    let (program, range) = split(folder.path(), &debug, &["-g", "-Wl,--build-id=none"]);
    run("objcopy", &[&format!("--add-gnu-debuglink={}", text(&debug)), text(&program)]);
    assert!(is_resolved(&mut Symbolizer::with_debug_roots(vec![]), &program, range));

    let root = folder.path().join("root");
    let below = root.join(folder.path().strip_prefix("/").expect("absolute"));
    fs::create_dir_all(&below).expect("make the folder");
    fs::rename(&debug, below.join("table.debug")).expect("move");
    let roots = vec![root];
    assert!(is_resolved(&mut Symbolizer::with_debug_roots(roots.clone()), &program, range));

    let mut other = fs::read(below.join("table.debug")).expect("read");
    other.push(0);
    fs::write(below.join("table.debug"), other).expect("write");
    assert!(!is_resolved(&mut Symbolizer::with_debug_roots(roots), &program, range));
}

#[inline(never)]
fn the_test_itself(value: u64) -> u64 {
    std::hint::black_box(value) + 1
}

#[test]
fn this_rust_test_finds_itself() {
    let address = the_test_itself as *const () as usize as u64;
    assert_eq!(the_test_itself(1), 2);
    let path = std::env::current_exe().expect("a path");
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    let first = maps.lines().find(|line| line.ends_with(text(&path))).expect("ourselves");
    let bias = first.split('-').next().and_then(|start| u64::from_str_radix(start, 16).ok());
    let bias = bias.expect("an address");
    let path = text(&path).to_owned();
    let (start, end) = (bias, bias + (1 << 30));
    let module = Module { start, end, bias, build_id: Vec::new(), path, time: 0 };
    let table = Symbolizer::new().resolve(&[module], [(address + 1, 0)].into_iter());
    let frame = table.place(0).frames.last().expect("never empty");
    assert!(frame.function.ends_with("::the_test_itself"), "{frame:?}");
    assert!(frame.file.ends_with("names_come_from_real_files.rs"), "{frame:?}");
    assert!(frame.line > 100);
}

#[test]
fn damaged_files_never_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = compile(folder.path(), "cc", C_PROGRAM, "table", &["-g", "-gz=none"]);
    let range = function(&program, "load_table");
    let whole = fs::read(&program).expect("read");
    let damaged = folder.path().join("damaged");
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for round in 0..400 {
        let mut bytes = whole.clone();
        for _ in 0..1 + round % 8 {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            let at = state.wrapping_mul(0x2545_f491_4f6c_dd1d) as usize;
            // Half of the hits on the head, where they hurt most.
            let at = at % if round % 2 == 0 { 4096 } else { bytes.len() };
            bytes[at] = (state >> 40) as u8;
        }
        if round % 5 == 0 {
            bytes.truncate(state as usize % whole.len());
        }
        fs::write(&damaged, &bytes).expect("write");
        let mut symbolizer = Symbolizer::with_debug_roots(vec![]);
        let place = symbolizer.resolve_in_file(&damaged, range.0 + round % range.1);
        assert!(!place.frames.is_empty());
        assert_eq!(place.offset, range.0 + round % range.1);
    }
}
