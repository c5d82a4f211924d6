//! The symbols of the process's objects, in the order in which the loader searches.
//!
//! They are read from the objects' own tables, not asked of `dlsym`: so nothing is allocated, and
//! what the loader has to tell the program (`dlerror`) stays as it is. Both matter to an allocator
//! that looks for the functions behind it: the call that made it look may come from inside of
//! another allocator, or with that text as its argument.

use core::ffi::{CStr, c_int, c_void};
use core::ops::ControlFlow;

use crate::symbol_table::{PT_DYNAMIC, PT_LOAD, Symbol, SymbolTable};

/// The address of `name` in the objects loaded after the one that this crate is linked into;
/// null when none of them has it, and for a variable of each thread. Allocates nothing; takes the loader's lock of the list of
/// objects, which nobody holds while allocating.
pub fn next_symbol(name: &CStr) -> *const () {
    search(name, true)
}

/// The address of `name` in the first object of the process that has it, in the order of
/// loading; null when none has it. As [`next_symbol`].
pub fn any_symbol(name: &CStr) -> *const () {
    search(name, false)
}

fn search(name: &CStr, only_after_ours: bool) -> *const () {
    let mut passed = !only_after_ours;
    let mut found = None;
    each_object(&mut |object| {
        if passed {
            found = object.find(name);
        }
        passed |= object.is_ours();
        if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    // SAFETY: functions of objects that everybody in the process relies on, which are relocated
    // before any code runs; one that is being unloaded is nobody's to look for.
    found.map_or(core::ptr::null(), |symbol| unsafe { symbol.address() })
}

/// An object that the loader has mapped.
struct Object<'a> {
    load: usize,
    headers: &'a [libc::Elf64_Phdr],
}

impl Object<'_> {
    fn holds(&self, address: usize) -> bool {
        self.headers.iter().filter(|header| header.p_type == PT_LOAD).any(|header| {
            let start = self.load.wrapping_add(header.p_vaddr as usize);
            address.wrapping_sub(start) < header.p_memsz as usize
        })
    }

    /// Whether this crate's code is in it.
    fn is_ours(&self) -> bool {
        self.holds((next_symbol as *const ()).addr())
    }

    fn find(&self, name: &CStr) -> Option<Symbol> {
        let dynamic = self.headers.iter().find(|header| header.p_type == PT_DYNAMIC)?;
        // The kernel's own object has functions of libc's names; the loader passes it over.
        if crate::raw_auxv(libc::AT_SYSINFO_EHDR).is_some_and(|kernels| self.holds(kernels)) {
            return None;
        }
        let dynamic = self.load.wrapping_add(dynamic.p_vaddr as usize);
        // SAFETY: the object is loaded at `load`, and stays so while the loader shows it.
        unsafe { SymbolTable::of(self.load, dynamic) }?.find(name)
    }
}

type Visitor<'a> = &'a mut dyn FnMut(&Object<'_>) -> ControlFlow<()>;

/// Shows each object of the process, in the order of loading, until the visitor has enough.
fn each_object(mut visit: Visitor<'_>) {
    unsafe extern "C" fn shown(
        info: *mut libc::dl_phdr_info,
        _bytes: usize,
        visit: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader's description of an object, valid during the call.
        let info = unsafe { &*info };
        if info.dlpi_phdr.is_null() {
            return 0;
        }
        // SAFETY: the object's program headers, as many as it says.
        let headers =
            unsafe { core::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        // SAFETY: the pointer handed over below, which nobody else uses meanwhile.
        let visit = unsafe { &mut *visit.cast::<Visitor<'_>>() };
        let object = Object { load: info.dlpi_addr as usize, headers };
        c_int::from(visit(&object).is_break())
    }
    // SAFETY: the visitor outlives the call, and is of the type that the function expects.
    unsafe { libc::dl_iterate_phdr(Some(shown), (&raw mut visit).cast()) };
}

#[cfg(test)]
mod tests {
    use core::ffi::{CStr, c_char, c_void};

    use super::{any_symbol, next_symbol};

    fn by_loader(name: &CStr) -> *const () {
        // SAFETY: the name is NUL-terminated; the handle always exists.
        let address: *mut c_void = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        address.cast_const().cast()
    }

    #[test]
    fn symbols_are_where_the_loader_says() {
        // Plain, chosen by the CPU, data, of several versions, of the loader itself.
        for name in [
            c"getpid",
            c"strlen",
            c"memcpy",
            c"stdout",
            c"realpath",
            c"pthread_cond_wait",
            c"_dl_catch_error",
            c"dl_iterate_phdr",
            c"heapwright_no_such_symbol",
        ] {
            assert_eq!(any_symbol(name), by_loader(name), "{name:?}");
            assert_eq!(next_symbol(name), by_loader(name), "{name:?}");
        }
        assert!(any_symbol(c"errno").is_null(), "each thread has its own");
    }

    #[test]
    fn what_the_loader_has_to_tell_stays_as_it_is() {
        assert!(by_loader(c"heapwright_no_such_symbol").is_null());
        assert!(any_symbol(c"heapwright_nor_this_one").is_null());
        assert!(!next_symbol(c"getpid").is_null());
        // SAFETY: takes nothing.
        let text: *mut c_char = unsafe { libc::dlerror() };
        assert!(!text.is_null());
        // SAFETY: the loader's text, until its next call.
        let text = unsafe { CStr::from_ptr(text) };
        assert!(text.to_string_lossy().contains("heapwright_no_such_symbol"), "{text:?}");
    }
}
