//! Starts of functions from `.eh_frame_hdr`, which stripped files keep.

/// DWARF pointer encodings: four bytes unsigned; signed and relative to the section.
const UDATA4: u8 = 0x03;
const DATAREL_SDATA4: u8 = 0x3b;

/// Bytes of the head: version, three encodings, the pointer to `.eh_frame`, the count.
const HEAD_BYTES: usize = 12;
const ENTRY_BYTES: usize = 8;

/// Sorted starts of a module's functions, as ELF virtual addresses.
#[derive(Debug, Default)]
pub(crate) struct FunctionStarts {
    starts: Vec<u64>,
}

impl FunctionStarts {
    /// Reads the search table of the section `bytes` that lies at `section_address`. Other
    /// encodings than the one that linkers write give no starts.
    pub(crate) fn parse(bytes: &[u8], section_address: u64) -> Self {
        let known = bytes.len() >= HEAD_BYTES
            && bytes[0] == 1
            && bytes[1] & 0x0f != 0x0f
            && bytes[2] == UDATA4
            && bytes[3] == DATAREL_SDATA4;
        if !known {
            return Self::default();
        }
        let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let count = word(&bytes[8..]) as usize;
        let mut starts: Vec<u64> = bytes[HEAD_BYTES..]
            .chunks_exact(ENTRY_BYTES)
            .take(count)
            .map(|entry| section_address.wrapping_add_signed(i64::from(word(entry) as i32)))
            .collect();
        starts.sort_unstable();
        Self { starts }
    }

    /// The start of the function that `address` lies in, as far as the table tells.
    pub(crate) fn containing(&self, address: u64) -> Option<u64> {
        let after = self.starts.partition_point(|&start| start <= address);
        after.checked_sub(1).map(|index| self.starts[index])
    }
}

#[cfg(test)]
mod tests {
    use super::FunctionStarts;

    #[test]
    fn an_address_belongs_to_the_last_start_before_it() {
        let mut bytes = vec![1, 0x1b, 0x03, 0x3b, 0, 0, 0, 0, 2, 0, 0, 0];
        for (start, entry) in [(-0x100i32, 0i32), (0x40, 0)] {
            bytes.extend(start.to_le_bytes());
            bytes.extend(entry.to_le_bytes());
        }
        let starts = FunctionStarts::parse(&bytes, 0x2000);
        assert_eq!(starts.containing(0x1eff), None);
        assert_eq!(starts.containing(0x1f00), Some(0x1f00));
        assert_eq!(starts.containing(0x203f), Some(0x1f00));
        assert_eq!(starts.containing(0x9999), Some(0x2040));
    }

    #[test]
    fn a_short_or_strange_table_gives_nothing() {
        assert_eq!(FunctionStarts::parse(&[1, 2, 3], 0).containing(5), None);
        let strange = [2, 0x1b, 0x03, 0x3b, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(FunctionStarts::parse(&strange, 0).containing(5), None);
        let claims_too_much = [1, 0x1b, 0x03, 0x3b, 0, 0, 0, 0, 255, 255, 255, 255];
        assert_eq!(FunctionStarts::parse(&claims_too_much, 0).containing(5), None);
    }
}
