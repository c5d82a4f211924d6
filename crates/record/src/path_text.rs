//! Paths put together and kept without allocation.

use core::ffi::CStr;

use heapwright_sync::atomic::{AtomicU64, Ordering};

/// Bytes of a path with its NUL.
pub(crate) const PATH_BYTES: usize = 512;

/// A text kept in shared words, eight bytes each, ended by NUL.
pub(crate) type StoredText = [AtomicU64; PATH_BYTES / 8];

/// Keeps `text` in `words`, cut to their room.
pub(crate) fn store_text(words: &StoredText, text: &[u8]) {
    let mut bytes = [0u8; PATH_BYTES];
    let length = text.len().min(PATH_BYTES - 1);
    bytes[..length].copy_from_slice(&text[..length]);
    for (word, part) in words.iter().zip(bytes.chunks_exact(8)) {
        let part = part.try_into().expect("eight bytes");
        word.store(u64::from_ne_bytes(part), Ordering::Release);
    }
}

/// A path put together on the stack.
pub(crate) struct PathText {
    bytes: [u8; PATH_BYTES],
    length: usize,
}

impl PathText {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; PATH_BYTES], length: 0 }
    }

    pub(crate) fn push(&mut self, text: &[u8]) {
        let length = text.len().min(PATH_BYTES - 1 - self.length);
        self.bytes[self.length..self.length + length].copy_from_slice(&text[..length]);
        self.length += length;
    }

    pub(crate) fn push_words(&mut self, words: &StoredText) {
        for word in words {
            let part = word.load(Ordering::Acquire).to_ne_bytes();
            let length = part.iter().position(|&byte| byte == 0).unwrap_or(8);
            self.push(&part[..length]);
            if length < 8 {
                return;
            }
        }
    }

    pub(crate) fn push_number(&mut self, mut number: u32) {
        let mut digits = [0u8; 10];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.push(&digits[start..]);
    }

    pub(crate) fn as_c_str(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes).ok()
    }
}
