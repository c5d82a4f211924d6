//! Windows that were merged and whose company has died since are merged again, whoever reads and
//! writes meanwhile; and who writes to all that is merged has no more merged behind his back.

mod sparse;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use heapwright_malloc::{MergeState, merge_statistics};

use sparse::{Sparse, merge_again};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn what_has_thinned_is_merged_again() {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Somebody whose merged memory is read and written all the time.
        scope.spawn(|| {
            let mut blocks = Sparse::new(2 << 20, 12, 3);
            let mut step = 0;
            while !is_over.load(Ordering::Relaxed) {
                blocks.rewrite(step);
                blocks.check();
                step += 1;
            }
        });
        let mut blocks = Sparse::new(24 << 20, 8, 5);
        merge_again();
        let before = merge_statistics();
        if before.state != MergeState::Works {
            println!("merging {}", before.state.name());
        }
        // A few die at a time, so that most groups lose most of their bytes.
        let start = Instant::now();
        for _ in 0..3 {
            blocks.thin();
            merge_again();
            blocks.check();
        }
        while merge_statistics().state == MergeState::Works
            && merge_statistics().merged_again_count == before.merged_again_count
        {
            assert!(start.elapsed() < PATIENCE, "{:?}", merge_statistics());
            merge_again();
        }
        println!("{:?}", merge_statistics());
        blocks.free_all();
        is_over.store(true, Ordering::Relaxed);
    });
}
