//! Walking the arguments of a format, to check what its `%s` read and its `%n` write.
//!
//! Source: C23, 7.23.6.1; System V ABI for x86-64, section 3.5.7 (the argument list).

use core::ffi::c_char;

use heapwright_guard::check_write;

use crate::printf::Arguments;
use crate::real::Wide;
use crate::{strings, wide};

/// How long an argument is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Byte,
    Short,
    Int,
    Long,
    LongDouble,
}

/// The characters of a format, narrow or wide.
pub(crate) trait Letters {
    /// Character `index`; 0 at the end.
    ///
    /// # Safety
    /// - No character before it is 0.
    unsafe fn at(&self, index: usize) -> u32;
}

impl Letters for *const c_char {
    unsafe fn at(&self, index: usize) -> u32 {
        // SAFETY: the caller's promise: the string reaches so far.
        unsafe { self.cast::<u8>().wrapping_add(index).read() }.into()
    }
}

impl Letters for *const Wide {
    unsafe fn at(&self, index: usize) -> u32 {
        // SAFETY: as above.
        unsafe { self.wrapping_add(index).read() as u32 }
    }
}

/// A format being read.
struct Reader<L> {
    letters: L,
    index: usize,
}

impl<L: Letters> Reader<L> {
    fn peek(&self) -> char {
        // SAFETY: the index passes no 0: `next` stops there.
        char::from_u32(unsafe { self.letters.at(self.index) }).unwrap_or('?')
    }

    fn next(&mut self) -> char {
        let letter = self.peek();
        if letter != '\0' {
            self.index += 1;
        }
        letter
    }

    fn skip(&mut self, fits: impl Fn(char) -> bool) -> bool {
        let start = self.index;
        while self.peek() != '\0' && fits(self.peek()) {
            self.next();
        }
        self.index > start
    }

    /// A number or `*`.
    fn number(&mut self, arguments: &mut Arguments) -> Option<i64> {
        if self.peek() == '*' {
            self.next();
            return Some(i64::from(arguments.word() as i32));
        }
        let mut value = None;
        while let Some(digit) = self.peek().to_digit(10) {
            self.next();
            value = Some(value.unwrap_or(0i64).saturating_mul(10).saturating_add(digit.into()));
        }
        value
    }

    fn length(&mut self) -> Length {
        let mut length = Length::Int;
        loop {
            length = match self.peek() {
                'h' if length == Length::Short => Length::Byte,
                'h' => Length::Short,
                'l' | 'j' | 'z' | 't' | 'q' | 'Z' => Length::Long,
                'L' => Length::LongDouble,
                _ => return length,
            };
            self.next();
        }
    }
}

/// Checks the strings that a format reads. Stops at what it does not know, such as arguments by
/// position: what follows is left to the guards.
///
/// # Safety
/// - The format is a string, and the arguments are those it asks for.
pub(crate) unsafe fn check<L: Letters>(letters: L, arguments: &Arguments, via: &'static str) {
    let mut arguments = arguments.copy();
    let mut reader = Reader { letters, index: 0 };
    loop {
        match reader.next() {
            '\0' => return,
            '%' => {}
            _ => continue,
        }
        reader.skip(|letter| "-+ #0'I".contains(letter));
        reader.number(&mut arguments); // The width.
        if reader.peek() == '$' {
            return;
        }
        let mut precision = None;
        if reader.peek() == '.' {
            reader.next();
            precision = Some(reader.number(&mut arguments).unwrap_or(0));
        }
        let length = reader.length();
        match reader.next() {
            '%' | 'm' => {}
            'd' | 'i' | 'o' | 'u' | 'x' | 'X' | 'c' | 'C' | 'p' | 'b' | 'B' => {
                arguments.word();
            }
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'a' | 'A' => match length {
                Length::LongDouble => arguments.skip_long_double(),
                _ => arguments.skip_double(),
            },
            letter @ ('s' | 'S') => {
                let is_wide = letter == 'S' || length == Length::Long;
                // A negative one, by `*`, is as none.
                let limit = precision.and_then(|precision| usize::try_from(precision).ok());
                // SAFETY: the caller's promise: a string, or null.
                unsafe { check_string(arguments.word(), is_wide, limit, via) };
            }
            'n' => {
                let bytes = match length {
                    Length::Byte => 1,
                    Length::Short => 2,
                    Length::Int => 4,
                    _ => 8,
                };
                check_write(arguments.word(), bytes, via);
            }
            _ => return,
        }
    }
}

/// # Safety
/// - The address is null or of a string.
unsafe fn check_string(address: usize, is_wide: bool, limit: Option<usize>, via: &'static str) {
    if address == 0 {
        return; // libc prints "(null)".
    }
    let narrow = core::ptr::with_exposed_provenance::<c_char>(address);
    let broad = core::ptr::with_exposed_provenance::<Wide>(address);
    // SAFETY: the caller's promise, in each case.
    match (is_wide, limit) {
        // SAFETY: as above.
        (false, None) => unsafe { strings::checked_len(narrow, via) },
        // SAFETY: as above.
        (false, Some(limit)) => unsafe { strings::checked_nlen(narrow, limit, via) },
        // SAFETY: as above.
        (true, None) => unsafe { wide::checked_len(broad, via) },
        // SAFETY: as above.
        (true, Some(limit)) => unsafe { wide::checked_nlen(broad, limit, via) },
    };
}
