//! The control group that this process's memory is charged to: how much it may use, how much it
//! uses, and how much its members wait for memory. Both versions of the kernel's interface.
//!
//! Nothing is kept open, since programs close descriptors that they do not know.
//! Source: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst, accounting/psi.rst.

use core::ffi::CStr;

use crate::pseudo_file::{parse_number, read_text};

/// Longest path of a group's file.
const PATH_BYTES_MAX: usize = 320;
/// A limit from here on is how version 1 says that there is none.
const LIMIT_BYTES_MAX: u64 = 1 << 60;
/// Longest part of a group's statistics that is read; what we look for comes earlier.
const STATISTICS_BYTES_MAX: usize = 2048;

/// Where groups are mounted everywhere, and the file that tells of a limit there.
const MOUNTS: [(&[u8], Version); 3] = [
    (b"/sys/fs/cgroup", Version::Two),
    (b"/sys/fs/cgroup/unified", Version::Two),
    (b"/sys/fs/cgroup/memory", Version::One),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// A group's limit and what counts towards it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMemory {
    /// The lower one of the limit at which the kernel kills and that at which it throttles.
    pub limit_bytes: u64,
    /// Used, without files that were read once and can be dropped.
    pub used_bytes: u64,
}

/// A control group with a memory controller, by its directory.
#[derive(Clone, Copy, Debug)]
pub struct MemoryGroup {
    path: [u8; PATH_BYTES_MAX],
    length: usize,
    /// Of the directory that is not left upwards.
    root_length: usize,
    version: Version,
}

impl MemoryGroup {
    /// The group that this process is in; none where there are none, or where they cannot be read.
    /// Some system calls, 20 us or so.
    pub fn own() -> Option<Self> {
        let mut buffer = [0; 1024];
        let text = read_text(c"/proc/self/cgroup", &mut buffer)?;
        MOUNTS.iter().find_map(|(mount, version)| {
            let inside = own_path(text, *version)?;
            // Inside a container the path may be the host's, and the group be the mount's root.
            [inside, b""].into_iter().find_map(|inside| Self::new(mount, inside, *version))
        })
    }

    /// The group of `directory`, whose parents are not looked at; none when it has no memory
    /// controller or its path is longer than 250 bytes.
    pub fn at(directory: &CStr) -> Option<Self> {
        let path = directory.to_bytes();
        [Version::Two, Version::One].into_iter().find_map(|version| Self::new(path, b"", version))
    }

    fn new(mount: &[u8], inside: &[u8], version: Version) -> Option<Self> {
        let inside = inside.strip_suffix(b"/").unwrap_or(inside);
        let length = mount.len() + inside.len();
        if length > PATH_BYTES_MAX - 64 {
            return None;
        }
        let mut path = [0; PATH_BYTES_MAX];
        path[..mount.len()].copy_from_slice(mount);
        path[mount.len()..length].copy_from_slice(inside);
        let group = Self { path, length, root_length: mount.len(), version };
        // The root of all groups has no limit; then there is nothing to watch but pressure.
        group.number(length, group.usage_file()).is_some().then_some(group)
    }

    fn usage_file(&self) -> &'static [u8] {
        match self.version {
            Version::One => b"/memory.usage_in_bytes",
            Version::Two => b"/memory.current",
        }
    }

    /// The tightest of the limits of the group and of those above it; none when there is no limit.
    /// A few microseconds a level.
    pub fn memory(&self) -> Option<GroupMemory> {
        let mut tightest: Option<GroupMemory> = None;
        let mut length = self.length;
        loop {
            if let Some(here) = self.memory_at(length) {
                let room = |of: GroupMemory| of.limit_bytes.saturating_sub(of.used_bytes);
                if tightest.is_none_or(|least| room(here) < room(least)) {
                    tightest = Some(here);
                }
            }
            if length <= self.root_length {
                return tightest;
            }
            length = self.path[..length].iter().rposition(|byte| *byte == b'/')?;
        }
    }

    fn memory_at(&self, length: usize) -> Option<GroupMemory> {
        let limits: &[&[u8]] = match self.version {
            Version::One => &[b"/memory.limit_in_bytes"],
            Version::Two => &[b"/memory.max", b"/memory.high"],
        };
        // `max` is no number.
        let limits = limits.iter().filter_map(|file| self.number(length, file));
        let limit_bytes = limits.min().filter(|bytes| *bytes < LIMIT_BYTES_MAX)?;
        let mut used_bytes = self.number(length, self.usage_file())?;
        if used_bytes >= limit_bytes / 2 {
            // Elsewhere the answer does not matter, and costs the kernel more than the rest.
            used_bytes -= self.droppable_bytes(length).min(used_bytes);
        }
        Some(GroupMemory { limit_bytes, used_bytes })
    }

    /// Bytes of files that the kernel drops before anything else.
    fn droppable_bytes(&self, length: usize) -> u64 {
        let mut buffer = [0; STATISTICS_BYTES_MAX];
        let Some(text) = self.text(length, b"/memory.stat", &mut buffer) else { return 0 };
        let name: &[u8] = match self.version {
            Version::One => b"total_inactive_file",
            Version::Two => b"inactive_file",
        };
        let mut lines = text.split(|byte| *byte == b'\n');
        let rest = lines.find_map(|line| line.strip_prefix(name));
        rest.and_then(parse_number).map_or(0, |(bytes, _)| bytes)
    }

    /// The share of the last ten seconds, in per cent, in which a member of the group (or, where
    /// groups do not tell, anybody) waited for memory. None where the kernel does not count.
    pub fn stalled_percent(&self) -> Option<u32> {
        let mut buffer = [0; 128];
        let text = self.text(self.length, b"/memory.pressure", &mut buffer);
        if let Some(percent) = text.and_then(parse_stalled) {
            return Some(percent);
        }
        machine_stalled_percent()
    }

    fn number(&self, length: usize, file: &[u8]) -> Option<u64> {
        let mut buffer = [0; 32];
        let text = self.text(length, file, &mut buffer)?;
        parse_number(text).map(|(number, _)| number)
    }

    /// The beginning of `file` of the group whose path is the first `length` bytes of ours.
    fn text<'a>(&self, length: usize, file: &[u8], buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let mut path = [0; PATH_BYTES_MAX];
        let end = length + file.len();
        path[..length].copy_from_slice(&self.path[..length]);
        path.get_mut(length..end)?.copy_from_slice(file);
        read_text(CStr::from_bytes_until_nul(&path).ok()?, buffer)
    }
}

