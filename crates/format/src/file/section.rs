//! Heads of the file and of its sections.

/// First bytes of a recording. The control characters catch transfers as text.
pub const FILE_MAGIC: [u8; 8] = *b"HWREC\r\n\x1a";

/// Version of the file's layout; a reader takes only its own.
pub const FILE_VERSION: u32 = 3;

/// Bytes of the file's head: magic, version, its own length.
pub(super) const FILE_HEAD_BYTES: usize = 16;

/// Bytes of a section's head.
pub(super) const SECTION_HEAD_BYTES: usize = 56;

const SECTION_MAGIC: u32 = u32::from_le_bytes(*b"HWSC");

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum SectionKind {
    /// [`super::SessionInfo`] as JSON.
    Session = 1,
    /// [`super::ProcessInfo`] as JSON.
    Process = 2,
    /// A chunk of events of one thread.
    Events = 3,
    /// [`super::ProcessEndInfo`] as JSON.
    ProcessEnd = 4,
    /// [`super::EndInfo`] as JSON.
    End = 5,
}

impl SectionKind {
    fn from_number(number: u8) -> Option<Self> {
        [Self::Session, Self::Process, Self::Events, Self::ProcessEnd, Self::End]
            .into_iter()
            .find(|&kind| kind as u8 == number)
    }
}

/// Whose events a section holds, and the state at its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventsHead {
    /// Number of the process in the recording.
    pub process: u32,
    /// Number of the thread in the process.
    pub thread: u32,
    /// Kernel's thread id.
    pub thread_id: u32,
    /// Events in the section.
    pub events: u32,
    /// Number of the first node defined in it.
    pub first_node: u32,
    /// Time at its start.
    pub time: u64,
}

/// How a section's bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Codec {
    /// As they are.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
    /// A chunk in its columns: for each its length and its stored length, then each as it
    /// is, when the two lengths are equal, or as a zstd frame.
    Columns = 2,
}

impl Codec {
    fn from_number(number: u8) -> Option<Self> {
        [Self::Raw, Self::Zstd, Self::Columns].into_iter().find(|&codec| codec as u8 == number)
    }
}

/// The head of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SectionHead {
    pub(super) kind: SectionKind,
    pub(super) codec: Codec,
    pub(super) raw_bytes: u32,
    pub(super) stored_bytes: u32,
    pub(super) payload_crc: u32,
    pub(super) events: EventsHead,
}

impl SectionHead {
    pub(super) fn to_bytes(self) -> [u8; SECTION_HEAD_BYTES] {
        let mut bytes = [0; SECTION_HEAD_BYTES];
        let words = [
            SECTION_MAGIC,
            u32::from(self.kind as u8) | u32::from(self.codec as u8) << 8,
            self.raw_bytes,
            self.stored_bytes,
            self.payload_crc,
            self.events.process,
            self.events.thread,
            self.events.thread_id,
            self.events.events,
            self.events.first_node,
            self.events.time as u32,
            (self.events.time >> 32) as u32,
            0,
        ];
        for (word, place) in words.into_iter().zip(bytes.chunks_exact_mut(4)) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes[..SECTION_HEAD_BYTES - 4]);
        bytes[SECTION_HEAD_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Takes a head apart; none when the checksum, the magic or the kind is wrong.
    pub(super) fn from_bytes(bytes: &[u8; SECTION_HEAD_BYTES]) -> Option<Self> {
        let word = |index: usize| {
            let field = bytes[4 * index..4 * index + 4].try_into().expect("four bytes");
            u32::from_le_bytes(field)
        };
        let crc = crc32fast::hash(&bytes[..SECTION_HEAD_BYTES - 4]);
        if word(0) != SECTION_MAGIC || word(SECTION_HEAD_BYTES / 4 - 1) != crc {
            return None;
        }
        Some(Self {
            kind: SectionKind::from_number(word(1) as u8)?,
            codec: Codec::from_number((word(1) >> 8) as u8)?,
            raw_bytes: word(2),
            stored_bytes: word(3),
            payload_crc: word(4),
            events: EventsHead {
                process: word(5),
                thread: word(6),
                thread_id: word(7),
                events: word(8),
                first_node: word(9),
                time: u64::from(word(10)) | u64::from(word(11)) << 32,
            },
        })
    }
}
