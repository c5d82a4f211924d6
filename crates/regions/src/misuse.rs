//! How a region was misused, in the words and the form of check mode's reports.

use core::fmt;

use crate::pool::HandleError;

/// How a region was misused. Displays as one line, worded as the reports of check mode; see also
/// [`Misuse::kind`] and [`Misuse::json`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misuse {
    /// A block was given back that was free already.
    DoubleFree {
        /// Its address.
        address: usize,
    },
    /// What was given back is no block of this region, or the bytes in front of it were
    /// overwritten.
    NoBlock {
        /// Its address.
        address: usize,
    },
    /// A block was given back with another layout than it was made with.
    WrongLayout {
        /// Its address.
        address: usize,
        /// What it was made with.
        made_bytes: usize,
        /// What it was given back with.
        given_bytes: usize,
    },
    /// Bytes before the block were overwritten.
    Underflow {
        /// The block's address.
        address: usize,
        /// How far before it the first of them is.
        distance_bytes: usize,
    },
    /// Bytes behind the block were overwritten.
    Overflow {
        /// The block's address.
        address: usize,
        /// Its size.
        block_bytes: usize,
        /// How far behind its end the first of them is.
        distance_bytes: usize,
    },
    /// A dead block was written to.
    UseAfterFree {
        /// The block's address.
        address: usize,
        /// Offset of the first byte that was.
        offset_bytes: usize,
    },
    /// Memory was written to between the reset that ended its blocks and its next use.
    UseAfterReset {
        /// The address of the first byte that was.
        address: usize,
    },
    /// A handle was used whose value had been removed.
    StaleHandle,
    /// A handle was given to a pool that is not its own.
    ForeignHandle,
}

impl Misuse {
    /// The kind of error, by the name that check mode has for it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::DoubleFree { .. } => "double-free",
            Self::NoBlock { .. } => "invalid-free",
            Self::WrongLayout { .. } => "wrong-size-free",
            Self::Underflow { .. } => "overwritten-before",
            Self::Overflow { .. } => "overwritten-after",
            Self::UseAfterFree { .. } | Self::UseAfterReset { .. } => "write-after-free",
            Self::StaleHandle => "use-after-free",
            Self::ForeignHandle => "invalid-handle",
        }
    }

    /// The misuse as an object of JSON in one line, with the names that check mode's findings have:
    /// `kind`, `address` of the first byte concerned, `access`, `told` (bytes given back as), and
    /// `block` with `start` and `bytes`, each as far as it is known.
    ///
    /// ```
    /// use heapwright_regions::Misuse;
    ///
    /// let misuse = Misuse::Overflow { address: 0x1000, block_bytes: 40, distance_bytes: 3 };
    /// assert_eq!(
    ///     misuse.json().to_string(),
    ///     r#"{"v":1,"kind":"overwritten-after","address":4139,"access":"write","block":{"start":4096,"bytes":40}}"#,
    /// );
    /// ```
    pub const fn json(&self) -> MisuseJson {
        MisuseJson(*self)
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.kind())?;
        match *self {
            Self::DoubleFree { address } => {
                write!(f, "the block at {address:#x} is freed a second time")
            }
            Self::NoBlock { address } => write!(
                f,
                "{address:#x} is no start of a block of this region, or the bytes before it were \
                 overwritten"
            ),
            Self::WrongLayout { address, made_bytes, given_bytes } => {
                let made = Bytes(made_bytes);
                write!(f, "a block of {made} at {address:#x} is freed as one of {given_bytes}")
            }
            Self::Underflow { address, distance_bytes } => {
                let distance = Bytes(distance_bytes);
                write!(f, "a byte was overwritten {distance} before a block at {address:#x}")
            }
            Self::Overflow { address, block_bytes, distance_bytes } => {
                f.write_str("a byte was overwritten ")?;
                match distance_bytes {
                    0 => f.write_str("right behind")?,
                    distance => write!(f, "{} behind", Bytes(distance))?,
                }
                write!(f, " the end of a block of {} at {address:#x}", Bytes(block_bytes))
            }
            Self::UseAfterFree { address, offset_bytes } => {
                let offset = Bytes(offset_bytes);
                write!(f, "a freed block at {address:#x} was written to, {offset} inside it")
            }
            Self::UseAfterReset { address } => {
                write!(
                    f,
                    "the byte at {address:#x} was written after the reset that ended its block"
                )
            }
            Self::StaleHandle => f.write_str("the handle's value was removed"),
            Self::ForeignHandle => f.write_str("the handle is another pool's"),
        }
    }
}

impl core::error::Error for Misuse {}

impl From<HandleError> for Misuse {
    fn from(error: HandleError) -> Self {
        match error {
            HandleError::Stale => Self::StaleHandle,
            HandleError::Foreign => Self::ForeignHandle,
        }
    }
}

/// A count of bytes in words.
struct Bytes(usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 byte"),
            count => write!(f, "{count} bytes"),
        }
    }
}

/// A [`Misuse`] that displays as JSON. See [`Misuse::json`].
#[derive(Clone, Copy, Debug)]
pub struct MisuseJson(Misuse);

impl fmt::Display for MisuseJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Address, start and size of the block, and whether it was written.
        let (at, start, bytes, is_write) = match self.0 {
            Misuse::DoubleFree { address } => (Some(address), Some(address), None, false),
            Misuse::NoBlock { address } => (Some(address), None, None, false),
            Misuse::WrongLayout { address, made_bytes, .. } => {
                (Some(address), Some(address), Some(made_bytes), false)
            }
            Misuse::Underflow { address, distance_bytes } => {
                (Some(address - distance_bytes), Some(address), None, true)
            }
            Misuse::Overflow { address, block_bytes, distance_bytes } => {
                let end = address + block_bytes;
                (Some(end + distance_bytes), Some(address), Some(block_bytes), true)
            }
            Misuse::UseAfterFree { address, offset_bytes } => {
                (Some(address + offset_bytes), Some(address), None, true)
            }
            Misuse::UseAfterReset { address } => (Some(address), None, None, true),
            Misuse::StaleHandle | Misuse::ForeignHandle => (None, None, None, false),
        };
        write!(f, r#"{{"v":1,"kind":"{}""#, self.0.kind())?;
        if let Some(at) = at {
            write!(f, r#","address":{at}"#)?;
        }
        if is_write {
            f.write_str(r#","access":"write""#)?;
        }
        if let Misuse::WrongLayout { given_bytes, .. } = self.0 {
            write!(f, r#","told":{given_bytes}"#)?;
        }
        if let Some(start) = start {
            write!(f, r#","block":{{"start":{start}"#)?;
            if let Some(bytes) = bytes {
                write!(f, r#","bytes":{bytes}"#)?;
            }
            f.write_str("}")?;
        }
        f.write_str("}")
    }
}

/// Ends the program's work with a misuse as check mode words it.
///
/// # Panics
/// Always.
#[cold]
#[inline(never)]
pub(crate) fn report(misuse: Misuse) -> ! {
    panic!("heapwright: {misuse}")
}
