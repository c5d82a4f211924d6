//! Programs with musl instead of glibc, under the same objects: conformance, and the life of
//! threads and processes. `cargo xtask test` installs `musl-gcc`.

mod built;

use built::{compile_as, expect_fine, object, run_under};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `source` with musl. The functions that it lacks are the object's; the kernel's own
/// headers are where glibc's are.
fn compile(source: &str, name: &str, object: &Path) -> PathBuf {
    let header = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/musl.h");
    let machine = Command::new("cc").arg("-print-multiarch").output().expect("a C compiler");
    let machine = String::from_utf8(machine.stdout).expect("text");
    let kernel_headers = format!("/usr/include/{}", machine.trim());
    let object = object.to_str().expect("a plain path");
    let flags = [
        &["-Werror=implicit-function-declaration", "-include", header][..],
        &["-idirafter", "/usr/include", "-idirafter", &kernel_headers],
        // What the object needs of libc is glibc's by name, and musl's when it runs.
        &["-Wl,--allow-shlib-undefined,--unresolved-symbols=ignore-in-shared-libs", object],
    ];
    compile_as("musl-gcc", source, name, &flags.concat())
}

#[test]
fn every_c_function_keeps_its_rules_with_musl() {
    for name in ["preload", "compact", "hardened"] {
        let object = object(&format!("libheapwright_{name}.so"));
        let program = compile("conformance.c", &format!("conformance_musl_{name}"), &object);
        let output = run_under(&object, &mut Command::new(program));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {:?}: {text}", output.status);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "conforms\n", "{name}: {text}");
    }
}

#[test]
fn threads_and_forks_come_and_go_with_musl() {
    let object = object("libheapwright_preload.so");
    let program = compile("life/processes.c", "processes_musl", &object);
    for (case, count) in [
        ("fork_under_load", "50"),
        ("raw_fork_under_load", "50"),
        ("fork_from_any_thread", "10"),
        ("generations_of_forks", "20"),
        ("vfork_that_allocates", "20"),
        ("short_threads_leave_nothing_behind", "1000"),
        ("blocks_outlive_their_threads", "5"),
        ("threads_end_after_a_rest", "1"),
    ] {
        let mut command = Command::new(&program);
        expect_fine(&run_under(&object, command.args([case, count, "60"])));
    }
}

#[test]
fn static_programs_have_the_library_and_what_it_needs_of_libc() {
    let archive = object("libheapwright.a");
    let archive = archive.to_str().expect("a plain path");
    let headers = concat!(env!("CARGO_MANIFEST_DIR"), "/../c/include");
    let flags = ["-static", "-std=c11", "-D_GNU_SOURCE", "-I", headers, archive];
    for compiler in ["musl-gcc", "cc"] {
        let program = compile_as(compiler, "library.c", &format!("library_{compiler}"), &flags);
        let output = Command::new(&program).output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{compiler}: {:?}: {text}", output.status);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "conforms\n", "{compiler}: {text}");
        // Names with a version, as objects have them, are null in a static program.
        let symbols = Command::new("nm").arg(&program).output().expect("it starts");
        let symbols = String::from_utf8_lossy(&symbols.stdout);
        let has = |name: &str| symbols.lines().any(|line| line.ends_with(name));
        assert!(has(" D heapwright_os_libc_functions"), "{compiler}");
        assert!(has(" T pthread_key_create") || has(" W pthread_key_create"), "{compiler}");
    }
}
