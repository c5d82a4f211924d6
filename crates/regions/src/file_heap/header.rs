//! The first page of a heap's file.
#![forbid(unsafe_code)]

use super::error::{FileHeapError, FilePart};

/// What a heap's file begins with; the line ends are there to be spoilt by a copy as text.
pub(super) const MAGIC: [u8; 8] = *b"HWHEAP\r\n";
/// The format's version.
pub(super) const VERSION: u32 = 1;
/// Reads differently on a machine with the other byte order.
const BYTE_ORDER: u32 = 0x0102_0304;
/// Offsets that a program can find again.
pub(super) const ROOT_COUNT: usize = 8;
/// Words of the header; the rest of its page is zero.
const WORD_COUNT: usize = 20;
/// Bytes of the header, less than a disk sector: it is written whole or not at all.
pub(super) const HEADER_BYTES: usize = WORD_COUNT * size_of::<u64>();
const _: () = assert!(HEADER_BYTES <= 512);

/// The state of the file.
pub(super) const CLOSED: u64 = 0;
/// Likewise.
pub(super) const OPEN: u64 = 1;

/// What the first page says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) application: u64,
    pub(super) state: u64,
    pub(super) close_count: u64,
    pub(super) leaf_bytes: u64,
    pub(super) trim: bool,
    pub(super) data_bytes: u64,
    pub(super) table_offset: u64,
    pub(super) data_offset: u64,
    pub(super) table_checksum: u64,
    /// An offset in the file; 0 for none.
    pub(super) roots: [u64; ROOT_COUNT],
}

impl Header {
    /// As it stands in the file, with its checksum.
    pub(super) fn to_words(self) -> [u64; WORD_COUNT] {
        let mut words = [0; WORD_COUNT];
        words[0] = u64::from_ne_bytes(MAGIC);
        words[1] = u64::from(BYTE_ORDER) << 32 | u64::from(VERSION);
        words[2] = self.application;
        words[3] = self.state;
        words[4] = self.close_count;
        words[5] = self.leaf_bytes;
        words[6] = u64::from(self.trim);
        words[7] = self.data_bytes;
        words[8] = self.table_offset;
        words[9] = self.data_offset;
        words[10] = self.table_checksum;
        words[11..11 + ROOT_COUNT].copy_from_slice(&self.roots);
        words[WORD_COUNT - 1] = checksum(&words[..WORD_COUNT - 1]);
        words
    }

    /// What `words` say, after every check that needs no more of the file.
    pub(super) fn from_words(words: &[u64; WORD_COUNT]) -> Result<Self, FileHeapError> {
        let magic = words[0].to_ne_bytes();
        if magic != MAGIC {
            return Err(FileHeapError::Foreign { magic });
        }
        let (order, version) = ((words[1] >> 32) as u32, words[1] as u32);
        if version == BYTE_ORDER.swap_bytes() || order == VERSION.swap_bytes() {
            return Err(FileHeapError::OtherByteOrder);
        }
        if version != VERSION || order != BYTE_ORDER {
            return Err(FileHeapError::Version { found: version, known: VERSION });
        }
        let (stored, computed) = (words[WORD_COUNT - 1], checksum(&words[..WORD_COUNT - 1]));
        if stored != computed {
            return Err(FileHeapError::Torn { part: FilePart::Header, stored, computed });
        }
        let mut roots = [0; ROOT_COUNT];
        roots.copy_from_slice(&words[11..11 + ROOT_COUNT]);
        Ok(Self {
            application: words[2],
            state: words[3],
            close_count: words[4],
            leaf_bytes: words[5],
            trim: words[6] != 0,
            data_bytes: words[7],
            table_offset: words[8],
            data_offset: words[9],
            table_checksum: words[10],
            roots,
        })
    }

    /// Where the file ends.
    pub(super) fn file_bytes(&self) -> u64 {
        self.data_offset.saturating_add(self.data_bytes)
    }
}

/// A checksum of words against accidents, not against attackers: four lanes, each multiplied and
/// turned a word, so that it runs at the speed of memory.
pub(super) fn checksum(words: &[u64]) -> u64 {
    // Odd, with half of their bits set: the golden ratio's and three other fractions' digits.
    const FACTORS: [u64; 4] = [
        0x9e37_79b9_7f4a_7c15,
        0xc2b2_ae3d_27d4_eb4f,
        0x1656_67b1_9e37_79f9,
        0xd6e8_feb8_6659_fd93,
    ];
    let step =
        |lane: u64, word: u64, factor: u64| (lane ^ word).wrapping_mul(factor).rotate_left(29);
    let mut lanes = FACTORS;
    let mut quads = words.chunks_exact(4);
    for quad in &mut quads {
        for (index, lane) in lanes.iter_mut().enumerate() {
            *lane = step(*lane, quad[index], FACTORS[index]);
        }
    }
    let length = step(0, words.len() as u64, FACTORS[0]);
    let sum = quads.remainder().iter().fold(length, |sum, word| step(sum, *word, FACTORS[1]));
    lanes.iter().zip(FACTORS).fold(sum, |sum, (lane, factor)| step(sum, *lane, factor))
}

#[cfg(test)]
mod tests {
    use super::{BYTE_ORDER, Header, VERSION, checksum};
    use crate::file_heap::error::FileHeapError;

    #[test]
    fn a_header_reads_as_it_was_written() {
        let header =
            Header { application: 7, data_bytes: 1 << 30, roots: [9; 8], ..Default::default() };
        assert_eq!(Header::from_words(&header.to_words()), Ok(header));
    }

    #[test]
    fn every_flipped_bit_is_told() {
        let words = Header { application: 7, ..Default::default() }.to_words();
        for index in 0..words.len() {
            for bit in 0..64 {
                let mut flipped = words;
                flipped[index] ^= 1 << bit;
                assert!(Header::from_words(&flipped).is_err(), "word {index}, bit {bit}");
            }
        }
    }

    #[test]
    fn the_other_byte_order_and_other_versions_have_errors_of_their_own() {
        let words = Header::default().to_words();
        let mut swapped = words;
        swapped[1] = words[1].swap_bytes();
        assert_eq!(Header::from_words(&swapped), Err(FileHeapError::OtherByteOrder));
        let mut newer = words;
        newer[1] = u64::from(BYTE_ORDER) << 32 | 9;
        let told = FileHeapError::Version { found: 9, known: VERSION };
        assert_eq!(Header::from_words(&newer), Err(told));
    }

    #[test]
    fn order_and_length_count() {
        assert_ne!(checksum(&[1, 2, 3, 4, 5]), checksum(&[1, 2, 3, 5, 4]));
        assert_ne!(checksum(&[0; 4]), checksum(&[0; 8]));
        assert_ne!(checksum(&[1, 2, 3, 4]), checksum(&[2, 1, 3, 4]));
    }
}
