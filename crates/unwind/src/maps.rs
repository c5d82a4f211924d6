//! Lines of `/proc/self/maps`.
#![forbid(unsafe_code)]

/// One mapping of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MapLine<'a> {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) readable: bool,
    pub(crate) executable: bool,
    pub(crate) file_offset: u64,
    /// Path of the file, a name in brackets, or empty.
    pub(crate) path: &'a [u8],
}

impl<'a> MapLine<'a> {
    /// Reads a line without its newline; none when it does not look like one.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let (start, rest) = hexadecimal(line)?;
        let (end, rest) = hexadecimal(rest.strip_prefix(b"-")?)?;
        let rest = rest.strip_prefix(b" ")?;
        let (permissions, rest) = rest.split_at_checked(4)?;
        let (file_offset, rest) = hexadecimal(rest.strip_prefix(b" ")?)?;
        // Device and inode number, then blanks, then the path to the end of the line.
        let rest = field_end(rest.strip_prefix(b" ")?);
        let rest = field_end(rest.strip_prefix(b" ")?);
        let path = rest.trim_ascii_start();
        Some(Self {
            start: usize::try_from(start).ok()?,
            end: usize::try_from(end).ok()?,
            readable: permissions[0] == b'r',
            executable: permissions[2] == b'x',
            file_offset,
            path: path.strip_suffix(b" (deleted)").unwrap_or(path),
        })
    }
}

fn hexadecimal(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    let mut length = 0;
    for &byte in text {
        let Some(digit) = char::from(byte).to_digit(16) else { break };
        value = value.checked_mul(16)?.checked_add(u64::from(digit))?;
        length += 1;
    }
    (length > 0).then(|| (value, &text[length..]))
}

fn field_end(text: &[u8]) -> &[u8] {
    let length = text.iter().position(|&byte| byte == b' ').unwrap_or(text.len());
    &text[length..]
}

#[cfg(test)]
mod tests {
    use super::MapLine;

    #[test]
    fn lines_of_each_kind_are_read() {
        let line = b"7f12ab000000-7f12ab021000 r-xp 0001f000 fe:01 1234    /lib/with blank.so";
        let file = MapLine::parse(line).expect("a line");
        assert_eq!((file.start, file.end), (0x7f12_ab00_0000, 0x7f12_ab02_1000));
        assert!(file.readable && file.executable);
        assert_eq!(file.file_offset, 0x1f000);
        assert_eq!(file.path, b"/lib/with blank.so");
        let gone = b"1000-2000 rw-p 00000000 00:00 12 /tmp/x (deleted)";
        assert_eq!(MapLine::parse(gone).expect("a line").path, b"/tmp/x");
        let anonymous = MapLine::parse(b"1000-2000 rw-p 00000000 00:00 0 ").expect("a line");
        assert_eq!(anonymous.path, b"");
        assert!(!anonymous.executable);
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for text in ["", "12-", "x-y rw-p", "1000-2000 rw", "1000-2000 rw-p 0", "1-2 rw-p 0 0"] {
            assert_eq!(MapLine::parse(text.as_bytes()), None, "{text}");
        }
    }
}
