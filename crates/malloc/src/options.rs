//! What a user can set: one table of options, set by a static of the program, by the environment,
//! and at run time; the later one wins.
//!
//! A text of options is `name=value` pairs with commas between, as `soft_limit=2G,purger=0`. Sizes
//! are bytes; K, M, G and T multiply by powers of 1024. What cannot be read is ignored in the
//! static and in the environment, where nobody could be told, and refused at run time.
//!
//! Nothing here allocates, locks or panics. `docs/design/heaps.md` has the table, checked by
//! `tests/options.rs`.

use core::fmt;

use heapwright_os::{env_var, has_environment, is_secure};
use heapwright_sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::limits::{Limits, allow_purger, is_purger_allowed, limits, set_limits};
use crate::merge::{MergeState, allow_merging, merge_statistics};
use crate::pressure::{is_watched, set_watched};
use crate::purge::note_work;

/// What kind of value an option has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// Bytes, with or without a unit; `none` is no limit.
    Bytes,
    /// 0 or 1.
    Switch,
}

/// A row of the table of options.
#[derive(Clone, Copy)]
pub struct OptionRow {
    /// Its name in texts and at run time.
    pub name: &'static str,
    /// Its environment variable.
    pub variable: &'static str,
    /// What its value is.
    pub kind: OptionKind,
    /// Whether it can be changed once the allocator is in use.
    pub is_changeable: bool,
    /// What it does, in a sentence.
    pub text: &'static str,
    set: fn(usize),
    get: fn() -> usize,
}

impl fmt::Debug for OptionRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptionRow").field("name", &self.name).field("kind", &self.kind).finish()
    }
}

/// Why an option was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionError {
    /// There is no option of that name.
    Unknown,
    /// The value is not of the option's kind.
    Value,
    /// The option has a meaning at the process's start only.
    TooLate,
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "no option of that name",
            Self::Value => "not a value of that option",
            Self::TooLate => "an option of the process's start",
        })
    }
}

impl core::error::Error for OptionError {}

/// 1 when the region is not to be divided among NUMA nodes.
static IS_NUMA_OFF: AtomicU32 = AtomicU32::new(0);
/// 1 when dense, old memory is to be made of huge pages.
static HUGE_PAGES: AtomicUsize = AtomicUsize::new(0);
/// 1 when the environment was read.
static IS_ENVIRONMENT_READ: AtomicU32 = AtomicU32::new(0);

/// The table of options.
pub static OPTIONS: [OptionRow; 7] = [
    OptionRow {
        name: "soft_limit",
        variable: "HEAPWRIGHT_SOFT_LIMIT",
        kind: OptionKind::Bytes,
        is_changeable: true,
        text: "above this, free memory goes back to the kernel at once",
        set: |bytes| set_limits(Limits { soft_bytes: bytes, ..limits() }),
        get: || limits().soft_bytes,
    },
    OptionRow {
        name: "hard_limit",
        variable: "HEAPWRIGHT_HARD_LIMIT",
        kind: OptionKind::Bytes,
        is_changeable: true,
        text: "above this, allocations fail",
        set: |bytes| set_limits(Limits { hard_bytes: bytes, ..limits() }),
        get: || limits().hard_bytes,
    },
    OptionRow {
        name: "purger",
        variable: "HEAPWRIGHT_PURGER",
        kind: OptionKind::Switch,
        is_changeable: true,
        text: "whether a thread that purges may be started once the process has threads",
        set: |is_on| allow_purger(is_on == 1),
        get: || usize::from(is_purger_allowed()),
    },
    OptionRow {
        name: "numa",
        variable: "HEAPWRIGHT_NUMA",
        kind: OptionKind::Switch,
        is_changeable: false,
        text: "whether each NUMA node has a pool of its own, on machines with several",
        set: |is_on| IS_NUMA_OFF.store(u32::from(is_on == 0), Ordering::Relaxed),
        get: || usize::from(is_numa_wanted()),
    },
    OptionRow {
        name: "huge_pages",
        variable: "HEAPWRIGHT_HUGE_PAGES",
        kind: OptionKind::Switch,
        is_changeable: true,
        text: "whether memory that is dense and old is made of huge pages",
        set: |is_on| {
            HUGE_PAGES.store(is_on, Ordering::Relaxed);
            note_work();
        },
        get: || HUGE_PAGES.load(Ordering::Relaxed),
    },
    OptionRow {
        name: "merge",
        variable: "HEAPWRIGHT_MERGE",
        kind: OptionKind::Switch,
        is_changeable: true,
        text: "whether memory whose live bytes do not overlap shares pages: mode compact",
        set: |is_on| allow_merging(is_on == 1),
        get: || usize::from(merge_statistics().state != MergeState::Off),
    },
    OptionRow {
        name: "pressure",
        variable: "HEAPWRIGHT_PRESSURE",
        kind: OptionKind::Switch,
        is_changeable: true,
        text: "whether more goes back when the control group's memory is short",
        set: |is_on| set_watched(is_on == 1),
        get: || usize::from(is_watched()),
    },
];

/// Whether each NUMA node has a pool of its own.
pub(crate) fn is_numa_wanted() -> bool {
    IS_NUMA_OFF.load(Ordering::Relaxed) == 0
}

/// Whether dense, old memory is to be made of huge pages.
#[inline]
pub(crate) fn are_huge_pages_wanted() -> bool {
    HUGE_PAGES.load(Ordering::Relaxed) == 1
}

