//! The budget of mappings: three quarters of what the kernel allows the process.
//!
//! Counting them costs 100 ns each, which a thread that only lends its time to merging cannot
//! afford when there are many. So the others' are counted when that is cheap, and ours reckoned.

use heapwright_os::{mappings_now, max_mapping_count};
use heapwright_sync::atomic::{AtomicUsize, Ordering};

use crate::merge::statistics::window_count;

/// A merged window costs up to two mappings: its own, and the rest of what it was cut from.
pub(crate) const MAPPINGS_OF_A_WINDOW: usize = 2;
/// So many are counted in a tenth of a millisecond or so.
const CHEAP_COUNT: usize = 1000;

/// Mappings that are not merging's; 0 when they were never counted.
static OTHERS: AtomicUsize = AtomicUsize::new(0);

/// Mappings that merging may still make. `may_take_long` counts them in any case.
pub(crate) fn mappings_left(may_take_long: bool) -> usize {
    let limit = max_mapping_count();
    let ours = window_count() * MAPPINGS_OF_A_WINDOW;
    let others = OTHERS.load(Ordering::Relaxed);
    if may_take_long || others == 0 || others + ours <= CHEAP_COUNT {
        let counted = mappings_now().unwrap_or(limit);
        // A window has one at least.
        OTHERS.store(counted.saturating_sub(window_count()).max(1), Ordering::Relaxed);
        return left(limit, counted);
    }
    left(limit, others + ours)
}

fn left(limit: usize, used: usize) -> usize {
    (limit - limit / 4).saturating_sub(used)
}
