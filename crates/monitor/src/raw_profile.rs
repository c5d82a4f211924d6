//! Reading the profile that a process wrote.

use std::fmt;
use std::path::Path;
use std::str::SplitAsciiWhitespace;

use heapwright_format::merge::Module;

/// Sums of one stack and size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampledSite {
    /// Index into [`RawProfile::stacks`].
    pub stack: usize,
    /// Usable bytes of each block.
    pub usable_bytes: u64,
    /// Mean bytes between samples.
    pub rate_bytes: u64,
    /// Samples taken.
    pub taken: u64,
    /// Samples freed since.
    pub freed: u64,
    /// What the program asked for, over all samples.
    pub requested_bytes: u64,
}

impl SampledSite {
    /// The probability with which such a block is sampled, in (0, 1].
    pub fn probability(&self) -> f64 {
        if self.rate_bytes == 0 {
            return 1.0;
        }
        -(-(self.usable_bytes as f64) / self.rate_bytes as f64).exp_m1()
    }
}

/// A sample that lives.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LiveSample {
    /// Index into [`RawProfile::sites`].
    pub site: usize,
    /// How long it has lived, in nanoseconds.
    pub age_ns: u64,
    /// Its share, by live bytes, of the free bytes on its pages.
    pub pinned_bytes: f64,
    /// Bytes of its pages on which nothing else lives.
    pub sole_bytes: u64,
}

/// A profile as its process wrote it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawProfile {
    /// The process.
    pub pid: u32,
    /// How long was sampled, in nanoseconds.
    pub duration_ns: u64,
    /// Samples that could not be kept.
    pub lost: u64,
    /// Free bytes on pages with live small blocks; exact.
    pub pinned_bytes: u64,
    /// Where code lay.
    pub modules: Vec<Module>,
    /// Return addresses, innermost first.
    pub stacks: Vec<Vec<u64>>,
    /// Sums.
    pub sites: Vec<SampledSite>,
    /// Live samples.
    pub live: Vec<LiveSample>,
}

/// Why a file is no profile.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProfileError {
    /// It does not begin as one.
    NoProfile,
    /// Another version.
    OtherVersion(String),
    /// A line is not as it should be; counted from 1.
    Line(usize),
    /// The end is missing: it was being written, or was cut off.
    CutOff,
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProfile => f.write_str("is no profile of Heapwright's allocator"),
            Self::OtherVersion(version) => {
                write!(f, "is a profile of version {version}, this reads version 1")
            }
            Self::Line(line) => write!(f, "line {line} is damaged"),
            Self::CutOff => f.write_str("is cut off; have it written again"),
        }
    }
}

impl std::error::Error for ProfileError {}

const HEAD: &str = "heapwright-profile ";

/// The fields of a line.
struct Fields<'a> {
    rest: SplitAsciiWhitespace<'a>,
    line: usize,
}

impl Fields<'_> {
    fn number(&mut self) -> Result<u64, ProfileError> {
        let parsed = self.rest.next().and_then(|text| text.parse().ok());
        parsed.ok_or(ProfileError::Line(self.line))
    }

    fn hex(&mut self) -> Result<u64, ProfileError> {
        let parsed = self.rest.next().and_then(|text| u64::from_str_radix(text, 16).ok());
        parsed.ok_or(ProfileError::Line(self.line))
    }
}

impl RawProfile {
    /// Whether the file at `path` begins as a profile does.
    pub fn is_one(path: &Path) -> bool {
        use std::io::Read;
        let mut head = [0; HEAD.len()];
        std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok()
            && head == HEAD.as_bytes()
    }

