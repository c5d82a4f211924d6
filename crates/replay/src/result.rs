//! What a worker tells its parent: an array of words in shared memory, read when the worker
//! has gone, however it went; and how far it is, read while it runs.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Words before the samples.
const SAMPLES_AT: usize = 64 + 2 * TEXT_WORDS;
/// Words of a text.
const TEXT_WORDS: usize = 32;
/// Words of a sample.
const SAMPLE_WORDS: usize = 8;

/// Numbers of the first words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Field {
    /// 0 before the first operation, 1 while replaying, 2 when done.
    State = 0,
    /// Epochs done.
    Completed = 1,
    /// CPU of the whole replay, waiting included.
    CpuNs = 2,
    /// CPU spent waiting for other threads.
    WaitNs = 3,
    /// Wall time.
    WallNs = 4,
    /// Page faults without a disk.
    FaultsMinor = 5,
    /// Page faults with a disk.
    FaultsMajor = 6,
    /// Threads that were started, the main one counted.
    Threads = 7,
    /// Most of them alive at once.
    ThreadsMax = 8,
    /// Highest live bytes seen at the end of an epoch (memory runs).
    PeakLiveBytes = 9,
    /// Whether the allocator tells usable sizes.
    KnowsUsable = 10,
    /// Resident bytes before the first operation.
    BaselineBytes = 11,
    /// Samples taken.
    Samples = 12,
    /// Highest resident growth read, at samples and before large losses.
    PeakBytes = 13,
    /// CPU that the program's own mappings cost.
    MappingNs = 14,
    /// Bytes that a call site's regions held at most, over all threads.
    RegionBytes = 15,
    /// CPU of the replay in the kernel, as the kernel estimates it.
    KernelNs = 16,
}

/// A state of the worker: it replays.
pub(crate) const STATE_RUNNING: u64 = 1;
/// A state of the worker: it is done.
pub(crate) const STATE_DONE: u64 = 2;

/// The two texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Text {
    /// Version of the allocator.
    Version = 0,
    /// Why the worker gave up.
    Failure = 1,
}

impl Text {
    /// First word and number of words.
    pub(crate) fn place(self) -> (usize, usize) {
        (64 + self as usize * TEXT_WORDS, TEXT_WORDS)
    }
}

/// A sample of a memory run, all earlier events done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) resident_bytes: u64,
    pub(crate) live_blocks: i64,
    pub(crate) live_bytes: i64,
    pub(crate) usable_bytes: i64,
    pub(crate) untouched_bytes: i64,
    pub(crate) mapped_bytes: i64,
    pub(crate) threads: u64,
}

impl Sample {
    /// As words.
    pub(crate) fn to_words(self) -> [u64; SAMPLE_WORDS] {
        [
            self.resident_bytes,
            self.live_blocks as u64,
            self.live_bytes as u64,
            self.usable_bytes as u64,
            self.untouched_bytes as u64,
            self.mapped_bytes as u64,
            self.threads,
            0,
        ]
    }

    fn from_words(words: &[u64]) -> Self {
        Self {
            resident_bytes: words[0],
            live_blocks: words[1] as i64,
            live_bytes: words[2] as i64,
            usable_bytes: words[3] as i64,
            untouched_bytes: words[4] as i64,
            mapped_bytes: words[5] as i64,
            threads: words[6],
        }
    }
}

/// First word of sample `index`.
pub(crate) fn sample_place(index: usize) -> usize {
    SAMPLES_AT + index * SAMPLE_WORDS
}

/// Bytes of a result with room for `samples` samples.
pub(crate) fn result_bytes(samples: usize) -> usize {
    8 * sample_place(samples)
}

/// A result as the parent reads it.
#[derive(Clone, Debug)]
pub(crate) struct ResultWords {
    words: Vec<u64>,
}

impl ResultWords {
    /// Reads all of `file`.
    pub(crate) fn read(file: &File) -> io::Result<Self> {
        let mut bytes = vec![0; file.metadata()?.len() as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let words = bytes.chunks_exact(8);
        let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
        Ok(Self { words: words.map(word).collect() })
    }

    /// Epochs done so far, without reading the rest.
    pub(crate) fn completed(file: &File) -> u64 {
        let mut bytes = [0; 8];
        let read = file.read_exact_at(&mut bytes, 8 * Field::Completed as u64);
        read.map_or(0, |()| u64::from_ne_bytes(bytes))
    }

    /// A number.
    pub(crate) fn get(&self, field: Field) -> u64 {
        self.words[field as usize]
    }

    /// A text.
    pub(crate) fn text(&self, text: Text) -> String {
        let (start, count) = text.place();
        let bytes = self.words[start..start + count].iter().flat_map(|word| word.to_ne_bytes());
        let bytes: Vec<u8> = bytes.take_while(|&byte| byte != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The samples taken.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let room = (self.words.len() - SAMPLES_AT) / SAMPLE_WORDS;
        let count = (self.get(Field::Samples) as usize).min(room);
        let words = &self.words[SAMPLES_AT..];
        words.chunks_exact(SAMPLE_WORDS).take(count).map(Sample::from_words).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{Field, ResultWords, Sample, Text, result_bytes, sample_place};

    #[test]
    fn a_result_is_read_as_written() {
        let mut words = vec![0u64; result_bytes(3) / 8];
        words[Field::CpuNs as usize] = 5;
        words[Field::Samples as usize] = 1;
        words[Text::Version.place().0] = u64::from_ne_bytes(*b"1.2\0\0\0\0\0");
        let sample = Sample { resident_bytes: 9, live_bytes: -3, ..Sample::default() };
        let place = sample_place(0);
        words[place..place + 8].copy_from_slice(&sample.to_words());
        let mut file = tempfile::tempfile().expect("a temporary file");
        for word in &words {
            file.write_all(&word.to_ne_bytes()).expect("write");
        }
        let result = ResultWords::read(&file).expect("read");
        assert_eq!(result.get(Field::CpuNs), 5);
        assert_eq!(result.text(Text::Version), "1.2");
        assert_eq!(result.text(Text::Failure), "");
        assert_eq!(result.samples(), [sample]);
    }
}
