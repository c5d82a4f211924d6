//! Which node this thread runs on, in nanoseconds.
//!
//! The kernel's own library in every process (the vDSO) has `getcpu`, which reads a CPU register;
//! it is found by its name in the symbol table of that object. Where there is none, the system
//! call answers.
//! Source: the kernel's Documentation/ABI/stable/vdso; ELF-64 object file format, 1.5.

use core::ffi::CStr;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::symbol_table::{PT_DYNAMIC, PT_LOAD, SymbolTable, read};
use crate::syscall::syscall3;

/// The CPU and the node that a thread was running on: it may be another one already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Number of the CPU; may exceed the count of CPUs, since numbers have gaps.
    pub cpu: u32,
    /// Number of its NUMA node.
    pub node: u32,
}

/// `getcpu` of the vDSO: CPU, node, and a pointer that is not used any more; 0 for success.
type GetCpu = unsafe extern "C" fn(*mut u32, *mut u32, *mut u8) -> i32;

/// Address of the vDSO's function; 0 before it was looked for, 1 if there is none.
static GET_CPU: AtomicUsize = AtomicUsize::new(0);
const NOT_LOOKED_FOR: usize = 0;
const NOT_THERE: usize = 1;

/// Where the calling thread runs now: about 3 ns, or a system call where the kernel has no vDSO.
#[inline]
pub fn current_place() -> Place {
    match GET_CPU.load(Ordering::Relaxed) {
        NOT_LOOKED_FOR => look_and_ask(),
        NOT_THERE => ask_kernel(),
        address => ask_vdso(address),
    }
}

/// The NUMA node where the calling thread runs now; as [`current_place`].
#[inline]
pub fn current_node() -> u32 {
    current_place().node
}

/// Whether [`current_place`] goes without a system call here.
pub fn has_fast_current_place() -> bool {
    current_place();
    GET_CPU.load(Ordering::Relaxed) > NOT_THERE
}

#[inline]
fn ask_vdso(address: usize) -> Place {
    let mut place = Place::default();
    let function = core::ptr::with_exposed_provenance::<()>(address);
    // SAFETY: the address of the vDSO's function of this name, whose signature is the kernel's
    // promise; the vDSO is never unmapped by us.
    let get_cpu = unsafe { core::mem::transmute::<*const (), GetCpu>(function) };
    // SAFETY: it writes two words, which are ours.
    unsafe { get_cpu(&raw mut place.cpu, &raw mut place.node, core::ptr::null_mut()) };
    place
}

#[cold]
fn look_and_ask() -> Place {
    let address = find_get_cpu().unwrap_or(NOT_THERE);
    GET_CPU.store(address, Ordering::Relaxed);
    if address == NOT_THERE { ask_kernel() } else { ask_vdso(address) }
}

#[cold]
fn ask_kernel() -> Place {
    let mut place = Place::default();
    let cpu = (&raw mut place.cpu).expose_provenance();
    let node = (&raw mut place.node).expose_provenance();
    // SAFETY: the kernel writes two words, which are ours.
    let answer = unsafe { syscall3(libc::SYS_getcpu, cpu, node, 0) };
    debug_assert!(answer.is_ok(), "every kernel since 2.6.19 has the call");
    place
}

#[cfg(target_arch = "x86_64")]
const NAME: &CStr = c"__vdso_getcpu";
#[cfg(not(target_arch = "x86_64"))]
const NAME: &CStr = c"__kernel_getcpu";

/// Size of a program header.
const HEADER_BYTES: usize = 56;

/// Where the dynamic section and the load address of the object at `base` are.
fn dynamic_of(base: usize) -> Option<(usize, usize)> {
    // SAFETY: the header of an ELF object that the kernel mapped, here and below: its fields are
    // where the format has them.
    let headers = base + unsafe { read::<u64>(base + 32) } as usize;
    // SAFETY: as above.
    let count = unsafe { read::<u16>(base + 56) };
    let (mut dynamic, mut load) = (None, None);
    for header in (0..count as usize).map(|index| headers + index * HEADER_BYTES) {
        // SAFETY: a program header of the table.
        let kind = unsafe { read::<u32>(header) };
        // SAFETY: as above.
        let offset = unsafe { read::<u64>(header + 8) } as usize;
        // SAFETY: as above.
        let address = unsafe { read::<u64>(header + 16) } as usize;
        match kind {
            PT_LOAD if load.is_none() => {
                load = Some(base.wrapping_add(offset).wrapping_sub(address));
            }
            PT_DYNAMIC => dynamic = Some(base + offset),
            _ => {}
        }
    }
    Some((dynamic?, load?))
}

fn find_get_cpu() -> Option<usize> {
    let base = crate::raw_auxv(libc::AT_SYSINFO_EHDR)?;
    let (dynamic, load) = dynamic_of(base)?;
    // SAFETY: the kernel's object, which is never unmapped by us.
    let symbol = unsafe { SymbolTable::of(load, dynamic) }?.find(NAME)?;
    // SAFETY: as above.
    Some(unsafe { symbol.address() }.expose_provenance())
}

#[cfg(test)]
mod tests {
    use super::{Place, ask_kernel, current_place, has_fast_current_place};

    #[test]
    fn the_fast_way_agrees_with_the_kernel() {
        // The thread may be moved between two questions; not every time.
        let same = (0..1000).filter(|_| current_place() == ask_kernel()).count();
        assert!(same > 0, "{:?} and {:?}", current_place(), ask_kernel());
        let here: Place = current_place();
        assert!(here.node < 1024);
        // Every Linux of x86_64 has a vDSO; valgrind takes it away.
        let _ = has_fast_current_place();
    }
}
