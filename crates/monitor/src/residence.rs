//! What each resident byte of a watched process is for.
//!
//! The kernel says which pages are resident (`smaps`, `pagemap`), the statistics page what the
//! slices they lie in are used for. Both are looked at a moment apart: in a process that allocates
//! wildly the parts blur into each other; their sum is the kernel's.

use std::fs::File;
use std::os::unix::fs::FileExt;

use heapwright_core::live_page::Cell;
use serde::Serialize;

use crate::page::Snapshot;
use crate::smaps::{self, MappingUse};
use crate::{MonitorError, Watched};

/// Entries of pagemap read at a time.
const ENTRIES_AT_ONCE: usize = 16 * 1024;
const PRESENT: u64 = 1 << 63;

/// Resident bytes by purpose. All are parts of the kernel's proportional set size (pages shared
/// by n processes count 1/n) and add up to `total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Residence {
    /// All of the process.
    pub total: u64,
    /// Small blocks in use, those in threads' lists included.
    pub live_small: u64,
    /// Large blocks: what of them was touched.
    pub live_large: u64,
    /// Free slots, and rests of pages, in spans of small blocks.
    pub free_in_spans: u64,
    /// Free runs that were not given back yet.
    pub free_runs: u64,
    /// Descriptors and bitmap of the allocator.
    pub metadata: u64,
    /// Stacks, as far as the kernel names them.
    pub stacks: u64,
    /// Files: the program, its libraries, mapped data.
    pub files: u64,
    /// Memory shared with other processes.
    pub shared: u64,
    /// Anonymous memory that is not the allocator's region: the program's own mappings, thread
    /// stacks without a name, thread heaps and profile tables of the allocator.
    pub other: u64,
}

impl Residence {
    /// Of `watched`, whose page is `page`: a look at each page of the region, some 10 ms a GB.
    ///
    /// # Errors
    /// [`MonitorError::Exited`], [`MonitorError::Io`] where the kernel does not let us look.
    pub fn of(watched: &Watched, page: &Snapshot) -> Result<Self, MonitorError> {
        let resident = count_pages(watched.pid(), page)?;
        Ok(Self::from_parts(&smaps::read(watched.pid())?, page, resident))
    }

    /// The parts' names and bytes, as a view shows them.
    pub fn parts(&self) -> [(&'static str, u64); 9] {
        [
            ("live small blocks", self.live_small),
            ("live large blocks", self.live_large),
            ("free inside spans", self.free_in_spans),
            ("free runs", self.free_runs),
            ("allocator metadata", self.metadata),
            ("stacks", self.stacks),
            ("program and libraries", self.files),
            ("shared memory", self.shared),
            ("other anonymous memory", self.other),
        ]
    }

    /// Bytes of the allocator's region.
    pub fn of_region(&self) -> u64 {
        self.live_small + self.live_large + self.free_in_spans + self.free_runs + self.metadata
    }

    /// Resident, free, and the allocator's: what a perfect allocator would not hold.
    pub fn retained(&self) -> u64 {
        self.free_in_spans + self.free_runs
    }

    fn from_parts(mappings: &[MappingUse], page: &Snapshot, resident: Resident) -> Self {
        let figures = &page.figures;
        let region = figures.region_start..figures.region_start + figures.region_bytes;
        let mut result = Self::default();
        let (mut region_rss, mut region_pss) = (0, 0);
        for mapping in mappings {
            result.total += mapping.pss_bytes;
            if region.contains(&mapping.start) {
                region_rss += mapping.rss_bytes;
                region_pss += mapping.pss_bytes;
                continue;
            }
            let part = match mapping.name.as_str() {
                _ if mapping.is_shared => &mut result.shared,
                name if name.starts_with("[stack") => &mut result.stacks,
                "" => &mut result.other,
                name if name.starts_with("[anon") || name == "[heap]" => &mut result.other,
                _ => &mut result.files,
            };
            *part += mapping.pss_bytes;
        }
        // Pages that a fork shares count by halves: in the same proportion everywhere.
        let scale = if region_rss == 0 { 0.0 } else { region_pss as f64 / region_rss as f64 };
        let scaled = |bytes: u64| (bytes as f64 * scale) as u64;
        let mut left = region_pss;
        let mut take = |bytes: u64| {
            let taken = bytes.min(left);
            left -= taken;
            taken
        };
        result.live_large = take(scaled(resident.large));
        result.free_runs = take(scaled(resident.free));
        let small = take(scaled(resident.small));
        result.metadata = left;
        result.live_small = scaled(figures.live_small_bytes).min(small);
        result.free_in_spans = small - result.live_small;
        result
    }
}

/// Resident bytes of the region, by what the slices are.
#[derive(Clone, Copy, Debug, Default)]
struct Resident {
    small: u64,
    large: u64,
    free: u64,
}

fn count_pages(pid: u32, page: &Snapshot) -> Result<Resident, MonitorError> {
    let mut resident = Resident::default();
    let figures = &page.figures;
    if page.map.is_empty() {
        return Ok(resident);
    }
    let path = format!("/proc/{pid}/pagemap");
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => MonitorError::Exited(pid),
        _ => MonitorError::io(path.clone(), error),
    };
    let file = File::open(&path).map_err(failed)?;
    let page_bytes = heapwright_os::page_bytes() as u64;
    let start = figures.region_start + figures.first_slice * figures.slice_bytes;
    let pages_per_cell = figures.slices_per_cell * figures.slice_bytes / page_bytes;
    let all = (figures.end_slice - figures.first_slice) * figures.slice_bytes / page_bytes;
    let mut buffer = vec![0; ENTRIES_AT_ONCE * 8];
    let mut done = 0;
    while done < all {
        let now = (all - done).min(ENTRIES_AT_ONCE as u64) as usize;
        let offset = (start / page_bytes + done) * 8;
        let read = file.read_at(&mut buffer[..now * 8], offset).map_err(failed)?;
        if read < 8 {
            break;
        }
        for (index, entry) in buffer[..read / 8 * 8].chunks_exact(8).enumerate() {
            let entry = u64::from_ne_bytes(std::array::from_fn(|byte| entry[byte]));
            if entry & PRESENT == 0 {
                continue;
            }
            let cell = ((done + index as u64) / pages_per_cell.max(1)) as usize;
            let part = match page.map.get(cell) {
                Some((Cell::Small, _)) => &mut resident.small,
                Some((Cell::Large, _)) => &mut resident.large,
                _ => &mut resident.free,
            };
            *part += page_bytes;
        }
        done += read as u64 / 8;
    }
    Ok(resident)
}
