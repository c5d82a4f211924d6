//! The worker's side of the result: words in shared memory that outlive it.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::result::{Field, Sample, Text, sample_place};
use crate::sys;

/// The result's words. Mapped for the life of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Board {
    words: &'static [AtomicU64],
}

impl Board {
    /// Maps the result file.
    ///
    /// # Errors
    /// What mapping gives.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        let bytes = file.metadata()?.len() as usize;
        let start = sys::map(Some(file), bytes, true)?;
        // SAFETY: the mapping is that long, page aligned and stays for good; other processes
        // only read it. Any bits are an atomic word.
        let words =
            unsafe { std::slice::from_raw_parts(start.cast::<AtomicU64>().as_ptr(), bytes / 8) };
        Ok(Self { words })
    }

    /// Sets a number.
    pub(crate) fn set(self, field: Field, value: u64) {
        self.words[field as usize].store(value, Ordering::Relaxed);
    }

    /// Adds to a number.
    pub(crate) fn add(self, field: Field, value: u64) {
        self.words[field as usize].fetch_add(value, Ordering::Relaxed);
    }

    /// Raises a number to at least `value`.
    pub(crate) fn raise(self, field: Field, value: u64) {
        self.words[field as usize].fetch_max(value, Ordering::Relaxed);
    }

    /// Sets a text, cut to the room there is.
    pub(crate) fn set_text(self, text: Text, value: &str) {
        let (start, count) = text.place();
        let room = value.len().min(8 * count - 1);
        for (index, bytes) in value.as_bytes()[..room].chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            self.words[start + index].store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
    }

    /// Enters sample number `index`.
    pub(crate) fn set_sample(self, index: usize, sample: Sample) {
        let place = sample_place(index);
        for (cell, word) in self.words[place..].iter().zip(sample.to_words()) {
            cell.store(word, Ordering::Relaxed);
        }
        self.raise(Field::Samples, index as u64 + 1);
    }
}
