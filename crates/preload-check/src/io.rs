//! Buffers that the kernel or a stream fills or empties. What is read into a buffer is checked
//! by what arrived: a program may well offer less room than it claims, as long as it suffices.

use core::ffi::{c_char, c_int, c_void};

use heapwright_guard::{check_read, check_write};

use crate::real;

/// Checks what arrived. The kernel refuses a buffer that is out of reach, without a signal: then
/// nothing arrived, and what was asked for is checked.
#[inline]
fn check_arrived(to: *mut u8, asked: usize, result: isize, via: &'static str) -> isize {
    match usize::try_from(result) {
        Ok(arrived) => check_write(to.addr(), arrived.min(asked), via),
        Err(_) if heapwright_os::last_error_is_fault() => check_write(to.addr(), asked, via),
        Err(_) => {}
    }
    result
}

macro_rules! readers {
    ($($name:ident($($more:ident: $type:ty),*);)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(fd: c_int, to: *mut u8, bytes: usize $(, $more: $type)*) -> isize {
            // SAFETY: the caller's promise.
            let result = unsafe { real::$name()(fd, to, bytes $(, $more)*) };
            check_arrived(to, bytes, result, stringify!($name))
        }
    )*};
}

readers! {
    read();
    pread(offset: i64);
    pread64(offset: i64);
    recv(flags: c_int);
    recvfrom(flags: c_int, address: *mut u8, length: *mut u32);
}

macro_rules! writers {
    ($($name:ident($($more:ident: $type:ty),*);)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            fd: c_int, from: *const u8, bytes: usize $(, $more: $type)*) -> isize {
            check_read(from.addr(), bytes, stringify!($name));
            // SAFETY: the caller's promise.
            unsafe { real::$name()(fd, from, bytes $(, $more)*) }
        }
    )*};
}

writers! {
    write();
    pwrite(offset: i64);
    pwrite64(offset: i64);
    send(flags: c_int);
    sendto(flags: c_int, address: *const u8, length: u32);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fread(
    to: *mut u8,
    unit_bytes: usize,
    count: usize,
    stream: *mut c_void,
) -> usize {
    // SAFETY: the caller's promise.
    let read = unsafe { real::fread()(to, unit_bytes, count, stream) };
    check_write(to.addr(), unit_bytes.saturating_mul(read), "fread");
    read
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fwrite(
    from: *const u8,
    unit_bytes: usize,
    count: usize,
    stream: *mut c_void,
) -> usize {
    check_read(from.addr(), unit_bytes.saturating_mul(count), "fwrite");
    // SAFETY: the caller's promise.
    unsafe { real::fwrite()(from, unit_bytes, count, stream) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fgets(to: *mut c_char, bytes: c_int, stream: *mut c_void) -> *mut c_char {
    // SAFETY: the caller's promise.
    let read = unsafe { real::fgets()(to, bytes, stream) };
    if !read.is_null() {
        // SAFETY: a string was just put there.
        let length = unsafe { real::strlen()(to) };
        check_write(to.addr(), length + 1, "fgets");
    }
    read
}
