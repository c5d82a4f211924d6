//! Promise: what an allocator gives back by the clock it gives back in the replay, too, where the
//! program left it the time; and what hangs on that is told.

mod objects;
mod replaying;
mod synthetic;

use std::path::Path;
use std::time::Duration;

use heapwright_replay::MemoryFigures;
use replaying::{options, row, run};
use synthetic::Program;

const MIB: u64 = 1 << 20;

/// 16 MiB made and freed, twice, a second between.
fn bursts(path: &Path) {
    let mut program = Program::new(path, 8 * MIB);
    for _ in 0..2 {
        let blocks: Vec<_> = (0..64).map(|_| program.malloc(0, MIB / 4)).collect();
        blocks.into_iter().for_each(|block| program.free(0, block));
        program.pause(Duration::from_secs(1));
    }
    program.finish();
}

fn memory(path: &Path, object: &Path, pace_limit: Duration) -> (MemoryFigures, Vec<String>) {
    let mut options = options(&[object]);
    options.pace_limit = pace_limit;
    let report = run(path, &options).expect("a replay");
    (row(&report, 1).memory.clone().expect("memory"), report.notes)
}

#[test]
fn memory_runs_keep_to_the_recorded_clock() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bursts.hwr");
    bursts(&path);
    let object = objects::build(folder.path(), "decaying", &[]);
    let (paced, notes) = memory(&path, &object, Duration::from_secs(15));
    // The first burst has gone before the second comes.
    assert!((16 * MIB..20 * MIB).contains(&paced.peak_bytes), "{}", paced.peak_bytes);
    assert!(paced.hasty_peak_bytes >= Some(paced.peak_bytes - MIB), "{paced:?}");
    assert!(!notes.iter().any(|note| note.contains("--pace")), "{notes:?}");
    let last = paced.timeline.last().expect("points");
    assert!((1.0..3.0).contains(&last.time_s), "{last:?}");
}

#[test]
fn a_recording_that_is_longer_than_the_pace_allows_is_told_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bursts.hwr");
    bursts(&path);
    let object = objects::build(folder.path(), "decaying", &[]);
    let (_, notes) = memory(&path, &object, Duration::from_millis(100));
    assert!(notes.iter().any(|note| note.contains("took 0.1 s for 1.0 s")), "{notes:?}");
    let (hasty, notes) = memory(&path, &object, Duration::ZERO);
    assert_eq!(hasty.hasty_peak_bytes, None, "there is but one kind of run then");
    assert!(notes.iter().any(|note| note.contains("--pace")), "{notes:?}");
}
