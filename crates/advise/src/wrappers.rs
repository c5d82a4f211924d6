//! Which functions only pass a request on, by their names.
//!
//! A call site named `operator new` or `xmalloc` helps nobody. The rules are about naming
//! habits, not about programs; wrappers with other names are found by their blocks
//! (`grouping`).

/// Namespaces of containers and allocators: what user code calls, not where it wants memory.
const LIBRARY_PREFIXES: [&str; 10] = [
    "std::",
    "__gnu_cxx::",
    "__cxxabiv1::",
    "alloc::",
    "core::",
    "hashbrown::",
    "allocator_api2::",
    "__rustc::",
    "__rust_",
    "operator new",
];

/// Parts of a bare function name that say "I allocate and return it".
const ALLOCATING_PARTS: [&str; 8] =
    ["malloc", "calloc", "realloc", "zalloc", "memalign", "strdup", "strndup", "memdup"];

/// Sources of the languages' own libraries, which builds with few symbols name only so: their
/// inlined functions have bare names. The Rust compiler maps its sources to these places; C++
/// headers lie under the compiler's include folder.
const TOOLCHAIN_PARTS: [&str; 4] =
    ["/rustc/", "/rust/deps/", "/lib/rustlib/src/rust/library/", "/include/c++/"];

/// Functions where a program or a thread begins, here and in the C library.
const ENTRIES: [&str; 7] =
    ["main", "_start", "start_thread", "clone", "clone3", "__clone", "thread_start"];

/// Whether a program or a thread begins at `name`.
pub(crate) fn is_entry(name: &str) -> bool {
    ENTRIES.contains(&name) || name.starts_with("__libc_start_")
}

/// Whether `file` belongs to a language's own library: containers and allocation, not a place
/// that wants memory.
pub fn is_toolchain_source(file: &str) -> bool {
    TOOLCHAIN_PARTS.iter().any(|part| file.contains(part))
}

/// Whether the function `name` (demangled, without parameters) is an allocation wrapper:
/// library plumbing, or a name that contains `malloc`, `strdup` or the like, or ends in
/// `alloc` or `allocate`.
pub fn is_allocation_wrapper(name: &str) -> bool {
    is_library_plumbing(name) || is_named_allocator(name)
}

/// Whether `name` is a function of a library that user code calls for other things, too.
fn is_library_plumbing(name: &str) -> bool {
    LIBRARY_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || is_library_impl(name)
}

/// Whether `name` is that of a function that allocates and does nothing else, so that what it
/// calls is a part of allocating.
pub(crate) fn is_named_allocator(name: &str) -> bool {
    if is_library_plumbing(name) {
        return false;
    }
    let bare = bare_name(name).to_ascii_lowercase();
    let bare = bare.trim_matches('_');
    ALLOCATING_PARTS.iter().any(|part| bare.contains(part))
        || bare.ends_with("alloc")
        || bare.ends_with("allocate")
        || matches!(bare, "asprintf" | "vasprintf" | "aligned_alloc")
}

/// Rust's `<alloc::vec::Vec<T> as ...>::method`: the type implemented for is the library's.
fn is_library_impl(name: &str) -> bool {
    let Some(implemented) = name.strip_prefix('<') else { return false };
    let implemented = implemented.trim_start_matches(['&', '*', '[', '(']);
    ["alloc::", "core::", "std::", "hashbrown::"]
        .iter()
        .any(|prefix| implemented.starts_with(prefix))
}

/// The last part of a path, without template arguments: `f` of `a::b<c::d>::f<e>`.
fn bare_name(name: &str) -> &str {
    let mut depth = 0;
    let mut end = name.len();
    let mut start = 0;
    for (index, byte) in name.bytes().enumerate().rev() {
        match byte {
            b'>' => depth += 1,
            b'<' => {
                depth -= 1;
                if depth == 0 && name[index..end].ends_with('>') {
                    end = index;
                }
            }
            b':' if depth == 0 && index + 1 < end => {
                start = index + 1;
                break;
            }
            _ => {}
        }
    }
    name.get(start..end).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::{bare_name, is_allocation_wrapper, is_entry, is_toolchain_source};

    #[test]
    fn sources_of_the_languages_libraries_are_known() {
        for file in [
            "/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/alloc/src/raw_vec/mod.rs",
            "/rust/deps/hashbrown-0.16.1/src/raw/mod.rs",
            "/usr/include/c++/12/bits/new_allocator.h",
        ] {
            assert!(is_toolchain_source(file), "{file}");
        }
        for file in ["", "src/main.rs", "/home/me/rustc_like/library/lib.rs", "include/c/x.h"] {
            assert!(!is_toolchain_source(file), "{file}");
        }
    }

    #[test]
    fn entries_of_programs_and_threads_are_known() {
        for name in ["main", "start_thread", "clone3", "__libc_start_call_main"] {
            assert!(is_entry(name), "{name}");
        }
        assert!(!is_entry("main_loop") && !is_entry("restart_thread"));
    }

    #[test]
    fn wrappers_are_known_by_their_names() {
        for name in [
            "malloc",
            "xmalloc",
            "g_malloc0_n",
            "sqlite3MemMalloc",
            "zmalloc",
            "PyObject_Malloc",
            "PyType_GenericAlloc",
            "__strdup",
            "operator new",
            "operator new[]",
            "std::__new_allocator<int>::allocate",
            "__gnu_cxx::new_allocator<char>::allocate",
            "alloc::raw_vec::RawVec<T,A>::grow_one",
            "<alloc::vec::Vec<T> as alloc::vec::spec_from_iter::SpecFromIter<T,I>>::from_iter",
            "__rust_alloc",
            "my::Arena<int>::allocate",
        ] {
            assert!(is_allocation_wrapper(name), "{name}");
        }
    }

    #[test]
    fn functions_with_a_purpose_are_not_wrappers() {
        for name in [
            "main",
            "list_resize",
            "build_decl",
            "shop::Cart::add",
            "<shop::Cart as core::default::Default>::default",
            "Parser<alloc::string::String>::parse",
            "allocation_report",
            "cc1+0x123",
            "operator+",
            "",
            "<<>>",
        ] {
            assert!(!is_allocation_wrapper(name), "{name}");
        }
    }

    #[test]
    fn bare_names_leave_paths_and_arguments() {
        assert_eq!(bare_name("a::b<c::d>::f<e>"), "f");
        assert_eq!(bare_name("f"), "f");
        assert_eq!(bare_name("<a::B as c::D>::e"), "e");
    }
}
