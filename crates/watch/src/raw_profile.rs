//! The profile as a file: lines of text that `heapwright profile` turns into pprof, elsewhere and
//! later. Symbols are not looked up here.
//!
//! ```text
//! heapwright-profile 1
//! process PID
//! time STARTED_NS WRITTEN_NS            (monotonic clock; the file itself has the date)
//! lost SAMPLES
//! pinned BYTES                           exact: free bytes on pages with live small blocks
//! module START END BIAS BUILD_ID PATH    (hex; build id `-` when there is none)
//! stack NUMBER ADDRESS...                (hex, return addresses, innermost first)
//! site NUMBER STACK USABLE_BYTES RATE_BYTES TAKEN FREED REQUESTED_BYTES
//! block SITE AGE_NS PINNED_MILLIBYTES SOLE_BYTES
//! end
//! ```

use core::ffi::CStr;
use core::fmt;

use heapwright_malloc::{pinned_by, pinned_in_total, trim};
use heapwright_os::{Errno, Fd, OpenFlags, monotonic_ns, process_id, rename, unlink};

use crate::profile::{self, Profile};
use crate::text::{PathText, TextFile};

/// Why the profile could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// The path is too long.
    Path,
    /// The samples are in use by this very thread.
    Busy,
    /// The kernel's reason.
    Refused(Errno),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("the path is too long"),
            Self::Busy => f.write_str("the samples are in use by this thread"),
            Self::Refused(errno) => write!(f, "{errno}"),
        }
    }
}

impl core::error::Error for WriteError {}

impl WriteError {
    /// The kernel's number for it.
    pub(crate) fn number(self) -> u64 {
        let errno = match self {
            Self::Path => Errno::EINVAL,
            Self::Busy => Errno::EAGAIN,
            Self::Refused(errno) => errno,
        };
        errno.0 as u64
    }
}

/// Writes the profile to `path`, whole or not at all: a new file beside it takes its name.
///
/// Gives free memory back to the kernel first, since what a block pins is what cannot go; then
/// some 100 ns a stack, site and live sample. Other threads' samples wait meanwhile.
///
/// # Errors
/// [`WriteError`]; the old file is as it was.
pub fn write_profile(path: &CStr) -> Result<(), WriteError> {
    let fresh = PathText::new().push(path.to_bytes()).push(b".new");
    let fresh = fresh.as_c_str().ok_or(WriteError::Path)?;
    trim();
    let _ = unlink(fresh);
    let fd = Fd::open(fresh, OpenFlags::CreateNew).map_err(WriteError::Refused)?;
    let mut file = TextFile::new(fd);
    {
        let Some(profile) = profile::lock() else {
            let _ = unlink(fresh);
            return Err(WriteError::Busy);
        };
        write(&profile, &mut file);
    }
    let done = file.finish().and_then(|()| rename(fresh, path));
    if done.is_err() {
        let _ = unlink(fresh);
    }
    done.map_err(WriteError::Refused)
}

fn write(profile: &Profile, file: &mut TextFile) {
    let now_ns = monotonic_ns();
    file.bytes(b"heapwright-profile 1\nprocess").number(u64::from(process_id())).line_end();
    file.bytes(b"time").number(profile.started_ns).number(now_ns).line_end();
    file.bytes(b"lost").number(profile.lost).line_end();
    file.bytes(b"pinned").number(pinned_in_total()).line_end();
    heapwright_unwind::visit_modules(|module| {
        file.bytes(b"module");
        file.hex(module.start as u64).hex(module.end as u64).hex(module.bias as u64).bytes(b" ");
        if module.build_id.is_empty() {
            file.bytes(b"-");
        }
        for byte in module.build_id {
            let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
            file.bytes(&[digit(byte >> 4), digit(byte & 15)]);
        }
        file.bytes(b" ");
        // A line is a line, whatever a path holds.
        for byte in module.path {
            file.bytes(&[if *byte == b'\n' { b'?' } else { *byte }]);
        }
        file.line_end();
    });
    for number in 0..profile.stacks.len() {
        file.bytes(b"stack").number(number as u64);
        for frame in profile.stacks.frames(number) {
            file.hex(*frame as u64);
        }
        file.line_end();
    }
    for (number, site) in profile.sites.as_slice().iter().enumerate() {
        file.bytes(b"site").number(number as u64).number(u64::from(site.stack));
        file.number(site.usable_bytes).number(site.rate_bytes);
        file.number(site.taken).number(site.freed).number(site.requested_bytes).line_end();
    }
    for block in profile.live.iter() {
        let usable = profile.sites.as_slice().get(block.site as usize);
        let bytes = usable.map_or(0, |site| site.usable_bytes as usize);
        let pinned = pinned_by(block.place, bytes);
        file.bytes(b"block").number(u64::from(block.site));
        file.number(now_ns.saturating_sub(block.born_ns));
        file.number((pinned.bytes * 1000.0) as u64).number(pinned.sole_bytes).line_end();
    }
    file.bytes(b"end\n");
}
