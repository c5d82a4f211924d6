//! How a run is checked: the variable `HEAPWRIGHT_CHECK`, words `key=value` between commas.

use core::ffi::CStr;

use heapwright_os::env_var;
use heapwright_sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::canary::FILL;
use crate::sites::Policy;

/// The variable.
pub const VARIABLE: &str = "HEAPWRIGHT_CHECK";
const PATH_BYTES_MAX: usize = 1024;

/// Blocks of a site that are guarded first, when nothing is said.
const FIRST_COUNT: u32 = 1024;
/// Least share of a site's later blocks, one in so many.
const ONE_IN_MAX: u32 = 16;
const BUDGET: usize = 10;
/// New blocks are filled so far: more would touch pages that the program may never touch.
const FILL_BYTES_MAX: usize = 16 << 10;

/// Options as they stand; the defaults until [`Options::read`].
pub(crate) struct Options {
    path: [AtomicU8; PATH_BYTES_MAX],
    path_bytes: AtomicUsize,
    first_count: AtomicU32,
    one_in_max: AtomicU32,
    /// Most memory, as a multiple of what the program would use.
    budget: AtomicUsize,
    flags: AtomicU32,
    fill: AtomicU32,
    other_fill: AtomicU32,
    /// Sites with a number from the first up to the second get `other_fill`.
    other_low: AtomicU64,
    other_high: AtomicU64,
    fill_bytes_max: AtomicUsize,
    /// The site whose stack is told at the end; 0 for none.
    told_site: AtomicU64,
    /// One block in so many is guarded beside an ordinary heap; 0 for none.
    sample: AtomicU32,
}

/// A switch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Flag {
    /// Blocks begin at their room's beginning.
    Left = 1,
    /// Blocks may end at any byte.
    Exact = 2,
    /// Go on after an access out of bounds.
    KeepGoing = 4,
    /// Search for leaks at the end.
    Leaks = 8,
    /// Tell the number of each site at the end.
    TellSites = 16,
    /// Use no guard markers.
    NoMarkers = 32,
}

impl Options {
    pub(crate) const fn new() -> Self {
        Self {
            path: [const { AtomicU8::new(0) }; PATH_BYTES_MAX],
            path_bytes: AtomicUsize::new(0),
            first_count: AtomicU32::new(FIRST_COUNT),
            one_in_max: AtomicU32::new(ONE_IN_MAX),
            budget: AtomicUsize::new(BUDGET),
            flags: AtomicU32::new(Flag::Leaks as u32),
            fill: AtomicU32::new(FILL as u32),
            other_fill: AtomicU32::new(FILL as u32),
            other_low: AtomicU64::new(0),
            other_high: AtomicU64::new(0),
            fill_bytes_max: AtomicUsize::new(FILL_BYTES_MAX),
            told_site: AtomicU64::new(0),
            sample: AtomicU32::new(0),
        }
    }

    /// Takes the options from the environment, which must be there.
    pub(crate) fn read(&self) {
        if let Some(text) = env_var(VARIABLE) {
            self.parse(text.to_bytes());
        }
    }

    /// Takes the words of `text`. Unknown ones are passed over: the caller may be newer.
    pub(crate) fn parse(&self, text: &[u8]) {
        for word in text.split(|byte| *byte == b',') {
            let mut halves = word.splitn(2, |byte| *byte == b'=');
            let key = halves.next().unwrap_or_default();
            let value = halves.next().unwrap_or_default();
            match key {
                b"log" => self.set_path(value),
                b"side" => self.set(Flag::Left, value == b"left"),
                b"exact" => self.set(Flag::Exact, value == b"1"),
                b"keep" => self.set(Flag::KeepGoing, value == b"1"),
                b"leaks" => self.set(Flag::Leaks, value != b"0"),
                b"sites" => self.set(Flag::TellSites, value == b"1"),
                b"markers" => self.set(Flag::NoMarkers, value == b"0"),
                b"first" => self.first_count.store(number(value).max(1) as u32, Ordering::Relaxed),
                b"share" => self.one_in_max.store(number(value).max(1) as u32, Ordering::Relaxed),
                b"budget" => self.budget.store(number(value).max(2) as usize, Ordering::Relaxed),
                b"fill" => {
                    let byte = hexadecimal(value) as u32;
                    self.fill.store(byte, Ordering::Relaxed);
                    // A run that compares fills needs all of each block filled.
                    self.fill_bytes_max.store(usize::MAX, Ordering::Relaxed);
                }
                b"other" => self.other_fill.store(hexadecimal(value) as u32, Ordering::Relaxed),
                b"low" => self.other_low.store(hexadecimal(value), Ordering::Relaxed),
                b"high" => self.other_high.store(hexadecimal(value), Ordering::Relaxed),
                b"sample" => self.sample.store(number(value) as u32, Ordering::Relaxed),
                b"tell" => self.told_site.store(hexadecimal(value), Ordering::Relaxed),
                _ => {}
            }
        }
    }

