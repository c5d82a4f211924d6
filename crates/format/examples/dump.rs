//! Prints what a recording holds: `dump FILE.hwr [--events]`.

use std::path::Path;

use heapwright_format::file::Recording;
use heapwright_format::merge::{MergedEvents, What};
use heapwright_format::objects::{Change, Objects};

fn main() {
    let mut words = std::env::args().skip(1);
    let path = words.next().expect("usage: dump FILE.hwr [--events]");
    let show_events = words.next().is_some();
    let recording = Recording::open(Path::new(&path)).unwrap_or_else(|error| panic!("{error}"));
    println!("{:#?}\n{:#?}", recording.session(), recording.end());
    for problem in recording.problems() {
        println!("problem {problem}");
    }
    for (index, process) in recording.processes().iter().enumerate() {
        println!("process {index}: {:?} {:?} events {}", process.info, process.end, process.events);
        let mut events = MergedEvents::new(&recording, index);
        let mut objects = Objects::new();
        let (mut allocs, mut frees, mut truncated, mut live, mut peak) =
            (0u64, 0u64, 0u64, 0i64, 0i64);
        let (mut mapped, mut touches, mut frames) = (0u64, 0u64, 0u64);
        let mut last = 0;
        while let Some(event) = events.next() {
            if show_events {
                println!("{event:?}");
            }
            assert!(event.time >= last, "order");
            last = event.time;
            let stacks = events.stacks();
            if let What::Alloc { stack, .. } = event.what {
                truncated += u64::from(stacks.leaf(stack).truncated);
                frames += stacks.ids(stack).count() as u64;
            }
            objects.feed(&event, stacks, |change| match change {
                Change::Born { size, kind, .. } => {
                    allocs += 1;
                    if kind == heapwright_format::AllocKind::Mmap {
                        mapped += size;
                    } else {
                        live += size as i64;
                    }
                    peak = peak.max(live);
                }
                Change::Died { size, .. } => {
                    frees += 1;
                    live -= size as i64;
                }
                Change::Resized { old_size, size, .. } => {
                    live += size as i64 - old_size as i64;
                    peak = peak.max(live);
                }
                Change::Touched { .. } => touches += 1,
                _ => {}
            });
        }
        println!(
            "allocs {allocs} frees {frees} truncated {truncated} frames/alloc {:.1} peak {peak} \
             live {live} mapped {mapped} touches {touches} stacks {} threads {} skipped {} {:?}",
            frames as f64 / allocs.max(1) as f64,
            events.stacks().len(),
            events.threads().len(),
            events.skipped(),
            objects.counts()
        );
        for problem in events.problems() {
            println!("problem {problem}");
        }
        println!("modules {}", events.modules().len());
    }
}
