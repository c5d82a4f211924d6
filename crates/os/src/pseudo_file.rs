//! Small files of /proc and /sys, read into a buffer on the stack.

use core::ffi::CStr;

use crate::{Fd, OpenFlags};

/// Longest part of such a file that is looked at.
pub(crate) const TEXT_BYTES_MAX: usize = 4096;

/// The beginning of the file `path` in `buffer`; none if it cannot be read.
pub(crate) fn read_text<'a>(path: &CStr, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let file = Fd::open(path, OpenFlags::Read).ok()?;
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(_) => return None,
        }
    }
    Some(&buffer[..length])
}

/// The number at the beginning of the file `path`.
pub(crate) fn read_number(path: &CStr) -> Option<u64> {
    let mut buffer = [0; 32];
    let text = read_text(path, &mut buffer)?;
    parse_number(text).map(|(number, _)| number)
}

/// The decimal number that `text` begins with, after blanks, and what follows it.
pub(crate) fn parse_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let start = text.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let text = &text[start..];
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut number = 0u64;
    for byte in &text[..length] {
        number = number.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
    }
    (length > 0).then_some((number, &text[length..]))
}

/// Calls `each` with every number of a list as `0-3,8,10-11`.
pub(crate) fn parse_list(text: &[u8], mut each: impl FnMut(u64)) {
    let mut rest = text;
    while let Some((first, after)) = parse_number(rest) {
        let (last, after) = match after.strip_prefix(b"-").and_then(parse_number) {
            Some((last, after)) => (last, after),
            None => (first, after),
        };
        for number in first..=last {
            each(number);
        }
        rest = after.strip_prefix(b",").unwrap_or(b"");
    }
}

/// A path of at most 127 bytes, put together on the stack.
#[derive(Debug)]
pub(crate) struct PathText {
    bytes: [u8; 128],
    length: usize,
}

impl PathText {
    /// `front`, `number`, `back`; cut where it is too long, which no path of ours is.
    pub(crate) fn numbered(front: &str, number: u64, back: &str) -> Self {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut left = number;
        loop {
            at -= 1;
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        let mut path = Self { bytes: [0; 128], length: 0 };
        path.push(front.as_bytes());
        path.push(&digits[at..]);
        path.push(back.as_bytes());
        path
    }

    fn push(&mut self, text: &[u8]) {
        let room = self.bytes.len() - 1 - self.length;
        let text = &text[..text.len().min(room)];
        self.bytes[self.length..self.length + text.len()].copy_from_slice(text);
        self.length += text.len();
    }

    /// The path.
    pub(crate) fn as_c(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}

#[cfg(test)]
mod tests {
    use super::{PathText, parse_list, parse_number};

    #[test]
    fn lists_and_paths_are_as_the_kernel_writes_them() {
        let mut seen = [false; 12];
        parse_list(b"0-2,8,10-11\n", |number| seen[number as usize] = true);
        let wanted = [0, 1, 2, 8, 10, 11];
        assert!((0..12).all(|index| seen[index] == wanted.contains(&index)));
        parse_list(b"\n", |_| panic!("an empty list has no number"));
        assert_eq!(parse_number(b"  42 kB"), Some((42, &b" kB"[..])));
        assert_eq!(parse_number(b"99999999999999999999"), None, "more than a word");
        let path = PathText::numbered("/sys/node", 105, "/cpulist");
        assert_eq!(path.as_c(), c"/sys/node105/cpulist");
    }
}