    pub(crate) fn set(&self, flag: Flag, on: bool) {
        let flags = self.flags.load(Ordering::Relaxed) & !(flag as u32);
        self.flags.store(if on { flags | flag as u32 } else { flags }, Ordering::Relaxed);
    }

    fn set_path(&self, path: &[u8]) {
        // A path that does not fit is left out: reports go to standard error then.
        if path.len() < PATH_BYTES_MAX {
            for (place, byte) in self.path.iter().zip(path) {
                place.store(*byte, Ordering::Relaxed);
            }
            self.path_bytes.store(path.len(), Ordering::Relaxed);
        }
    }

    /// Calls `open` with the path of the report file, if one was given.
    pub(crate) fn with_path<R>(&self, open: impl FnOnce(&CStr) -> R) -> Option<R> {
        let bytes = self.path_bytes.load(Ordering::Relaxed);
        if bytes == 0 {
            return None;
        }
        let mut path = [0; PATH_BYTES_MAX];
        for (place, byte) in path.iter_mut().zip(&self.path[..bytes]) {
            *place = byte.load(Ordering::Relaxed);
        }
        CStr::from_bytes_until_nul(&path).ok().map(open)
    }

    #[inline(always)]
    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.flags.load(Ordering::Relaxed) & flag as u32 != 0
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy {
            first_count: self.first_count.load(Ordering::Relaxed),
            one_in_max: self.one_in_max.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn budget(&self) -> usize {
        self.budget.load(Ordering::Relaxed)
    }

    /// What new blocks of a site hold, and how far.
    pub(crate) fn fill(&self, site: u64) -> (u8, usize) {
        let low = self.other_low.load(Ordering::Relaxed);
        let other = site >= low && site < self.other_high.load(Ordering::Relaxed);
        let fill = if other { &self.other_fill } else { &self.fill };
        (fill.load(Ordering::Relaxed) as u8, self.fill_bytes_max.load(Ordering::Relaxed))
    }

    pub(crate) fn sample(&self) -> u32 {
        self.sample.load(Ordering::Relaxed)
    }

    pub(crate) fn told_site(&self) -> u64 {
        self.told_site.load(Ordering::Relaxed)
    }
}

/// The decimal number of some digits; others are passed over.
fn number(text: &[u8]) -> u64 {
    text.iter()
        .filter(|byte| byte.is_ascii_digit())
        .fold(0u64, |value, byte| value.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
}

fn hexadecimal(text: &[u8]) -> u64 {
    text.iter()
        .filter_map(|byte| char::from(*byte).to_digit(16))
        .fold(0u64, |value, digit| value << 4 | u64::from(digit))
}

#[cfg(test)]
mod tests {
    use super::{Flag, Options};

    #[test]
    fn words_set_options_and_others_are_passed_over() {
        let options = Options::new();
        assert!(options.has(Flag::Leaks) && !options.has(Flag::Left));
        options.parse(b"side=left,leaks=0,new=thing,log=/a/b,first=7,share=3,budget=0,keep=1");
        assert!(options.has(Flag::Left) && options.has(Flag::KeepGoing));
        assert!(!options.has(Flag::Leaks));
        assert_eq!(options.with_path(|path| path == c"/a/b"), Some(true));
        assert_eq!((options.policy().first_count, options.policy().one_in_max), (7, 3));
        assert_eq!(options.budget(), 2, "the least that works");
    }

    #[test]
    fn a_range_of_sites_gets_the_other_fill() {
        let options = Options::new();
        assert_eq!(options.fill(5).0, 0xbe);
        options.parse(b"fill=0,other=be,low=10,high=20");
        assert_eq!(options.fill(0xf), (0, usize::MAX));
        assert_eq!(options.fill(0x10).0, 0xbe);
        assert_eq!(options.fill(0x20).0, 0);
    }
}
