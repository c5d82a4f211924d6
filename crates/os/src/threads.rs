//! The threads of this process, from the kernel's list.

use crate::fd::{Fd, OpenFlags};
use crate::syscall::syscall3;

/// Writes the ids of this process's threads into `ids`; returns how many there are, which may be
/// more than fit. 0 where the list cannot be read.
pub fn thread_ids(ids: &mut [u32]) -> usize {
    let Ok(directory) = Fd::open(c"/proc/self/task", OpenFlags::Read) else { return 0 };
    let mut buffer = [0u8; 2048];
    let mut count = 0;
    loop {
        let start = buffer.as_mut_ptr().expose_provenance();
        let number = directory.raw() as usize;
        // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer`.
        let filled = unsafe { syscall3(libc::SYS_getdents64, number, start, buffer.len()) };
        let Ok(filled @ 1..) = filled else { return count };
        let mut entry = 0;
        // The kernel's record: inode 8, offset 8, length 2, type 1, then the name.
        while let Some(length) = buffer.get(entry + 16..entry + 18)
            && entry < filled
        {
            let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
            let name = buffer.get(entry + 19..entry + length).unwrap_or_default();
            let digits = name.split(|byte| *byte == 0).next().unwrap_or_default();
            if let Some(id) = str::from_utf8(digits).ok().and_then(|text| text.parse().ok()) {
                if let Some(place) = ids.get_mut(count) {
                    *place = id;
                }
                count += 1;
            }
            entry += length.max(19);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::thread_ids;

    #[test]
    fn the_calling_thread_is_listed() {
        let mut ids = [0; 512];
        let count = thread_ids(&mut ids);
        assert!(ids[..count.min(512)].contains(&crate::thread_id()));
    }
}
