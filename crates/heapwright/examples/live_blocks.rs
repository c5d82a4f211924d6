//! Who holds what: every live block of the process, by size class and heap.
//!
//! `cargo run --release --example live_blocks [WORDS]`

use std::collections::BTreeMap;
use std::time::Instant;

use heapwright::Heapwright;
use heapwright::heap::{Heap, ZoneOptions};

#[global_allocator]
static GLOBAL: Heapwright = Heapwright;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let heap = Heap::with(ZoneOptions::new().name("cache"))?;
    for _ in 0..500 {
        heap.alloc(std::alloc::Layout::new::<[u8; 100]>())?;
    }
    let count = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(1000);
    let words: Vec<String> = (0..count).map(|number| format!("word {number}")).collect();

    let start = Instant::now();
    // Other threads wait for this part only, where they need the allocator's slow paths.
    let blocks = GLOBAL.live_blocks()?;
    let snapshot = start.elapsed();
    let mut by_kind = BTreeMap::new();
    for block in blocks {
        let heap = block.zone.map_or(0, |zone| zone.id());
        let kind: &mut (usize, usize) = by_kind.entry((heap, block.usable_bytes)).or_default();
        kind.0 += 1;
        kind.1 += block.usable_bytes;
    }
    println!("snapshot {snapshot:?}, all {:?}", start.elapsed());
    println!("{:>5} {:>12} {:>8} {:>10}", "heap", "usable bytes", "blocks", "bytes");
    for ((heap, usable_bytes), (count, bytes)) in &by_kind {
        println!("{heap:>5} {usable_bytes:>12} {count:>8} {bytes:>10}");
    }
    assert_eq!(by_kind[&(heap.zone().id(), 112)], (500, 56_000));
    let small: usize =
        by_kind.iter().filter(|((heap, _), _)| *heap == 0).map(|(_, kind)| kind.0).sum();
    assert!(small >= words.len(), "each word is a block");
    Ok(())
}

#[test]
fn it_runs() {
    main().expect("no error");
}
