//! How each column of a chunk is packed: what pays differs from column to column, and from program
//! to program.
//!
//! Looking for matches takes most of a compressor's time. It pays in columns that repeat
//! themselves: python's sizes shrink to a sixteenth. In others the codes of single bytes (Huffman's)
//! give nearly as much in a third of the time, as in the heads of a compiler's events; and in some,
//! as in addresses, neither gives anything that a reader would miss. Now and then a chunk is
//! packed in both ways, and the result decides for those that follow.

use std::io;

use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, ParamSwitch, compress_bound};

use crate::chunk::COLUMN_COUNT;

/// Chunks that go by one trial.
const CHUNKS_PER_TRIAL: u8 = 32;
/// Threads whose trials are kept apart; others share.
const THREADS: usize = 16;
/// zstd's level that looks for matches at so few places that it finds none.
const NO_MATCHES: i32 = -131_072;

/// How a column is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As it is.
    Stored,
    /// Codes for single bytes.
    Codes,
    /// Matches with what came before, then codes.
    Matches,
}

impl Way {
    /// The way that pays for `raw` bytes that came to so many by the other two ways.
    fn of(raw: usize, codes: usize, matches: usize) -> Self {
        if codes.min(matches) * 5 >= raw * 4 {
            Self::Stored
        } else if codes * 10 <= matches * 13 {
            Self::Codes
        } else {
            Self::Matches
        }
    }
}

/// What the last trial of a column said, and for how many chunks more.
#[derive(Clone, Copy, Debug)]
struct Choice {
    way: Way,
    left: u8,
}

/// Packs the columns of chunks.
pub(super) struct Packer {
    matches: Compressor<'static>,
    codes: Compressor<'static>,
    choices: [[Choice; COLUMN_COUNT]; THREADS],
    other: Vec<u8>,
}

impl Packer {
    /// A packer that looks for matches as zstd's `level` says.
    ///
    /// # Errors
    /// zstd's, for a level that it does not know.
    pub(super) fn new(level: i32) -> io::Result<Self> {
        let mut codes = Compressor::new(NO_MATCHES)?;
        // The fast levels leave these codes out.
        codes.set_parameter(CParameter::LiteralCompressionMode(ParamSwitch::Enable))?;
        let choice = Choice { way: Way::Matches, left: 0 };
        let choices = [[choice; COLUMN_COUNT]; THREADS];
        Ok(Self { matches: Compressor::new(level)?, codes, choices, other: Vec::new() })
    }

    /// Appends `column` number `index` of a chunk of `thread` (any number that tells threads
    /// apart), packed, to `out`; as it is when that is not longer.
    ///
    /// # Errors
    /// zstd's, when it has no memory.
    pub(super) fn column(
        &mut self,
        (thread, index): (usize, usize),
        column: &[u8],
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let start = out.len();
        let choice = &mut self.choices[thread % THREADS][index];
        if choice.left > 0 {
            choice.left -= 1;
            match choice.way {
                Way::Stored => out.extend_from_slice(column),
                Way::Codes => append(&mut self.codes, column, out)?,
                Way::Matches => append(&mut self.matches, column, out)?,
            }
        } else {
            append(&mut self.matches, column, out)?;
            self.other.clear();
            append(&mut self.codes, column, &mut self.other)?;
            let (matches, codes) = (out.len() - start, self.other.len());
            *choice =
                Choice { way: Way::of(column.len(), codes, matches), left: CHUNKS_PER_TRIAL - 1 };
            if codes < matches {
                out.truncate(start);
                out.extend_from_slice(&self.other);
            }
        }
        if out.len() - start >= column.len() {
            out.truncate(start);
            out.extend_from_slice(column);
        }
        Ok(())
    }

    /// Appends `bytes` as one zstd frame.
    ///
    /// # Errors
    /// As for [`Packer::column`].
    pub(super) fn frame(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        append(&mut self.matches, bytes, out)
    }
}

fn append(compressor: &mut Compressor<'_>, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    out.resize(start + compress_bound(bytes.len()), 0);
    let packed = compressor.compress_to_buffer(bytes, &mut out[start..])?;
    out.truncate(start + packed);
    Ok(())
}

/// The `bytes` bytes that were packed as `packed`; none when that is damaged.
pub(super) fn unpack(packed: &[u8], bytes: usize) -> Option<Vec<u8>> {
    if packed.len() == bytes {
        return Some(packed.to_vec());
    }
    let unpacked = zstd::bulk::decompress(packed, bytes).ok()?;
    (unpacked.len() == bytes).then_some(unpacked)
}

#[cfg(test)]
mod tests {
    use super::{CHUNKS_PER_TRIAL, Packer, Way, unpack};

    /// Bytes without any order: `kinds` of them, as many of each.
    fn noise(kinds: u64, count: usize, mut seed: u64) -> Vec<u8> {
        let step = |seed: &mut u64| {
            *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((*seed >> 33) % kinds) as u8
        };
        (0..count).map(|_| step(&mut seed)).collect()
    }

    #[test]
    fn each_column_goes_the_way_that_pays() {
        let mut packer = Packer::new(-1).expect("zstd knows the level");
        let columns = |seed| [noise(256, 9000, seed), noise(3, 9000, seed), [1, 2, 3].repeat(3000)];
        for chunk in 0..u64::from(CHUNKS_PER_TRIAL) * 3 {
            for (index, column) in columns(chunk).iter().enumerate() {
                let mut out = b"before".to_vec();
                packer.column((3, index), column, &mut out).expect("memory");
                let packed = out.strip_prefix(b"before").expect("appended");
                assert_eq!(unpack(packed, column.len()).as_ref(), Some(column));
                let most = [9000, 3000, 200][index];
                assert!(packed.len() <= most, "column {index}: {}", packed.len());
            }
        }
        let ways = packer.choices[3].map(|choice| choice.way);
        assert_eq!(ways[..3], [Way::Stored, Way::Codes, Way::Matches]);
    }

    #[test]
    fn what_changes_is_tried_again() {
        let mut packer = Packer::new(-1).expect("zstd knows the level");
        let (even, uneven) = ([7; 8000], noise(256, 8000, 1));
        let mut out = Vec::new();
        packer.column((0, 0), &uneven, &mut out).expect("memory");
        for _ in 0..=CHUNKS_PER_TRIAL {
            out.clear();
            packer.column((0, 0), &even, &mut out).expect("memory");
        }
        assert!(out.len() < 100, "{}", out.len());
    }

    #[test]
    fn nothing_stays_nothing_and_damage_is_seen() {
        let mut packer = Packer::new(-1).expect("zstd knows the level");
        let mut out = Vec::new();
        packer.column((0, 0), &[], &mut out).expect("memory");
        assert_eq!((out.len(), unpack(&[], 0)), (0, Some(Vec::new())));
        packer.column((0, 1), &[5; 1000], &mut out).expect("memory");
        assert_eq!(unpack(&out, 999), None);
        assert_eq!(unpack(&out, 1001), None);
        assert_eq!(unpack(&out[1..], 1000), None);
    }
}
