//! Real recordings, damaged: what is whole is read, what is not is named, nothing panics.

use std::fs;
use std::path::Path;

use heapwright_format::file::Recording;
use heapwright_format::merge::MergedEvents;
use heapwright_format::objects::Objects;
use heapwright_testkit::Random;

use crate::recorded::record_whole;

/// Reads all there is; returns the events, and whether anything was said to be wrong.
fn read_all(path: &Path) -> (u64, bool) {
    let recording = match Recording::open(path) {
        Ok(recording) => recording,
        Err(error) => {
            assert!(error.to_string().contains(path.to_str().expect("text")), "{error}");
            return (0, true);
        }
    };
    let mut is_named = !recording.problems().is_empty();
    let mut count = 0;
    for process in 0..recording.processes().len() {
        let mut events = MergedEvents::new(&recording, process);
        let mut objects = Objects::new();
        while let Some(merged) = events.next() {
            objects.feed(&merged, events.stacks(), |_| {});
            count += 1;
        }
        is_named |= !events.problems().is_empty();
    }
    (count, is_named)
}

#[test]
fn flips_and_cuts_are_named_and_never_a_panic() {
    let run = record_whole("fork_tree", &[]);
    let bytes = fs::read(run.recording.path()).expect("the file");
    let path = run.directory.path().join("damaged.hwr");
    let (whole, is_named) = read_all(run.recording.path());
    assert!(whole > 1500 && !is_named);
    let seed = 20_240_607;
    let mut random = Random::new(seed);
    for round in 0..400 {
        let mut damaged = bytes.clone();
        // Bytes 12 to 15 tell the length of the head, which this version does not need.
        let place = match random.below(damaged.len() as u64 - 16) as usize {
            place if place < 12 => place,
            place => place + 16 - 4,
        };
        let place = if (12..16).contains(&place) { 16 } else { place };
        match round % 4 {
            0 => damaged.truncate(place),
            1 => damaged[place] ^= 1 << random.below(8),
            2 => {
                let end = (place + 1 + random.below(300) as usize).min(damaged.len());
                damaged[place..end].iter_mut().for_each(|byte| *byte = !*byte);
            }
            _ => {
                let end = (place + 1 + random.below(300) as usize).min(damaged.len());
                damaged.drain(place..end);
            }
        }
        fs::write(&path, &damaged).expect("written");
        let (count, is_named) = read_all(&path);
        assert!(is_named, "seed {seed}, round {round}, place {place}");
        assert!(count <= whole, "seed {seed}, round {round}, place {place}");
    }
}
