//! `/proc/PID/smaps`: what the kernel says is resident, mapping by mapping.

use std::fs;

use crate::MonitorError;

/// One mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MappingUse {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// File or kernel's name; empty for anonymous memory.
    pub(crate) name: String,
    pub(crate) rss_bytes: u64,
    /// Resident bytes, those shared by n processes counted 1/n.
    pub(crate) pss_bytes: u64,
    /// Whether other processes can see what is written here.
    pub(crate) is_shared: bool,
}

/// The kernel now and then shows a process that lives without any mapping; so often it is asked
/// again.
const EMPTY_TRIES: u32 = 5;

/// All mappings of process `pid`.
pub(crate) fn read(pid: u32) -> Result<Vec<MappingUse>, MonitorError> {
    let path = format!("/proc/{pid}/smaps");
    for _ in 0..EMPTY_TRIES {
        let text = fs::read(&path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                MonitorError::Exited(pid)
            } else {
                MonitorError::io(&path, error)
            }
        })?;
        let mappings = parse(&String::from_utf8_lossy(&text));
        if !mappings.is_empty() {
            return Ok(mappings);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    Err(MonitorError::Exited(pid))
}

fn parse(text: &str) -> Vec<MappingUse> {
    let mut mappings: Vec<MappingUse> = Vec::new();
    for line in text.lines() {
        if let Some(mapping) = parse_head(line) {
            mappings.push(mapping);
            continue;
        }
        let (Some(current), Some((key, value))) = (mappings.last_mut(), line.split_once(':'))
        else {
            continue;
        };
        let kib = value.split_ascii_whitespace().next().and_then(|text| text.parse::<u64>().ok());
        match (key, kib) {
            ("Rss", Some(kib)) => current.rss_bytes = kib * 1024,
            ("Pss", Some(kib)) => current.pss_bytes = kib * 1024,
            _ => {}
        }
    }
    mappings
}

fn parse_head(line: &str) -> Option<MappingUse> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    let mut fields = rest.splitn(4, ' ');
    let rights = fields.next()?;
    // Offset and device; then the inode and, after spaces, the name.
    let name = fields.nth(2)?.trim_start_matches(|byte: char| byte.is_ascii_digit());
    Some(MappingUse {
        start,
        end,
        name: name.trim().to_owned(),
        is_shared: rights.ends_with('s'),
        ..MappingUse::default()
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn mappings_are_read_with_their_names() {
        let text = "7f00-7f10 rw-p 00000000 00:00 0 \nSize: 64 kB\nRss:   12 kB\nPss:  6 kB\n\
            8000-9000 r-xp 00001000 fe:01 1234                       /usr/lib/a b.so\nRss: 4 kB\nPss: 1 kB\n\
            a000-b000 rw-s 00000000 00:01 99 /dev/shm/x (deleted)\nRss: 0 kB\n";
        let mappings = parse(text);
        assert_eq!(mappings.len(), 3);
        assert_eq!((mappings[0].start, mappings[0].end), (0x7f00, 0x7f10));
        assert_eq!((mappings[0].rss_bytes, mappings[0].pss_bytes), (12 << 10, 6 << 10));
        assert_eq!(mappings[0].name, "");
        assert_eq!(mappings[1].name, "/usr/lib/a b.so");
        assert!(mappings[2].is_shared);
        assert_eq!(mappings[2].name, "/dev/shm/x (deleted)");
    }
}
