//! Settings as text: `HEAPWRIGHT_GC_*` variables and a file of `key = value` lines, with the same
//! keys. The environment wins over the file, the file over the program.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use crate::system::{Fd, OpenFlags, env_var};

use crate::config::{Collector, Config, LogFormat};

/// The longest file of settings in bytes.
const FILE_BYTES_MAX: usize = 4096;
const MEMORY_FILES: [&core::ffi::CStr; 2] =
    [c"/sys/fs/cgroup/memory.max", c"/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// The keys, with the names of their variables.
const KEYS: [(&str, &str); 14] = [
    ("collector", "HEAPWRIGHT_GC_COLLECTOR"),
    ("limit", "HEAPWRIGHT_GC_LIMIT"),
    ("growth", "HEAPWRIGHT_GC_GROWTH"),
    ("trigger", "HEAPWRIGHT_GC_TRIGGER"),
    ("nursery", "HEAPWRIGHT_GC_NURSERY"),
    ("nursery_growth", "HEAPWRIGHT_GC_NURSERY_GROWTH"),
    ("evacuate", "HEAPWRIGHT_GC_EVACUATE"),
    ("slice_us", "HEAPWRIGHT_GC_SLICE_US"),
    ("pause_us", "HEAPWRIGHT_GC_PAUSE_US"),
    ("throughput", "HEAPWRIGHT_GC_THROUGHPUT"),
    ("threads", "HEAPWRIGHT_GC_THREADS"),
    ("log", "HEAPWRIGHT_GC_LOG"),
    ("stress", "HEAPWRIGHT_GC_STRESS"),
    ("verify", "HEAPWRIGHT_GC_VERIFY"),
];

/// A setting that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettingError {
    /// There is no such key.
    Key,
    /// The value of this key is not one of its values.
    Value(&'static str),
    /// A line of the file is not `key = value`; its number, from 1.
    Line(usize),
    /// The file cannot be read, or is longer than 4 KiB.
    File,
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("there is no such setting of the collector"),
            Self::Value(key) => write!(f, "the value of the collector's setting `{key}` is wrong"),
            Self::Line(number) => write!(f, "line {number} of the settings is not `key = value`"),
            Self::File => f.write_str("the file of settings cannot be read"),
        }
    }
}

impl core::error::Error for SettingError {}

impl FromStr for Collector {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        Self::ALL
            .into_iter()
            .find(|collector| collector.name() == text)
            .ok_or(SettingError::Value("collector"))
    }
}

