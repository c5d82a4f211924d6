//! What a worker writes down when it takes stock: records of four words, one after the other.
//!
//! | tag | bits 8.. of word 0 | word 1 | word 2 | word 3 |
//! |---|---|---|---|---|
//! | `BEGIN` | | number of the sample | resident growth, bytes | OS page, bytes |
//! | `FILE` | | inode of the file that the next runs map; 0 for none | device | |
//! | `PAGES` | | address of the first page | pages | page of the file |
//! | `BLOCK` | call site | address | requested bytes | usable bytes |
//! | `STACK` | | lowest address | bytes | |
//! | `END` | | records since `BEGIN` | | |
#![forbid(unsafe_code)]

/// Words of a record.
pub(crate) const RECORD_WORDS: usize = 4;
/// Bytes of a record.
pub(crate) const RECORD_BYTES: usize = 8 * RECORD_WORDS;
/// Number of the stock of resident pages from before the first operation.
pub(crate) const BEFORE: u64 = u64::MAX;

const BEGIN: u64 = 1;
const FILE: u64 = 2;
const PAGES: u64 = 3;
const BLOCK: u64 = 4;
const STACK: u64 = 5;
const END: u64 = 6;

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// A stock begins.
    Begin { sample: u64, growth_bytes: u64, page_bytes: u64 },
    /// What the runs of pages that follow are of; a file number of 0 for anonymous memory.
    File { inode: u64, device: u64 },
    /// Resident pages in a row.
    Pages { start: u64, pages: u64, file_page: u64 },
    /// A live block, or a mapping of the program.
    Block { site: u32, start: u64, requested_bytes: u64, usable_bytes: u64 },
    /// A replay thread's stack.
    Stack { start: u64, bytes: u64 },
    /// The stock is whole.
    End { records: u64 },
}

impl Record {
    /// As words.
    pub(crate) fn to_words(self) -> [u64; RECORD_WORDS] {
        match self {
            Self::Begin { sample, growth_bytes, page_bytes } => {
                [BEGIN, sample, growth_bytes, page_bytes]
            }
            Self::File { inode, device } => [FILE, inode, device, 0],
            Self::Pages { start, pages, file_page } => [PAGES, start, pages, file_page],
            Self::Block { site, start, requested_bytes, usable_bytes } => {
                [BLOCK | u64::from(site) << 8, start, requested_bytes, usable_bytes]
            }
            Self::Stack { start, bytes } => [STACK, start, bytes, 0],
            Self::End { records } => [END, records, 0, 0],
        }
    }

    /// From bytes as they were written; none for anything else.
    pub(crate) fn from_bytes(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let (words, _) = bytes.as_chunks::<8>();
        let word = |index: usize| u64::from_ne_bytes(words[index]);
        let (head, first, second, third) = (word(0), word(1), word(2), word(3));
        Some(match head & 0xff {
            BEGIN => Self::Begin { sample: first, growth_bytes: second, page_bytes: third },
            FILE => Self::File { inode: first, device: second },
            PAGES => Self::Pages { start: first, pages: second, file_page: third },
            BLOCK => Self::Block {
                site: (head >> 8) as u32,
                start: first,
                requested_bytes: second,
                usable_bytes: third,
            },
            STACK => Self::Stack { start: first, bytes: second },
            END => Self::End { records: first },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{RECORD_BYTES, Record};

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let records = [
            Record::Begin { sample: 7, growth_bytes: 8, page_bytes: 4096 },
            Record::File { inode: 5, device: 6 },
            Record::Pages { start: 0x7000_0000, pages: 3, file_page: 9 },
            Record::Block { site: u32::MAX, start: 1, requested_bytes: 2, usable_bytes: 3 },
            Record::Stack { start: 4096, bytes: 8192 },
            Record::End { records: 12 },
        ];
        for record in records {
            let mut bytes = [0; RECORD_BYTES];
            for (place, word) in bytes.chunks_exact_mut(8).zip(record.to_words()) {
                place.copy_from_slice(&word.to_ne_bytes());
            }
            assert_eq!(Record::from_bytes(&bytes), Some(record));
        }
        assert_eq!(Record::from_bytes(&[0; RECORD_BYTES]), None);
    }
}