/// As [`MemoryGroup::stalled_percent`], for the whole machine.
pub fn machine_stalled_percent() -> Option<u32> {
    let mut buffer = [0; 128];
    parse_stalled(read_text(c"/proc/pressure/memory", &mut buffer)?)
}

/// The path of a process's group in the lines of its `cgroup` file.
fn own_path(text: &[u8], version: Version) -> Option<&[u8]> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_ours = match version {
            Version::One => controllers.split(|byte| *byte == b',').any(|name| name == b"memory"),
            Version::Two => controllers.is_empty(),
        };
        is_ours.then_some(path)
    })
}

/// The whole per cent in `some avg10=1.23 ...`.
fn parse_stalled(text: &[u8]) -> Option<u32> {
    let (number, _) = parse_number(text.strip_prefix(b"some avg10=")?)?;
    u32::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::{GroupMemory, MemoryGroup, Version, own_path, parse_stalled};
    use std::ffi::CString;
    use std::format;
    use std::path::PathBuf;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("heapwright-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("made");
        path
    }

    fn write(directory: &std::path::Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            std::fs::write(directory.join(name), text).expect("written");
        }
    }

    fn group(directory: &std::path::Path) -> Option<MemoryGroup> {
        let path = directory.to_str().expect("a text");
        MemoryGroup::at(&CString::new(path).expect("no zero byte"))
    }

    #[test]
    fn the_second_version_is_read_as_the_kernel_writes_it() {
        let directory = directory("group-2");
        assert!(group(&directory).is_none(), "no controller");
        write(&directory, &[("memory.current", "1000\n"), ("memory.max", "max\n")]);
        let own = group(&directory).expect("a controller");
        assert_eq!(own.memory(), None);
        write(&directory, &[("memory.high", "5000\n"), ("memory.max", "8000\n")]);
        assert_eq!(own.memory(), Some(GroupMemory { limit_bytes: 5000, used_bytes: 1000 }));
        let statistics = "anon 1\nfile 900\nactive_file 300\ninactive_file 600\nx 1\n";
        write(&directory, &[("memory.current", "4000\n"), ("memory.stat", statistics)]);
        assert_eq!(own.memory(), Some(GroupMemory { limit_bytes: 5000, used_bytes: 3400 }));
        let pressure = "some avg10=12.34 avg60=0.00 avg300=0.00 total=1\nfull avg10=1.00\n";
        write(&directory, &[("memory.pressure", pressure)]);
        assert_eq!(own.stalled_percent(), Some(12));
        std::fs::remove_dir_all(directory).expect("removed");
    }

    #[test]
    fn the_first_version_is_read_as_the_kernel_writes_it() {
        let directory = directory("group-1");
        let none = "9223372036854771712\n";
        write(&directory, &[("memory.usage_in_bytes", "700"), ("memory.limit_in_bytes", none)]);
        let own = group(&directory).expect("a controller");
        assert_eq!(own.memory(), None);
        let statistics = "inactive_file 5\ntotal_inactive_file 200\n";
        write(&directory, &[("memory.limit_in_bytes", "1000"), ("memory.stat", statistics)]);
        assert_eq!(own.memory(), Some(GroupMemory { limit_bytes: 1000, used_bytes: 500 }));
        std::fs::remove_dir_all(directory).expect("removed");
    }

    #[test]
    fn limits_above_count_too() {
        let top = directory("group-above");
        let below = top.join("a/b");
        std::fs::create_dir_all(&below).expect("made");
        write(&below, &[("memory.current", "10"), ("memory.max", "1000")]);
        write(&top.join("a"), &[("memory.current", "900"), ("memory.max", "1000")]);
        let mount = top.to_str().expect("a text").as_bytes();
        let own = MemoryGroup::new(mount, b"/a/b", Version::Two).expect("a controller");
        assert_eq!(own.memory(), Some(GroupMemory { limit_bytes: 1000, used_bytes: 900 }));
        std::fs::remove_dir_all(top).expect("removed");
    }

    #[test]
    fn lines_of_processes_and_of_pressure() {
        let text = b"9:name=systemd:/\n4:cpu,memory:/one\n0::/two:three\n";
        assert_eq!(own_path(text, Version::One), Some(&b"/one"[..]));
        assert_eq!(own_path(text, Version::Two), Some(&b"/two:three"[..]));
        assert_eq!(parse_stalled(b"full avg10=1.00"), None);
        // Whatever this machine has, reading it does not fail otherwise.
        let _ = MemoryGroup::own().and_then(|own| own.memory());
    }
}