    /// Reads a profile's text.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let mut lines = text.lines().enumerate();
        let first = lines.next().map_or("", |(_, line)| line);
        match first.strip_prefix(HEAD) {
            None => return Err(ProfileError::NoProfile),
            Some("1") => {}
            Some(other) => return Err(ProfileError::OtherVersion(other.to_owned())),
        }
        let mut profile = Self::default();
        let mut is_whole = false;
        for (index, line) in lines {
            let mut rest = line.split_ascii_whitespace();
            let kind = rest.next().unwrap_or_default();
            let mut fields = Fields { rest, line: index + 1 };
            match kind {
                "process" => profile.pid = fields.number()? as u32,
                "time" => {
                    let started = fields.number()?;
                    profile.duration_ns = fields.number()?.saturating_sub(started);
                }
                "lost" => profile.lost = fields.number()?,
                "pinned" => profile.pinned_bytes = fields.number()?,
                "module" => profile.modules.push(module(fields, line)?),
                "stack" => {
                    let number = fields.number()? as usize;
                    let addresses = fields.rest.map(|text| u64::from_str_radix(text, 16));
                    let stack = addresses.collect::<Result<_, _>>();
                    if number != profile.stacks.len() {
                        return Err(ProfileError::Line(index + 1));
                    }
                    profile.stacks.push(stack.map_err(|_| ProfileError::Line(index + 1))?);
                }
                "site" => profile.enter_site(fields)?,
                "block" => profile.enter_block(fields)?,
                "end" => is_whole = true,
                // A newer writer may say more.
                _ => {}
            }
        }
        if is_whole { Ok(profile) } else { Err(ProfileError::CutOff) }
    }

    fn enter_site(&mut self, mut fields: Fields<'_>) -> Result<(), ProfileError> {
        let number = fields.number()? as usize;
        let site = SampledSite {
            stack: fields.number()? as usize,
            usable_bytes: fields.number()?,
            rate_bytes: fields.number()?,
            taken: fields.number()?,
            freed: fields.number()?,
            requested_bytes: fields.number()?,
        };
        if number != self.sites.len() || site.stack >= self.stacks.len() || site.usable_bytes == 0 {
            return Err(ProfileError::Line(fields.line));
        }
        self.sites.push(site);
        Ok(())
    }

    fn enter_block(&mut self, mut fields: Fields<'_>) -> Result<(), ProfileError> {
        let sample = LiveSample {
            site: fields.number()? as usize,
            age_ns: fields.number()?,
            pinned_bytes: fields.number()? as f64 / 1000.0,
            sole_bytes: fields.number()?,
        };
        if sample.site >= self.sites.len() {
            return Err(ProfileError::Line(fields.line));
        }
        self.live.push(sample);
        Ok(())
    }
}

fn module(mut fields: Fields<'_>, line: &str) -> Result<Module, ProfileError> {
    let (start, end, bias) = (fields.hex()?, fields.hex()?, fields.hex()?);
    let build_id = fields.rest.next().unwrap_or("-");
    let bytes = build_id.as_bytes().chunks_exact(2);
    let bytes =
        bytes.map_while(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    // A path may hold spaces: it is what follows the fifth one.
    let path = line.splitn(6, ' ').nth(5).unwrap_or_default().to_owned();
    Ok(Module { start, end, bias, build_id: bytes.collect(), path, time: 0 })
}

#[cfg(test)]
mod tests {
    use super::{ProfileError, RawProfile};

    const TEXT: &str = "heapwright-profile 1\nprocess 7\ntime 100 1100\nlost 0\npinned 4000\n\
        module 1000 2000 1000 0aff /a b/c\nstack 0 1010 1020\nsite 0 0 64 524288 3 2 150\n\
        block 0 5 1500 4096\nend\n";

    #[test]
    fn a_profile_is_read() {
        let profile = RawProfile::parse(TEXT).expect("whole");
        assert_eq!((profile.pid, profile.duration_ns, profile.pinned_bytes), (7, 1000, 4000));
        assert_eq!(profile.modules[0].path, "/a b/c");
        assert_eq!(profile.modules[0].build_id, [0x0a, 0xff]);
        assert_eq!(profile.stacks, [[0x1010, 0x1020]]);
        assert_eq!(profile.live[0].pinned_bytes, 1.5);
        let probability = profile.sites[0].probability();
        assert!((probability - 64.0 / 524_288.0).abs() < 1e-8);
    }

    #[test]
    fn what_is_no_profile_says_so() {
        assert_eq!(RawProfile::parse("hello\n"), Err(ProfileError::NoProfile));
        let other = TEXT.replacen("profile 1", "profile 9", 1);
        assert_eq!(RawProfile::parse(&other), Err(ProfileError::OtherVersion("9".into())));
        assert_eq!(RawProfile::parse(&TEXT.replace("end\n", "")), Err(ProfileError::CutOff));
        assert_eq!(
            RawProfile::parse(&TEXT.replace("block 0", "block 1")),
            Err(ProfileError::Line(9))
        );
        assert_eq!(
            RawProfile::parse(&TEXT.replace("site 0 0", "site 0 x")),
            Err(ProfileError::Line(8))
        );
        for length in 0..TEXT.len() {
            // Never a panic, wherever it ends.
            let _ = RawProfile::parse(&TEXT[..length]);
        }
    }
}
