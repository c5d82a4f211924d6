//! The collectors that every promise is tested on.

use heapwright_gc::Collector;

/// All but the null collector.
pub const COLLECTORS: [Collector; 5] = {
    let [Collector::Null, collecting @ ..] = Collector::ALL else { panic!("null is the first") };
    collecting
};
