//! A gate on the built object: what it exports, what it needs, what the hot paths execute.
//!
//! Instruction counts are upper limits, at the value measured when they were written; a change
//! that lowers one lowers the limit here.
#![cfg(target_arch = "x86_64")]

mod built;

use built::{compile_as, object, run_under};
use std::collections::BTreeSet;
use std::process::Command;

const OURS: &str = "libheapwright_preload.so";

/// What each call may execute inside the object, the return included, when a block is at hand.
const STEPS_MAX: [(&str, u32); 11] = [
    ("malloc-64", 11),
    ("free-64", 16),
    ("malloc-1000", 11),
    ("free-1000", 16),
    ("malloc-3000", 34),
    ("free-3000", 16),
    ("new-64", 11),
    ("delete-64", 16),
    ("calloc-64", 20),
    ("realloc-same", 54),
    ("usable-size", 34),
];

/// C functions and data. `docs/design/preload.md#symbols` names each.
const C_NAMES: &str = "\
    malloc calloc realloc reallocarray free cfree free_sized free_aligned_sized posix_memalign \
    aligned_alloc memalign valloc pvalloc malloc_usable_size malloc_size malloc_good_size reallocf \
    reallocarr malloc_trim mallopt mallinfo mallinfo2 malloc_stats malloc_info \
    __libc_malloc __libc_calloc __libc_realloc __libc_reallocarray __libc_free __libc_cfree \
    __libc_memalign __libc_valloc __libc_pvalloc __posix_memalign \
    mallocx rallocx xallocx sallocx dallocx sdallocx nallocx mallctl mallctlnametomib \
    mallctlbymib malloc_stats_print malloc_conf malloc_message \
    heapwright_peer_version heapwright_set_option heapwright_option heapwright_walk \
    heapwright_release heapwright_merging";

/// Forms of `operator new` and `operator delete`.
const CPP_NAMES: &str = "\
    _Znwm _Znam _ZnwmRKSt9nothrow_t _ZnamRKSt9nothrow_t _ZnwmSt11align_val_t \
    _ZnamSt11align_val_t _ZnwmSt11align_val_tRKSt9nothrow_t _ZnamSt11align_val_tRKSt9nothrow_t \
    _ZdlPv _ZdaPv _ZdlPvm _ZdaPvm _ZdlPvSt11align_val_t _ZdaPvSt11align_val_t \
    _ZdlPvmSt11align_val_t _ZdaPvmSt11align_val_t _ZdlPvRKSt9nothrow_t _ZdaPvRKSt9nothrow_t \
    _ZdlPvSt11align_val_tRKSt9nothrow_t _ZdaPvSt11align_val_tRKSt9nothrow_t";

