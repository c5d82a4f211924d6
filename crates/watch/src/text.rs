//! Lines of text into a file, and short texts in fixed memory: without allocation.

use core::ffi::CStr;

use heapwright_os::{Errno, Fd, write_all};

/// Bytes collected before they are written.
const BUFFER_BYTES: usize = 4096;

/// A file that lines are written to; the first error stays.
pub(crate) struct TextFile {
    fd: Fd,
    buffer: [u8; BUFFER_BYTES],
    used: usize,
    error: Option<Errno>,
}

impl TextFile {
    pub(crate) fn new(fd: Fd) -> Self {
        Self { fd, buffer: [0; BUFFER_BYTES], used: 0, error: None }
    }

    pub(crate) fn bytes(&mut self, mut bytes: &[u8]) -> &mut Self {
        while !bytes.is_empty() {
            if self.used == BUFFER_BYTES {
                self.flush();
            }
            let now = bytes.len().min(BUFFER_BYTES - self.used);
            self.buffer[self.used..self.used + now].copy_from_slice(&bytes[..now]);
            self.used += now;
            bytes = &bytes[now..];
        }
        self
    }

    /// A space and `number`.
    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        let mut digits = [0; 20];
        let start = decimal(number, &mut digits);
        self.bytes(b" ").bytes(&digits[start..])
    }

    /// A space and `number` in hexadecimal.
    pub(crate) fn hex(&mut self, number: u64) -> &mut Self {
        let mut digits = [0; 16];
        let mut start = digits.len();
        let mut rest = number;
        loop {
            start -= 1;
            digits[start] = b"0123456789abcdef"[(rest & 15) as usize];
            rest >>= 4;
            if rest == 0 {
                break;
            }
        }
        self.bytes(b" ").bytes(&digits[start..])
    }

    pub(crate) fn line_end(&mut self) {
        self.bytes(b"\n");
    }

    fn flush(&mut self) {
        if self.error.is_none() {
            self.error = write_all(&self.fd, &self.buffer[..self.used]).err();
        }
        self.used = 0;
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// The first one that there was.
    pub(crate) fn finish(mut self) -> Result<(), Errno> {
        self.flush();
        self.error.map_or(Ok(()), Err)
    }
}

/// Writes `number` at the end of `digits`; where it starts.
fn decimal(number: u64, digits: &mut [u8; 20]) -> usize {
    let mut start = digits.len();
    let mut rest = number;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return start;
        }
    }
}

/// A path put together, NUL-terminated; too long ones are no paths.
#[derive(Clone, Copy)]
pub(crate) struct PathText {
    bytes: [u8; Self::BYTES_MAX],
    used: usize,
    is_whole: bool,
}

impl PathText {
    const BYTES_MAX: usize = 1024;

    pub(crate) const fn new() -> Self {
        Self { bytes: [0; Self::BYTES_MAX], used: 0, is_whole: true }
    }

    pub(crate) fn push(mut self, text: &[u8]) -> Self {
        // One byte stays for the end.
        if text.contains(&0) || self.used + text.len() >= Self::BYTES_MAX {
            self.is_whole = false;
            return self;
        }
        self.bytes[self.used..self.used + text.len()].copy_from_slice(text);
        self.used += text.len();
        self
    }

    pub(crate) fn push_number(self, number: u64) -> Self {
        let mut digits = [0; 20];
        let start = decimal(number, &mut digits);
        self.push(&digits[start..])
    }

    /// The path; none when it did not fit.
    pub(crate) fn as_c_str(&self) -> Option<&CStr> {
        if !self.is_whole {
            return None;
        }
        CStr::from_bytes_until_nul(&self.bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::PathText;

    #[test]
    fn paths_are_whole_or_none() {
        let path = PathText::new().push(b"/a/").push_number(1203).push(b".page");
        assert_eq!(path.as_c_str(), Some(c"/a/1203.page"));
        assert_eq!(PathText::new().push(&[b'x'; 2000]).as_c_str(), None);
        assert_eq!(PathText::new().push(b"a\0b").as_c_str(), None);
    }
}
