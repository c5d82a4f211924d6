//! What the environment asks for.
//!
//! - `HEAPWRIGHT_WATCH=1`: the statistics page, and a thread that keeps it fresh and answers
//!   readers; `HEAPWRIGHT_WATCH=passive`: no thread, so an idle process does neither.
//! - `HEAPWRIGHT_PROFILE=FILE`: samples from the start; written to FILE at exit, `%p` in it being
//!   the process id. `HEAPWRIGHT_PROFILE=1`: samples, written on request only.
//! - `HEAPWRIGHT_PROFILE_RATE=512K`: mean bytes between samples.
//! - `HEAPWRIGHT_PROFILE_SIGNAL=12`: this signal has the profile written (and turns sampling on
//!   when it is off).
//!
//! Programs with more rights than their caller ignore all of it.

use heapwright_os::{env_var, has_environment, is_secure};

use crate::page_file::directory_by_environment;
use crate::text::PathText;

/// The wishes.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) is_watched: bool,
    /// Whether no thread may be started.
    pub(crate) is_passive: bool,
    pub(crate) is_profiled: bool,
    /// Where the profile goes at exit; none for nowhere.
    pub(crate) profile_path: Option<PathText>,
    /// Directory of the page and of profiles on request.
    pub(crate) directory: PathText,
    pub(crate) rate_bytes: u32,
    pub(crate) signal: Option<i32>,
}

impl Settings {
    /// Of this process's environment; none when it asks for nothing.
    pub(crate) fn read(process: u32) -> Option<Self> {
        if !has_environment() {
            return None;
        }
        let text_of = |name| env_var(name).map(core::ffi::CStr::to_bytes);
        let is_on = |text: &[u8]| !text.is_empty() && text != b"0";
        let watch = text_of("HEAPWRIGHT_WATCH").filter(|text| is_on(text));
        let is_watched = watch.is_some();
        let profile = text_of("HEAPWRIGHT_PROFILE").filter(|text| is_on(text));
        let signal = text_of("HEAPWRIGHT_PROFILE_SIGNAL").and_then(parse_number);
        if (!is_watched && profile.is_none() && signal.is_none()) || is_secure() {
            return None;
        }
        Some(Self {
            is_watched,
            is_passive: watch == Some(b"passive"),
            is_profiled: profile.is_some(),
            profile_path: profile.filter(|text| *text != b"1").map(|text| expand(text, process)),
            directory: directory_by_environment(),
            rate_bytes: text_of("HEAPWRIGHT_PROFILE_RATE").and_then(parse_bytes).unwrap_or(0),
            signal: signal.filter(|signal| (1..=64).contains(signal)).map(|signal| signal as i32),
        })
    }
}

/// `text` with `%p` replaced by the process id.
fn expand(text: &[u8], process: u32) -> PathText {
    let mut path = PathText::new();
    let mut rest = text;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"%p") {
        path = path.push(&rest[..at]).push_number(u64::from(process));
        rest = &rest[at + 2..];
    }
    path.push(rest)
}

fn parse_number(text: &[u8]) -> Option<u32> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

/// `512K` as bytes.
fn parse_bytes(text: &[u8]) -> Option<u32> {
    let (digits, shift) = match text.split_last()? {
        (b'K' | b'k', digits) => (digits, 10),
        (b'M' | b'm', digits) => (digits, 20),
        _ => (text, 0),
    };
    parse_number(digits)?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::{expand, parse_bytes};

    #[test]
    fn texts_are_read() {
        assert_eq!(parse_bytes(b"512K"), Some(512 << 10));
        assert_eq!(parse_bytes(b"1m"), Some(1 << 20));
        assert_eq!(parse_bytes(b"4096M"), None);
        assert_eq!(parse_bytes(b"K"), None);
        assert_eq!(expand(b"a.%p.%p", 71).as_c_str(), Some(c"a.71.71"));
        assert_eq!(expand(b"100%", 71).as_c_str(), Some(c"100%"));
    }
}
