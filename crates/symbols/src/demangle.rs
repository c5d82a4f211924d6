//! Linker names to the names in the source.

use cpp_demangle::{DemangleOptions, ParseOptions, Symbol};

/// Longest name that is taken apart: template monsters beyond it are kept as they are.
const MANGLED_BYTES_MAX: usize = 4096;

/// How deep a C++ name may nest; above it the name is kept as it is.
const RECURSION_MAX: u32 = 96;

/// The readable form of a linker name: Rust without the hash, C++ without return type and
/// parameters (file and line tell overloads apart); other names as they are.
///
/// ```
/// assert_eq!(heapwright_symbols::demangle("_ZN3foo3barEi"), "foo::bar");
/// assert_eq!(heapwright_symbols::demangle("_ZN4core3fmt5write17h0123456789abcdefE"),
///     "core::fmt::write");
/// assert_eq!(heapwright_symbols::demangle("malloc"), "malloc");
/// ```
pub fn demangle(name: &str) -> String {
    // Versions of dynamic symbols and clones made by the compiler say nothing to a reader.
    let bare = name.split_once('@').map_or(name, |(bare, _)| bare);
    if bare.len() > MANGLED_BYTES_MAX {
        return bare.to_owned();
    }
    if let Ok(rust) = rustc_demangle::try_demangle(bare) {
        return format!("{rust:#}");
    }
    if bare.starts_with("_Z") {
        let (mangled, _clone) = split_clone(bare);
        let parse = ParseOptions::default().recursion_limit(RECURSION_MAX);
        let options = DemangleOptions::new().no_params().no_return_type();
        let options = options.recursion_limit(RECURSION_MAX);
        if let Ok(symbol) = Symbol::new_with_options(mangled, &parse)
            && let Ok(readable) = symbol.demangle_with_options(&options)
        {
            return readable;
        }
    }
    split_clone(bare).0.to_owned()
}

/// Takes GCC's suffixes of cloned functions (`.part.0`, `.isra.3`, `.cold`) off.
fn split_clone(name: &str) -> (&str, &str) {
    const SUFFIXES: [&str; 6] =
        [".part.", ".isra.", ".constprop.", ".cold", ".lto_priv.", ".llvm."];
    let cut = SUFFIXES.iter().filter_map(|suffix| name.find(suffix)).min();
    name.split_at(cut.unwrap_or(name.len()))
}

#[cfg(test)]
mod tests {
    use super::demangle;

    #[test]
    fn names_of_three_languages_become_readable() {
        assert_eq!(demangle("_Znwm"), "operator new");
        assert_eq!(demangle("_ZdaPv"), "operator delete[]");
        assert_eq!(
            demangle("_ZN9__gnu_cxx13new_allocatorIiE8allocateEmPKv"),
            "__gnu_cxx::new_allocator<int>::allocate"
        );
        assert_eq!(demangle("_RNvNtCs1234_7mycrate3foo3bar"), "mycrate::foo::bar");
        assert_eq!(demangle("malloc@@GLIBC_2.2.5"), "malloc");
        assert_eq!(demangle("resize.part.0.cold"), "resize");
        assert_eq!(demangle("_ZN3foo3barEi.isra.0"), "foo::bar");
    }

    #[test]
    fn what_is_no_mangled_name_comes_back() {
        for name in ["", "_Z", "_Zxyz", "_ZN", "_R", "main", "a.b.c"] {
            assert_eq!(demangle(name), name);
        }
        let long = format!("_Z{}", "N1a".repeat(5000));
        assert_eq!(demangle(&long), long);
    }
}
