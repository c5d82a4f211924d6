//! Canaries: known bytes from the first byte behind the request to the end of its room, and from
//! the room's beginning to the block. Poison: what a freed packed block holds.

use crate::record::Record;

/// Bytes around a block.
pub(crate) const CANARY: u8 = 0xcb;
/// Bytes of a new block that nobody has written.
pub(crate) const FILL: u8 = 0xbe;
/// Bytes of a freed block whose memory stays.
pub(crate) const POISON: u8 = 0xdb;

/// How much before a block is filled and looked at: farther writes meet other guards first, and
/// a whole page a block would cost more than its guard.
const BEFORE_BYTES_MAX: usize = 1024;

/// A run of broken bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Address of the broken byte nearest to the block.
    pub(crate) nearest: usize,
    /// Address of the one farthest from it.
    pub(crate) farthest: usize,
    /// Whether they stand before the block.
    pub(crate) is_before: bool,
    /// The value at `nearest`.
    pub(crate) value: u8,
}

/// The parts of a room that hold canaries: before and after the block.
fn sides(record: &Record) -> [(usize, usize); 2] {
    let (home, start) = (record.home(), record.start());
    let low = home.max(start.saturating_sub(BEFORE_BYTES_MAX));
    [(low, start), (record.end(), home + record.room())]
}

