//! Heaps for tests of the interpreter.

use heapwright_gc::{Collector, Config};

/// One that collects often.
pub fn busy(collector: Collector) -> Config {
    Config {
        trigger_bytes_min: 256 << 10,
        growth_percent: 130,
        nursery_bytes: 64 << 10,
        slice_us: 200,
        verify: false,
        limit_bytes: 1 << 30,
        ..Config::with(collector)
    }
}

/// One that collects at each call; whoever follows a word to an old place ends the process.
pub fn at_each_call(collector: Collector, limit_bytes: usize) -> Config {
    Config { stress: true, guards: true, verify: false, limit_bytes, ..Config::with(collector) }
}
