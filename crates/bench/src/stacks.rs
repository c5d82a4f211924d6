//! How complete the stacks of one of our recordings are.

use heapwright_format::file::Recording;
use heapwright_format::merge::{MergedEvents, What};
use std::path::Path;

/// Share of the allocations of the recording's main process whose stack is complete, 0 to 1.
///
/// One pass over its events, some 0.1 us each.
///
/// # Errors
/// A sentence when the file at `path` cannot be read or holds no process with allocations.
pub fn complete_share(path: &Path) -> Result<f64, String> {
    let recording = Recording::open(path).map_err(|error| error.to_string())?;
    let process = recording.main_process().ok_or("a recording without processes")?;
    let mut merged = MergedEvents::new(&recording, process);
    let (mut allocs, mut cut) = (0u64, 0u64);
    while let Some(event) = merged.next() {
        let stack = match event.what {
            What::Alloc { stack, .. } | What::ResizeEnd { stack, .. } => stack,
            _ => continue,
        };
        allocs += 1;
        cut += u64::from(merged.stacks().leaf(stack).truncated);
    }
    if allocs == 0 {
        return Err("a recording without allocations".into());
    }
    Ok(1.0 - cut as f64 / allocs as f64)
}