/// Fills `bytes` from `address` with `value`.
///
/// Not by `memset`: that may be one of ours that checks the program's calls.
///
/// # Safety
/// - The range may be written, and nobody else uses it.
pub(crate) unsafe fn fill(address: usize, bytes: usize, value: u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise; the direction flag is clear by the ABI.
    unsafe {
        core::arch::asm!(
            "rep stosb",
            inout("rdi") address => _,
            inout("rcx") bytes => _,
            in("al") value,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    for offset in 0..bytes {
        let place = core::ptr::with_exposed_provenance_mut::<u8>(address + offset);
        // SAFETY: the caller's promise; volatile, so that no `memset` is made of it.
        unsafe { place.write_volatile(value) };
    }
}

/// Writes the canaries around a block.
///
/// # Safety
/// - The room is whole, writable, and not the program's yet but for the block.
pub(crate) unsafe fn arm(record: &Record) {
    for (low, high) in sides(record) {
        // SAFETY: inside the room, outside the block.
        unsafe { fill(low, high.saturating_sub(low), CANARY) };
    }
}

/// Words that are looked at together: most ranges are whole, and long.
const GROUP_WORDS: usize = 8;
const WORD_BYTES: usize = size_of::<usize>();

/// Whether `WORDS` words from `address` on all are `value`.
///
/// # Safety
/// - They may be read; `address` is aligned to a word.
#[inline(always)]
unsafe fn are_all<const WORDS: usize>(address: usize, value: usize) -> bool {
    let mut others = 0;
    for number in 0..WORDS {
        let word = core::ptr::with_exposed_provenance::<usize>(address + number * WORD_BYTES);
        // SAFETY: the caller's promise; volatile, since the program may write it meanwhile.
        others |= unsafe { word.read_volatile() } ^ value;
    }
    others == 0
}

/// The first difference from `value` in a range, from its low end.
///
/// # Safety
/// - The range may be read.
unsafe fn first_other(low: usize, high: usize, value: u8) -> Option<usize> {
    let word_value = usize::from_ne_bytes([value; WORD_BYTES]);
    let mut at = low;
    while at < high {
        let words = if at.is_multiple_of(WORD_BYTES) { (high - at) / WORD_BYTES } else { 0 };
        // SAFETY: aligned, and as many words lie in the range.
        if words >= GROUP_WORDS && unsafe { are_all::<GROUP_WORDS>(at, word_value) } {
            at += GROUP_WORDS * WORD_BYTES;
            continue;
        }
        // SAFETY: as above.
        if words > 0 && unsafe { are_all::<1>(at, word_value) } {
            at += WORD_BYTES;
            continue;
        }
        // SAFETY: inside the range.
        if unsafe { byte_at(at) } != value {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// # Safety
/// - The byte may be read.
unsafe fn byte_at(address: usize) -> u8 {
    let byte = core::ptr::with_exposed_provenance::<u8>(address);
    // SAFETY: the caller's promise; volatile, since the program may write it meanwhile.
    unsafe { byte.read_volatile() }
}

/// The last difference from `value` in a range that has one.
///
/// # Safety
/// - The range may be read.
unsafe fn last_other(low: usize, high: usize, value: u8) -> usize {
    let mut at = high;
    while at > low {
        at -= 1;
        // SAFETY: inside the range.
        if unsafe { byte_at(at) } != value {
            return at;
        }
    }
    low
}

/// The broken canaries of a block, after it rather than before it when both are.
///
/// # Safety
/// - The room may be read.
pub(crate) unsafe fn broken(record: &Record) -> Option<Broken> {
    let [before, after] = sides(record);
    // SAFETY: inside the room.
    if let Some(first) = unsafe { first_other(after.0, after.1, CANARY) } {
        // SAFETY: as above.
        let farthest = unsafe { last_other(first, after.1, CANARY) };
        // SAFETY: as above.
        let value = unsafe { byte_at(first) };
        return Some(Broken { nearest: first, farthest, is_before: false, value });
    }
    // SAFETY: as above.
    let first = unsafe { first_other(before.0, before.1, CANARY) }?;
    // SAFETY: as above.
    let nearest = unsafe { last_other(first, before.1, CANARY) };
    // SAFETY: as above.
    let value = unsafe { byte_at(nearest) };
    Some(Broken { nearest, farthest: first, is_before: true, value })
}

/// The first byte of a freed block that no longer holds poison.
///
/// # Safety
/// - The block may be read.
pub(crate) unsafe fn unpoisoned(start: usize, bytes: usize) -> Option<usize> {
    // SAFETY: the caller's promise.
    unsafe { first_other(start, start + bytes, POISON) }
}

/// Whether a word consists of bytes that this crate puts where no value is: which ones.
pub(crate) fn filler(word: usize) -> Option<u8> {
    [FILL, POISON, CANARY].into_iter().find(|byte| {
        let high = usize::from_ne_bytes([*byte; 8]);
        // An offset of a field may have been added: the high bytes tell.
        word >> 16 == high >> 16
    })
}

#[cfg(test)]
mod tests {
    use super::{Broken, CANARY, arm, broken, filler, unpoisoned};
    use crate::record::Record;
    use core::mem::zeroed;
    use heapwright_sync::atomic::Ordering;

    fn record(room: &mut [u8], offset: usize, bytes: usize) -> Record {
        // SAFETY: a record of zeroes is the empty one.
        let record: Record = unsafe { zeroed() };
        let home = room.as_mut_ptr().expose_provenance();
        record.home.store(home, Ordering::Relaxed);
        record.room.store(room.len(), Ordering::Relaxed);
        record.start.store(home + offset, Ordering::Relaxed);
        record.bytes.store(bytes, Ordering::Relaxed);
        record
    }

    #[test]
    fn every_broken_byte_is_found_to_the_byte() {
        // Each side has several groups of words, a rest of words and a rest of bytes.
        let mut room = [0u8; 400];
        for at in (0..152).chain(152 + 37..400) {
            let record = record(&mut room, 152, 37);
            // SAFETY: the room is ours.
            unsafe { arm(&record) };
            // SAFETY: as above.
            assert_eq!(unsafe { broken(&record) }, None);
            room[at] = 7;
            let address = room.as_ptr().addr() + at;
            let expected =
                Broken { nearest: address, farthest: address, is_before: at < 152, value: 7 };
            // SAFETY: as above.
            assert_eq!(unsafe { broken(&record) }, Some(expected), "byte {at}");
        }
    }

    #[test]
    fn the_block_itself_is_not_looked_at() {
        let mut room = [0u8; 64];
        let record = record(&mut room, 16, 33);
        // SAFETY: the room is ours.
        unsafe { arm(&record) };
        room[16..49].fill(1);
        // SAFETY: as above.
        assert_eq!(unsafe { broken(&record) }, None);
        assert_eq!((room[15], room[49]), (CANARY, CANARY));
    }

    #[test]
    fn poison_tells_the_first_write() {
        let mut block = [super::POISON; 40];
        block[21] = 0;
        let start = block.as_ptr().expose_provenance();
        // SAFETY: ours.
        assert_eq!(unsafe { unpoisoned(start, 40) }, Some(start + 21));
    }

    #[test]
    fn fillers_are_known_with_a_fields_offset() {
        assert_eq!(filler(0xbebe_bebe_bebe_bebe), Some(0xbe));
        assert_eq!(filler(0xdbdb_dbdb_dbdb_dc03), Some(0xdb));
        assert_eq!(filler(0x7fff_0000_0000), None);
    }
}
