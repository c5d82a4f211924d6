//! Programs under the built shared objects. `HEAPWRIGHT_LIB_DIR` names the directory that
//! `cargo xtask test` put them into.

mod built;

use built::{compile_as, object, run_under};
use std::path::PathBuf;
use std::process::{Command, Output};

/// Compiles `source` of this directory; each has its own name.
fn compile(compiler: &str, source: &str) -> PathBuf {
    compile_as(compiler, source, &source.replace('.', "_"), &[])
}

fn expect_conforms(output: &Output) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {text}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "conforms\n", "{text}");
    assert_eq!(text, "");
}

#[test]
fn every_c_function_keeps_its_rules() {
    let program = compile("cc", "conformance.c");
    expect_conforms(&run_under(&object("libheapwright_preload.so"), &mut Command::new(program)));
}

#[test]
fn every_cpp_operator_keeps_its_rules() {
    let program = compile("c++", "operators.cpp");
    expect_conforms(&run_under(&object("libheapwright_preload.so"), &mut Command::new(program)));
}

#[test]
fn every_jemalloc_function_keeps_its_rules() {
    let program = compile("cc", "jemalloc.c");
    expect_conforms(&run_under(&object("libheapwright_preload.so"), &mut Command::new(&program)));
    for name in ["libheapwright_hardened.so", "libheapwright_check.so"] {
        expect_conforms(&run_under(&object(name), Command::new(&program).arg("blocks")));
    }
}

#[test]
fn the_rules_hold_with_little_address_space() {
    let program = compile("cc", "conformance.c");
    // In KiB. The smaller one is used up on the way, and blocks become mappings of their own.
    for limit in [4_000_000, 600_000] {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -v $0 && exec $1", &limit.to_string()]).arg(&program);
        expect_conforms(&run_under(&object("libheapwright_preload.so"), &mut command));
    }
}

#[test]
fn programs_run_without_any_region() {
    // In KiB: half of it is less than the smallest region.
    let script = "ulimit -v 100000 && exec perl -e 'my %h; $h{$_ % 999} .= $_ for 1 .. 9999; \
                  print %h + 0'";
    let output =
        run_under(&object("libheapwright_preload.so"), Command::new("sh").args(["-c", script]));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
    assert_eq!(output.stdout, b"999");
}

#[test]
fn common_programs_print_the_same() {
    let object = object("libheapwright_preload.so");
    let commands: [&[&str]; 5] = [
        &["sh", "-c", "ls /usr/bin | sort | head -50"],
        &["perl", "-e", "my %h; $h{$_ * 7 % 5000} = 'x' x ($_ % 99) for 1 .. 50000; print %h + 0"],
        &["sed", "s/a/bb/g", "/etc/passwd"],
        &[
            "awk",
            "BEGIN { for (i = 0; i < 90000; i++) s[i % 999] = s[i % 999] i; print length(s[5]) }",
        ],
        &["/bin/true"],
    ];
    for command in commands {
        let plain = Command::new(command[0]).args(&command[1..]).output().expect("it starts");
        let ours = run_under(&object, Command::new(command[0]).args(&command[1..]));
        assert_eq!(ours.status, plain.status, "{command:?}");
        assert_eq!(ours.stdout, plain.stdout, "{command:?}");
        assert_eq!(ours.stderr, plain.stderr, "{command:?}");
    }
}

#[test]
fn the_object_needs_libc_alone_and_no_new_version_of_it() {
    let object = object("libheapwright_preload.so");
    let dynamic = Command::new("readelf").arg("-dW").arg(&object).output().expect("readelf");
    let dynamic = String::from_utf8_lossy(&dynamic.stdout).into_owned();
    let needed: Vec<_> = dynamic.lines().filter(|line| line.contains("(NEEDED)")).collect();
    assert!(needed.len() == 1 && needed[0].contains("libc.so.6"), "{needed:?}");
    let symbols = Command::new("objdump").arg("-T").arg(&object).output().expect("objdump");
    let symbols = String::from_utf8_lossy(&symbols.stdout).into_owned();
    for line in symbols.lines() {
        if let Some((_, version)) = line.split_once("(GLIBC_2.") {
            let minor: u32 = version
                .split(['.', ')'])
                .next()
                .and_then(|number| number.parse().ok())
                .expect("a number");
            assert!(minor <= 17, "{line}");
        }
    }
    for name in EXPORTED {
        let exported = symbols.lines().any(|line| {
            line.split_whitespace().next_back() == Some(name) && !line.contains("*UND*")
        });
        assert!(exported, "{name}");
    }
}

const EXPORTED: &[&str] = &[
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "free",
    "cfree",
    "free_sized",
    "free_aligned_sized",
    "posix_memalign",
    "aligned_alloc",
    "memalign",
    "valloc",
    "pvalloc",
    "malloc_usable_size",
    "malloc_trim",
    "mallopt",
    "mallinfo",
    "mallinfo2",
    "malloc_stats",
    "malloc_info",
    "__libc_malloc",
    "__libc_calloc",
    "__libc_realloc",
    "__libc_reallocarray",
    "__libc_free",
    "__libc_cfree",
    "__libc_memalign",
    "__libc_valloc",
    "__libc_pvalloc",
    "__posix_memalign",
    "_Znwm",
    "_Znam",
    "_ZnwmRKSt9nothrow_t",
    "_ZnamRKSt9nothrow_t",
    "_ZnwmSt11align_val_t",
    "_ZnamSt11align_val_t",
    "_ZnwmSt11align_val_tRKSt9nothrow_t",
    "_ZnamSt11align_val_tRKSt9nothrow_t",
    "_ZdlPv",
    "_ZdaPv",
    "_ZdlPvm",
    "_ZdaPvm",
    "_ZdlPvSt11align_val_t",
    "_ZdaPvSt11align_val_t",
    "_ZdlPvmSt11align_val_t",
    "_ZdaPvmSt11align_val_t",
    "_ZdlPvRKSt9nothrow_t",
    "_ZdaPvRKSt9nothrow_t",
    "_ZdlPvSt11align_val_tRKSt9nothrow_t",
    "_ZdaPvSt11align_val_tRKSt9nothrow_t",
];
