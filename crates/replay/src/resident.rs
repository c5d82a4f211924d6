//! What a process keeps in memory, as the kernel counts it.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use crate::sys;

/// Reads a process's resident memory again and again, without allocating.
#[derive(Debug)]
pub struct ResidentMeter {
    file: File,
}

/// Resident memory at a moment, in bytes; OS pages shared between processes count in part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// Anonymous memory: heap, stacks, written data of objects; what was swapped out too.
    pub anonymous_bytes: u64,
    /// Shared memory without a file on a disk, which some allocators use.
    pub shared_bytes: u64,
}

impl Resident {
    /// Both together.
    pub fn bytes(self) -> u64 {
        self.anonymous_bytes + self.shared_bytes
    }
}

impl ResidentMeter {
    /// A meter of the process itself.
    ///
    /// # Errors
    /// What opening `/proc/self/smaps_rollup` gives.
    pub fn of_self() -> io::Result<Self> {
        Ok(Self { file: File::open("/proc/self/smaps_rollup")? })
    }

    /// A meter of process `pid`.
    ///
    /// # Errors
    /// What opening `/proc/PID/smaps_rollup` gives.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Ok(Self { file: File::open(format!("/proc/{pid}/smaps_rollup"))? })
    }

    /// Resident memory now; none when the process has gone. The kernel walks the page tables:
    /// some 10 ns for each resident page.
    pub fn read(&self) -> Option<Resident> {
        let mut buffer = [0; 2048];
        let read = sys::read_start(self.file.as_raw_fd(), &mut buffer);
        (read > 0).then(|| parse(&buffer[..read]))
    }
}

fn parse(text: &[u8]) -> Resident {
    let mut anonymous = None;
    let mut fallback_kb = 0;
    let mut swap_kb = 0;
    let mut shared_kb = 0;
    for line in text.split(|&byte| byte == b'\n') {
        if let Some(kb) = value_kb(line, b"Pss_Anon:") {
            anonymous = Some(kb);
        } else if let Some(kb) = value_kb(line, b"Anonymous:") {
            // Kernels before 5.3 do not say the proportional part.
            fallback_kb = kb;
        } else if let Some(kb) = value_kb(line, b"Pss_Shmem:") {
            shared_kb = kb;
        } else if let Some(kb) = value_kb(line, b"SwapPss:") {
            swap_kb = kb;
        } else if let Some(kb) = value_kb(line, b"Private_Hugetlb:") {
            shared_kb += kb;
        }
    }
    let anonymous_bytes = (anonymous.unwrap_or(fallback_kb) + swap_kb) << 10;
    Resident { anonymous_bytes, shared_bytes: shared_kb << 10 }
}

fn value_kb(line: &[u8], name: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(name)?;
    let digits = rest.iter().skip_while(|byte| **byte == b' ');
    let number = digits.take_while(|byte| byte.is_ascii_digit());
    Some(number.fold(0, |sum, &digit| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::{Resident, ResidentMeter, parse};

    #[test]
    fn the_rollup_is_read() {
        let text = b"5-7 ---p 0 0 [rollup]\nRss:   99 kB\nPss:  98 kB\nPss_Anon:   12 kB\n\
                     Pss_File:  1 kB\nPss_Shmem:  3 kB\nAnonymous:  13 kB\nSwapPss:  2 kB\n";
        let expected = Resident { anonymous_bytes: 14 << 10, shared_bytes: 3 << 10 };
        assert_eq!(parse(text), expected);
        let older = b"Rss:   99 kB\nAnonymous:      13 kB\n";
        assert_eq!(parse(older).bytes(), 13 << 10);
    }

    #[test]
    fn memory_that_is_written_shows() {
        let meter = ResidentMeter::of_self().expect("a /proc");
        let before = meter.read().expect("this process runs").anonymous_bytes;
        let memory = std::hint::black_box(vec![1u8; 32 << 20]);
        let after = meter.read().expect("this process runs").anonymous_bytes;
        // Other tests of this process take and give back some of theirs meanwhile.
        assert!(after > before + (16 << 20), "{before} to {after}");
        drop(memory);
    }
}
