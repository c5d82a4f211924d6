//! Code that no unwind table covers is passed by its frame pointer, and where it keeps none, the
//! stack is said to be truncated.
#![cfg(target_arch = "x86_64")]

use std::ffi::c_void;

use heapwright_unwind::{Memo, Registers, StackEnd, Truncation};

/// Calls its first argument with its second, with a frame pointer.
const WITH_FRAME_POINTER: &[u8] = &[
    0x55, // push rbp
    0x48, 0x89, 0xe5, // mov rbp, rsp
    0x48, 0x89, 0xf8, // mov rax, rdi
    0x48, 0x89, 0xf7, // mov rdi, rsi
    0xff, 0xd0, // call rax
    0x5d, // pop rbp
    0xc3, // ret
];
/// The same with a number in the frame pointer register.
const WITHOUT: &[u8] = &[
    0x55, // push rbp
    0xbd, 0x07, 0, 0, 0, // mov ebp, 7
    0x48, 0x89, 0xf8, // mov rax, rdi
    0x48, 0x89, 0xf7, // mov rdi, rsi
    0xff, 0xd0, // call rax
    0x5d, // pop rbp
    0xc3, // ret
];

type Caller = extern "C" fn(extern "C" fn(&mut Seen), &mut Seen);

/// Puts `code` where it can be executed.
fn assemble(code: &[u8]) -> (Caller, std::ops::Range<usize>) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    // SAFETY: a fresh mapping.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    // SAFETY: the page is writable and longer than the code.
    unsafe { page.cast::<u8>().copy_from(code.as_ptr(), code.len()) };
    // SAFETY: the code follows the C calling convention and has this signature.
    let caller = unsafe { std::mem::transmute::<*mut c_void, Caller>(page) };
    (caller, page.addr()..page.addr() + code.len())
}

struct Seen {
    memo: Box<Memo>,
    end: StackEnd,
    depth: usize,
}

#[inline(never)]
extern "C" fn sample(seen: &mut Seen) {
    // SAFETY: this thread's registers; this function goes on running.
    let capture = unsafe { seen.memo.capture(Registers::current()) };
    (seen.end, seen.depth) = (capture.end, capture.depth);
}

fn nothing_seen() -> Seen {
    let end = StackEnd::Truncated(Truncation::NoRule);
    Seen { memo: Box::new(Memo::new()), end, depth: 0 }
}

#[test]
fn with_a_frame_pointer_the_stack_is_whole_while_the_caller_keeps_one_too() {
    let (call, code) = assemble(WITH_FRAME_POINTER);
    let (mut direct, mut through) = (nothing_seen(), nothing_seen());
    for _ in 0..3 {
        sample(&mut direct);
        call(sample, &mut through);
        assert_eq!(direct.end, StackEnd::Complete);
        assert_eq!(through.end, StackEnd::Complete);
        assert_eq!(through.depth, direct.depth + 1);
        let jit = through.memo.frames()[through.depth - 2];
        assert!(code.contains(&(jit.return_address() - 1)));
    }
    assert!(through.memo.guess_count() >= 1);
}

#[test]
fn without_one_it_is_truncated_there() {
    let (call, code) = assemble(WITHOUT);
    let mut seen = nothing_seen();
    for _ in 0..3 {
        call(sample, &mut seen);
        assert_eq!(seen.end, StackEnd::Truncated(Truncation::NoRule));
        assert_eq!(seen.depth, 2);
        assert!(code.contains(&(seen.memo.frames()[0].return_address() - 1)));
    }
}