impl Config {
    /// Sets one value from text: bytes with the suffixes `k`, `m`, `g`; `limit` also `container`,
    /// three quarters of what the container or the machine has; percents as numbers.
    ///
    /// ```
    /// use heapwright_gc::{Collector, Config};
    /// let mut config = Config::default();
    /// config.set("collector", "mark_compact")?;
    /// config.set("limit", "256m")?;
    /// assert_eq!((config.collector, config.limit_bytes), (Collector::MarkCompact, 256 << 20));
    /// # Ok::<(), heapwright_gc::SettingError>(())
    /// ```
    ///
    /// # Errors
    /// [`SettingError`]; nothing has changed then.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), SettingError> {
        let Some((key, _)) = KEYS.into_iter().find(|(name, _)| *name == key) else {
            return Err(SettingError::Key);
        };
        let wrong = SettingError::Value(key);
        let number = || value.parse::<usize>().map_err(|_| wrong);
        match key {
            "collector" => self.collector = value.parse()?,
            "limit" if value == "container" => self.limit_bytes = container_bytes() / 4 * 3,
            "limit" => self.limit_bytes = bytes(value).ok_or(wrong)?,
            "growth" => self.growth_percent = number()?,
            "trigger" => self.trigger_bytes_min = bytes(value).ok_or(wrong)?,
            "nursery" => self.nursery_bytes = bytes(value).ok_or(wrong)?,
            "nursery_growth" => self.nursery_growth = number()?,
            "threads" => self.threads = number()?,
            "evacuate" => {
                self.evacuate_percent = value.parse().ok().filter(|of| *of <= 90).ok_or(wrong)?;
            }
            "slice_us" => self.slice_us = number()? as u64,
            "pause_us" => self.pause_target = Some(Duration::from_micros(number()? as u64)),
            "throughput" => {
                let percent = value.parse::<u8>().ok().filter(|percent| *percent < 100);
                self.throughput_percent = Some(percent.ok_or(wrong)?);
            }
            "log" => {
                self.log = match value {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    "timeline" => LogFormat::Timeline,
                    "off" => LogFormat::Off,
                    _ => return Err(wrong),
                }
            }
            "stress" | "verify" => {
                let on = match value {
                    "0" => false,
                    "1" => true,
                    _ => return Err(wrong),
                };
                *(if key == "stress" { &mut self.stress } else { &mut self.verify }) = on;
            }
            _ => return Err(SettingError::Key),
        }
        Ok(())
    }

    /// Takes over the lines of `text`: `key = value`, with `#` before comments.
    ///
    /// # Errors
    /// [`SettingError`] of the first line that is wrong; the lines before it have been taken over.
    pub fn set_lines(&mut self, text: &str) -> Result<(), SettingError> {
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            if !line.is_empty() {
                let (key, value) = line.split_once('=').ok_or(SettingError::Line(index + 1))?;
                self.set(key.trim(), value.trim())?;
            }
        }
        Ok(())
    }

    /// This configuration as the user wants it: with the file that `HEAPWRIGHT_GC_CONFIG` names,
    /// then with the other `HEAPWRIGHT_GC_*` variables. Reads the environment of the process,
    /// which nobody may change meanwhile.
    ///
    /// # Errors
    /// [`SettingError`], of the first that is wrong.
    pub fn with_environment(mut self) -> Result<Self, SettingError> {
        if let Some(path) = env_var("HEAPWRIGHT_GC_CONFIG") {
            let mut buffer = [0; FILE_BYTES_MAX];
            let text = read(path, &mut buffer).ok_or(SettingError::File)?;
            self.set_lines(text)?;
        }
        for (key, variable) in KEYS {
            if let Some(value) = env_var(variable) {
                self.set(key, value.to_str().map_err(|_| SettingError::Value(key))?)?;
            }
        }
        Ok(self)
    }
}

/// The text of a file, if it fits.
fn read<'a>(path: &core::ffi::CStr, buffer: &'a mut [u8]) -> Option<&'a str> {
    let file = Fd::open(path, OpenFlags::Read).ok()?;
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..]).ok()? {
            0 => return core::str::from_utf8(&buffer[..len]).ok(),
            count => len += count,
        }
    }
    None
}

/// The bytes that `text` says: a number, with a suffix for powers of 1024.
fn bytes(text: &str) -> Option<usize> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 10),
        b'm' | b'M' => (&text[..text.len() - 1], 20),
        b'g' | b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<usize>().ok()?.checked_mul(1 << shift)
}

/// Bytes of memory that this container, or the machine, has.
fn container_bytes() -> usize {
    let mut buffer = [0; FILE_BYTES_MAX];
    let limits = MEMORY_FILES.map(|path| read(path, &mut buffer)?.trim().parse::<usize>().ok());
    let machine = read(c"/proc/meminfo", &mut buffer)
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("MemTotal:")))
        .and_then(|text| text.trim().trim_end_matches("kB").trim().parse::<usize>().ok())
        .map_or(4 << 30, |kib| kib << 10);
    limits.into_iter().flatten().fold(machine, usize::min)
}

#[cfg(test)]
mod tests {
    use super::{SettingError, bytes, container_bytes};
    use crate::{Collector, Config};

    #[test]
    fn numbers_have_suffixes() {
        assert_eq!(bytes("12"), Some(12));
        assert_eq!(bytes("12k"), Some(12 << 10));
        assert_eq!(bytes("3G"), Some(3 << 30));
        assert_eq!((bytes(""), bytes("m"), bytes("99999999999g")), (None, None, None));
        assert!(container_bytes() >= 64 << 20);
    }

    #[test]
    fn lines_are_taken_over_and_wrong_ones_named() {
        let mut config = Config::default();
        let text = "collector = incremental # for pauses\n\nslice_us=500\n";
        assert_eq!(config.set_lines(text), Ok(()));
        assert_eq!((config.collector, config.slice_us), (Collector::Incremental, 500));
        assert_eq!(config.set_lines("growth 200"), Err(SettingError::Line(1)));
        assert_eq!(config.set("growth", "much"), Err(SettingError::Value("growth")));
        assert_eq!(config.set("color", "red"), Err(SettingError::Key));
        assert_eq!(config.set("throughput", "100"), Err(SettingError::Value("throughput")));
    }
}