/// What `tool` prints of the object.
fn said(tool: &str, flags: &[&str]) -> String {
    let output = Command::new(tool).args(flags).arg(object(OURS)).output();
    let output = output.unwrap_or_else(|error| panic!("{tool}: {error}"));
    assert!(output.status.success(), "{tool}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Name and address of each defined dynamic symbol.
fn exports() -> Vec<(String, u64)> {
    let text = said("nm", &["-D", "--defined-only"]);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    text.lines()
        .map(words)
        .filter_map(|line| match &line[..] {
            [address, _, name] => Some((name.clone(), u64::from_str_radix(address, 16).ok()?)),
            _ => None,
        })
        .collect()
}

/// The instructions of the function at `address`, up to the next symbol.
fn instructions(address: u64) -> Vec<String> {
    let start = format!("--start-address={address:#x}");
    let stop = format!("--stop-address={:#x}", address + 4096);
    let text = said("objdump", &["-d", "--no-show-raw-insn", &start, &stop]);
    let mut labels = 0;
    text.lines()
        .take_while(|line| {
            labels += u32::from(line.ends_with(">:"));
            labels < 2
        })
        .filter_map(|line| line.split_once(":\t").map(|(_, instruction)| instruction.to_owned()))
        .collect()
}

fn address_of(name: &str) -> u64 {
    let found = exports().into_iter().find(|(one, _)| one == name);
    found.unwrap_or_else(|| panic!("{name} is not exported")).1
}

#[test]
fn the_exported_names_are_those_of_the_page_and_no_others() {
    let names = [C_NAMES, CPP_NAMES].iter().flat_map(|names| names.split_whitespace());
    let expected: BTreeSet<String> = names.map(str::to_owned).collect();
    let found: BTreeSet<String> = exports().into_iter().map(|(name, _)| name).collect();
    let missing: Vec<_> = expected.difference(&found).collect();
    let surplus: Vec<_> = found.difference(&expected).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing {missing:?}, surplus {surplus:?}");
    let page = include_str!("../../../docs/design/preload.md");
    for name in C_NAMES.split_whitespace() {
        assert!(page.contains(&format!("`{name}`")), "{name} is not on the page");
    }
}

/// Around a page that is touched the kernel maps up to 64 KiB of a file, and that counts as
/// resident: `crates/preload/cold.ld`.
#[cfg(target_env = "gnu")]
#[test]
fn what_every_program_runs_lies_in_one_window_and_the_object_on_its_own_multiple() {
    let sections = said("readelf", &["-SW"]);
    let warm = sections.lines().find(|line| line.contains(" heapwright_warm ")).expect("a section");
    let numbers = warm.split_once("PROGBITS").expect("its type").1;
    let mut numbers = numbers.split_whitespace().map(|word| u64::from_str_radix(word, 16));
    let mut next = || numbers.next().expect("a column").expect("a number");
    let (address, _, bytes) = (next(), next(), next());
    assert!(address + bytes <= 0x1_0000, "ends at {:#x}", address + bytes);
    let segments = said("readelf", &["-lW"]);
    let first = segments.lines().find(|line| line.trim_start().starts_with("LOAD")).expect("one");
    assert!(first.ends_with(" 0x80000"), "{first}");
}

#[test]
fn thread_local_storage_is_initial_exec() {
    let relocations = said("readelf", &["-rW"]);
    for stray in ["DTPMOD", "DTPOFF", "TLSDESC"] {
        assert!(!relocations.contains(stray), "{stray}: {relocations}");
    }
    assert!(relocations.contains("R_X86_64_TPOFF64"), "no thread-local storage?");
    assert!(!said("nm", &["-D"]).contains("__tls_get_addr"));
}

#[test]
fn no_allocation_function_is_called_through_the_linker() {
    // Nor `memset` after a `malloc` made into a `calloc`: the object would call itself.
    let relocations = said("readelf", &["-rW"]);
    for line in relocations.lines() {
        let name = line.split_whitespace().nth(4).unwrap_or("");
        let name = name.split('@').next().unwrap_or("");
        let is_ours = C_NAMES.split_whitespace().any(|one| one == name);
        // Data is reached through the table of addresses.
        let is_data = ["malloc_conf", "malloc_message", "heapwright_peer_version"].contains(&name);
        assert!(!is_ours || is_data, "{line}");
    }
}

#[test]
fn calloc_calls_nothing_that_is_calloc() {
    let calloc = address_of("calloc");
    let listing = said("objdump", &["-d", "--no-show-raw-insn"]);
    let target = format!("{calloc:x} <");
    for line in listing.lines() {
        let Some((_, instruction)) = line.split_once(":\t") else { continue };
        let mut words = instruction.split_whitespace();
        let transfers = words.next().is_some_and(|word| word.starts_with("call"));
        assert!(!(transfers && instruction.contains(&target)), "{line}");
    }
}

#[test]
fn free_jumps_to_its_slow_paths() {
    // They read from the stack, or the link register, who called it: no thread is started in what
    // the dynamic loader frees.
    for name in ["free", "__libc_free"] {
        let code = instructions(address_of(name));
        assert!(code.iter().any(|instruction| instruction.starts_with("jmp")), "{name}: {code:#?}");
        for instruction in &code {
            let word = instruction.split_whitespace().next().unwrap_or("");
            assert!(!word.starts_with("call") && word != "push", "{name}: {code:#?}");
            assert!(
                !instruction.starts_with("sub    $") || !instruction.ends_with("%rsp"),
                "{name}"
            );
        }
    }
}

#[test]
fn operator_new_has_no_frame_that_an_exception_would_cross() {
    for name in ["_Znwm", "_Znam"] {
        let code = instructions(address_of(name));
        assert!(code.len() > 3, "{name}: {code:?}");
        for instruction in &code {
            let word = instruction.split_whitespace().next().unwrap_or("");
            assert!(!word.starts_with("call") && word != "push", "{name}: {code:#?}");
        }
    }
}

#[test]
fn nothing_is_asked_of_libc_that_may_allocate() {
    let imports: Vec<String> = said("nm", &["-D", "--undefined-only"])
        .lines()
        .filter_map(|line| line.split_whitespace().last().map(str::to_owned))
        .collect();
    const KNOWN: &str = "\
        memcpy memmove memset memcmp bcmp strlen fputs environ abort getauxval __errno_location \
        pthread_key_create pthread_setspecific __register_atfork dl_iterate_phdr pthread_create \
        pthread_attr_init pthread_attr_destroy pthread_attr_setdetachstate \
        _IO_list_lock _IO_list_unlock _IO_list_resetlock \
        pthread_attr_setstacksize pthread_sigmask pthread_detach __libc_current_sigrtmin \
        __cxa_finalize __gmon_start__ _ITM_deregisterTMCloneTable _ITM_registerTMCloneTable \
        _ZSt15get_new_handlerv _ZSt17__throw_bad_allocv \
        pthread_atfork heapwright_options heapwright_os_libc_functions";
    for name in imports {
        let plain = name.split('@').next().unwrap_or("");
        assert!(KNOWN.split_whitespace().any(|known| known == plain), "imports {name}");
    }
}

#[test]
fn hot_paths_execute_no_more_than_they_did() {
    let program = compile_as("cc", "life/steps.c", "steps", &[]);
    let output = run_under(&object(OURS), &mut Command::new(program));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{text}");
    let mut too_many = Vec::new();
    for (name, most) in STEPS_MAX {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let steps: u32 = line.and_then(|count| count.trim().parse().ok()).expect("a count");
        assert!(steps > 2, "{name}: {steps} instructions cannot be a call");
        if steps > most {
            too_many.push(format!("{name}: {steps} instructions, the limit is {most}"));
        }
    }
    assert!(too_many.is_empty(), "{too_many:?}");
}
