//! The C functions of `shapes.c`, compiled and loaded when a test first asks for them, and
//! libgcc's unwinder to compare with.

#![allow(dead_code, reason = "each test uses its part")]

use std::ffi::{CString, c_int, c_void};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

pub const SAMPLE: u8 = 1;
pub const THROW: u8 = 2;
pub const FIRST_SHAPE: u8 = 3;
pub const NAMES: &[&str] = &[
    "plain",
    "twin",
    "large",
    "variable",
    "alloca",
    "realigned",
    "realigned_variable",
    "busy",
    "arguments",
    "callback",
    "catch",
    "no_return",
    "signal",
    "trap",
    "other_stack",
    "coroutine",
];

/// The operation that calls the shape with this name.
pub fn shape(name: &str) -> u8 {
    let index = NAMES.iter().position(|&known| known == name).expect("a shape");
    FIRST_SHAPE + index as u8
}

/// Runs a script of so many bytes, calling back with the data given.
pub type RunScript =
    unsafe extern "C" fn(*const u8, usize, unsafe extern "C" fn(*mut c_void), *mut c_void);

/// Compiles `shapes.c` with `options` to a shared object of this name.
pub fn compile(name: &str, options: &[&str]) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shapes/shapes.c");
    let object = std::env::temp_dir().join(format!("heapwright-{}-{name}.so", std::process::id()));
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-g0", "-fno-ipa-icf", "-o"])
        .arg(&object)
        .args(options)
        .arg(source)
        .status()
        .expect("a C compiler");
    assert!(status.success());
    object
}

/// Loads a shared object; returns its handle.
pub fn open(path: &std::path::Path) -> *mut c_void {
    let path = CString::new(path.to_str().expect("UTF-8")).expect("no NUL");
    // SAFETY: a path; the object's constructors are ours.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!handle.is_null());
    handle
}

/// The `run_script` of a loaded object.
pub fn run_script(handle: *mut c_void) -> RunScript {
    // SAFETY: the handle is open and the name is NUL-terminated.
    let symbol = unsafe { libc::dlsym(handle, c"run_script".as_ptr()) };
    assert!(!symbol.is_null());
    // SAFETY: `shapes.c` declares the function so.
    unsafe { std::mem::transmute::<*mut c_void, RunScript>(symbol) }
}

fn library() -> RunScript {
    static LIBRARY: OnceLock<RunScript> = OnceLock::new();
    *LIBRARY.get_or_init(|| {
        let path = compile("shapes", &["-fomit-frame-pointer", "-mavx"]);
        let run = run_script(open(&path));
        std::fs::remove_file(path).expect("was made");
        run
    })
}

/// Runs `script`, calling `sample` wherever it says so.
pub fn play<F: FnMut()>(script: &[u8], mut sample: F) {
    play_with(library(), script, &mut sample);
}

/// [`play`] with the functions of another object.
pub fn play_with<F: FnMut()>(run: RunScript, script: &[u8], sample: &mut F) {
    unsafe extern "C" fn call<F: FnMut()>(data: *mut c_void) {
        // SAFETY: `data` is the closure passed below, which is not in use otherwise.
        let sample = unsafe { &mut *data.cast::<F>() };
        sample();
    }
    let data = std::ptr::from_mut(sample).cast::<c_void>();
    // SAFETY: the script and the closure live through the call.
    unsafe { run(script.as_ptr(), script.len(), call::<F>, data) };
}

unsafe extern "C" {
    fn _Unwind_Backtrace(
        callback: unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int,
        data: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIPInfo(context: *mut c_void, before: *mut c_int) -> usize;
}

/// The addresses that libgcc finds from its caller outward, innermost first; one is added to
/// those of interrupted instructions, as this crate does.
#[inline(never)]
pub fn libgcc_backtrace() -> Vec<usize> {
    unsafe extern "C" fn note(context: *mut c_void, data: *mut c_void) -> c_int {
        let mut before: c_int = 0;
        // SAFETY: the context is libgcc's.
        let address = unsafe { _Unwind_GetIPInfo(context, &raw mut before) };
        // SAFETY: `data` is the vector below.
        let addresses = unsafe { &mut *data.cast::<Vec<usize>>() };
        addresses.push(address + usize::from(before != 0));
        0
    }
    let mut addresses = Vec::with_capacity(256);
    // SAFETY: the callback gets the vector, which lives through the call.
    unsafe { _Unwind_Backtrace(note, (&raw mut addresses).cast()) };
    // The first is this function itself.
    addresses.remove(0);
    if addresses.last() == Some(&0) {
        addresses.pop();
    }
    addresses
}

/// Numbers that look random and are the same for a seed (xorshift64*, Vigna 2016).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}