/// Sets the option `name` to `value`, as text; for what is allocated from now on. O(1).
///
/// # Errors
/// [`OptionError`]; nothing has changed then.
pub fn set_option(name: &str, value: &str) -> Result<(), OptionError> {
    read_environment();
    let row = OPTIONS.iter().find(|row| row.name == name).ok_or(OptionError::Unknown)?;
    if !row.is_changeable {
        return Err(OptionError::TooLate);
    }
    row.set_text(value.as_bytes())
}

/// The value of the option `name` in force: bytes (`usize::MAX` for none), or 0 or 1. None when
/// there is no such option.
pub fn option(name: &str) -> Option<usize> {
    read_environment();
    OPTIONS.iter().find(|row| row.name == name).map(|row| (row.get)())
}

impl OptionRow {
    fn set_text(&self, text: &[u8]) -> Result<(), OptionError> {
        let value = match self.kind {
            OptionKind::Bytes if text == b"none" => Some(usize::MAX),
            OptionKind::Bytes => parse_bytes(text),
            OptionKind::Switch => match text {
                b"0" => Some(0),
                b"1" => Some(1),
                _ => None,
            },
        };
        (self.set)(value.ok_or(OptionError::Value)?);
        Ok(())
    }
}

/// Reads the options of the program's static and of the environment, once libc has its
/// environment; a program that has more rights than its caller does not listen to the latter.
pub(crate) fn read_environment() {
    if IS_ENVIRONMENT_READ.load(Ordering::Relaxed) == 1 || !has_environment() {
        return;
    }
    IS_ENVIRONMENT_READ.store(1, Ordering::Relaxed);
    apply_text(static_text());
    if is_secure() {
        return;
    }
    for row in &OPTIONS {
        if let Some(value) = env_var(row.variable) {
            // Nobody could be told of a value that cannot be.
            let _ = row.set_text(value.to_bytes());
        }
    }
}

/// Applies a text of options.
fn apply_text(text: &[u8]) {
    for pair in text.split(|byte| *byte == b',') {
        let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { continue };
        let (name, value) = (&pair[..equals], &pair[equals + 1..]);
        if let Some(row) = OPTIONS.iter().find(|row| row.name.as_bytes() == name) {
            // As in `read_environment`.
            let _ = row.set_text(value);
        }
    }
}

/// Longest text of options that is read.
const TEXT_BYTES_MAX: usize = 1024;

core::arch::global_asm!(".weak heapwright_options");

/// The program's own text of options: the bytes before the first zero at the symbol
/// `heapwright_options`, if it defines one.
fn static_text() -> &'static [u8] {
    let place: *const u8;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads an entry of the global offset table, which the linker fills with the symbol's
    // address, or 0 where nobody defines it.
    unsafe {
        core::arch::asm!(
            "mov {place}, qword ptr [rip + heapwright_options@GOTPCREL]",
            place = out(reg) place,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "adrp {place}, :got:heapwright_options",
            "ldr {place}, [{place}, :got_lo12:heapwright_options]",
            place = out(reg) place,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    if place.is_null() {
        return b"";
    }
    let mut bytes = 0;
    // SAFETY: the symbol is a text that ends in a zero byte, by the contract of its definition.
    while bytes < TEXT_BYTES_MAX && unsafe { place.wrapping_add(bytes).read() } != 0 {
        bytes += 1;
    }
    // SAFETY: just read; a static of the program.
    unsafe { core::slice::from_raw_parts(place, bytes) }
}

/// `64M` as bytes; none for what is no size.
fn parse_bytes(text: &[u8]) -> Option<usize> {
    let (digits, shift) = match text.split_last()? {
        (b'K' | b'k', digits) => (digits, 10),
        (b'M' | b'm', digits) => (digits, 20),
        (b'G' | b'g', digits) => (digits, 30),
        (b'T' | b't', digits) => (digits, 40),
        _ => (text, 0),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0usize;
    for digit in digits {
        let digit = (*digit as char).to_digit(10)?;
        value = value.checked_mul(10)?.checked_add(digit as usize)?;
    }
    value.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::{OPTIONS, OptionError, apply_text, option, parse_bytes, set_option};

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(parse_bytes(b"4096"), Some(4096));
        assert_eq!(parse_bytes(b"64M"), Some(64 << 20));
        assert_eq!(parse_bytes(b"2g"), Some(2 << 30));
        for wrong in [&b""[..], b"M", b"12x", b"-1", b"99999999999999999999", b"99999999T"] {
            assert_eq!(parse_bytes(wrong), None);
        }
    }

    #[test]
    fn options_are_set_by_name_and_wrong_ones_are_refused() {
        assert_eq!(option("purger"), Some(1));
        assert_eq!(set_option("purger", "0"), Ok(()));
        assert_eq!(option("purger"), Some(0));
        assert_eq!(set_option("purger", "2"), Err(OptionError::Value));
        assert_eq!(set_option("purger", "1"), Ok(()));
        assert_eq!(set_option("purge", "1"), Err(OptionError::Unknown));
        assert_eq!(set_option("numa", "0"), Err(OptionError::TooLate));
        assert_eq!(option("nothing"), None);
        apply_text(b"soft_limit=3T,purger=x,,=,nonsense=1,hard_limit=none");
        assert_eq!((option("soft_limit"), option("purger")), (Some(3 << 40), Some(1)));
        assert_eq!(set_option("soft_limit", "none"), Ok(()));
    }

    #[test]
    fn each_option_has_a_variable_named_after_it() {
        for row in &OPTIONS {
            let mut expected = "HEAPWRIGHT_".bytes().chain(row.name.bytes());
            assert!(row.variable.bytes().all(|byte| {
                expected.next().is_some_and(|name| name.to_ascii_uppercase() == byte)
            }));
            assert_eq!(expected.next(), None);
        }
    }
}
