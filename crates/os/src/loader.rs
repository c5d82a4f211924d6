//! Whether an address lies in the code of the dynamic loader.

use crate::process::raw_auxv;

/// Whether the instruction at `address` is the dynamic loader's; no in a static program.
///
/// The loader frees the thread-local storage of ended threads while libc holds the lock of its
/// thread stacks (`__nptl_free_stacks`), so who is called from there must not start a thread. Reads
/// the auxiliary vector and the loader's program headers; no system call.
pub fn is_in_loader(address: usize) -> bool {
    let Some(base) = raw_auxv(libc::AT_BASE) else { return false };
    let header: *const libc::Elf64_Ehdr = core::ptr::with_exposed_provenance(base);
    // SAFETY: the kernel has mapped the loader's file header there, and nobody unmaps the loader.
    let header = unsafe { &*header };
    let first = base.wrapping_add(header.e_phoff as usize);
    (0..usize::from(header.e_phnum)).any(|index| {
        let place = first.wrapping_add(index * usize::from(header.e_phentsize));
        let segment: *const libc::Elf64_Phdr = core::ptr::with_exposed_provenance(place);
        // SAFETY: the program headers lie behind the file header in the same mapping, which the
        // loader itself reads there.
        let segment = unsafe { &*segment };
        let is_code = segment.p_type == libc::PT_LOAD && segment.p_flags & libc::PF_X != 0;
        let start = base.wrapping_add(segment.p_vaddr as usize);
        is_code && address.wrapping_sub(start) < segment.p_memsz as usize
    })
}

#[cfg(test)]
mod tests {
    use super::is_in_loader;
    use std::vec::Vec;

    /// Executable mappings by the kernel's list: start, end, file.
    fn code() -> Vec<(usize, usize, std::string::String)> {
        let text = std::fs::read_to_string("/proc/self/maps").expect("is readable");
        let lines =
            text.lines().filter(|line| line.split(' ').nth(1).is_some_and(|is| is.contains('x')));
        lines
            .filter_map(|line| {
                let (start, rest) = line.split_once('-')?;
                let end = rest.split(' ').next()?;
                let number = |text| usize::from_str_radix(text, 16).ok();
                Some((number(start)?, number(end)?, line.rsplit(' ').next()?.into()))
            })
            .collect()
    }

    #[test]
    fn the_loaders_code_is_told_from_all_other_code() {
        let code = code();
        let is_loader =
            |file: &str| file.rsplit('/').next().is_some_and(|name| name.starts_with("ld-"));
        assert!(code.iter().any(|(_, _, file)| is_loader(file)), "{code:?}");
        for (start, end, file) in &code {
            assert_eq!(is_in_loader(start + (end - start) / 2), is_loader(file), "{file}");
        }
        assert!(!is_in_loader(0));
    }
}
